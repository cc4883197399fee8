"""The unigram language model: a text is as likely as the product of its pieces.

A piece x has the probability p(x), and a segmentation of a text into x_1 ... x_n the score

    log p(x_1) + ... + log p(x_n).

Every segmentation is a path through the *lattice*, whose nodes are the places between characters
and whose edges are the pieces found in the text. All questions are answered by walking it once or
twice: the best path (Viterbi), the best n, a random one, the sum over all of them.

Source: Kudo 2018, arXiv:1804.10959, section 3.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Literal, NamedTuple

import numpy as np

from stemma.errors import TokenizerError

UNKNOWN_PENALTY = 10.0
"""How much an unknown character scores below the least likely piece."""

LARGEST_SUM = 100_000.0
"""A larger sum of single precision is made small again: its rounding errors would decide."""

_AGENDA_FULL = 10_000
_AGENDA_KEPT = 512


class Edge(NamedTuple):
    """A piece in a text: the characters ``start:end``, its id, and its score."""

    start: int
    end: int
    id: int
    score: float


class UnigramModel:
    """Pieces and their scores, and how a text is cut into them.

    A character that no piece spells by itself can also be the unknown piece.

    Args:
        pieces: the text of each id; None for an id that is never found in a text.
        scores: log probabilities; those of ids without text are not looked at.
        unknown_id: the id of an unknown character.
        unknown_score: its score; that of the least likely piece less 10 if None.
        precision: what sums of scores are rounded to, which decides between segmentations that
            are nearly equal. SentencePiece computes in single precision; where a sum has passed
            100,000 it is taken from all that lie ahead. `tokenizers` computes in double.

    Raises:
        TokenizerError: if lengths differ, a text is empty or comes twice, or a score is no number.
    """

    def __init__(
        self,
        pieces: Sequence[str | None],
        scores: Sequence[float],
        unknown_id: int,
        *,
        unknown_score: float | None = None,
        precision: Literal["single", "double"] = "single",
    ) -> None:
        self._typecode = "f" if precision == "single" else "d"
        self._largest_sum = LARGEST_SUM if precision == "single" else math.inf
        self.scores = array(self._typecode, scores)
        found = sorted((text, i) for i, text in enumerate(pieces) if text is not None)
        _check(pieces, scores, found)
        if unknown_score is None:
            unknown_score = min((scores[i] for _, i in found), default=0.0) - UNKNOWN_PENALTY
        self.unknown_id = unknown_id
        self.unknown_score = array(self._typecode, [unknown_score])[0]
        self._root = _Node(found)

    def edges(self, text: str) -> Iterator[list[Edge]]:
        """For each place in ``text`` the pieces that begin there, from the shortest on."""
        for start in range(len(text)):
            here = []
            node: _Node | None = self._root
            for end in range(start, len(text)):
                node = node.children.get(text[end]) if node else None
                if node is None:
                    break
                if node.id >= 0:
                    here.append(Edge(start, end + 1, node.id, self.scores[node.id]))
            if not here or here[0].end > start + 1:
                here.insert(0, Edge(start, start + 1, self.unknown_id, self.unknown_score))
            yield here

    def viterbi(self, text: str) -> list[int]:
        """The ids of the best segmentation; of equally good ones that with the longest last piece.

        With s(j, i) the score of the piece from j to i:  best(i) = max_j best(j) + s(j, i).
        """
        return [edge.id for edge in self.best_path(text)]

    def best_path(self, text: str) -> list[Edge]:
        """`viterbi` as edges."""
        best = array(self._typecode, [-math.inf]) * (len(text) + 1)
        best[0] = 0.0
        last: list[Edge | None] = [None] * (len(text) + 1)
        rounded = array(self._typecode, [0.0])
        furthest = 0
        for start, here in enumerate(self.edges(text)):
            if abs(best[start]) > self._largest_sum:
                passed = best[start]
                for place in range(start, furthest + 1):
                    best[place] -= passed
            for edge in here:
                rounded[0] = best[start] + edge.score
                if last[edge.end] is None or rounded[0] > best[edge.end]:
                    best[edge.end] = rounded[0]
                    last[edge.end] = edge
                    furthest = max(furthest, edge.end)
        path = []
        edge_before = last[-1]
        while edge_before is not None:
            path.append(edge_before)
            edge_before = last[edge_before.start]
        return path[::-1]

    def log_z(self, text: str, *, alpha: float = 1.0) -> float:
        """The logarithm of the sum over all segmentations of exp(alpha x score)."""
        return self._forward(text, alpha)[0][-1]

    def marginals(self, text: str, *, alpha: float = 1.0) -> list[tuple[Edge, float]]:
        """Every piece in the text, and the probability that a random segmentation holds it.

        With f and b the log sums over all paths from the beginning and to the end:
        p(edge) = exp(f(start) + alpha x score + b(end) - log Z).
        """
        forward, edges = self._forward(text, alpha)
        backward = [-math.inf] * len(text) + [0.0]
        for edge in reversed(edges):
            beyond = alpha * edge.score + backward[edge.end]
            backward[edge.start] = float(np.logaddexp(backward[edge.start], beyond))
        return [
            (e, math.exp(forward[e.start] + alpha * e.score + backward[e.end] - forward[-1]))
            for e in edges
        ]

    def sample(
        self, text: str, generator: np.random.Generator, *, alpha: float = 1.0
    ) -> list[Edge]:
        """A random segmentation, each as likely as exp(alpha x score).

        The whole path is tempered: scores are multiplied by ``alpha`` first; then the sums over all
        paths are filtered forward, and one path is drawn backward from them. ``alpha=0`` draws all
        segmentations equally often, a large one nearly always the best.
        """
        forward, edges = self._forward(text, alpha)
        ending: list[list[Edge]] = [[] for _ in range(len(text) + 1)]
        for edge in edges:
            ending[edge.end].append(edge)
        path = []
        at = len(text)
        while at > 0:
            logs = [forward[e.start] + alpha * e.score - forward[at] for e in ending[at]]
            weights = np.exp(logs)
            chosen = ending[at][generator.choice(len(logs), p=weights / weights.sum())]
            path.append(chosen)
            at = chosen.start
        return path[::-1]

    def _forward(self, text: str, alpha: float) -> tuple[list[float], list[Edge]]:
        """For each place the log sum over all paths to it, and all edges by their start."""
        forward = [0.0] + [-math.inf] * len(text)
        edges = []
        for here in self.edges(text):
            for edge in here:
                to_end = forward[edge.start] + alpha * edge.score
                forward[edge.end] = float(np.logaddexp(forward[edge.end], to_end))
            edges += here
        return forward, edges

    def n_best(self, text: str, n: int) -> list[tuple[list[Edge], float]]:
        """The ``n`` best segmentations with their scores, the best first; fewer if there are fewer.

        A* from the end of the text: a path that reaches from there to some place promises its own
        score plus that of the best way from the beginning, which Viterbi has found. Where 10,000
        paths are open, as in a long text that repeats itself, the 512 most promising go on.

        Raises:
            TokenizerError: if ``n`` is less than 1.
        """
        if n < 1:
            raise TokenizerError(f"n_best of {n}", where="n", cure="Ask for at least 1.")
        ending = self._ending(text)
        agenda = [_Path(0.0, 0.0, None)]
        results: list[tuple[list[Edge], float]] = []
        rounded = array(self._typecode, [0.0, 0.0])
        while agenda and len(results) < n:
            path = heapq.heappop(agenda)
            place = len(text) if path.edge is None else path.edge.start
            if path.complete:
                results.append((path.edges(), path.promise))
            elif place == 0:
                heapq.heappush(agenda, _Path(path.score, path.score, path.edge, path.rest, True))
            for edge, best in ending[place]:
                rounded[0], rounded[1] = edge.score + path.score, best + path.score
                heapq.heappush(agenda, _Path(rounded[1], rounded[0], edge, path))
            if len(agenda) >= _AGENDA_FULL:
                kept = [heapq.heappop(agenda) for _ in range(min(_AGENDA_KEPT, 10 * n))]
                agenda = []
                for path in kept:
                    heapq.heappush(agenda, path)
        return results

    def _ending(self, text: str) -> list[list[tuple[Edge, float]]]:
        """For each place the edges that end there, each with the best score of a path over it."""
        ending: list[list[tuple[Edge, float]]] = [[] for _ in range(len(text) + 1)]
        rounded = array(self._typecode, [0.0])
        for here in self.edges(text):
            for edge in here:
                before = max((best for _, best in ending[edge.start]), default=0.0)
                rounded[0] = before + edge.score
                ending[edge.end].append((edge, rounded[0]))
        return ending


class _Path:
    """A path from some place to the end of the text: its first edge, and the path behind that."""

    __slots__ = ("complete", "edge", "promise", "rest", "score")

    def __init__(
        self,
        promise: float,
        score: float,
        edge: Edge | None,
        rest: _Path | None = None,
        complete: bool = False,
    ) -> None:
        self.promise = promise
        self.score = score
        self.edge = edge
        self.rest = rest
        self.complete = complete

    def __lt__(self, other: _Path) -> bool:
        # By nothing but the promise: among equals the heap's own order decides, as it does in the
        # C++ library's, which moves its elements in the same way.
        return self.promise > other.promise

    def edges(self) -> list[Edge]:
        edges = []
        path: _Path | None = self
        while path is not None and path.edge is not None:
            edges.append(path.edge)
            path = path.rest
        return edges


class _Node:
    """A prefix of some pieces: the id of the piece that it is (or -1), and the longer prefixes.

    Children are made when they are first asked for: a text visits few of a large vocabulary's.
    """

    __slots__ = ("_children", "_depth", "_found", "id")

    def __init__(self, found: list[tuple[str, int]], depth: int = 0) -> None:
        self.id = found[0][1] if found and len(found[0][0]) == depth else -1
        self._found: list[tuple[str, int]] | None = found[self.id >= 0 :]
        self._depth = depth
        self._children: dict[str, _Node] = {}

    @property
    def children(self) -> dict[str, _Node]:
        """Character -> the prefix that it makes of this one."""
        found = self._found
        if found is not None:
            self._children = {
                character: _Node(list(group), self._depth + 1)
                for character, group in groupby(found, lambda piece: piece[0][self._depth])
            }
            self._found = None
        return self._children


def _check(
    pieces: Sequence[str | None], scores: Sequence[float], found: Sequence[tuple[str, int]]
) -> None:
    if len(pieces) != len(scores):
        raise TokenizerError(f"{len(pieces)} pieces have {len(scores)} scores")
    for (text, i), (following, j) in pairwise([*found, ("", -1)]):
        if not text:
            raise TokenizerError(f"piece {i} is empty")
        if text == following:
            raise TokenizerError(f"pieces {i} and {j} are both {text!r}")
        if math.isnan(scores[i]):
            raise TokenizerError(f"the score of piece {i}, {text!r}, is no number")
