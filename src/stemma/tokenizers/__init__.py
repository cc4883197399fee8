"""Text <-> ids: a ladder from single bytes to GPT-2's own vocabulary.

Read in this order: `byte`, `word`, `bpe_basic`, `pretokenize`, `bpe` (with `bpe_merge` and
`bpe_train`), `gpt2`. The names load on first use, so that a command line pays for none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_PUBLIC = {
    "END_OF_TEXT": "special",
    "UNKNOWN": "word",
    "BasicBPE": "bpe_basic",
    "ByteLevelBPE": "bpe",
    "ByteTokenizer": "byte",
    "StreamDecoder": "stream",
    "Tokenizer": "tokenizer",
    "WordTokenizer": "word",
    "load_tokenizer": "load",
}

__all__ = [
    "END_OF_TEXT",
    "UNKNOWN",
    "BasicBPE",
    "ByteLevelBPE",
    "ByteTokenizer",
    "StreamDecoder",
    "Tokenizer",
    "WordTokenizer",
    "gpt2",
    "load_tokenizer",
]

if TYPE_CHECKING:
    from stemma.tokenizers.bpe import ByteLevelBPE
    from stemma.tokenizers.bpe_basic import BasicBPE
    from stemma.tokenizers.byte import ByteTokenizer
    from stemma.tokenizers.load import load_tokenizer
    from stemma.tokenizers.special import END_OF_TEXT
    from stemma.tokenizers.stream import StreamDecoder
    from stemma.tokenizers.tokenizer import Tokenizer
    from stemma.tokenizers.word import UNKNOWN, WordTokenizer


def gpt2() -> ByteLevelBPE:
    """GPT-2's tokenizer with its own 50,257 tokens; see `stemma.tokenizers.gpt2_tokenizer`."""
    from stemma.tokenizers.gpt2_tokenizer import load_gpt2

    return load_gpt2()


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stemma.tokenizers' has no attribute {name!r}")
    return getattr(import_module(f"stemma.tokenizers.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return __all__
