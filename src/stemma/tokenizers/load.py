"""A path -> the tokenizer that it holds, whatever its format."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stemma.errors import TokenizerError
from stemma.tokenizers.files import CONFIG, TOKENIZER, read_document
from stemma.tokenizers.tokenizer import Tokenizer

READABLE = (
    "tokenizer.json (Hugging Face)",
    "*.tiktoken (ranks)",
    "*.model (SentencePiece)",
    "*.gguf (llama.cpp)",
    "tokenizer.bin (llama2.c)",
    "vocab.txt (BERT)",
    "vocab.json and merges.txt, encoder.json and vocab.bpe (GPT-2)",
)
"""What `load_tokenizer` reads."""

_HEAD = 1 << 12
_RANK = re.compile(rb"[A-Za-z0-9+/]+={0,2} [0-9]+\r?\n")


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Read a tokenizer from a file, or from a directory that holds one.

    The format is told by the file's content, not by its name. See `READABLE` for the formats.

    Raises:
        TokenizerError: if there is none, it is damaged, or it asks for what stemma does not have.
    """
    path = Path(path)
    file = _file_in(path) if path.is_dir() else path
    if file is None or not file.exists():
        raise TokenizerError(
            "there is no tokenizer here",
            where=str(path),
            cure=f"Give one of these, or a directory that holds it: {'; '.join(READABLE)}.",
        )
    head = _head(file)
    if file.name == TOKENIZER:
        head = b"{"  # however damaged: a checksum may lie beside it
    for form in _FORMATS:
        if form.fits(head):
            with _without_collecting():
                return form.read(file)
    raise TokenizerError(
        "is no tokenizer that stemma knows",
        where=str(file),
        cure=f"It reads these: {'; '.join(READABLE)}.",
    )


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Without the garbage collector, which would look through hundreds of thousands of new strings
    and pairs again and again, and find nothing to free."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _file_in(directory: Path) -> Path | None:
    """The tokenizer's file: of several formats the one that says most."""
    for pattern in (
        TOKENIZER,
        "tokenizer.model",
        "*.tiktoken",
        "encoder.json",
        "vocab.json",
        "vocab.txt",
        "tokenizer.bin",
        "*.model",
        "*.gguf",
    ):
        found = sorted(directory.glob(pattern))
        if len(found) > 1:
            raise TokenizerError(
                f"holds {len(found)} files named {pattern}",
                where=str(directory),
                cure=f"Give one of them: {', '.join(file.name for file in found)}.",
            )
        if found:
            return found[0]
    return None


def _head(path: Path) -> bytes:
    """The first bytes of a file.

    Raises:
        TokenizerError: if it cannot be read, or is no file.
    """
    try:
        if not path.is_file():
            raise TokenizerError("is not a file", where=str(path))
        with path.open("rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise TokenizerError(
            f"cannot be read: {error.strerror or error}", where=str(path)
        ) from None


def _read_json(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats import gpt2_files

    document = read_document(path)
    named = path.name in {first for first, _ in gpt2_files.PAIRS}
    if named and not isinstance(document.get("model"), dict):
        return gpt2_files.read_pair(path, document)
    from stemma.tokenizers.formats import huggingface

    try:
        return huggingface.read(document)
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure) from error


def _read_merges(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats.gpt2_files import load_gpt2_files

    return load_gpt2_files(path)


def _read_gguf(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats.gguf import load_gguf

    return load_gguf(path)


def _read_ranks(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats.tiktoken import load_tiktoken

    return load_tiktoken(path)


def _read_sentencepiece(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats import sentencepiece_model

    return sentencepiece_model.read(path)


def _read_llama2c(path: Path) -> Tokenizer:
    from stemma.tokenizers.formats import llama2c

    return llama2c.read(path)


def _read_wordpiece(path: Path) -> Tokenizer:
    """A bare vocabulary: it is for text in lower case unless it has capitals, or a file says so."""
    from stemma.tokenizers.formats.gpt2_files import read_json
    from stemma.tokenizers.wordpiece.tokenizer import WordPiece, read_vocabulary

    beside = path.with_name(CONFIG)
    config = read_json(beside) if beside.exists() else {}
    if not isinstance(config, dict):
        raise TokenizerError("is not a JSON object", where=str(beside))
    if config.get("tokenize_chinese_chars") is False:
        raise TokenizerError("asks for tokenize_chinese_chars = false", where=str(beside))
    tokens = read_vocabulary(path)
    cased = any(token != token.lower() for token in tokens if not token.startswith("["))
    return WordPiece.bert(
        path,
        lowercase=bool(config.get("do_lower_case", not cased)),
        strip_accents=config.get("strip_accents"),
    )


class _Format(NamedTuple):
    """How a format is recognised by the first bytes of a file, and how it is read."""

    fits: Callable[[bytes], object]
    read: Callable[[Path], Tokenizer]


_FORMATS = (
    _Format(lambda head: head.startswith(b"GGUF"), _read_gguf),
    _Format(lambda head: head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"), _read_json),
    _Format(lambda head: head.startswith(b"#version"), _read_merges),
    _Format(_RANK.match, _read_ranks),
    # The length of the longest token, less than 2^16.
    _Format(lambda head: head[:1] != b"\0" and head[2:4] == b"\0\0", _read_llama2c),
    # The first field of a message, of a length that is not zero.
    _Format(lambda head: head[:1] == b"\n" and b"\0" in head, _read_sentencepiece),
    _Format(lambda head: b"[UNK]\n" in head or b"[PAD]\n" in head, _read_wordpiece),
)
