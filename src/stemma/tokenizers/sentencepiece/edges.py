"""Where a text may be cut for SentencePiece's families.

No token reaches over a place between two characters that stand side by side in no piece, once the
text is normalised. BPE never merges across it, then; and every segmentation passes through it, so
that the best one of the whole consists of the best ones of both sides. Three things besides have to
stay as they are: what the character map and the user-defined tokens take together, the spaces that
are dropped, and unknown characters, several of which in a row are one token.

Unused pieces that BPE takes apart again change nothing: which two parts make a piece depends on
the piece alone. As long as nothing has been merged over its ends, its characters are merged in the
same order wherever it stands.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

from stemma.tokenizers.cutting import last_edge, neighbours
from stemma.tokenizers.sentencepiece.normalizer import SPACE, SentencePieceNormalizer

_KEPT = 1 << 14
"""Pairs of characters for which the answer is kept."""


class Edges:
    """The places of texts over which nothing reaches.

    Args:
        normalizer: what is done to a text first.
        pieces: all texts of which tokens are made.
        known: the characters that are never unknown; None: unknown ones are spelled by their bytes.
    """

    def __init__(
        self,
        normalizer: SentencePieceNormalizer,
        pieces: Iterable[str],
        known: Collection[str] | None,
    ) -> None:
        self._spaces = normalizer.spaces
        self._charsmap = normalizer.charsmap
        self._beyond = frozenset(map(chr, self._charsmap.characters.beyond.tolist()))
        self._in_whole = frozenset("".join(normalizer.user_defined))
        self._joined_before = neighbours(normalizer.user_defined)
        self._joined = neighbours(pieces)
        self._known = known
        self._is_edge = lru_cache(_KEPT)(self._apart)

    def last(self, text: str, before: int) -> int:
        """The last such place up to ``before``, with a character on either side; or 0."""
        return last_edge(text, before, self._is_edge)

    def _apart(self, pair: str) -> bool:
        """Whether nothing reaches from one character to the other, whatever stands around them."""
        if pair in self._joined_before or pair[1] in self._beyond:
            return False
        # Before the second character a rule ends at the latest; does one begin before the first?
        left = None if pair[0] in self._beyond else self._becomes(pair[0])
        right = None if self._charsmap.leads_on(pair[1]) else self._becomes(pair[1])
        if not left or not right or self._drops_spaces(left[-1], right[0]):
            return False
        space = SPACE if self._spaces.escape else " "
        left, right = left[-1].replace(" ", space), right[0].replace(" ", space)
        known = self._known is None or left in self._known or right in self._known
        return known and left + right not in self._joined

    def _becomes(self, character: str) -> str | None:
        """What a character becomes by itself; None if a user-defined token may keep it."""
        rule = self._charsmap.longest(character, 0) if self._charsmap.data else None
        new = rule.new if rule else character
        return None if new != character and character in self._in_whole else new

    def _drops_spaces(self, left: str, right: str) -> bool:
        """Whether a space is dropped, or a prefix put, because of what the other part has."""
        if not self._spaces.remove_extra:
            return False
        if left in (" ", SPACE) and right in (" ", SPACE):
            return True
        return left == " " and not self._spaces.suffix
