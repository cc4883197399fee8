"""Byte-pair encoding on the characters of words, as it came into language models.

Sennrich et al. 2016 (arXiv:1508.07909) mark the end of each word: ``low`` is ``l o w</w>``, so
that ``er</w>`` at the end of *lower* is another token than ``er`` in *erase*, and a text can be put
together again. GPT-1 does so; Llama-2 and Gemma write ``▁`` for a space instead, take the whole
text as one word, and spell characters that they do not know by their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.character_symbols import CharacterRules, SymbolTable
from stemma.tokenizers.bpe.merge import Pair, merge_long_word
from stemma.tokenizers.bpe.stretches import StretchMerger
from stemma.tokenizers.special import END_OF_TEXT, AddedToken
from stemma.tokenizers.steps import decoders, pre_tokenizers
from stemma.tokenizers.vocabulary import ids_of
from stemma.tokenizers.word import UNKNOWN
from stemma.tokenizers.wordwise import PreTokenizer, WordwiseTokenizer
from stemma.tokenizers.wordwise_json import wordwise_json

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.train import Progress
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.template import Template

__all__ = ["CharacterBPE", "CharacterRules"]


class CharacterBPE(WordwiseTokenizer):
    """BPE on characters: Hugging Face's BPE model without ``ByteLevel``.

    Args:
        tokens: the vocabulary in the order of its ids, added tokens included.
        merges: pairs of ids in the order learned; a merge makes the token that its two spell,
            joined (without the second one's prefix).
        added: see `Tokenizer`. A special token is never made from a text's own characters.
        rules: how a word becomes symbols.
        pre_tokenizer: cuts a text into words; None: the whole text is one word.
        decoder: joins tokens to a text; None: with spaces between them.
        normalizer: see `Tokenizer`.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if a token is empty or listed twice, a merge is listed twice or makes no
            token, or the token for unknown characters is missing.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        merges: Sequence[Pair],
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        rules: CharacterRules | None = None,
        *,
        pre_tokenizer: PreTokenizer | None = None,
        decoder: decoders.Decoder | None = None,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        super().__init__(
            [token.encode() for token in tokens],
            added,
            pre_tokenizer=pre_tokenizer or pre_tokenizers.Sequence(()),
            decoder=decoder or decoders.Spaces(),
            normalizer=normalizer,
            template=template,
        )
        self.tokens = tuple(tokens)
        self.merges = list(merges)
        self.rules = rules or CharacterRules()
        ids = ids_of(tokens)
        self._unknown_id = self._find_unknown(ids)
        self.ranks, self.results = self._read_merges(ids)
        for name in self.special_tokens:
            del ids[name]
        self._ids = ids
        self._symbols = SymbolTable(ids, self.rules, self._unknown_id)
        self._merger = StretchMerger(self.ranks, self.results, self._symbol_ids)

    def _find_unknown(self, ids: Mapping[str, int]) -> int | None:
        unknown = self.rules.unknown
        if unknown is not None and unknown not in ids:
            raise TokenizerError(f"the token for unknown characters, {unknown!r}, is no token")
        return None if unknown is None else ids[unknown]

    def _read_merges(self, ids: Mapping[str, int]) -> tuple[dict[Pair, int], list[int]]:
        """Pair -> rank, and the id that each rank makes; nothing makes a special token."""
        n_prefix = len(self.rules.continuing_subword_prefix.encode())
        special = {*self.special_tokens.values()}
        ranks: dict[Pair, int] = {}
        results: list[int] = []
        for rank, (left, right) in enumerate(self.merges):
            try:
                behind = self._spellings[right][n_prefix:]
                joined = (self._spellings[left] + behind).decode()
                new = ids[joined] if behind and min(left, right) >= 0 else -1
            except (IndexError, KeyError, UnicodeDecodeError):
                new = -1
            if new < 0:
                raise TokenizerError(
                    f"merge {rank}, of ids {left} and {right}, makes no token of the vocabulary"
                )
            if (left, right) in ranks:
                raise TokenizerError(f"merge {rank}, of ids {left} and {right}, is listed twice")
            ranks[left, right] = rank
            results.append(new)
        made_special = [pair for pair, rank in ranks.items() if results[rank] in special]
        for pair in made_special:
            del ranks[pair]
        return ranks, results

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT, UNKNOWN),
        end_of_word_suffix: str = "</w>",
        pre_tokenizer: PreTokenizer | None = None,
        normalizer: Normalizer | None = None,
        min_frequency: int = 2,
        limit_alphabet: int | None = None,
        allow_fewer: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn merges: each time of the commonest pair, of equally common ones the smallest ids.

        Ids: the characters of the text in the order of Unicode, those that end a word with their
        suffix, the learned tokens, the special ones. Pairs are counted at every position of a word
        (``aaa`` holds ``aa`` twice).

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: characters + tokens to learn + number of special tokens.
            special_tokens: their names; without ``<|unk|>`` unknown characters are left out.
            end_of_word_suffix: how tokens end that end a word.
            pre_tokenizer: cuts a text into words; None: at white space.
            normalizer: what is done to a text first.
            min_frequency: a rarer pair is not merged.
            limit_alphabet: learn from words of the so many commonest characters alone.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called with the numbers of tokens learned and wanted.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        from stemma.tokenizers.bpe.train import merge_sequences
        from stemma.tokenizers.bpe.word_symbols import check_learned, count_words, learn_tokens

        rules = CharacterRules(
            unknown=UNKNOWN if UNKNOWN in special_tokens else None,
            end_of_word_suffix=end_of_word_suffix,
        )
        cut = pre_tokenizer or pre_tokenizers.WhitespaceSplit()
        words = count_words(documents, special_tokens, cut, normalizer)
        n_tokens = vocab_size - len(special_tokens)
        learn = partial(merge_sequences, min_frequency=min_frequency, progress=progress)
        tokens, merges, n_alphabet = learn_tokens(
            words, n_tokens, rules.marks, learn, limit_alphabet=limit_alphabet
        )
        if not allow_fewer:
            check_learned(tokens, n_alphabet, n_tokens, len(special_tokens), min_frequency)
        return cls(
            [*tokens, *special_tokens],
            merges,
            {name: len(tokens) + i for i, name in enumerate(special_tokens)},
            rules,
            pre_tokenizer=cut,
            decoder=decoders.BPEDecoder(end_of_word_suffix),
            normalizer=normalizer,
        )

    def _encode_word(self, word: str) -> list[int]:
        if self.rules.ignore_merges and word in self._ids:
            return [self._ids[word]]
        return self._merger.merge(self._symbols.of(word))

    def symbols(self, word: str) -> list[tuple[int, int]]:
        """The ids that merging begins with, and how many bytes of the word each stands for."""
        return self._symbols.sized(word)

    def _symbol_ids(self) -> set[int]:
        is_symbol = self._symbols.is_symbol
        return {id_ for id_, token in enumerate(self.tokens) if is_symbol(token, id_)}

    def _word_lengths(self, word: str, ids: Sequence[int]) -> list[int]:
        if self.rules.ignore_merges and word in self._ids:
            return [len(word.encode())]
        symbols = self.symbols(word)
        row = [id_ for id_, _ in symbols]
        merge_long_word(row, self.ranks, self.results)
        lengths: list[int] = []
        for id_, (_, size) in zip(row, symbols, strict=True):
            if id_ < 0:  # it has been merged into the one before it
                lengths[-1] += size
            else:
                lengths.append(size)
        return lengths

    def _apart(self, before: str, after: str) -> bool:
        """If both are symbols wherever they stand, and no merge reaches from one to the other."""
        rules = self.rules
        if rules.ignore_merges or rules.end_of_word_suffix or rules.continuing_subword_prefix:
            return False
        left, right = self._symbols.alone(before), self._symbols.alone(after)
        if not left or not right:
            return False
        return not self._merger.joinable(left[-1], right[0])

    def to_json(self) -> dict[str, Any]:
        """A BPE model with what stands around it."""
        rules = self.rules
        model = {
            "type": "BPE",
            "dropout": rules.dropout,
            "unk_token": rules.unknown,
            "continuing_subword_prefix": rules.continuing_subword_prefix or None,
            "end_of_word_suffix": rules.end_of_word_suffix or None,
            "fuse_unk": rules.fuse_unknown,
            "byte_fallback": rules.byte_fallback,
            "ignore_merges": rules.ignore_merges,
            "vocab": {token: id_ for id_, token in enumerate(self.tokens)},
            "merges": [[self.tokens[left], self.tokens[right]] for left, right in self.merges],
        }
        return wordwise_json(self, model)
