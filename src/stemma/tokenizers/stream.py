"""Decoding as the ids come, never showing half a character."""

from __future__ import annotations

import codecs

from stemma.tokenizers.tokenizer import Tokenizer


class StreamDecoder:
    """Gives the text of one id after another.

    What all calls return, joined, is ``tokenizer.decode(ids)``; the bytes of an unfinished
    character are held back until the ids that finish it.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._first = True

    def push(self, id_: int) -> str:
        """The text that can be shown now that ``id_`` has come; it may be empty.

        Raises:
            TokenizerError: if the id is outside the vocabulary.
        """
        data = self._tokenizer.piece(id_, first=self._first)
        self._first = self._first and not self._tokenizer.ends_beginning(id_)
        return self._utf8.decode(data)

    def finish(self) -> str:
        """What is left, U+FFFD for an unfinished character; a new text may follow."""
        rest = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        self._first = True
        return rest
