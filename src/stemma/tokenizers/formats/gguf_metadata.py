"""Reading the head of a GGUF file: names and values, and where its tensors stand.

The file is mapped into memory and the tensors are not touched. Every length is compared
with what is left of the file before it is believed.

Source: the format's specification, ggml-org/ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError, reason
from stemma.tokenizers.substrings import PADDING, Substrings

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_ENTRIES = 1 << 16
_LONGEST_NAME = 1 << 16
_DEEPEST = 4
_STRING, _ARRAY = 8, 9
_NUMBERS = {
    0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?",
    10: "<u8", 11: "<i8", 12: "<f8",
}  # fmt: skip
"""The format's number for a type -> numpy's name for it."""

_MOST_TENSORS = 1 << 20
_MOST_DIMENSIONS = 4
_ALIGNMENT = "general.alignment"
_AGAIN = "Copy or download it again."

T = TypeVar("T")


class TensorPlace(NamedTuple):
    """Where a tensor stands in a file.

    Args:
        shape: as torch and numpy have it: the numbers of one row stand side by side.
        kind: the format's number for the type of its numbers.
        start: its first byte in the file.
    """

    shape: tuple[int, ...]
    kind: int
    start: int


def read_metadata(path: Path, wanted: Callable[[str], bool] = lambda _: True) -> dict[str, Any]:
    """The entries of a file by name: numbers, strings, numpy arrays, and lists of strings.

    Arrays of arrays are passed over.

    Args:
        path: the file.
        wanted: which entries; the others are passed over.

    Raises:
        TokenizerError: if the file cannot be read, is no GGUF file, or is cut off or damaged.
    """
    return _read(path, lambda reader: reader.entries(wanted))


def read_head(
    path: Path, wanted: Callable[[str], bool] = lambda _: True
) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
    """The entries of a file, and its tensors by name.

    Args:
        path: the file.
        wanted: see `read_metadata`.

    Raises:
        TokenizerError: see `read_metadata`.
    """
    return _read(path, lambda reader: reader.head(wanted))


def _read(path: Path, read: Callable[[_Reader], T]) -> T:
    try:
        if path.stat().st_size == 0:
            raise TokenizerError("is empty")
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read(_Reader(data))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"cannot be read: {reason(error)}", where=str(path)) from None
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure or _AGAIN) from None


class _Reader:
    """A place in the file, which moves on as values are read."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = 0
        self._n_tensors = 0

    def head(self, wanted: Callable[[str], bool]) -> tuple[dict[str, Any], dict[str, TensorPlace]]:
        found = self.entries(lambda name: name == _ALIGNMENT or wanted(name))
        alignment = found.get(_ALIGNMENT, 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise TokenizerError(f"is damaged: {_ALIGNMENT} = {alignment!r} is no power of two")
        places: dict[str, TensorPlace] = {}
        self._check_room(24 * min(self._n_tensors, _MOST_TENSORS + 1))
        for _ in range(self._n_tensors):
            name = self._name()
            if name in places:
                raise TokenizerError(f"is damaged: it has two tensors named {name}")
            places[name] = self._tensor(name)
        first = -(-self._at // alignment) * alignment
        return found, {
            name: place._replace(start=first + place.start) for name, place in places.items()
        }

    def _tensor(self, name: str) -> TensorPlace:
        (n_dimensions,) = self._numbers("<I")
        if n_dimensions > _MOST_DIMENSIONS:
            raise TokenizerError(f"is damaged: {name} has {n_dimensions} dimensions")
        shape = self._numbers(f"<{n_dimensions}Q")
        kind, start = self._numbers("<IQ")
        return TensorPlace(shape[::-1], kind, start)

    def entries(self, wanted: Callable[[str], bool]) -> dict[str, Any]:
        if self._take(4) != MAGIC:
            raise TokenizerError(
                "is not a GGUF file",
                cure="One begins with the letters GGUF; this may be a web page, or a pointer of "
                "Git LFS. Get the file itself.",
            )
        version, self._n_tensors, n_entries = self._numbers("<IQQ")
        if version not in _VERSIONS:
            raise TokenizerError(
                f"is a GGUF file of version {version}, or one with its bytes in reverse order",
                cure="Convert it again with the tools of today: they write version 3.",
            )
        if n_entries > _MOST_ENTRIES:
            raise TokenizerError(f"is damaged: it claims to hold {n_entries} entries")
        found: dict[str, Any] = {}
        for _ in range(n_entries):
            name = self._name()
            if name in found:
                raise TokenizerError(f"is damaged: it has two entries named {name}")
            (kind,) = self._numbers("<I")
            value = self._value(kind, keep=wanted(name))
            found[name] = value
        return {name: value for name, value in found.items() if wanted(name)}

    def _name(self) -> str:
        (length,) = self._numbers("<Q")
        if length > _LONGEST_NAME:
            raise TokenizerError(f"is damaged: it has an entry whose name has {length} bytes")
        return _decoded(self._take(length))

    def _value(self, kind: int, *, keep: bool) -> Any:
        if kind == _STRING:
            (length,) = self._numbers("<Q")
            return _decoded(self._take(length)) if keep else self._skip(length)
        if kind == _ARRAY:
            return self._array(keep=keep)
        return self._row(kind, 1, keep=True)[0].item()

    def _array(self, *, keep: bool, depth: int = 0) -> Any:
        kind, n = self._numbers("<IQ")
        if kind == _STRING:
            return self._strings(n, keep=keep)
        if kind == _ARRAY:
            if depth == _DEEPEST:
                raise TokenizerError("is damaged: its arrays are nested too deeply")
            self._check_room(12 * n)
            for _ in range(n):
                self._array(keep=False, depth=depth + 1)
            return None
        return self._row(kind, n, keep=keep)

    def _strings(self, n: int, *, keep: bool) -> list[str] | None:
        """The strings of an array, without a call for each: there are hundreds of thousands."""
        self._check_room(8 * n)
        length_at = struct.Struct("<Q").unpack_from
        data, at = self._data, self._at
        places: list[int] = []
        append = places.append
        try:
            for _ in range(n):
                (size,) = length_at(data, at)
                append(at + 8)
                at += 8 + size
        except (struct.error, OverflowError):
            pass  # the file has ended
        if at > len(data):
            self._at = places[-1]
            self._check_room(at - self._at)
        first, self._at = self._at, at
        if len(places) < n:
            self._check_room(8)
        return _all_decoded(data[first:at], np.array(places, np.int64) - first) if keep else None

    def _row(self, kind: int, n: int, *, keep: bool) -> Any:
        if kind not in _NUMBERS:
            raise TokenizerError(f"is damaged: there is no type of number {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        self._check_room(dtype.itemsize * n)
        if not keep:
            return self._skip(dtype.itemsize * n)
        return np.frombuffer(self._take(dtype.itemsize * n), dtype)

    def _numbers(self, layout: str) -> tuple[int, ...]:
        return struct.unpack(layout, self._take(struct.calcsize(layout)))

    def _take(self, n: int) -> bytes:
        self._check_room(n)
        self._at += n
        return self._data[self._at - n : self._at]

    def _skip(self, n: int) -> None:
        self._check_room(n)
        self._at += n

    def _check_room(self, n: int) -> None:
        left = len(self._data) - self._at
        if n > left:
            raise TokenizerError(
                f"is cut off or damaged: {n} bytes should follow byte {self._at}, and {left} do"
            )


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TokenizerError(f"is damaged: {data[:40]!r} is not UTF-8") from None


def _all_decoded(data: bytes, starts: NDArray[np.int64]) -> list[str]:
    """The strings of an array, given where each begins: behind its length of eight bytes."""
    ends = np.append(starts[1:] - 8, len(data))[: starts.size]
    texts = Substrings(data + PADDING, starts, ends - starts).decoded()
    if texts is None:
        places = zip(starts.tolist(), ends.tolist(), strict=True)
        texts = [_decoded(data[start:end]) for start, end in places]
    return texts
