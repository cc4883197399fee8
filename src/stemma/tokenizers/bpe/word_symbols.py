"""Words as the symbols that merging begins with: characters, marked by their place in the word.

The last character may carry a suffix (``l o w</w>``), every one but the first a prefix
(``l ##o ##w``): so a vocabulary can tell apart what ends a word, what begins one, and what neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge import Pair
from stemma.tokenizers.bpe.train import Sequences, too_little_text
from stemma.tokenizers.special import AddedTokens, special_tokens
from stemma.tokenizers.texts import check_documents, check_text

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.wordwise import PreTokenizer

_BEGINS_WORD = b"\xff"
"""Tells apart, while learning, what begins a word: a byte that no UTF-8 has."""

Learner = Callable[[Sequences, Sequence[bytes], int], NDArray[np.int32]]
"""Sequences of ids, what each id spells, how many to add -> left id, right id and the id that they
make, in the order learned; see `bpe.train.merge_sequences`."""


@dataclass(frozen=True)
class Marks:
    """How the symbols of a word are written.

    Args:
        prefix: before every character but the first.
        suffix: behind the last character.
    """

    prefix: str = ""
    suffix: str = ""

    def symbols(self, word: str) -> list[str]:
        """The symbols of a word that is not empty."""
        if not (self.prefix or self.suffix):
            return [*word]
        found = [word[0], *(self.prefix + character for character in word[1:])]
        found[-1] += self.suffix
        return found

    def join(self, left: str, right: str) -> str:
        """The token that two tokens make."""
        return left + right.removeprefix(self.prefix)


def count_words(
    documents: Iterable[str],
    special: Iterable[str],
    pre_tokenizer: PreTokenizer,
    normalizer: Normalizer | None = None,
) -> Counter[str]:
    """How often each word occurs; a special token's name in a text only ends a word.

    Documents are read once and not kept.

    Raises:
        TokenizerError: if a text holds a lone surrogate; the message names the document.
    """
    added = AddedTokens(special_tokens({name: i for i, name in enumerate(special)}))
    names = added.allowed("all")
    counts: Counter[str] = Counter()
    for number, text in enumerate(check_documents(documents)):
        try:
            check_text(text)
        except TokenizerError as error:
            raise TokenizerError(error.what, where=f"document {number}", cure=error.cure) from None
        for part, start, _ in added.split(text, names):
            if isinstance(part, str):
                part = normalizer(part) if normalizer is not None else part  # noqa: PLW2901
                words = pre_tokenizer.split(part, at_start=start == 0)
                counts.update(word.text for word in words)
    return counts


def learn_tokens(
    words: Mapping[str, int],
    n_tokens: int,
    marks: Marks,
    learn: Learner,
    *,
    limit_alphabet: int | None = None,
) -> tuple[list[str], list[Pair], int]:
    """A vocabulary learned by merging.

    Its tokens are the characters in the order of Unicode, those of them that occur with a mark (in
    the same order), and the learned ones. A word with a character outside the alphabet is not
    learned from.

    Args:
        words: word -> count.
        n_tokens: number of tokens wanted.
        marks: how symbols are written.
        learn: which pairs become tokens.
        limit_alphabet: keep so many characters, the commonest (of equally common ones the first in
            Unicode); None keeps all.

    Returns:
        The tokens; the merges as pairs of places in that list; how many tokens the alphabet has.

    Raises:
        TokenizerError: if ``n_tokens`` has no room for the alphabet.
    """
    characters = _alphabet(words, limit_alphabet)
    kept = {w: n for w, n in words.items() if w and characters.issuperset(w)}
    inner = {symbol for word in kept for symbol in marks.symbols(word)[1:]}
    marked = (inner | {marks.symbols(word)[0] for word in kept}) - characters
    alphabet = sorted(characters) + sorted(marked)
    if n_tokens < len(alphabet):
        raise _too_many_characters(n_tokens, len(alphabet), limit_alphabet)
    ids = {symbol: i for i, symbol in enumerate(alphabet)}
    sequences = Sequences.of(
        {tuple(ids[symbol] for symbol in marks.symbols(w)): n for w, n in kept.items()}
    )
    spellings = [
        symbol.removeprefix(marks.prefix).encode()
        if symbol in inner or not marks.prefix
        else _BEGINS_WORD + symbol.encode()
        for symbol in alphabet
    ]
    wanted = n_tokens - len(alphabet)
    while True:
        learned = learn(sequences, spellings, wanted)
        tokens, merges = _named(alphabet, learned.tolist(), marks)
        missing = n_tokens - len(tokens)
        exhausted = learned[:, 2].max(initial=len(alphabet) - 1) + 1 < len(alphabet) + wanted
        if missing <= 0 or exhausted:
            return tokens, merges, len(alphabet)
        wanted += missing


def _alphabet(words: Mapping[str, int], limit: int | None) -> set[str]:
    counts: Counter[str] = Counter()
    for word, n in words.items():
        for character in word:
            counts[character] += n
    commonest = sorted(counts, key=lambda character: (-counts[character], character))
    return set(commonest[:limit])


def _named(
    alphabet: Sequence[str], learned: Iterable[Sequence[int]], marks: Marks
) -> tuple[list[str], list[Pair]]:
    """Tokens and merges by name: a word may begin with what elsewhere is the prefix.

    Then two tokens have one name, and are one.
    """
    names = list(alphabet)
    pairs = []
    for left, right, new in learned:
        if new == len(names):
            names.append(marks.join(names[left], names[right]))
        pairs.append((names[left], names[right]))
    ids = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = dict.fromkeys((ids[left], ids[right]) for left, right in pairs)
    return list(ids), list(merges)


def check_learned(
    tokens: Sequence[str], n_alphabet: int, n_tokens: int, n_special: int, min_frequency: int
) -> None:
    """Refuse a vocabulary that the text could not fill.

    Raises:
        TokenizerError: naming the size that can be reached.
    """
    if len(tokens) < n_tokens:
        reached, wanted = len(tokens) - n_alphabet, n_tokens - n_alphabet
        raise too_little_text(reached, wanted, n_tokens + n_special, min_frequency)


def _too_many_characters(n_tokens: int, n_alphabet: int, limit: int | None) -> TokenizerError:
    return TokenizerError(
        f"the alphabet of the text takes {n_alphabet} tokens, but there is room for {n_tokens} "
        "besides the special tokens",
        where="vocab_size",
        cure="Ask for a larger vocabulary, or (in Python) for fewer characters with limit_alphabet."
        if limit is None
        else "Ask for a larger vocabulary, or lower limit_alphabet.",
    )
