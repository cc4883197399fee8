"""Plain text files as chunks that a tokenizer can learn from, whatever the size of the file."""

from __future__ import annotations

import codecs
import io
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.texts import CONVERT

CHUNK_BYTES = 1 << 22
STANDARD_INPUT = Path("-")
_GZIP = ".gz"
_EDGE = re.compile(r"[^\W\d_] [^\W\d_]|\n[^\W_]")
"""What stands around such a place, read backwards."""


def read_chunks(paths: Iterable[Path], chunk_bytes: int = CHUNK_BYTES) -> Iterator[str]:
    """The text of UTF-8 files in pieces, cut after a letter before a space or a newline.

    A digit before a newline will do as well. Of a file that ends with ``.gz`` what is packed in it;
    ``-`` is standard input.

    Every rule of `scan.patterns` ends a word there: the pieces have the words of the whole. A text
    without such a place is one piece.

    Raises:
        TokenizerError: if a file cannot be read or is not UTF-8; the message names the offset.
    """
    for path in paths:
        yield from _chunks_of(path, chunk_bytes)


def _chunks_of(path: Path, chunk_bytes: int) -> Iterator[str]:
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    held = ""
    wanted = 0
    offset = 0
    try:
        with _opened(path) as file:
            while data := file.read(chunk_bytes):
                pending = len(utf8.getstate()[0])
                text = utf8.decode(data)
                held += newlines.decode(text if offset else text.removeprefix("\ufeff"))
                offset += len(data)
                if len(held) < wanted:
                    continue
                cut = _last_edge(held)
                if cut:
                    yield held[:cut]
                    held = held[cut:]
                wanted = 0 if cut else 2 * len(held)  # look again at twice the length
            pending = len(utf8.getstate()[0])
            held += newlines.decode(utf8.decode(b"", final=True), final=True)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise TokenizerError(f"cannot be read: {reason}", where=named(path)) from None
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"is not UTF-8: byte 0x{error.object[error.start]:02x} "
            f"at offset {offset - pending + error.start}",
            where=named(path),
            cure=CONVERT,
        ) from None
    if held:
        yield held


def _opened(path: Path) -> AbstractContextManager[Any]:
    if path == STANDARD_INPUT:
        return nullcontext(sys.stdin.buffer)
    if path.suffix.lower() == _GZIP:
        import gzip

        return gzip.open(path)
    return path.open("rb")


def named(path: Path) -> str:
    """A file as messages call it."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def without_gzip(path: Path) -> Path:
    """The name of what is packed in a file."""
    return path.with_suffix("") if path.suffix.lower() == _GZIP else path


def size_of(path: Path) -> int:
    """Bytes of text in a file, as far as that is known beforehand: 0 for standard input."""
    if path == STANDARD_INPUT:
        return 0
    if path.suffix.lower() != _GZIP:
        return path.stat().st_size
    with path.open("rb") as file:  # a packed file ends with the size of what is in it
        file.seek(max(path.stat().st_size - 4, 0))
        return int.from_bytes(file.read(), "little")


def _last_edge(text: str) -> int:
    """The last such place as `read_chunks` wants it; 0 if there is none."""
    for found in _EDGE.finditer(text[::-1]):
        return len(text) - found.end() + 1
    return 0
