"""Counting the words of a text, of any size and on all cores, before BPE learns from them."""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.scan.patterns import Rule
from stemma.tokenizers.scan.words import Room, WordSplitter, splitter
from stemma.tokenizers.special import AddedToken, AddedTokens
from stemma.tokenizers.texts import check_documents, check_text

if TYPE_CHECKING:
    from concurrent.futures import Future

BATCH_BYTES = 1 << 22
"""About as much text is counted at once by one thread."""

_MOST_BYTES = (1 << 31) - 1
"""Places in a batch are of 32 bits."""

_FIRST_SLOTS = 1 << 17
_ONCE = np.empty(0, np.int64)


@dataclass(frozen=True)
class WordCounts:
    """Distinct words in the order in which they first occur, and how often each occurs.

    Args:
        data: the words' UTF-8 bytes, one word after another, uint8 of shape (n_bytes,).
        ends: where each word ends in ``data``, int64 of shape (n_words,).
        counts: int64 of shape (n_words,).
    """

    data: NDArray[np.uint8]
    ends: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, words: Mapping[str, int]) -> Self:
        """From word -> count."""
        spelled = [word.encode() for word in words]
        ends = np.cumsum([len(word) for word in spelled], dtype=np.int64)
        counts = np.fromiter(words.values(), np.int64, len(words))
        return cls(np.frombuffer(b"".join(spelled), np.uint8), ends, counts)

    def __len__(self) -> int:
        return self.counts.size

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Each word's bytes and its count."""
        data, start = self.data.tobytes(), 0
        for end, count in zip(self.ends.tolist(), self.counts.tolist(), strict=True):
            yield data[start:end], count
            start = end

    def to_dict(self) -> dict[str, int]:
        """Word -> count."""
        return {word.decode(): count for word, count in self}


@dataclass(frozen=True)
class _Batch:
    """UTF-8 bytes of several texts, and where each of them ends; no word crosses such a place."""

    data: NDArray[np.uint8]
    limits: NDArray[np.int32]


def count_words(
    documents: Path | Iterable[str | Path],
    special_tokens: Iterable[str] = (),
    pattern: str | Rule = "gpt2",
    *,
    threads: int | None = None,
) -> WordCounts:
    """How often each word occurs; a special token's name in a text only ends a word.

    Documents are read once; a few batches of them and the distinct words are kept, no more. The
    words come in the order in which they first occur, whatever the number of threads.

    Args:
        documents: texts, or paths of UTF-8 files.
        special_tokens: their names.
        pattern: how text is cut into words, see `scan.patterns`.
        threads: number of threads; as many as there are cores if None.

    Raises:
        TokenizerError: if a file cannot be read or is not UTF-8; if a text holds a lone surrogate
            (the message names the document), or has 2 GB in which no word surely ends.
    """
    cut = splitter(pattern)
    batches = _batches(_parts(documents, special_tokens, cut), cut)
    first = list(islice(batches, 2))
    if len(first) < 2 and not kernels.worth(sum(batch.data.size for batch in first)):
        return _count_readably(first, cut)
    return _count_in_threads(chain(first, batches), cut, threads or os.cpu_count() or 1)


def _parts(
    documents: Path | Iterable[str | Path], special_tokens: Iterable[str], cut: WordSplitter
) -> Iterator[bytes]:
    """The texts as UTF-8, cut at special tokens."""
    special = AddedTokens([AddedToken(name, i) for i, name in enumerate(special_tokens)])
    names = special.allowed("all")
    for number, text in enumerate(_texts(documents, cut)):
        try:
            if not names:
                yield text.encode()
                continue
            for part, _, _ in special.split(text, names):
                if isinstance(part, str):
                    yield part.encode()
        except UnicodeEncodeError:
            raise _surrogate_error(text, number) from None


def _texts(documents: Path | Iterable[str | Path], cut: WordSplitter) -> Iterable[str]:
    """The texts; files in pieces that have the words of the whole by this rule."""
    if cut.name is not None or isinstance(documents, str | bytes):
        return check_documents(documents)
    rows = [documents] if isinstance(documents, Path) else documents
    return chain.from_iterable(
        _cut_anew(check_documents([row]), cut) if isinstance(row, Path) else [row] for row in rows
    )


def _cut_anew(pieces: Iterable[str], cut: WordSplitter) -> Iterator[str]:
    """Pieces of one text, cut where the rule surely ends a word; at worst the whole text."""
    held: list[str] = []
    size = wanted = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size < wanted:
            continue
        text = "".join(held)
        edge = cut.last_edge(text, size)
        if edge:
            yield text[:edge]
        held, size = [text[edge:]], size - edge
        wanted = 0 if edge else 2 * size
    yield "".join(held)


def _surrogate_error(text: str, number: int) -> TokenizerError:
    try:
        check_text(text)
    except TokenizerError as error:
        return TokenizerError(error.what, where=f"document {number}", cure=error.cure)
    raise AssertionError("a text that has no UTF-8 form passed the check")


