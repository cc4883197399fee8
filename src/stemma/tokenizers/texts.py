"""What may be given as text, and as texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from stemma.errors import TokenizerError

T = TypeVar("T", str, bytes)

CONVERT = "Convert it, e.g. from Western European: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW"
"""What to do with a file that is not UTF-8."""


def check_text(text: str) -> None:
    """Refuse lone surrogates: they are half a character, and no UTF-8 bytes stand for them.

    Raises:
        TokenizerError: naming the position of the first.
    """
    if not isinstance(text, str) or not text.isascii():
        utf8(text)


def utf8(text: str) -> bytes:
    """The UTF-8 bytes of a text.

    Raises:
        TokenizerError: see `check_text`.
    """
    if not isinstance(text, str):
        raise TokenizerError(f"a text must be a str, got {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text holds a lone surrogate, U+{ord(text[error.start]):04X}, "
            f"at position {error.start}",
            cure="Remove that character; a file is read without any by errors='replace'.",
        ) from None


def all_utf8(texts: Sequence[str]) -> list[bytes]:
    """`utf8` of each text."""
    try:
        return list(map(str.encode, texts))
    except (TypeError, UnicodeEncodeError):
        return [utf8(text) for text in texts]


def in_groups(texts: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """Neighbouring texts together, up to ``most`` characters or bytes; a longer one by itself."""
    start = total = 0
    for i, text in enumerate(texts):
        if i > start and total + len(text) > most:
            yield texts[start:i]
            start, total = i, 0
        total += len(text)
    if start < len(texts):
        yield texts[start:]


def check_documents(documents: Path | Iterable[str | Path]) -> Iterable[str]:
    """The texts; those of files, named by their paths, in pieces.

    Raises:
        TokenizerError: for one string where several texts are meant: it would be read letter by
            letter. While reading: if a file cannot be read, or is not UTF-8.
    """
    if isinstance(documents, list) and set(map(type, documents)) <= {str}:
        return documents
    if isinstance(documents, str | bytes):
        raise TokenizerError("documents must be an iterable of texts", cure="Give [text].")
    return _texts([documents] if isinstance(documents, Path) else documents)


def _texts(documents: Iterable[str | Path]) -> Iterator[str]:
    from stemma.tokenizers.text_files import read_chunks

    for document in documents:
        if isinstance(document, Path):
            yield from read_chunks([document])
        else:
            yield document
