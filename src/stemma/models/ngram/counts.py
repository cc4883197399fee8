"""Counts of all n-grams of a text, as a trie of sorted integer keys.

Level k holds the k-grams. A k-gram is found from its first k - 1 tokens (its *context*) and its
last one: ``key = context * vocab_size + token``, and the keys of a level are one sorted array. Only
grams seen at least twice become *nodes*, which can be contexts of a further level. What follows a
gram that was seen once is written in the text itself, so such a gram is kept as a pointer to the
token after it. Most long grams are of that kind: it is what keeps nine orders of a text small.

A gram is named by one integer, its *reference*:

=====================  ===================================================================
``r >= 0``             node ``r`` of its level (at level 1 the node is the token itself)
``r == UNSEEN`` (-1)   the gram does not occur
``r <= -2``            the gram occurs once; the token after it is ``text[-2 - r]``
=====================  ===================================================================

Counts, for a gram ``g`` of level k:

- *occurrences* c(g);
- *continuations* N1+(. g): distinct tokens to the left of ``g`` (Kneser & Ney 1995, "Improved
  backing-off for m-gram language modeling"). An occurrence with nothing to its left, at the edge
  of the text or of a document, counts as one of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemma.errors import ModelError

UNSEEN = -1

Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Level:
    """All k-grams of one k.

    Attributes:
        keys: ``context * vocab_size + token`` of each gram whose context is a node, ascending;
            None at level 1, where the one context is empty and the token is the node.
        references: the reference of each gram of ``keys``; None at level 1.
        n_contexts: nodes of the level below (1 at level 1).
        n_tails: grams whose context occurs once; so do they, and they are not in ``keys``.
        occurrences: c(g) of each node.
        continuations: N1+(. g) of each node; None at the highest level, where it is not known.
    """

    keys: Integers | None
    references: Integers | None
    n_contexts: int
    n_tails: int
    occurrences: Integers
    continuations: Integers | None = None

    @property
    def n_grams(self) -> int:
        """Number of distinct k-grams."""
        listed = np.count_nonzero(self.occurrences) if self.keys is None else len(self.keys)
        return int(listed) + self.n_tails

    def node_counts(self, *, continuations: bool) -> Integers:
        """The counts of the nodes, of one kind or the other."""
        if not continuations:
            return self.occurrences
        if self.continuations is None:
            raise ModelError("continuations of the highest level were not counted")
        return self.continuations

    def count(self, references: Integers, *, continuations: bool) -> Integers:
        """Count of each gram by its reference; a gram seen once has one continuation too."""
        counts: Integers = (references != UNSEEN).astype(np.int64)
        is_node = references >= 0
        nodes = self.node_counts(continuations=continuations)
        counts[is_node] = nodes[references[is_node]]
        return counts


@dataclass(frozen=True)
class NGramCounts:
    """The n-grams of a text up to some order, as `count_ngrams` makes them.

    Attributes:
        text: the tokens, led by the end-of-text token if there is one.
        levels: level k at index k - 1.
        vocab_size: number of token ids.
        end_of_text: the token that no history reaches beyond.
    """

    text: Integers
    levels: list[Level] = field(repr=False)
    vocab_size: int
    end_of_text: int | None

    @property
    def order(self) -> int:
        """Length of the longest grams."""
        return len(self.levels)

    @cached_property
    def n_bytes(self) -> int:
        """Memory taken by the arrays."""
        arrays = [self.text]
        for level in self.levels:
            parts = (level.keys, level.references, level.occurrences, level.continuations)
            arrays += [part for part in parts if part is not None]
        return sum(array.nbytes for array in arrays)

    def walk(self, tokens: Integers, order: int) -> Iterator[tuple[Integers, Integers]]:
        """For k = 1 .. ``order``: references of the contexts and the k-grams at each token.

        Args:
            tokens: ids, (batch, seq); each row is a text of its own.
            order: the last level.

        Yields:
            Contexts and k-grams, each (batch, seq): the k - 1 tokens before each token, and these
            with the token. UNSEEN where the row has no k - 1 tokens before it.
        """
        contexts = np.zeros(tokens.shape, dtype=np.int64)  # the empty one is node 0 of level 0
        for length in range(1, order + 1):
            grams = self._extend(length, contexts, tokens)
            yield contexts, grams
            contexts = np.full(tokens.shape, UNSEEN, dtype=np.int64)
            contexts[:, 1:] = self._as_contexts(length, grams, tokens)[:, :-1]

    def _as_contexts(self, length: int, grams: Integers, tokens: Integers) -> Integers:
        # Nothing follows the end of the text; and nothing follows end-of-text with a token before
        # it, since histories begin there and do not reach across.
        dead = grams == -2 - len(self.text)
        if self.end_of_text is not None and length > 1:
            dead |= tokens == self.end_of_text
        return np.where(dead, UNSEEN, grams)

    def _extend(self, length: int, contexts: Integers, tokens: Integers) -> NDArray[np.int64]:
        if length == 1:
            return tokens.astype(np.int64)
        grams = np.full(contexts.shape, UNSEEN, dtype=np.int64)
        single = contexts < UNSEEN
        follower = -2 - contexts[single]
        same = self.text[follower] == tokens[single]
        grams[single] = np.where(same, -2 - (follower + 1), UNSEEN)
        node = contexts >= 0
        grams[node] = self._look_up(length, contexts[node], tokens[node])
        return grams

    def _look_up(self, length: int, contexts: Integers, tokens: Integers) -> NDArray[np.int64]:
        level = self.levels[length - 1]
        assert level.keys is not None
        assert level.references is not None
        found = np.full(len(contexts), UNSEEN, dtype=np.int64)
        if len(level.keys) == 0:
            return found
        wanted = (contexts.astype(np.int64) * self.vocab_size + tokens).astype(level.keys.dtype)
        order = np.argsort(wanted)  # an ascending search stays in the cache: six times as fast
        ordered = wanted[order]
        place = np.minimum(np.searchsorted(level.keys, ordered), len(level.keys) - 1)
        hit = level.keys[place] == ordered
        found[order[hit]] = level.references[place[hit]]
        return found


def check_tokens(tokens: ArrayLike, vocab_size: int) -> Integers:
    """``tokens`` as an integer array of ids below ``vocab_size``.

    Raises:
        ModelError: if they are not integers, or one of them is no id of the vocabulary.
    """
    array = np.asarray(tokens)
    if array.size == 0:
        return array.astype(np.int64)
    if not np.issubdtype(array.dtype, np.integer):
        raise ModelError(f"token ids must be integers, not {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= vocab_size:
        raise ModelError(
            f"token id {low if low < 0 else high} is outside the vocabulary of {vocab_size}",
            cure="Encode the text with the tokenizer the model was made for.",
        )
    return array
