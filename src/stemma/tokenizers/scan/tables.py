"""A state machine as the tables that the kernels read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from stemma.tokenizers.scan.machine import DEAD, START, Machine, compile_machine
from stemma.tokenizers.scan.pattern import Unsupported
from stemma.tokenizers.scan.patterns import Rule


@dataclass(frozen=True)
class Tables:
    """One pattern's machine.

    In `machine` and `fast` a state is the index of its row, and the width of a row, a power of two,
    stands in front.

    Args:
        kinds: the kind of each code point.
        machine: `Machine.table`.
        fast: the same with the next word's beginning built in: four times the state after the
            character, plus 1 if a word ends before the character, plus 2 if it ended even earlier,
            so that one has to go back. The last row is for text in which the pattern finds nothing.
            Only the width, where the pattern may read some characters and then find no match after
            all.
        double: two characters a step, so that half as many steps wait for one another: for a state
            and two kinds eight times the state after them, plus 1 if a word ends before the first,
            plus 2 if one ends before the second, plus 4 where `fast` says to go back; a state is
            here its index in `fast` times the width. As empty as `fast`.
    """

    kinds: NDArray[np.uint8]
    machine: NDArray[np.int32]
    fast: NDArray[np.int32]
    double: NDArray[np.int32]


@dataclass(frozen=True)
class Edges:
    """Where a text may be cut into parts that have the words of the whole.

    Args:
        kinds: the kind of each code point.
        pairs: for two kinds of neighbours whether the text may be cut between them.
    """

    kinds: NDArray[np.uint8]
    pairs: NDArray[np.bool_]


@cache
def tables_of(pattern: str) -> Tables | None:
    """The tables of a pattern; None if it is beyond the machine."""
    try:
        machine = compile_machine(pattern)
    except Unsupported:
        return None
    width = 1 << machine.n_kinds.bit_length()
    steps = _widened(machine.table.astype(np.int32), width)
    plain = (((steps >> 1) * width) << 1) | (steps & 1)
    fast = double = np.empty(0, np.int32)
    if not machine.may_fail:
        fast = _widened(_with_restart(machine), width)
        double = _twice(fast)
        fast = ((fast >> 2) * width) << 2 | fast & 3
    return Tables(machine.kinds, *(_flat(width, table) for table in (plain, fast, double)))


def _widened(table: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Rows of ``width``: all columns of kinds, some that are never read, and that of the end."""
    wide = np.zeros((len(table), width), np.int32)
    wide[:, : table.shape[1] - 1] = table[:, :-1]
    wide[:, -1] = table[:, -1]
    return wide


def _twice(fast: NDArray[np.int32]) -> NDArray[np.int32]:
    """`Tables.double` from the table of single steps."""
    width = fast.shape[1]
    first = fast[:, :, None]
    second = fast[fast >> 2]
    following = (second >> 2) * width**2 << 3
    back = (first | second) >> 1 & 1
    double: NDArray[np.int32] = following | back << 2 | (second & 1) << 1 | first & 1
    return double


def _flat(width: int, table: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([np.array([width], np.int32), table.reshape(-1).astype(np.int32)])


def _with_restart(machine: Machine) -> NDArray[np.int32]:
    """`Tables.fast`, with the numbers of states."""
    states, matched = machine.table >> 1, machine.table & 1
    n_states = len(states)
    # A character with which no match begins belongs to the gap between matches.
    first = np.where(states[START] == DEAD, n_states, states[START])
    first[-1] = START
    fast = np.empty((n_states + 1, machine.n_kinds + 1), np.int32)
    for state in range(n_states):
        dead = states[state] == DEAD
        ends_here = dead & (matched[state] == 1)
        following = np.where(ends_here, first, states[state])
        fast[state] = following << 2 | ends_here | (dead & ~ends_here) << 1
    fast[START] = first << 2
    in_match = first != n_states
    fast[n_states] = first << 2 | in_match
    return fast


@cache
def edges_of(patterns: Rule) -> Edges | None:
    """Where texts may be cut that are cut into words by a rule; None if that cannot be told.

    For several patterns, one within another: where one of them always ends a word, and none of
    those before it can have a match that goes on.
    """
    machines: list[Machine] = []
    for pattern in patterns:
        try:
            machines.append(compile_machine(pattern))
        except Unsupported:
            return None
    if not machines:
        return None
    kinds, members = _common_kinds([machine.kinds for machine in machines])
    harmless = np.ones((len(members), len(members)), np.bool_)
    pairs = np.zeros_like(harmless)
    for machine, own in zip(machines, members.T, strict=True):
        same, ends_here = machine.edges()
        pairs |= harmless & ends_here[np.ix_(own, own)]
        harmless &= same[np.ix_(own, own)]
    return Edges(kinds, pairs)


def _common_kinds(
    kinds: list[NDArray[np.uint8]],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Kinds that tell apart what any machine tells apart; and each one's kind in every machine."""
    stacked = np.stack(kinds)
    starts = np.flatnonzero((stacked[:, 1:] != stacked[:, :-1]).any(axis=0)) + 1
    starts = np.concatenate([[0], starts])
    members, numbers = np.unique(stacked[:, starts], axis=1, return_inverse=True)
    lengths = np.diff([*starts.tolist(), stacked.shape[1]])
    return np.repeat(numbers.reshape(-1).astype(np.uint8), lengths), members.T
