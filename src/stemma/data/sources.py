"""Documents from where text lies: files, folders, JSONL, Parquet, standard input."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemma.data.decoding import (
    COMPRESSED_SUFFIXES,
    STDIN,
    origin_of,
    split_pieces,
    text_pieces,
)
from stemma.errors import DataError

SEPARATOR = "<|endoftext|>"
TEXT_SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".org", ".tex")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
PARQUET_SUFFIX = ".parquet"


@dataclass(frozen=True, slots=True)
class Document:
    """One text that stands for itself: nothing before or after it belongs to it.

    Args:
        text: the text; never empty or only white space when it comes from `read_documents`.
        origin: where it was found, for messages: ``plays.txt#3`` is the third in that file.
    """

    text: str
    origin: str = "memory"

    @property
    def n_bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text.encode())


Source = str | Path | Iterable[str | Path]


def read_documents(source: Source, *, text_field: str = "text") -> Iterator[Document]:
    """Stream the documents of a file, a folder, several of them, or standard input (``-``).

    | source | documents |
    |---|---|
    | ``.jsonl``, ``.ndjson`` | one a line: the string under ``text_field`` |
    | ``.parquet`` | one a row: the column ``text_field`` (needs the extra ``data``) |
    | a folder | its files with a known suffix, recursively, sorted by path; hidden ones and empty \
ones are passed over |
    | any other file, ``-`` | text: parts between ``<|endoftext|>``; without it, the whole file |

    Text and JSONL may be compressed (``.gz``, ``.xz``, ``.bz2``). A line end right after
    ``<|endoftext|>`` belongs to the separator. Documents of nothing but white space are left out.
    Of text files a byte-order mark is dropped and ``\\r\\n`` and ``\\r`` become ``\\n``; strings
    from JSONL and Parquet are kept to the character. Memory is bounded by the longest document.

    Args:
        source: a path, or several paths whose documents follow one another.
        text_field: the field or column that holds the text.

    Raises:
        DataError: at the call if a path is missing or a folder holds no file to read; while
            reading if a file is empty, blank, binary, not UTF-8, or has a malformed line or row.
    """
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    if not paths:
        raise DataError("no source of text was given", cure="Name a file, a folder, or - .")
    streams = [_open_source(path, text_field) for path in paths]
    return (document for stream in streams for document in stream)


def _open_source(path: Path, text_field: str) -> Iterator[Document]:
    if str(path) != STDIN and not path.exists():
        raise _missing(path)
    if path.is_dir():
        files = _files_in(path)
        return _read_at_least_one(path, files, text_field)
    return _read_at_least_one(path, [path], text_field)


def _missing(path: Path) -> DataError:
    beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    nearest = difflib.get_close_matches(path.name, beside, n=1)
    return DataError(
        "no such file or folder",
        where=str(path),
        cure=f"Did you mean {path.parent / nearest[0]}?" if nearest else "Check the path.",
    )


def _files_in(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        raise DataError(f"cannot be read: {error.strerror}", where=str(error.filename))

    files: list[Path] = []
    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [Path(root) / name for name in names if not name.startswith(".")]
    known = [path for path in files if _kind(path) is not None]
    if not known:
        suffixes = " ".join((*TEXT_SUFFIXES, *JSONL_SUFFIXES, PARQUET_SUFFIX))
        raise DataError(
            f"none of the {len(files)} files in this folder can be read",
            where=str(folder),
            cure=f"Known are {suffixes} and these with {' '.join(COMPRESSED_SUFFIXES)}; "
            "a file of another suffix is read as text when it is named itself.",
        )
    return sorted(known, key=lambda path: path.relative_to(folder).as_posix())


def _kind(path: Path) -> str | None:
    """Which reader a file's name asks for; None if the name says nothing."""
    suffix = path.suffix.lower()
    if suffix == PARQUET_SUFFIX:
        return "parquet"
    if suffix in COMPRESSED_SUFFIXES:
        suffix = Path(path.stem).suffix.lower()
    if suffix in JSONL_SUFFIXES:
        return "jsonl"
    return "text" if suffix in TEXT_SUFFIXES else None


def _read_at_least_one(source: Path, files: list[Path], text_field: str) -> Iterator[Document]:
    found = False
    for path in files:
        for document in _read(path, text_field):
            found = True
            yield document
    if not found:
        empty = source.is_file() and source.stat().st_size == 0
        what = "is empty" if empty else "holds no text, nothing but white space"
        raise DataError(what, where=origin_of(source), cure="Give a source with text in it.")


def _read(path: Path, text_field: str) -> Iterator[Document]:
    match _kind(path):
        case "jsonl":
            numbered = _read_jsonl(path, text_field)
        case "parquet":
            numbered = _read_parquet(path, text_field)
        case _:
            numbered = _read_text(path)
    for number, text in numbered:
        if text and not text.isspace():
            yield Document(text, f"{origin_of(path)}#{number}")


def _read_text(path: Path) -> Iterator[tuple[int, str]]:
    for number, text in enumerate(split_pieces(text_pieces(path), SEPARATOR), start=1):
        yield number, text if number == 1 else text.removeprefix("\n")


def _read_jsonl(path: Path, text_field: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(split_pieces(text_pieces(path), "\n"), start=1):
        if not line or line.isspace():
            continue
        where = f"{origin_of(path)}, line {number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"not valid JSON: {error}",
                where=where,
                cure="Each line must be one JSON object on its own.",
            ) from None
        yield number, _text_of(record, text_field, where)


def _text_of(record: Any, text_field: str, where: str) -> str:
    if not isinstance(record, dict):
        raise DataError(
            f"a JSON object was expected, not {type(record).__name__}",
            where=where,
            cure=f'Each line must look like {{"{text_field}": "..."}}.',
        )
    if text_field not in record:
        raise DataError(
            f"no field {text_field!r}",
            where=where,
            cure=f"The fields here are {sorted(record)}: name the one with the text (text_field).",
        )
    text = record[text_field]
    if not isinstance(text, str):
        raise DataError(
            f"field {text_field!r} is not a string but {type(text).__name__}", where=where
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"field {text_field!r} holds half a surrogate pair at character {error.start}",
            where=where,
            cure="It is no text in any encoding: replace it, e.g. with U+FFFD.",
        ) from None
    return text


def _read_parquet(path: Path, text_field: str) -> Iterator[tuple[int, str]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet
    except ImportError:
        raise DataError(
            "reading Parquet needs pyarrow, which is not installed",
            where=str(path),
            cure="pip install 'stemma-llm[data]'",
        ) from None
    try:
        with arrow.parquet.ParquetFile(path) as file:
            _check_column(file.schema_arrow, text_field, path)
            number = 0
            for batch in file.iter_batches(batch_size=1024, columns=[text_field]):
                for value in batch.column(0):
                    number += 1
                    yield number, value.as_py() or ""
    except (arrow.ArrowException, OSError) as error:
        raise DataError(
            f"cannot be read as Parquet: {error}", where=str(path), cure="Write the file again."
        ) from None


def _check_column(schema: Any, text_field: str, path: Path) -> None:
    if text_field not in schema.names:
        raise DataError(
            f"no column {text_field!r}",
            where=str(path),
            cure=f"The columns here are {schema.names}: name the one with the text (text_field).",
        )
    kind = str(schema.field(text_field).type)
    if kind not in ("string", "large_string", "string_view"):
        raise DataError(f"column {text_field!r} holds {kind}, not strings", where=str(path))
