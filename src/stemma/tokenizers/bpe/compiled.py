"""A byte-level BPE as tables for the kernels: the fast form of `ByteLevelBPE._encode_word`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.bpe.merge import Pair
from stemma.tokenizers.bpe.merge_list import Rows
from stemma.tokenizers.scan.words import Room, WordSplitter
from stemma.tokenizers.texts import in_groups

if TYPE_CHECKING:
    from stemma.tokenizers.kernels.merging import Merging

PADDING = bytes(16)
"""Behind every text, so that the kernels may read eight bytes at a time."""

CACHE_BYTES = 1 << 24
SEGMENT = 1 << 18
"""Texts of up to so many bytes are encoded together."""

MOST_FAMILIAR = 1 << 16
"""A cache of words begins with so many tokens; more of them would push each other out."""

MOST_COPIED = 16
"""So many ids more than there are bytes may be written to, and mean nothing."""

_LINE_BYTES = 64
_NO_PAIR = np.uint64(0xFFFFFFFFFFFFFFFF)


class Desk:
    """What one thread writes to: words seen before, the ends of words, ids of up to a segment."""

    def __init__(self) -> None:
        from stemma.tokenizers.kernels.merging import PLACES
        from stemma.tokenizers.kernels.word_cache import BLOCK
        from stemma.tokenizers.kernels.words import Scratch

        self.scratch = Scratch(
            cache=_aligned_zeros(CACHE_BYTES),
            lows=np.empty(BLOCK, np.uint64),
            highs=np.empty(BLOCK, np.uint64),
            lines=np.empty(BLOCK, np.intp),
            part_ends=np.empty(BLOCK, np.intp),
            part_lows=np.empty(BLOCK, np.uint64),
            part_highs=np.empty(BLOCK, np.uint64),
            part_lines=np.empty(BLOCK, np.intp),
            places=np.empty(PLACES, np.int32),
        )
        self.room = Room()
        self.ids = np.empty(SEGMENT + MOST_COPIED, np.int32)


def _aligned_zeros(n_bytes: int) -> NDArray[np.int32]:
    """Zeros that begin where a line of the processor's cache does."""
    memory = np.zeros(n_bytes // 4 + _LINE_BYTES // 4, np.int32)
    first = -memory.ctypes.data % _LINE_BYTES // 4
    return memory[first : first + n_bytes // 4]


@dataclass(frozen=True)
class Vocabulary:
    """What decides a byte-level BPE's ids, as plain values.

    Args:
        spellings: the bytes of each id.
        learned: the ids that text can give: all but the added tokens.
        merges: pairs of ids in the order learned; None: the pair whose joined bytes have the lowest
            id is merged first (tiktoken's rule).
        results: the id that each merge makes.
        whole_words: whether a word that is a token as it stands is not merged at all.
    """

    spellings: Sequence[bytes]
    learned: NDArray[np.int32]
    merges: Sequence[Pair] | Rows | None
    results: Sequence[int]
    whole_words: bool


class CompiledBPE:
    """Encodes bytes by a vocabulary and a rule for words; may be used from several threads.

    Args:
        vocabulary: what decides the ids.
        splitter: cuts text into words.
    """

    def __init__(self, vocabulary: Vocabulary, splitter: WordSplitter) -> None:
        from stemma.tokenizers.kernels import characters, merge_table, word_cache, words
        from stemma.tokenizers.kernels import vocabulary as tokens

        self._words, self._pair_table, self._tokens = words, merge_table, tokens
        self._word_cache = word_cache
        self._splitter = splitter
        lengths = [len(spelling) for spelling in vocabulary.spellings]
        self._offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._spelled = np.frombuffer(b"".join((*vocabulary.spellings, PADDING)), np.uint8)
        self._merging = self._index_pairs(vocabulary)
        made = self._made(vocabulary)
        single = vocabulary.learned if vocabulary.whole_words else made
        short = self._offsets[single + 1] - self._offsets[single] <= word_cache.SHORT
        self._short_words = single[short][:MOST_FAMILIAR]
        unmade = np.setdiff1d(single, made, assume_unique=True)
        sought = np.union1d(single[~short], unmade)
        self._alone = words.Tokens(
            whole=self._index_tokens(sought),
            least=int(np.min(self._offsets[sought + 1] - self._offsets[sought], initial=1 << 30)),
            spelled=self._spelled,
            offsets=self._offsets,
        )
        characters.index_characters(self._spelled, self._offsets, self._merging, unmade)
        self._desks: list[Desk] = []

    def _index_tokens(self, tokens: NDArray[np.int32]) -> NDArray[np.int32]:
        whole = np.full(_power_of_two(2 * tokens.size), -1, np.int32)
        self._tokens.index_tokens(self._spelled, self._offsets, tokens, whole)
        return whole

    def _made(self, vocabulary: Vocabulary) -> NDArray[np.int32]:
        """The learned tokens that merging makes out of their own bytes."""
        from stemma.tokenizers.kernels import ranks

        if vocabulary.merges is not None:
            spelled = (self._spelled, self._offsets)
            made: NDArray[np.int32] = ranks.reachable(vocabulary.learned, *spelled, self._merging)
            return made
        byte_ids = self._merging.byte_ids
        is_made = np.zeros(len(vocabulary.spellings), bool)
        is_made[self._pairs() & self._pair_table.ID_MASK] = True
        is_made[byte_ids[byte_ids >= 0]] = True
        learned: NDArray[np.int32] = vocabulary.learned[is_made[vocabulary.learned]]
        return learned

    def _index_pairs(self, vocabulary: Vocabulary) -> Merging:
        """The tables of bytes and of pairs; that of characters is left empty."""
        from stemma.tokenizers.kernels import characters, merge_table, merging, neighbours, ranks

        spelled = (self._spelled, self._offsets)
        merges, learned = vocabulary.merges, vocabulary.learned
        whole = self._index_tokens(learned)
        n_pairs = learned.size if merges is None else len(merges)
        pairs = np.full(merge_table.SIEVE + _power_of_two(2 * n_pairs), _NO_PAIR, np.uint64)
        pairs[: merge_table.SIEVE] = 0
        tables = merging.Merging(
            byte_ids=np.array(
                [self._tokens.find_whole(whole, one, 0, 1, *spelled) for one in _BYTES], np.int32
            ),
            byte_pairs=np.full(1 << 16, merge_table.NEVER, np.int32),
            characters=np.zeros(characters.CHARACTERS, np.int64),
            neighbours=np.zeros(neighbours.SIZE, np.uint64),
            pairs=pairs,
            results=np.asarray([] if merges is None else vocabulary.results, np.int32),
        )
        if merges is None:
            ranks.index_ranks(*spelled, learned, whole, tables)
        else:
            merge_table.index_merges(np.asarray(merges, np.int32).reshape(-1, 2), pairs)
        merge_table.index_byte_pairs(tables.byte_ids, pairs, tables.byte_pairs)
        return tables

    def encode(self, data: bytes) -> NDArray[np.int32]:
        """Ids of a text, given as UTF-8."""
        return self.encode_texts([data])[0]

    def encode_texts(self, texts: Sequence[bytes]) -> list[NDArray[np.int32]]:
        """Ids of several texts, given as UTF-8; no word reaches from one into the next."""
        sizes = np.array([len(text) for text in texts], np.int64)
        limits = np.cumsum(sizes)
        n_bytes = int(limits[-1]) if len(texts) else 0
        if n_bytes > SEGMENT and len(texts) > 1:
            return [row for group in in_groups(texts, SEGMENT) for row in self.encode_texts(group)]
        data = np.frombuffer(b"".join((*texts, PADDING)), np.uint8)
        try:
            desk = self._desks.pop()
        except IndexError:
            desk = Desk()
            self._word_cache.remember_tokens(
                self._short_words, self._spelled, self._offsets, desk.scratch.cache
            )
        if n_bytes <= SEGMENT:
            counts, n = self._encode_segment(data, limits.astype(np.int32), desk.ids, 0, desk)
            rows = _parts(desk.ids[:n].copy(), counts)
        else:
            ids = np.empty(n_bytes + MOST_COPIED, np.int32)
            n = 0
            for start, end in self._splitter.segments(data, n_bytes):
                one = np.array([end - start], np.int32)
                _, n = self._encode_segment(data[start:], one, ids, n, desk)
            ids.resize(n, refcheck=False)  # the rest goes back; nothing is copied
            rows = [ids]
        self._desks.append(desk)
        return rows

    def _encode_segment(
        self,
        data: NDArray[np.uint8],
        limits: NDArray[np.int32],
        ids: NDArray[np.int32],
        n: int,
        desk: Desk,
    ) -> tuple[NDArray[np.int64], int]:
        """Write ids to ``ids`` from ``n`` on; their number after each text, and in all."""
        counts = np.empty(limits.size, np.int64)
        ends = self._splitter.ends(data, limits, desk.room)
        tables = (self._merging, self._alone)
        n = self._words.encode_words(data, ends, limits, *tables, desk.scratch, ids, n, counts)
        return counts, n

    def merges(self) -> list[Pair]:
        """All pairs that merge, in the order of their ranks."""
        filled = self._pairs()
        bits, low = self._pair_table.ID_BITS, self._pair_table.ID_MASK
        order = np.argsort(filled & low)
        left, right = filled[order] >> (2 * bits), filled[order] >> bits & low
        return list(zip(left.tolist(), right.tolist(), strict=True))

    def _pairs(self) -> NDArray[np.uint64]:
        """The pairs that merge, each with its rank, in no order."""
        table = self._merging.pairs[self._pair_table.SIEVE :]
        pairs: NDArray[np.uint64] = table[table != _NO_PAIR]
        return pairs

    def decode(self, ids: NDArray[np.int32]) -> memoryview:
        """The bytes of ids, one after another; all of them must be of the vocabulary."""
        n_bytes = self._tokens.joined_size(ids, self._offsets)
        joined = np.empty(n_bytes + len(PADDING), np.uint8)
        self._tokens.join_tokens(ids, self._spelled, self._offsets, joined)
        return joined[:n_bytes].data


_BYTES = [np.array([value, *PADDING], np.uint8) for value in range(256)]


def _parts(ids: NDArray[np.int32], counts: NDArray[np.int64]) -> list[NDArray[np.int32]]:
    ends = counts.tolist()
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _power_of_two(least: int) -> int:
    return 1 << max(least - 1, 1).bit_length()
