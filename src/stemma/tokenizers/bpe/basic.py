"""Byte-pair encoding as it was first thought of, on raw bytes: slow, and short enough to read.

Gage 1994, "A New Algorithm for Data Compression", replaces the commonest pair of bytes by a new
symbol, again and again; Sennrich et al. 2016 (arXiv:1508.07909) keep the list of replacements and
cut new text by it. `ByteLevelBPE` is the same idea at full speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, Self

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge import Pair, replace_pair
from stemma.tokenizers.bpe.train import Progress, check_vocab_size, too_little_text
from stemma.tokenizers.byte import BYTES
from stemma.tokenizers.cutting import last_edge
from stemma.tokenizers.formats.huggingface_json import bpe_json
from stemma.tokenizers.special import END_OF_TEXT
from stemma.tokenizers.texts import check_documents, check_text
from stemma.tokenizers.tokenizer import Tokenizer


class BasicBPE(Tokenizer):
    """Ids: the 256 bytes, one for each merge in the order learned, then the special tokens.

    ``decode(encode(text)) == text`` for every text.

    Args:
        merges: pairs of ids; merge ``i`` makes id ``256 + i`` out of two smaller ids.
        special_tokens: their names, in the order of their ids.

    Raises:
        TokenizerError: if a merge joins ids that do not exist yet, or is listed twice.
    """

    def __init__(
        self, merges: Sequence[Pair] = (), special_tokens: Sequence[str] = (END_OF_TEXT,)
    ) -> None:
        spellings = list(BYTES)
        for left, right in merges:
            if not 0 <= min(left, right) <= max(left, right) < len(spellings):
                raise TokenizerError(
                    f"merge {len(spellings) - 256} joins ids {left} and {right}, "
                    f"but only {len(spellings)} exist before it"
                )
            spellings.append(spellings[left] + spellings[right])
        first = len(spellings)
        super().__init__(
            spellings + [name.encode() for name in special_tokens],
            {name: first + i for i, name in enumerate(special_tokens)},
        )
        self.merges: dict[Pair, int] = {pair: 256 + rank for rank, pair in enumerate(merges)}
        if len(self.merges) != len(merges):
            raise TokenizerError("a merge is listed twice")

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        min_frequency: int = 2,
        allow_fewer: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn merges: each time of the commonest pair, of equally common ones the smallest ids.

        Pairs are counted at every position (``aaa`` holds ``aa`` twice) and within a document. A
        pair that spells a token which exists already is passed over, so that every merge adds one.

        Args:
            documents: the texts.
            vocab_size: 256 + number of merges + number of special tokens.
            special_tokens: their names.
            min_frequency: a rarer pair is not merged.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called after each merge with the numbers of merges learned and wanted.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        check_vocab_size(vocab_size, special_tokens)
        wanted = vocab_size - 256 - len(special_tokens)
        sequences: list[list[int]] = []
        for text in check_documents(documents):
            check_text(text)
            sequences.append(list(text.encode()))
        merges: list[Pair] = []
        spellings = list(BYTES)
        while len(merges) < wanted:
            counts = Counter(pair for ids in sequences for pair in pairwise(ids))
            known = set(spellings)
            fresh = [
                (-count, (left, right))
                for (left, right), count in counts.items()
                if count >= min_frequency and spellings[left] + spellings[right] not in known
            ]
            if not fresh:
                break
            _, (left, right) = min(fresh)
            sequences = [replace_pair(ids, (left, right), len(spellings)) for ids in sequences]
            merges.append((left, right))
            spellings.append(spellings[left] + spellings[right])
            if progress is not None:
                progress(len(merges), wanted)
        if len(merges) < wanted and not allow_fewer:
            raise too_little_text(len(merges), wanted, vocab_size, min_frequency)
        return cls(merges, special_tokens)

    def _encode_part(self, text: str, *, at_start: bool) -> Sequence[int]:
        """Undo nothing, guess nothing: repeat the merges in the order in which they were learned.

        The rank of a pair is its new id: of the pairs present the one with the lowest is merged,
        wherever it stands, until none can be.
        """
        ids = list(text.encode())
        while present := self.merges.keys() & set(pairwise(ids)):
            pair = min(present, key=self.merges.__getitem__)
            ids = replace_pair(ids, pair, self.merges[pair])
        return ids

    def _cut(self, text: str, before: int) -> int:
        """Between two bytes that stand side by side in no token."""
        return last_edge(text, before, self._apart)

    def _apart(self, pair: str) -> bool:
        left, right = map(str.encode, pair)
        return (left[-1], right[0]) not in self._neighbours

    @cached_property
    def _neighbours(self) -> frozenset[tuple[int, int]]:
        """All two bytes that stand side by side in a token."""
        learned = self._spellings[256 : 256 + len(self.merges)]
        return frozenset(pair for spelling in learned for pair in pairwise(spelling))

    def to_json(self) -> dict[str, Any]:
        """A byte-level BPE without pre-tokenisation."""
        return bpe_json(self._spellings, list(self.merges), self.special_tokens, use_regex=False)
