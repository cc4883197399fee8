"""A path -> the tokenizer that it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe import ByteLevelBPE
from stemma.tokenizers.bpe_basic import BasicBPE
from stemma.tokenizers.byte import ByteTokenizer
from stemma.tokenizers.files import TOKENIZER, read_document
from stemma.tokenizers.huggingface_reader import model_type, read_bpe, read_word_level
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.word import SPLITS, UNKNOWN, WordTokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer from a directory or from a ``tokenizer.json``, ours or another's.

    Raises:
        TokenizerError: if there is none, it is damaged, or it asks for what stemma does not have.
    """
    path = Path(path)
    if path.is_dir():
        path = path / TOKENIZER
    if not path.exists():
        raise TokenizerError(
            "there is no tokenizer here",
            where=str(path),
            cure=f"Give a {TOKENIZER}, or a directory that holds one.",
        )
    document = read_document(path)
    try:
        family = model_type(document)
        if family not in _FAMILIES:
            raise TokenizerError(
                f"holds a {family} tokenizer",
                cure=f"stemma reads these: {', '.join(_FAMILIES)}.",
            )
        return _FAMILIES[family](document)
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure) from error


def _build_bpe(document: Mapping[str, Any]) -> Tokenizer:
    file = read_bpe(document)
    if file.use_regex:
        return ByteLevelBPE(file.spellings, file.merges, file.special_tokens)
    # Without words, ids must be laid out as `BasicBPE` makes them: it keeps no other table.
    names = list(file.special_tokens)
    tokenizer = BasicBPE(file.merges, names) if file.merges else ByteTokenizer(names)
    same = file.spellings == [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    if not same or file.special_tokens != tokenizer.special_tokens:
        raise TokenizerError("a BPE without pre-tokenisation must begin with bytes 0 to 255")
    return tokenizer


def _build_word_level(document: Mapping[str, Any]) -> Tokenizer:
    file = read_word_level(document)
    if file.splits != SPLITS:
        raise TokenizerError("asks for other word edges than stemma's word-level tokenizer has")
    special = set(file.special_tokens.values())
    words = [word for i, word in enumerate(file.words) if i not in special]
    tokenizer = WordTokenizer(words, list(file.special_tokens))
    if tokenizer.special_tokens != file.special_tokens or file.unknown != UNKNOWN:
        raise TokenizerError("the special tokens of a word-level tokenizer must stand at its end")
    return tokenizer


_FAMILIES: dict[str, Callable[[Mapping[str, Any]], Tokenizer]] = {
    "BPE": _build_bpe,
    "WordLevel": _build_word_level,
}
