"""Why a word is cut as it is: its merges, its matches, or its best path, step by step.

Each family decides in its own way, and each is repeated here in the slowest and plainest form. The
ids that come out are those of `Tokenizer.encode`; the tests hold that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from stemma.tokenizers.special import AllowedSpecial
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.tokenizer import Tokenizer

LONGEST = 400
"""Characters of the longest word that is replayed."""


@dataclass(frozen=True)
class Piece:
    """A piece of a word on its way to a token.

    Args:
        id: its id; None if it has none.
        spelling: its bytes, as the vocabulary writes them.
        score: its log probability, or its rank in SentencePiece's BPE; None elsewhere.
        fixed: whether it is never merged.
    """

    id: int | None
    spelling: bytes
    score: float | None = None
    fixed: bool = False


@dataclass(frozen=True)
class Merge:
    """One merge.

    Args:
        at: the place of the left piece in the row before the merge.
        left: the left piece.
        right: the right piece.
        made: what they become.
        rank: the merge's place in the list of merges, or the id of what it makes where merges are
            ranked so; None where pieces have scores.
        row: the pieces after the merge.
    """

    at: int
    left: Piece
    right: Piece
    made: Piece
    rank: int | None
    row: tuple[Piece, ...]


@dataclass(frozen=True)
class Merges:
    """A word that was cut by merging pairs (BPE).

    Args:
        word: the word.
        symbols: what merging began with.
        merges: the merges, in order.
        ids: the ids that came out.
        note: what else has to be said.
    """

    word: str
    symbols: tuple[Piece, ...]
    merges: tuple[Merge, ...]
    ids: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Match:
    """One step of WordPiece: the longest token that the rest of the word begins with.

    Args:
        piece: the token; None if there is none.
        text: the characters of the word that it stands for.
        rest: what is left of the word behind them.
    """

    piece: Piece | None
    text: str
    rest: str


@dataclass(frozen=True)
class Matches:
    """A word that was cut by taking the longest token again and again (WordPiece).

    Args:
        word: the word.
        matches: the steps.
        ids: the ids that came out.
        note: what else has to be said.
    """

    word: str
    matches: tuple[Match, ...]
    ids: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Path:
    """A way of cutting a word into pieces: the pieces, and the sum of their scores."""

    pieces: tuple[Piece, ...]
    score: float


@dataclass(frozen=True)
class Paths:
    """A word that was cut along its best path (Unigram).

    Args:
        word: the word.
        paths: the best ways to cut it, the best first.
        n_edges: how many pieces were found in the word: the edges of its lattice.
        ids: the ids that came out.
        note: what else has to be said.
    """

    word: str
    paths: tuple[Path, ...]
    n_edges: int
    ids: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Whole:
    """A word of which nothing was decided step by step.

    Args:
        word: the word.
        ids: its ids.
        note: why.
    """

    word: str
    ids: tuple[int, ...]
    note: str


Replay = Merges | Matches | Paths | Whole


def replay(
    tokenizer: Tokenizer, text: str, *, allowed_special: AllowedSpecial = ()
) -> tuple[Replay, ...]:
    """How each word of a text is cut, in order; a word that comes again comes again.

    The ids of all words, joined, are those of ``tokenizer.encode(text)`` but for added tokens.

    Args:
        tokenizer: what cuts the text.
        text: the text.
        allowed_special: see `Tokenizer.encode`.

    Raises:
        TokenizerError: see `Tokenizer.encode`.
    """
    check_text(text)
    words_of, replay_word = _replayer(tokenizer)
    known: dict[str, Replay] = {}
    found = []
    for part, at_start in _parts(tokenizer, text, allowed_special):
        for word in words_of(part, at_start):
            if word not in known:
                known[word] = replay_word(word)
            found.append(known[word])
    return tuple(found)


WordsOf = Callable[[str, bool], list[str]]
ReplayWord = Callable[[str], Replay]


def _replayer(tokenizer: Tokenizer) -> tuple[WordsOf, ReplayWord]:
    from stemma.tokenizers.view import replay_families as families

    name = next(
        (c.__name__ for c in type(tokenizer).__mro__ if c.__name__ in families.REPLAYERS), ""
    )
    if name:
        return families.REPLAYERS[name](tokenizer)
    family = type(tokenizer).__name__
    note = families.LOOKED_UP.get(family, f"{family} decides nothing step by step")

    def whole(word: str) -> Replay:
        return Whole(word, tuple(tokenizer.encode(word).tolist()), note)

    return (lambda part, _: [part]), whole


def _parts(
    tokenizer: Tokenizer, text: str, allowed_special: AllowedSpecial
) -> Iterator[tuple[str, bool]]:
    """What is cut by the family's rule: normalised, and without added tokens; whether it begins."""
    added = tokenizer._added
    names = added.allowed(allowed_special)
    for part, start, _ in added.split(text, names):
        if isinstance(part, str):
            changed = tokenizer.normalizer(part) if tokenizer.normalizer else part
            for inner, at, _ in added.split(changed, names, normalized=True):
                if isinstance(inner, str):
                    yield inner, start == 0 and at == 0


def merge_pieces(
    symbols: Sequence[Piece],
    rank_of: Callable[[Piece, Piece], tuple[Any, int | None, Piece] | None],
) -> tuple[Merge, ...]:
    """Merge the pair that comes first, the leftmost of several, until no pair can be merged.

    Args:
        symbols: the pieces to begin with.
        rank_of: for two neighbours when they come, their rank (to show), and what they become;
            None if they are not merged.
    """
    row = list(symbols)
    merges: list[Merge] = []
    while len(row) > 1:
        free = [(a, b, at) for at, (a, b) in enumerate(pairwise(row)) if not (a.fixed or b.fixed)]
        found = [(rank_of(left, right), at) for left, right, at in free]
        possible = [(answer, at) for answer, at in found if answer is not None]
        if not possible:
            break
        (_, rank, made), at = min(possible, key=lambda one: (one[0][0], one[1]))
        left, right = row[at : at + 2]
        row[at : at + 2] = [made]
        merges.append(Merge(at, left, right, made, rank, tuple(row)))
    return tuple(merges)
