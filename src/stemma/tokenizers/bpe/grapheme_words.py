"""Words as rows of grapheme clusters: what `GraphemeBPE` counts, and how it spells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER
from stemma.tokenizers.bpe.train import Sequences
from stemma.tokenizers.scan.words import WordSplitter
from stemma.tokenizers.special import AddedToken, AddedTokens
from stemma.tokenizers.texts import check_documents, check_text
from stemma.tokenizers.unicode.graphemes import clusters, joins

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizer import Normalizer

BYTE_IDS = {value: id_ for id_, value in enumerate(BYTE_ORDER)}
"""Byte -> id."""


class Speller:
    """Spells words with the ids of their clusters.

    Args:
        graphemes: the clusters that have ids, from 256 on.
    """

    def __init__(self, graphemes: Sequence[str]) -> None:
        self._ids = {chr(value): BYTE_IDS[value] for value in range(128)}
        self._ids |= {grapheme: 256 + i for i, grapheme in enumerate(graphemes)}

    def runs(self, word: str) -> Iterator[tuple[list[int], bool]]:
        """The ids of a word, in runs; and whether the ids of a run may be merged.

        A run that may not spells a cluster that has no id.
        """
        run: list[int] = []
        for cluster in clusters(word):
            id_ = self._ids.get(cluster)
            if id_ is not None:
                run.append(id_)
                continue
            if run:
                yield run, True
                run = []
            yield self._pieces(cluster), False
        if run:
            yield run, True

    def _pieces(self, cluster: str) -> list[int]:
        """Ids of the characters of a cluster where there are any, of bytes elsewhere."""
        ids: list[int] = []
        for character in cluster:
            if character in self._ids:
                ids.append(self._ids[character])
            else:
                ids += [BYTE_IDS[byte] for byte in character.encode()]
        return ids

    def sequences(self, words: Mapping[str, int]) -> Sequences:
        """The runs of words that merges can be learned from.

        Args:
            words: word -> count.
        """
        counts: Counter[Sequence[int]] = Counter()
        for word, count in words.items():
            for run, mergeable in self.runs(word):
                if mergeable:
                    counts[tuple(run)] += count
        return Sequences.of(counts)


def whole_words(text: str, splitter: WordSplitter) -> list[str]:
    """The words of a text, joined where one would end inside a cluster."""
    words = splitter.split(text)
    if joins(text) is None:
        return words
    ends = set(accumulate(map(len, clusters(text))))
    joined: list[str] = []
    at = 0
    for word in words:
        if at in ends or not joined:
            joined.append(word)
        else:
            joined[-1] += word
        at += len(word)
    return joined


def count_whole_words(
    documents: Iterable[str],
    special_tokens: Iterable[str],
    splitter: WordSplitter,
    normalizer: Normalizer | None,
) -> Counter[str]:
    """How often each word occurs; a special token's name in a text only ends a word.

    Raises:
        TokenizerError: if a text holds a lone surrogate; the message names the document.
    """
    special = AddedTokens([AddedToken(name, i) for i, name in enumerate(special_tokens)])
    names = special.allowed("all")
    counts: Counter[str] = Counter()
    for number, text in enumerate(check_documents(documents)):
        try:
            check_text(text)
        except TokenizerError as error:
            raise TokenizerError(error.what, where=f"document {number}", cure=error.cure) from None
        for part, _, _ in special.split(text, names):
            if isinstance(part, str):
                counts.update(whole_words(normalizer(part) if normalizer else part, splitter))
    return counts


def commonest_graphemes(words: Mapping[str, int], coverage: float, min_frequency: int) -> list[str]:
    """What gets an id: the commonest clusters beyond a byte, and the characters of the others.

    A syllable that is too rare for an id of its own is spelled by its letter and vowel sign, rather
    than by six bytes or nine.

    Args:
        words: word -> count.
        coverage: how much of all these clusters the commonest shall make up, each taken as often as
            it occurs.
        min_frequency: rarer clusters and characters are left out in any case.

    Returns:
        The commonest first; of equally common ones the smallest text.
    """
    counts: Counter[str] = Counter()
    for word, count in words.items():
        if not word.isascii() or "\r\n" in word:
            for cluster in clusters(word):
                counts[cluster] += count
    ranked = _ranked(counts)
    missing = coverage * sum(map(counts.__getitem__, ranked))
    chosen: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for cluster in ranked:
        if missing > 0 and counts[cluster] >= min_frequency:
            chosen[cluster] = counts[cluster]
        elif len(cluster) > 1:
            for character in cluster:
                others[character] += counts[cluster]
        missing -= counts[cluster]
    for character in others.keys() - chosen.keys():
        if others[character] >= min_frequency:
            chosen[character] = others[character]
    return _ranked(chosen)


def _ranked(counts: Mapping[str, int]) -> list[str]:
    longer_than_a_byte = [text for text in counts if len(text.encode()) > 1]
    return sorted(longer_than_a_byte, key=lambda text: (-counts[text], text))
