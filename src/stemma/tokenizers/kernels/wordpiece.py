"""WordPiece with BERT's steps, from bytes to ids in one pass.

What a character has to do with its word depends on that character alone
(`wordpiece.characters`). So a word is normalised while it is read, and then cut by walking down a
trie of the tokens. No words are remembered: what is read for the first time takes no longer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stemma.tokenizers.kernels import inlined_kernel, kernel, lean_kernel
from stemma.tokenizers.kernels.double_array import BASE_SHIFT, ENDS, TAKEN
from stemma.tokenizers.kernels.memory import at, put
from stemma.tokenizers.kernels.scan import code_point

UNSEEN, SPACE, ALONE, PART, MARK = range(5)
"""What a character is: not asked for yet; between words; a word by itself; part of a word; part of
a word in which several of its kind may change places."""

ENDS_WORD = 1
"""Stands among the letters for a character that is no part of the word before it."""

DONE, ASK, READ = range(3)
"""Why `encode` comes back: all is read; a character is not in the tables yet; a word is to be read
in the readable way."""

TEXT, PLACE, IDS, WHAT = range(4)
"""Its state: the text it is in; the byte to go on from; the number of ids; and the character that
it asks for, or where the word begins that it leaves to others (it ends at ``PLACE``)."""

LONGEST_NEW = 255
"""The most bytes that may be written for one character."""

_SLACK = LONGEST_NEW + 1


@kernel
def encode(
    data: Any,
    limits: Any,
    state: Any,
    kinds: Any,
    places: Any,
    new: Any,
    letters: Any,
    cells: Any,
    cell_ids: Any,
    inside: int,
    unknown: int,
    most: int,
    ids: Any,
    counts: Any,
) -> int:
    """Encode texts from where the state says, until all is done or help is needed.

    Args:
        data: UTF-8 bytes, uint8, with at least 16 more behind the texts.
        limits: where each text ends, int64.
        state: see `TEXT`; int64, zeros to begin with.
        kinds: what each code point is, uint8.
        places: where its new spelling stands in ``new``, int32; 0 if it stays as it is.
        new: new spellings, each after its length, uint8.
        letters: for each byte the ASCII letter that it adds to a word, or `ENDS_WORD`; 0 if it is
            not so simple.
        cells: double array of the tokens, uint32.
        cell_ids: the token that ends at each cell, int32.
        inside: the cell from which tokens are walked that continue a word; -1 if there are none.
        unknown: the token for words that no tokens spell; -1 if there is none.
        most: a word of more characters is unknown.
        ids: int32, room for as many as there are bytes.
        counts: int64; how many ids there are before the end of each text is written here.

    Returns:
        Why it comes back: see `DONE`.
    """
    word = np.empty(4 * min(most, data.size) + _SLACK, np.uint8)
    n = state[IDS]
    i = state[PLACE]
    for text in range(state[TEXT], limits.size):
        limit = at(limits, text)
        while i < limit:
            if at(data, i) == 0x20:
                i += 1
                continue
            # Most words are such letters alone; to call a function for each would cost as much
            # as all the rest.
            end = i
            size = 0
            letter = at(letters, at(data, end))
            while letter > ENDS_WORD and end < limit:
                if size <= most:
                    put(word, size, letter)
                    size += 1
                end += 1
                letter = at(letters, at(data, end))
            length, marks = size, 0
            if end < limit and (letter != ENDS_WORD or end == i):
                end, size, length, marks = read_rest(
                    data, i, end, limit, kinds, places, new, letters, most, word, size
                )
            found = 0
            if 0 < length <= most and marks < 2:
                found = cut(word, size, cells, cell_ids, inside, ids, n)
            if length > 0 and found == 0:
                if marks > 1 or unknown < 0:
                    state[TEXT], state[PLACE], state[IDS], state[WHAT] = text, end, n, i
                    return READ
                put(ids, n, np.int32(unknown))
                found = 1
            n += found
            if length < 0:
                state[TEXT], state[PLACE], state[IDS], state[WHAT] = text, i, n, marks
                return ASK
            i = end
        put(counts, text, n)
    state[IDS] = n
    return DONE


@lean_kernel
def read_rest(
    data: Any,
    start: int,
    place: int,
    limit: int,
    kinds: Any,
    places: Any,
    new: Any,
    letters: Any,
    most: int,
    word: Any,
    size: int,
) -> tuple[int, int, int, int]:
    """Read on in a word, where a character comes that is no simple letter.

    Args:
        data: see `encode`.
        start: where the word begins.
        place: where to go on.
        limit: where the text ends.
        kinds: see `encode`.
        places: see `encode`.
        new: see `encode`.
        letters: see `encode`.
        most: what goes beyond so many characters is not written.
        word: the normalised word is written here.
        size: the number of letters that stand there already.

    Returns:
        Where it ends, its size in bytes, its characters (0 if nothing remains of it), and the
        number of its marks; the third is -1 if the fourth is a character not in the tables.
    """
    length = size
    marks = 0
    i = np.intp(place)
    while i < limit:
        byte = at(data, i)
        letter = at(letters, byte)
        if letter == ENDS_WORD and i > start:
            break
        code = code_point(data, i)
        kind = at(kinds, code)
        if kind == UNSEEN:
            length, marks = -1, code
            break
        if kind <= ALONE and i > start:
            break
        width = 1 + np.intp(byte >= 0xC0) + np.intp(byte >= 0xE0) + np.intp(byte >= 0xF0)
        i += width
        marks += kind == MARK
        if length <= most:
            spelling = np.intp(at(places, code))
            width = width if spelling == 0 else np.intp(at(new, spelling))
            for j in range(width):
                byte = at(data, i - width + j) if spelling == 0 else at(new, spelling + 1 + j)
                put(word, size, byte)
                size += 1
                length += byte & 0xC0 != 0x80
        if kind <= ALONE:
            break
    return i, size, length, marks


@inlined_kernel
def cut(word: Any, size: int, cells: Any, cell_ids: Any, inside: int, ids: Any, n: int) -> int:
    """Write the longest tokens that spell a word, from its left, to ``ids`` from ``n`` on.

    Args:
        word: its bytes.
        size: how many they are.
        cells: see `encode`.
        cell_ids: see `encode`.
        inside: see `encode`.
        ids: see `encode`.
        n: where to begin.

    Returns:
        Their number; 0 if at some place no token fits.
    """
    found = 0
    root = 0
    done = 0
    while done < size:
        if root < 0:
            return 0
        cell = np.intp(root)
        longest = np.int32(-1)
        i = done
        while i < size:
            byte = np.intp(at(word, i))
            cell = np.intp(at(cells, cell) >> BASE_SHIFT) ^ byte
            entry = np.intp(at(cells, cell))
            if entry & (ENDS - 1) != byte | TAKEN:
                break
            i += 1
            if entry & ENDS:
                longest = at(cell_ids, cell)
                done = i
        if longest < 0:
            return 0
        put(ids, n + found, longest)
        found += 1
        root = inside
    return found


@lean_kernel
def walk(cells: Any, data: Any) -> int:
    """The cell that some bytes lead to from the root; -1 if no token begins with them."""
    cell = np.intp(0)
    for value in data:
        byte = np.intp(value)
        cell = np.intp(cells[cell] >> BASE_SHIFT) ^ byte
        if cells[cell] & (ENDS - 1) != byte | TAKEN:
            return -1
    return cell
