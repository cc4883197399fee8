"""Text <-> ids: a ladder from single bytes to the tokenizers of today's models.

Read in this order: `byte`, `character`, `word`, `bpe.gage`, `bpe.basic`, `scan`, `bpe.byte_level`
(`bpe.merge`, `bpe.train`), then the others as they call. The names load on first
use, so that a command line pays for none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy import lazily

__all__ = [
    "END_OF_TEXT",
    "UNKNOWN",
    "AddedToken",
    "BasicBPE",
    "ByteLevelBPE",
    "ByteTokenizer",
    "CharacterBPE",
    "CharacterTokenizer",
    "ChatTemplate",
    "GraphemeBPE",
    "SentencePieceBPE",
    "StreamDecoder",
    "Tokenizer",
    "UnigramTokenizer",
    "WordPiece",
    "WordTokenizer",
    "gpt2",
    "load_tokenizer",
    "with_dropout",
]

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.basic import BasicBPE
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE
    from stemma.tokenizers.bpe.characters import CharacterBPE
    from stemma.tokenizers.bpe.dropout import with_dropout
    from stemma.tokenizers.bpe.graphemes import GraphemeBPE
    from stemma.tokenizers.byte import ByteTokenizer
    from stemma.tokenizers.character import CharacterTokenizer
    from stemma.tokenizers.chat.template import ChatTemplate
    from stemma.tokenizers.load import load_tokenizer
    from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
    from stemma.tokenizers.special import END_OF_TEXT, AddedToken
    from stemma.tokenizers.stream import StreamDecoder
    from stemma.tokenizers.tokenizer import Tokenizer
    from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer
    from stemma.tokenizers.word import UNKNOWN, WordTokenizer
    from stemma.tokenizers.wordpiece.tokenizer import WordPiece
else:
    __getattr__, __dir__ = lazily(__name__, __file__, __all__)


def gpt2() -> ByteLevelBPE:
    """GPT-2's tokenizer with its own 50,257 tokens; see `stemma.tokenizers.bpe.gpt2`."""
    from stemma.tokenizers.bpe.gpt2 import load_gpt2

    return load_gpt2()
