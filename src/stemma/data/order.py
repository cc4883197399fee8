"""The order of data as a pure function: a keyed permutation instead of a shuffled list."""

from __future__ import annotations

import math
from hashlib import blake2b

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stemma.errors import DataError

ROUNDS = 8

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Permutation:
    """A pseudo-random bijection of ``0 .. n-1``, computed and never stored.

    An index is written as ``a * left + right`` with ``a = ceil(sqrt(n))`` values of ``left`` below
    ``b = ceil(n / a)``, and sent through a Feistel network whose rounds alternate

        left  <- (left  + F(key[i], right)) mod b        (even i)
        right <- (right + F(key[i], left))  mod a        (odd i)

    where F is the finaliser of SplitMix64 (Steele, Lea and Flood 2014) on ``key[i] + x``. Each
    round can be undone, so the whole is a bijection of ``0 .. a*b-1``. A result that is not below
    n is sent through again until it is (cycle walking), which makes it a bijection of
    ``0 .. n-1``; as ``a*b - n < a``, that is rare. Black and Rogaway 2002, "Ciphers with arbitrary
    finite domains", sections 4 and 5. Time O(1) for an index, memory O(1).

    The same arguments give the same order on every machine and in every version of stemma.

    Args:
        n: how many indices there are, from 1 to 2**62.
        seed: chooses the permutation.
        stream: chooses another, independent one under the same seed, e.g. for each epoch.

    Raises:
        DataError: if n is out of range.
    """

    def __init__(self, n: int, seed: int, stream: int = 0) -> None:
        if not 1 <= n <= 1 << 62:
            raise DataError(f"a permutation of {n} indices is not possible")
        self.n = n
        self._right_size = math.isqrt(n - 1) + 1
        self._left_size = -(-n // self._right_size)
        key = f"stemma order 1/{n}/{seed}/{stream}".encode()
        self._keys = np.frombuffer(blake2b(key, digest_size=8 * ROUNDS).digest(), dtype="<u8")

    def __len__(self) -> int:
        return self.n

    def __call__(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Where each index goes; any shape.

        Raises:
            DataError: if an index is not in ``0 .. n-1``.
        """
        return self._walk(indices, range(ROUNDS), forward=True)

    def inverse(self, indices: ArrayLike) -> NDArray[np.int64]:
        """Where each index came from; any shape."""
        return self._walk(indices, range(ROUNDS - 1, -1, -1), forward=False)

    def _walk(self, indices: ArrayLike, rounds: range, *, forward: bool) -> NDArray[np.int64]:
        given = np.asarray(indices, dtype=np.int64)
        if given.size and not 0 <= given.min() <= given.max() < self.n:
            raise DataError(f"index {given.min()} or {given.max()} is not in 0 .. {self.n - 1}")
        flat = given.reshape(-1).astype(np.uint64)
        flat = self._network(flat, rounds, forward)
        while (outside := np.flatnonzero(flat >= np.uint64(self.n))).size:
            flat[outside] = self._network(flat[outside], rounds, forward)
        return flat.astype(np.int64).reshape(given.shape)

    def _network(
        self, indices: NDArray[np.uint64], rounds: range, forward: bool
    ) -> NDArray[np.uint64]:
        sizes = (np.uint64(self._left_size), np.uint64(self._right_size))
        halves = list(np.divmod(indices, sizes[1]))
        for i in rounds:
            side = i % 2
            size = sizes[side]
            change = _mix(halves[1 - side], self._keys[i]) % size
            halves[side] = (halves[side] + (change if forward else size - change)) % size
        return np.asarray(halves[0] * sizes[1] + halves[1])


def _mix(values: NDArray[np.uint64], key: np.uint64) -> NDArray[np.uint64]:
    """SplitMix64's finaliser: every bit of ``values + key`` bears on every bit of the result."""
    mixed: NDArray[np.uint64] = values + key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))
