"""Byte-level BPE as GPT-2 does it: words first, then merges within each word.

What decides an id is a list of merges, or (as tiktoken's files have it) the tokens alone: then of
all neighbours those merge first whose joined bytes have the lowest id. Long texts go through the
kernels (`bpe.compiled`), short ones through what stands here; both are the same function.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER
from stemma.tokenizers.bpe.merge import Pair, SpelledRanks, merge_long_word, merge_word
from stemma.tokenizers.bpe.merge_list import Rows, as_pairs, as_rows, results_of
from stemma.tokenizers.bpe.train import (
    Progress,
    check_vocab_size,
    count_words,
    learn_merges,
    too_little_text,
)
from stemma.tokenizers.formats.huggingface_json import byte_level_json
from stemma.tokenizers.rows import Spans
from stemma.tokenizers.scan.patterns import Rule
from stemma.tokenizers.scan.words import splitter
from stemma.tokenizers.special import END_OF_TEXT, AddedToken, AllowedSpecial
from stemma.tokenizers.texts import all_utf8, in_groups
from stemma.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.compiled import CompiledBPE
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.template import Template

LONG_WORD_BYTES = 64
CACHED_WORDS = 1 << 17
TEXTS_AT_ONCE = 1 << 18
"""Characters of several texts that are encoded together."""

MOST_COMPILED = (1 << 21) - 1
_NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])
# Control characters but for white space, and what begins the planes of Unicode that are empty.
_NEVER_WRITTEN = ({*range(0x20), 0x7F} - {*b"\t\n\r"}) | {0xF1, 0xF2}


class ByteLevelBPE(Tokenizer):
    """BPE on the bytes of words (Radford et al. 2019, section 2.2).

    ``decode(encode(text)) == text`` for every text, unless a normaliser changes it. Ids of our own
    vocabularies are laid out like GPT-2's: the 256 bytes in GPT-2's order, one id for each merge,
    then the special tokens.

    Args:
        spellings: the bytes of each id; none for an id that is not used.
        merges: pairs of ids in the order learned; a merge makes the id that its bytes spell. None
            for tiktoken's rule.
        added: name -> id of the special tokens, or all added tokens.
        pattern: how text is cut into words: the name of a rule of `scan.patterns`, or patterns
            applied one within another.
        whole_words: a word that is a token as it stands is not merged at all.
        drop_unknown: leave out bytes of a text that have no token, as ``tokenizers`` does, with a
            warning here if written text has them; else such a vocabulary is an error.
        normalizer: what is done to a text first.
        template: which special tokens surround a text.

    Raises:
        TokenizerError: if a byte is missing, two ids spell the same, or a merge makes no token.
    """

    def __init__(
        self,
        spellings: Sequence[bytes],
        merges: Sequence[Pair] | Rows | None,
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        *,
        pattern: str | Rule = "gpt2",
        whole_words: bool = False,
        drop_unknown: bool = False,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        super().__init__(spellings, added, normalizer=normalizer, template=template)
        self._splitter = splitter(pattern)
        self.whole_words = whole_words
        added_ids = {token.id for token in self.added_tokens}
        self._ids = _ids_by_spelling(spellings, added_ids)
        self._given_merges = None if merges is None else as_rows(merges)
        self._results: Sequence[int] = range(len(spellings))
        if self._given_merges is not None:
            self._results = results_of(self._given_merges, spellings, self._ids, added_ids)
        self._has_every_byte = _check_bytes(self._ids, drop_unknown)
        self._cache = WordCache(self._encode_word)

    @classmethod
    def from_ranks(
        cls,
        ranks: Mapping[bytes, int],
        special_tokens: Mapping[str, int],
        *,
        pattern: str | Rule,
        **options: Any,
    ) -> Self:
        """A tokenizer as tiktoken describes it: tokens and their ids, which are also their ranks.

        Args:
            ranks: bytes -> id.
            special_tokens: name -> id; ids that neither has are not used.
            pattern: see the class.
            **options: see the class.

        Raises:
            TokenizerError: see the class; also if two tokens share an id or an id is negative.
        """
        ids = [*ranks.values(), *special_tokens.values()]
        if len(set(ids)) != len(ids) or min(ids, default=0) < 0:
            raise TokenizerError("two tokens share an id, or an id is negative")
        if max(ids, default=0) > 16 * len(ids) + 1024:
            raise TokenizerError(f"the highest id, {max(ids)}, is too high for {len(ids)} tokens")
        spellings = [b""] * (max(ids, default=-1) + 1)
        for spelling, id_ in ranks.items():
            spellings[id_] = spelling
        for name, id_ in special_tokens.items():
            spellings[id_] = name.encode()
        return cls(spellings, None, special_tokens, pattern=pattern, whole_words=True, **options)

    @classmethod
    def train(
        cls,
        documents: Path | Iterable[str | Path],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        pattern: str | Rule = "gpt2",
        min_frequency: int = 2,
        allow_fewer: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn merges: each time of the commonest pair, of equally common ones the smallest ids.

        Pairs are counted at every position of a word (``aaa`` holds ``aa`` twice). The result
        depends on the text alone. Documents are read once and not kept.

        Args:
            documents: texts, or paths of UTF-8 files; a special token's name in them is not
                learned from.
            vocab_size: 256 + tokens to learn + number of special tokens.
            special_tokens: their names, in the order of their ids.
            pattern: see the class.
            min_frequency: a rarer pair is not merged.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called now and then with the numbers of tokens learned and wanted.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        check_vocab_size(vocab_size, special_tokens)
        wanted = vocab_size - 256 - len(special_tokens)
        alphabet = [bytes([value]) for value in BYTE_ORDER]
        words = count_words(documents, special_tokens, pattern)
        learned, merges = learn_merges(
            words, alphabet, wanted, min_frequency=min_frequency, progress=progress
        )
        if len(learned) < wanted and not allow_fewer:
            raise too_little_text(len(learned), wanted, vocab_size, min_frequency)
        spellings = alphabet + learned
        special = {name: len(spellings) + i for i, name in enumerate(special_tokens)}
        names = [name.encode() for name in special]
        return cls(spellings + names, merges, special, pattern=pattern)

    @property
    def pattern(self) -> str | Rule:
        """The name of the rule by which text is cut into words, or its patterns."""
        return self._splitter.name or self._splitter.patterns

    @cached_property
    def merges(self) -> list[Pair]:
        """Pairs of ids in the order of their ranks.

        By tiktoken's rule these are, for each token, the one pair that is ever merged into it.
        """
        if self._given_merges is not None:
            return as_pairs(self._given_merges)
        return self._compiled.merges()

    @cached_property
    def _ranks(self) -> Mapping[Pair, int]:
        if self._given_merges is None:
            return SpelledRanks(self._spellings, self._ids)
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @property
    def _compilable(self) -> bool:
        """Whether a pair of ids and its rank fit in one number, as the kernels keep them."""
        return max(len(self._spellings), len(self._results)) <= MOST_COMPILED

    @cached_property
    def _compiled(self) -> CompiledBPE:
        from stemma.tokenizers.bpe.compiled import CompiledBPE, Vocabulary

        learned = np.sort(np.fromiter(self._ids.values(), np.int32, len(self._ids)))
        return CompiledBPE(
            Vocabulary(
                self._spellings, learned, self._given_merges, self._results, self.whole_words
            ),
            self._splitter,
        )

    def _encode_part(self, text: str, *, at_start: bool) -> Sequence[int] | NDArray[np.int32]:
        if self._compilable and kernels.worth(len(text)):
            return self._compiled.encode(text.encode())
        words = self._splitter.split(text)
        return list(chain.from_iterable(map(self._cache.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        data = word.encode()
        if self.whole_words and data in self._ids:
            return [self._ids[data]]
        single = (data[i : i + 1] for i in range(len(data)))
        ids = [self._ids[byte] for byte in single if self._has_every_byte or byte in self._ids]
        merge = merge_word if len(ids) <= LONG_WORD_BYTES else merge_long_word
        return merge(ids, self._ranks, self._results)

    def _encode_part_with_spans(
        self, text: str, *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        ids, spans = super()._encode_part_with_spans(text, at_start=at_start)
        if not self._has_every_byte:
            known = np.isin(np.arange(256), [byte[0] for byte in self._ids if len(byte) == 1])
            kept = np.flatnonzero(known[np.frombuffer(text.encode(), np.uint8)])
            spans = np.stack([kept[spans[:, 0]], kept[spans[:, 1] - 1] + 1], axis=1)
        return ids, spans

    def _encode_texts(
        self, texts: Sequence[str], allowed_special: AllowedSpecial
    ) -> list[NDArray[np.int32]]:
        """Texts in which nothing has to be looked for first go through the kernels together."""
        nothing_added = self._compilable and not self._added.allowed(allowed_special)
        if (
            self.normalizer is not None
            or not nothing_added
            or not kernels.worth(sum(map(len, texts)))
        ):
            return super()._encode_texts(texts, allowed_special)
        # Threads take turns: while one makes bytes of some texts, another encodes its own.
        groups = in_groups(texts, TEXTS_AT_ONCE)
        return [row for group in groups for row in self._compiled.encode_texts(all_utf8(group))]

    def _cut(self, text: str, before: int) -> int:
        """Where a word ends in any case; before a normal form is made, only within ASCII.

        No normal form looks from one ASCII character at another.
        """
        if self.normalizer is None:
            return self._splitter.last_edge(text, before)
        from stemma.tokenizers.steps.unicode_normalizers import NFC, NFD, NFKC, NFKD

        if not isinstance(self.normalizer, NFC | NFD | NFKC | NFKD):
            return 0
        return self._splitter.last_edge(text, before, ascii_only=True)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ``ids``, one after another.

        Raises:
            TokenizerError: if ``ids`` is not a row of integers or one is outside the vocabulary.
        """
        return bytes(self._decoded(ids))

    def _decoded(self, ids: Iterable[int]) -> bytes | memoryview:
        row = self._checked(ids)
        if self._compilable and kernels.worth(row.size):
            return self._compiled.decode(row.astype(np.int32, copy=False))
        return b"".join(map(self._spellings.__getitem__, row.tolist()))

    def to_json(self) -> dict[str, Any]:
        """A byte-level BPE with its pre-tokenisation."""
        return byte_level_json(
            self._spellings,
            self.merges,
            self.added_tokens,
            patterns=self._splitter.patterns,
            ignore_merges=self.whole_words,
            normalizer=self.normalizer,
            template=self.template,
        )


