"""Byte-level BPE as GPT-2 does it: words first, then merges within each word."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Self

from stemma.errors import TokenizerError
from stemma.tokenizers.alphabet import BYTE_ORDER
from stemma.tokenizers.bpe_merge import Pair, merge_long_word, merge_word
from stemma.tokenizers.bpe_train import (
    Progress,
    check_vocab_size,
    count_words,
    learn_merges,
    too_little_text,
)
from stemma.tokenizers.huggingface import bpe_json
from stemma.tokenizers.pretokenize import split_words
from stemma.tokenizers.special import END_OF_TEXT
from stemma.tokenizers.tokenizer import Tokenizer

LONG_WORD_BYTES = 64
CACHED_WORDS = 1 << 17


class ByteLevelBPE(Tokenizer):
    """BPE on the bytes of words (Radford et al. 2019, section 2.2).

    ``decode(encode(text)) == text`` for every text. Ids of our own vocabularies are laid out like
    GPT-2's: the 256 bytes in GPT-2's order, one id for each merge, then the special tokens.

    Args:
        spellings: the bytes of each id.
        merges: pairs of ids in the order learned; a merge makes the id that its bytes spell.
        special_tokens: name -> id.

    Raises:
        TokenizerError: if a byte is missing, two ids spell the same, or a merge makes no token.
    """

    def __init__(
        self,
        spellings: Sequence[bytes],
        merges: Sequence[Pair],
        special_tokens: Mapping[str, int],
    ) -> None:
        super().__init__(spellings, special_tokens)
        ids = _ids_by_spelling(spellings, set(special_tokens.values()))
        self._byte_ids = [ids[bytes([value])] for value in range(256)]
        self.merges = list(merges)
        self._results = [_result(ids, spellings, pair) for pair in self.merges]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        if len(self._ranks) != len(self.merges):
            raise TokenizerError("a merge is listed twice")
        self._cache = WordCache(self._encode_word)

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

        Pairs are counted at every position of a word (``aaa`` holds ``aa`` twice). The result
        depends on the text alone. Documents are read once and not kept.

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: 256 + tokens to learn + number of special tokens.
            special_tokens: their names, in the order of their ids.
            min_frequency: a rarer pair is not merged.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called after each merge with the numbers of tokens learned and wanted.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        check_vocab_size(vocab_size, special_tokens)
        wanted = vocab_size - 256 - len(special_tokens)
        alphabet = [bytes([value]) for value in BYTE_ORDER]
        words = count_words(documents, special_tokens)
        learned, merges = learn_merges(
            words, alphabet, wanted, min_frequency=min_frequency, progress=progress
        )
        if len(learned) < wanted and not allow_fewer:
            raise too_little_text(len(learned), wanted, vocab_size, min_frequency)
        spellings = alphabet + learned
        special = {name: len(spellings) + i for i, name in enumerate(special_tokens)}
        return cls(spellings + [name.encode() for name in special], merges, special)

    def _encode_part(self, text: str) -> Iterable[int]:
        words = chain.from_iterable(split_words(text))
        return chain.from_iterable(map(self._cache.__getitem__, words))

    def _encode_word(self, word: str) -> list[int]:
        ids = [self._byte_ids[byte] for byte in word.encode()]
        merge = merge_word if len(ids) <= LONG_WORD_BYTES else merge_long_word
        return merge(ids, self._ranks, self._results)

    def to_json(self) -> dict[str, Any]:
        """A byte-level BPE with GPT-2's pre-tokenisation."""
        return bpe_json(self._spellings, self.merges, self.special_tokens, use_regex=True)


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


def _ids_by_spelling(spellings: Sequence[bytes], special: set[int]) -> dict[bytes, int]:
    ids = {spelling: i for i, spelling in enumerate(spellings) if i not in special}
    if len(ids) != len(spellings) - len(special):
        for i, spelling in enumerate(spellings):
            if i not in special and ids[spelling] != i:
                raise TokenizerError(f"ids {i} and {ids[spelling]} both spell {spelling!r}")
    for value in range(256):
        if bytes([value]) not in ids:
            raise TokenizerError(
                f"the vocabulary has no token for byte 0x{value:02x}",
                cure="A byte-level vocabulary holds all 256 bytes.",
            )
    return ids


def _result(ids: Mapping[bytes, int], spellings: Sequence[bytes], pair: Pair) -> int:
    try:
        return ids[spellings[pair[0]] + spellings[pair[1]]]
    except (KeyError, IndexError):
        raise TokenizerError(f"the merge of ids {pair} makes no token of the vocabulary") from None
