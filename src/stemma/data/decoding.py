"""Files -> text: compression, the byte-order mark, line ends, and what is not UTF-8 text at all."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import IO

from stemma.errors import DataError

STDIN = "-"
COMPRESSED_SUFFIXES = (".gz", ".xz", ".bz2")
CHUNK_BYTES = 1 << 17


def text_pieces(path: Path) -> Iterator[str]:
    """Stream a UTF-8 file (or standard input, ``-``) as pieces of text of up to 128 KiB.

    A byte-order mark at the start is dropped. Line ends become ``\\n`` whether they were ``\\r\\n``
    or ``\\r``, as in Python's own text mode: a file reads the same whatever system wrote it.
    ``.gz``, ``.xz`` and ``.bz2`` are decompressed on the way.

    Raises:
        DataError: if the file cannot be read, its compression is damaged, it is binary (holds a
            NUL byte) or not UTF-8; the last two name the offset of the byte in the decompressed
            file.
    """
    utf8 = codecs.getincrementaldecoder("utf-8")()
    newlines = io.IncrementalNewlineDecoder(None, translate=True)
    where = origin_of(path)
    offset = 0
    for chunk in _chunks(path):
        if offset == 0:
            _refuse_utf16(chunk, where)
        if (nul := chunk.find(b"\0")) >= 0:
            raise DataError(
                f"is binary, not text: NUL at byte {offset + nul}",
                where=where,
                cure="Give plain text, .jsonl or .parquet (each may be .gz, .xz or .bz2).",
            )
        held_back = len(utf8.getstate()[0])
        try:
            piece = utf8.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise _not_utf8(error, offset - held_back, where) from None
        if offset == 0:
            piece = piece.removeprefix("\ufeff")
        offset += len(chunk)
        if piece := newlines.decode(piece, final=not chunk):
            yield piece


def split_pieces(pieces: Iterator[str], separator: str) -> Iterator[str]:
    """Split a stream of text at every ``separator``, holding no more than one part in memory."""
    overlap = len(separator) - 1
    held: list[str] = []
    tail = ""
    for piece in pieces:
        *complete, rest = (tail + piece).split(separator)
        for part in complete:
            yield "".join([*held, part])
            held.clear()
        # A separator may begin in this piece and end in the next one.
        cut = max(0, len(rest) - overlap)
        held.append(rest[:cut])
        tail = rest[cut:]
    yield "".join([*held, tail])


def stream_pieces(pieces: Iterable[str], separator: str) -> Iterator[Iterator[str]]:
    """`split_pieces` for parts that are larger than memory: each part is a stream of its own.

    A part must be read to its end before the next one is asked for.
    """
    source = iter(pieces)
    overlap = len(separator) - 1
    rest: str | None = ""

    def part() -> Iterator[str]:
        nonlocal rest
        while rest is not None:
            found = rest.find(separator)
            if found >= 0:
                head, rest = rest[:found], rest[found + len(separator) :]
                yield head
                return
            # A separator may begin in this piece and end in the next one.
            cut = max(0, len(rest) - overlap)
            head, tail = rest[:cut], rest[cut:]
            if head:
                yield head
            following = next(source, None)
            rest = tail + following if following is not None else None
        yield tail

    while rest is not None:
        yield part()


def origin_of(path: Path) -> str:
    """What an error message calls this source."""
    return "standard input" if str(path) == STDIN else str(path)


def _chunks(path: Path) -> Iterator[bytes]:
    """The decompressed bytes, then one empty chunk as the end."""
    try:
        with _open(path) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged_compression(path, error) from None
    except OSError as error:
        if path.suffix == ".bz2" and error.errno is None:
            raise _damaged_compression(path, error) from None
        raise DataError(
            f"cannot be read: {error.strerror or error}", where=origin_of(path)
        ) from None
    yield b""


def _open(path: Path) -> IO[bytes] | nullcontext[IO[bytes]]:
    if str(path) == STDIN:
        return nullcontext(sys.stdin.buffer)  # stays open: it is not ours
    match path.suffix:
        case ".gz":
            return io.BufferedReader(gzip.open(path, "rb"))
        case ".xz":
            return lzma.open(path, "rb")
        case ".bz2":
            return bz2.open(path, "rb")
        case _:
            return path.open("rb")


def _damaged_compression(path: Path, error: Exception) -> DataError:
    return DataError(
        f"the compressed file is damaged: {error}",
        where=str(path),
        cure="Fetch or compress it again.",
    )


def _refuse_utf16(start: bytes, where: str) -> None:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            "is not UTF-8 (the byte-order mark of UTF-16 at byte 0)",
            where=where,
            cure="Convert it: iconv -f UTF-16 -t UTF-8 OLD > NEW",
        )


def _not_utf8(error: UnicodeDecodeError, start: int, where: str) -> DataError:
    bad = error.object[error.start]
    return DataError(
        f"is not UTF-8: byte 0x{bad:02x} at offset {start + error.start}",
        where=where,
        cure="Convert it, e.g. from Western European: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW",
    )