def _batches(parts: Iterable[bytes], cut: WordSplitter) -> Iterator[_Batch]:
    """Short texts together, long ones in pieces."""
    held: list[bytes] = []
    n_held = 0
    for part in parts:
        if n_held and n_held + len(part) > BATCH_BYTES:
            yield _joined(held)
            held, n_held = [], 0
        if len(part) > BATCH_BYTES:
            yield from _pieces(np.frombuffer(part, np.uint8), cut)
        elif part:
            held.append(part)
            n_held += len(part)
    if held:
        yield _joined(held)


def _joined(parts: list[bytes]) -> _Batch:
    limits = np.cumsum([len(part) for part in parts], dtype=np.int32)
    return _Batch(np.frombuffer(b"".join(parts), np.uint8), limits)


def _pieces(data: NDArray[np.uint8], cut: WordSplitter) -> Iterator[_Batch]:
    start = 0
    while start < data.size:
        end = cut.edge(data, min(start + BATCH_BYTES, data.size), data.size)
        if end - start > _MOST_BYTES:
            raise TokenizerError(
                f"a text of {data.size} bytes has {end - start} in which no word surely ends",
                cure="Give it as several documents.",
            )
        yield _Batch(data[start:end], np.array([end - start], np.int32))
        start = end


def _count_readably(batches: Iterable[_Batch], cut: WordSplitter) -> WordCounts:
    counts: Counter[str] = Counter()
    for batch in batches:
        start = 0
        for limit in batch.limits.tolist():
            counts.update(cut.split(batch.data[start:limit].tobytes().decode()))
            start = limit
    return WordCounts.of(counts)


def _count_in_threads(batches: Iterable[_Batch], cut: WordSplitter, threads: int) -> WordCounts:
    """Each batch counted by itself, and the results added in the order of the text."""
    total = _WordTable()
    # Memory is used again: what is new has to be cleared, which takes as long as counting.
    idle = [(_WordTable(), Room()) for _ in range(threads)]

    def count(batch: _Batch) -> WordCounts:
        table, room = idle.pop()
        table.clear()
        table.add(batch.data, cut.ends(batch.data, batch.limits, room), _ONCE)
        words = table.words()
        idle.append((table, room))
        return words

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[WordCounts]] = deque()
        for batch in batches:
            pending.append(pool.submit(count, batch))
            if len(pending) > threads:
                total.add_counts(pending.popleft().result())
        for future in pending:
            total.add_counts(future.result())
    return total.words()


class _WordTable:
    """A hash table of words that grows, see `kernels.count`."""

    def __init__(self) -> None:
        self._slots = np.zeros((_FIRST_SLOTS, 2), np.uint64)
        self._numbers = np.empty(_FIRST_SLOTS, np.int32)
        self._data = np.empty(8 * _FIRST_SLOTS, np.uint8)
        self._ends = np.empty(_FIRST_SLOTS // 2, np.int64)
        self._used = np.zeros(2, np.int64)

    def clear(self) -> None:
        """Forget all words."""
        self._slots[:] = 0
        self._used[:] = 0

    def add(
        self, data: NDArray[np.uint8], ends: NDArray[np.int32], counts: NDArray[np.int64]
    ) -> None:
        """Add words, as often as ``counts`` says; each once if it is empty."""
        from stemma.tokenizers.kernels.count import add_words

        if data.size < 8:  # eight bytes are read at once
            data = np.frombuffer(data.tobytes().ljust(8), np.uint8)
        done = 0
        while done < ends.size:
            table = (self._slots, self._numbers, self._data, self._ends, self._used)
            done = add_words(*table, data, ends, counts, done)
            if done < ends.size:
                self._grow(int(ends[done]) - int(ends[done - 1] if done else 0))

    def add_counts(self, words: WordCounts) -> None:
        """Add the words of another table."""
        data = words.data.view()
        data.setflags(write=False)  # like the bytes of a text: for numba it is another type
        self.add(data, words.ends.astype(np.int32), words.counts)

    def _grow(self, n_bytes: int) -> None:
        """Make room for at least one more word, of so many bytes."""
        from stemma.tokenizers.kernels.count import move_slots

        n_words, n_used = self._used.tolist()
        if n_words == self._ends.size:
            slots = np.zeros((2 * len(self._slots), 2), np.uint64)
            numbers = np.empty(len(slots), np.int32)
            move_slots(self._slots, self._numbers, slots, numbers)
            self._slots, self._numbers = slots, numbers
            self._ends = _larger(self._ends, len(slots) // 2, n_words)
        if n_used + n_bytes > self._data.size:
            self._data = _larger(self._data, n_used + max(n_bytes, n_used), n_used)

    def words(self) -> WordCounts:
        """All words."""
        from stemma.tokenizers.kernels.count import take_counts

        n_words, n_bytes = self._used.tolist()
        counts = np.empty(n_words, np.int64)
        take_counts(self._slots, self._numbers, counts)
        return WordCounts(self._data[:n_bytes].copy(), self._ends[:n_words].copy(), counts)


def _larger(array: NDArray[Any], size: int, n_used: int) -> NDArray[Any]:
    new = np.empty(size, array.dtype)
    new[:n_used] = array[:n_used]
    return new
