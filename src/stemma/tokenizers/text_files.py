"""Plain text files as chunks that a tokenizer can learn from, whatever the size of the file."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from stemma.errors import TokenizerError

CHUNK_BYTES = 1 << 22
_EDGE = re.compile(r"(?:[^\W\d_] |\n)[^\W\d_]")
"""What stands around such a place, read backwards."""


def read_chunks(paths: Iterable[Path], chunk_bytes: int = CHUNK_BYTES) -> Iterator[str]:
    """The text of UTF-8 files in pieces, cut between a letter and a space or newline.

    Every rule by which a family cuts text ends a word there: the pieces have the words of the
    whole.

    Raises:
        TokenizerError: if a file cannot be read or is not UTF-8; the message names the offset.
    """
    for path in paths:
        yield from _chunks_of(path, chunk_bytes)


def _chunks_of(path: Path, chunk_bytes: int) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held = ""
    offset = 0
    try:
        with path.open("rb") as file:
            while data := file.read(chunk_bytes):
                pending = len(utf8.getstate()[0])
                text = utf8.decode(data)
                held += newlines.decode(text if offset else text.removeprefix("\ufeff"))
                offset += len(data)
                cut = _last_edge(held)
                if cut:
                    yield held[:cut]
                    held = held[cut:]
            pending = len(utf8.getstate()[0])
            held += newlines.decode(utf8.decode(b"", final=True), final=True)
    except OSError as error:
        raise TokenizerError(
            f"cannot be read: {error.strerror or error}", where=str(path)
        ) from None
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"is not UTF-8: byte 0x{error.object[error.start]:02x} "
            f"at offset {offset - pending + error.start}",
            where=str(path),
            cure="Convert it, e.g. with iconv -t UTF-8.",
        ) from None
    if held:
        yield held


def _last_edge(text: str) -> int:
    """The last place between a letter and one space or a newline; 0 if there is none."""
    for found in _EDGE.finditer(text[::-1]):
        return len(text) - found.end() + 1
    return 0