class WordCache(dict[str, list[int]]):
    """The ids of words seen before: text repeats its words, and looking up is all that is left.

    It starts anew when it is full, and long words do not enter, so that it stays below 50 MB.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        super().__init__()
        self._encode = encode

    def __missing__(self, word: str) -> list[int]:
        ids = self._encode(word)
        if len(word) <= LONG_WORD_BYTES:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


def _ids_by_spelling(spellings: Sequence[bytes], added: set[int]) -> dict[bytes, int]:
    """The ids that text can give: no added tokens, but where the vocabulary holds them anyway."""
    ids = dict(zip(spellings, range(len(spellings)), strict=True))
    ids.pop(b"", None)
    if len(ids) == len(spellings) - spellings.count(b""):  # no two the same: the quick way
        for i in added:
            ids.pop(spellings[i], None)
        return ids
    ids = {spelling: i for i, spelling in enumerate(spellings) if spelling and i not in added}
    if len(ids) != sum(map(bool, spellings)) - len(added):
        for i, spelling in enumerate(spellings):
            if spelling and i not in added and ids[spelling] != i:
                raise TokenizerError(f"ids {i} and {ids[spelling]} both spell {spelling!r}")
    return ids


def _check_bytes(ids: Mapping[bytes, int], drop_unknown: bool) -> bool:
    """Whether every byte of UTF-8 has a token; what has none is an error, or a warning.

    Without one, only those are left out that no written text has.
    """
    missing = [n for n in range(256) if bytes([n]) not in ids and n not in _NEVER_IN_UTF8]
    if not missing:
        return True
    first = ", ".join(f"0x{value:02x}" for value in missing[:4])
    what = f"the vocabulary has no token for {len(missing)} bytes of UTF-8 ({first})"
    if len(missing) == 1:
        what = f"the vocabulary has no token for byte {first}"
    if not drop_unknown:
        raise TokenizerError(what, cure="A byte-level vocabulary holds all bytes of UTF-8.")
    if not _NEVER_WRITTEN.issuperset(missing):
        warnings.warn(f"{what}: they are left out of every text", stacklevel=3)
    return False
