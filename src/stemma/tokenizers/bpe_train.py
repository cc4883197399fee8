"""Learning merges from the words of a text, at a speed that real text needs.

The rule is that of `BasicBPE.train`, within words: merge the commonest pair, of equally common ones
that with the smallest ids. Instead of counting all pairs again after each merge, the counts are
kept, and only those words are looked at that hold the pair.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe_merge import Pair, replace_pair
from stemma.tokenizers.pretokenize import split_words
from stemma.tokenizers.special import SpecialTokens
from stemma.tokenizers.tokenizer import check_documents, check_text

Progress = Callable[[int, int], object]
"""Called with the number of merges learned and the number wanted."""


def count_words(documents: Iterable[str], special_tokens: Iterable[str]) -> Counter[str]:
    """How often each word occurs; a special token's name in a text only ends a word.

    Raises:
        TokenizerError: if a text holds a lone surrogate; the message names the document.
    """
    special = SpecialTokens({name: i for i, name in enumerate(special_tokens)})
    counts: Counter[str] = Counter()
    for number, text in enumerate(check_documents(documents)):
        try:
            check_text(text)
        except TokenizerError as error:
            raise TokenizerError(error.what, where=f"document {number}", cure=error.cure) from None
        for part in special.split(text, "all"):
            if isinstance(part, str):
                for words in split_words(part):
                    counts.update(words)
    return counts


def learn_merges(
    words: Mapping[str, int],
    spellings: Sequence[bytes],
    wanted: int,
    *,
    min_frequency: int,
    progress: Progress | None = None,
) -> tuple[list[bytes], list[Pair]]:
    """Learn merges until there are ``wanted`` new tokens, or no pair is common enough.

    Args:
        words: word -> count.
        spellings: the 256 bytes in the order of their ids.
        wanted: number of tokens to add.
        min_frequency: a rarer pair is not merged.
        progress: see `Progress`.

    Returns:
        The spellings of the new tokens, and the merges in the order learned. There may be more
        merges than tokens: two pairs that spell the same make the same token.
    """
    known = {spelling: id_ for id_, spelling in enumerate(spellings)}
    learned = list(spellings)
    merges: list[Pair] = []
    table = PairTable(words, known)
    while len(learned) < len(spellings) + wanted:
        pair, count = table.commonest()
        if count < max(min_frequency, 1):
            break
        spelling = learned[pair[0]] + learned[pair[1]]
        new = known.setdefault(spelling, len(learned))
        if new == len(learned):
            learned.append(spelling)
        merges.append(pair)
        table.merge(pair, new)
        if progress is not None:
            progress(len(learned) - len(spellings), wanted)
    return learned[len(spellings) :], merges


class PairTable:
    """Words as ids, how often each pair occurs in them, and where.

    Args:
        words: word -> count.
        byte_ids: spelling of each byte -> id.
    """

    def __init__(self, words: Mapping[str, int], byte_ids: Mapping[bytes, int]) -> None:
        id_of = [byte_ids[bytes([value])] for value in range(256)]
        self._words = [[id_of[byte] for byte in word.encode()] for word in words]
        self._weights = list(words.values())
        self._counts: dict[Pair, int] = defaultdict(int)
        self._places: dict[Pair, set[int]] = defaultdict(set)
        for place, (ids, weight) in enumerate(zip(self._words, self._weights, strict=True)):
            for pair in pairwise(ids):
                self._counts[pair] += weight
                self._places[pair].add(place)
        self._heap = [(-count, pair) for pair, count in self._counts.items()]
        heapq.heapify(self._heap)

    def commonest(self) -> tuple[Pair, int]:
        """The pair to merge next and its count; count 0 where no pair is left.

        A count that has risen is in the heap anew; one that has fallen is put right only here.
        """
        while self._heap:
            negative, pair = self._heap[0]
            count = self._counts[pair]
            if count == -negative:
                return pair, count
            if count:
                heapq.heapreplace(self._heap, (-count, pair))
            else:
                heapq.heappop(self._heap)
        return (0, 0), 0

    def merge(self, pair: Pair, new: int) -> None:
        """Replace ``pair`` by ``new`` in every word."""
        changes: dict[Pair, int] = defaultdict(int)
        for place in self._places.pop(pair):
            ids = self._words[place]
            merged = replace_pair(ids, pair, new)
            if len(merged) == len(ids):
                continue  # an earlier merge took the pair out of this word
            self._words[place] = merged
            weight = self._weights[place]
            for old in pairwise(ids):
                changes[old] -= weight
            for now in pairwise(merged):
                changes[now] += weight
                self._places[now].add(place)
        for changed, by in changes.items():
            self._counts[changed] += by
            if by > 0:
                heapq.heappush(self._heap, (-self._counts[changed], changed))


def check_vocab_size(vocab_size: int, special_tokens: Sequence[str]) -> None:
    """Refuse a vocabulary that cannot hold all bytes and special tokens."""
    least = 256 + len(special_tokens)
    if vocab_size < least:
        names = ", ".join(special_tokens)
        raise TokenizerError(
            f"a vocabulary of {vocab_size} is too small: 256 bytes"
            + (f" and {names}" if names else "")
            + f" take {least}",
            where="vocab_size",
            cure=f"Ask for at least {least}.",
        )


def too_little_text(
    reached: int, wanted: int, vocab_size: int, min_frequency: int
) -> TokenizerError:
    """The error for a vocabulary that the text cannot fill."""
    most = vocab_size - wanted + reached
    return TokenizerError(
        f"a vocabulary of {vocab_size} needs {wanted} merges, but the text gives {reached}: "
        f"then no pair occurs {min_frequency} times",
        where="vocab_size",
        cure=f"Give more text, ask for at most {most}, or accept fewer with allow_fewer.",
    )
