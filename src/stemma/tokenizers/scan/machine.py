r"""A pattern as a state machine that reads each character once.

Backtracking tries the alternatives of a pattern one after another. The machine follows all of them
at the same time, in the order in which backtracking would try them: a state is such an ordered list
(Thompson 1968, "Regular Expression Search Algorithm"; the order, which decides between matches, as
in Cox 2010, "Regular Expression Matching in the Wild"). A look at the following character costs
nothing:
whether a match ends before a character is told by the transition that reads this character.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.scan.pattern import (
    Ahead,
    Characters,
    Either,
    Node,
    One,
    Repeat,
    Several,
    Unsupported,
    parse,
)
from stemma.tokenizers.unicode import classes

MAX_STATES = 4096
DEAD = 0
START = 1


@dataclass(frozen=True)
class Machine:
    """The machine of one pattern.

    Args:
        kinds: for each code point the number of its kind; characters of one kind are never told
            apart by the pattern.
        table: ``table[state, kind]`` is twice the next state, plus 1 if a match ends *before* the
            character. The last column is for the end of the text. State 0 is dead, 1 the start.
    """

    kinds: NDArray[np.uint8]
    table: NDArray[np.int16]

    @property
    def n_kinds(self) -> int:
        """Number of kinds of characters; also the column for the end of the text."""
        return int(self.table.shape[1]) - 1

    def match(self, text: str, start: int) -> int:
        """Where the match that begins at ``start`` ends; -1 if there is none."""
        state, end = START, -1
        for i in range(start, len(text) + 1):
            kind = self.kinds[ord(text[i])] if i < len(text) else self.n_kinds
            step = int(self.table[state, kind])
            if step & 1:
                end = i
            state = step >> 1
            if state == DEAD:
                break
        return end

    @cached_property
    def may_fail(self) -> bool:
        """Whether it can read a character from its start and then die without any match."""
        waiting = [int(state) for state in np.unique(self.table[START] >> 1) if state != DEAD]
        seen = set(waiting)
        while waiting:
            for step in self.table[waiting.pop()].tolist():
                state, matched = step >> 1, step & 1
                if matched:
                    continue
                if state == DEAD:
                    return True
                if state not in seen:
                    seen.add(state)
                    waiting.append(state)
        return False

    def edges(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """For kinds ``a``, ``b``: whether a text may be cut between two such characters.

        It may if no state that is reached by reading ``a`` can go on with ``b``, and each of them
        takes the end of the text for what it takes ``b`` for: then the parts have the matches of
        the whole.

        Returns:
            Whether that holds; and whether, besides, a match always ends there.
        """
        same = np.zeros((self.n_kinds, self.n_kinds), np.bool_)
        ends_here = np.zeros_like(same)
        for kind in range(self.n_kinds):
            reached = np.unique(self.table[:, kind] >> 1)
            rows = self.table[reached[reached != DEAD]]
            same[kind] = (rows[:, :-1] == rows[:, -1:]).all(axis=0)
            in_match = self.table[START, kind] >> 1 != DEAD and not self.may_fail
            ends_here[kind] = same[kind] & in_match & bool((rows[:, -1] & 1).all())
        return same, ends_here


def compile_machine(pattern: str) -> Machine:
    """The machine of a pattern.

    Raises:
        Unsupported: see `parse`; also if the pattern matches the empty text, gives nothing back
            where that makes a difference, or needs too many states.
    """
    tree = parse(pattern)
    _check_possessive(tree, ())
    if _nullable(tree):
        raise Unsupported("it matches the empty text")
    sets = _sets_of(tree)
    kinds, members = _kinds(sets)
    program = _Program(sets)
    start = program.add(tree, program.emit("match"))
    return Machine(kinds, _table(program, start, members))


class _Program:
    """The pattern as instructions that point to the ones that follow.

    ``one``: reads a character of a set; ``ahead``: goes on if one follows; ``fork``: first tries
    one way, then the other; ``match``.
    """

    def __init__(self, sets: list[Characters]) -> None:
        self._sets = {members: i for i, members in enumerate(sets)}
        self.code: list[tuple[str, int, int]] = []

    def emit(self, what: str, first: int = -1, second: int = -1) -> int:
        if len(self.code) > MAX_STATES:
            raise Unsupported("it is too large")
        self.code.append((what, first, second))
        return len(self.code) - 1

    def add(self, node: Node, following: int) -> int:
        """Instructions for ``node`` that go on with ``following``; where they begin."""
        match node:
            case One(characters):
                return self.emit("one", self._sets[characters], following)
            case Ahead(characters, or_end):
                number = self._sets[characters]
                return self.emit("ahead or end" if or_end else "ahead", number, following)
            case Several(parts):
                for part in reversed(parts):
                    following = self.add(part, following)
                return following
            case Either(options):
                starts = [self.add(option, following) for option in options]
                begin = starts[-1]
                for start in reversed(starts[:-1]):
                    begin = self.emit("fork", start, begin)
                return begin
            case Repeat():
                return self._repeat(node, following)

    def _repeat(self, node: Repeat, following: int) -> int:
        begin = following
        if node.most is None:
            begin = self.emit("fork")  # a loop: filled in below
            inside = self.add(node.part, begin)
            self.code[begin] = self._fork(inside, following, node.lazy)
        else:
            for _ in range(node.most - node.least):
                inside = self.add(node.part, begin)
                begin = self.emit(*self._fork(inside, following, node.lazy))
        for _ in range(node.least):
            begin = self.add(node.part, begin)
        return begin

    @staticmethod
    def _fork(inside: int, outside: int, lazy: bool) -> tuple[str, int, int]:
        return ("fork", outside, inside) if lazy else ("fork", inside, outside)


def _table(program: _Program, start: int, members: NDArray[np.bool_]) -> NDArray[np.int16]:
    """Transitions between the ordered lists of instructions that can be reached from ``start``.

    Args:
        program: the instructions.
        start: where they begin.
        members: ``members[kind, set]``: whether characters of the kind are in the set; the last row
            is for the end of the text, which is in none.
    """
    numbers: dict[tuple[int, ...], int] = {(): DEAD, (start,): START}
    pending: list[tuple[int, ...]] = [(start,)]
    rows: list[list[int]] = [[0] * len(members)]
    for state in pending:
        row = []
        for kind, sets in enumerate(members):
            at_end = kind == len(members) - 1
            matched, threads = _follow(program.code, state, sets, at_end=at_end)
            if threads not in numbers:
                if len(numbers) >= MAX_STATES:
                    raise Unsupported("it has too many states")
                numbers[threads] = len(numbers)
                pending.append(threads)
            row.append(2 * numbers[threads] + matched)
        rows.append(row)
    return np.array(rows, np.int16)


def _follow(
    code: list[tuple[str, int, int]],
    threads: tuple[int, ...],
    sets: NDArray[np.bool_],
    *,
    at_end: bool,
) -> tuple[bool, tuple[int, ...]]:
    """Whether a match ends before a character of a kind, and the threads that live on after it.

    Threads that come after the match would be tried only if it failed: they end.
    """
    waiting = list(reversed(threads))
    seen: set[int] = set()
    living: dict[int, None] = {}
    while waiting:
        at = waiting.pop()
        if at in seen:
            continue
        seen.add(at)
        what, first, second = code[at]
        if what == "match":
            return True, tuple(living)
        if what == "fork":
            waiting += [second, first]
        elif what == "one":
            if sets[first]:
                living[second] = None
        elif sets[first] or (at_end and what == "ahead or end"):
            waiting.append(second)
    return False, tuple(living)


def _kinds(sets: list[Characters]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """The kind of each code point; and which sets hold the characters of each kind."""
    edges = sorted({0, *(end for s in sets for low, high in s for end in (low, high + 1))})
    edges = [edge for edge in edges if edge <= classes.LAST]
    inside = np.zeros((len(edges), len(sets)), np.bool_)
    for number, members in enumerate(sets):
        lows = np.searchsorted(edges, [low for low, _ in members])
        highs = np.searchsorted(edges, [high + 1 for _, high in members])
        for low, high in zip(lows, highs, strict=True):
            inside[low:high, number] = True
    distinct, kind_of_stretch = np.unique(inside, axis=0, return_inverse=True)
    if len(distinct) > 255:
        raise Unsupported("it tells more than 255 kinds of characters apart")
    lengths = np.diff([*edges, classes.LAST + 1])
    kinds = np.repeat(kind_of_stretch.reshape(-1).astype(np.uint8), lengths)
    return kinds, np.vstack([distinct, np.zeros((1, len(sets)), np.bool_)])


def _sets_of(node: Node) -> list[Characters]:
    """The sets of characters that a pattern names, each once."""
    match node:
        case One(characters) | Ahead(characters):
            return [characters]
        case Several(parts) | Either(parts):
            return list(dict.fromkeys(one for part in parts for one in _sets_of(part)))
        case Repeat(part):
            return _sets_of(part)


def _nullable(node: Node) -> bool:
    """Whether the pattern can match no character at all."""
    match node:
        case One():
            return False
        case Ahead():
            return True
        case Several(parts):
            return all(map(_nullable, parts))
        case Either(options):
            return any(map(_nullable, options))
        case Repeat(part, least):
            return least == 0 or _nullable(part)


def _first(nodes: tuple[Node, ...]) -> Characters:
    """The characters with which a match of these nodes, one after another, can begin."""
    found: Characters = ()
    for node in nodes:
        match node:
            case One(characters):
                found = classes.union(found, characters)
            case Ahead():
                # It reads nothing, and what follows it is what it allows, at most.
                pass
            case Several(parts):
                found = classes.union(found, _first(parts))
            case Either(options):
                found = classes.union(found, *(_first((option,)) for option in options))
            case Repeat(part):
                found = classes.union(found, _first((part,)))
        if not _nullable(node):
            return found
    return found


def _check_possessive(node: Node, following: tuple[Node, ...]) -> None:
    """Refuse repetitions that keep what they took where giving back would find another match.

    It would not where what follows cannot begin with a character that would be given back.
    """
    match node:
        case Several(parts):
            for i, part in enumerate(parts):
                _check_possessive(part, (*parts[i + 1 :], *following))
        case Either(options):
            for option in options:
                _check_possessive(option, following)
        case Repeat(part, possessive=possessive):
            if possessive and not isinstance(part, One):
                raise Unsupported("a group that gives nothing back")
            if possessive and classes.intersection(_first((part,)), _first(following)):
                raise Unsupported("a repetition that gives nothing back before the same character")
            _check_possessive(part, (node, *following))
