"""The tables of ``tokenizer.json``: tokens, merges, added tokens.

They are long. Whatever can be said of all entries at once is said at once, and only where something
is wrong is it looked for entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER, to_visible
from stemma.tokenizers.bpe.merge_list import Rows
from stemma.tokenizers.json_fields import Fields, shown
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.texts import check_text

MOST_IDS = 1 << 24
"""More than that no vocabulary has; a file that claims it is damaged."""

UNUSED = ""
"""Stands for an id that has no token."""


def read_added_tokens(items: Sequence[tuple[str, Any]]) -> list[AddedToken]:
    """The entries of ``added_tokens``.

    Args:
        items: each with its place in the file.

    Raises:
        TokenizerError: if one is no token, or a text or an id comes twice.
    """
    tokens: dict[str, AddedToken] = {}
    ids: dict[int, str] = {}
    for where, item in items:
        fields = Fields(item, where)
        flags = {
            name: fields.flag(name, default=False)
            for name in ("special", "single_word", "lstrip", "rstrip", "normalized")
        }
        token = AddedToken(fields.text("content"), fields.number("id"), **flags)
        fields.done()
        check_text(token.content)
        if token.content in tokens:
            raise TokenizerError(f"{where}: {token.content!r} is listed twice")
        other = ids.setdefault(token.id, token.content)
        if other != token.content:
            raise TokenizerError(f"{where}: id {token.id} stands for {other!r} as well")
        if token.content:
            tokens[token.content] = token
    return list(tokens.values())


def read_vocabulary(values: Any, added: Sequence[AddedToken]) -> tuple[list[str], dict[str, int]]:
    """The tokens in the order of their ids; and token -> id.

    The ids of the vocabulary must be 0, 1, 2 ... without a gap, but for those of added tokens.
    Beyond them there may be gaps: such an id is `UNUSED`.

    Args:
        values: ``model.vocab``.
        added: the added tokens, which may stand in it too.

    Raises:
        TokenizerError: if it is no object of token: id, an id is missing, or two tokens share one.
    """
    if not isinstance(values, dict):
        raise TokenizerError("model.vocab is not an object of token: id")
    ids = _checked_ids(values)
    for token in added:
        if values.get(token.content, token.id) != token.id:
            raise TokenizerError(
                f"{token.content!r} has id {values[token.content]} in model.vocab and {token.id} "
                "besides"
            )
    by_token = values | {token.content: token.id for token in added}
    if len(by_token) != len(ids):
        ids = np.fromiter(by_token.values(), np.int64, len(by_token))
    n = int(ids.max(initial=-1)) + 1
    if n > 16 * len(ids) + 1024:
        raise TokenizerError(f"the highest id, {n - 1}, is too high for {len(ids)} tokens")
    _check_each_once(by_token, ids, n)
    tokens = list(by_token)
    if n != len(tokens) or (ids != np.arange(n)).any():
        tokens = [UNUSED] * n
        for text, id_ in by_token.items():
            tokens[id_] = text
        missing = tokens.index(UNUSED) if UNUSED in tokens else n
        learned = np.ones(n, np.bool_)
        learned[[token.id for token in added]] = False
        if ids[learned[ids]].max(initial=-1) > missing:
            raise TokenizerError(f"no token has id {missing}, though there are {len(ids)}")
    check_text("".join(tokens))
    return tokens, by_token


def _checked_ids(values: Mapping[str, Any]) -> NDArray[np.int64]:
    """The ids of the vocabulary: integers, and none out of bounds."""
    if UNUSED in values:
        raise TokenizerError("model.vocab has a token without text")
    if set(map(type, values.values())) - {int}:
        token = next(token for token, id_ in values.items() if type(id_) is not int)
        raise TokenizerError(f"the id of token {token!r} is {shown(values[token])}, not an integer")
    try:
        ids = np.fromiter(values.values(), np.int64, len(values))
    except OverflowError:
        ids = np.array([-1])
    if ids.size and not 0 <= ids.min() <= ids.max() < MOST_IDS:
        token = next(token for token, id_ in values.items() if not 0 <= id_ < MOST_IDS)
        raise TokenizerError(f"the id of token {token!r} is {shown(values[token])}, out of bounds")
    return ids


def _check_each_once(by_token: Mapping[str, int], ids: NDArray[np.int64], n: int) -> None:
    counts = np.bincount(ids, minlength=n)
    if counts.max(initial=0) > 1:
        id_ = int(np.argmax(counts > 1))
        double = [token for token, other in by_token.items() if other == id_]
        raise TokenizerError(f"id {id_} stands for {double[0]!r} and for {double[1]!r}")


def read_scored_pieces(values: Any, added: Sequence[AddedToken]) -> list[tuple[str, float]]:
    """The pieces of a Unigram model, ``[text, score]`` each.

    Args:
        values: ``model.vocab``.
        added: the added tokens: those that are no pieces must follow them without a gap.

    Raises:
        TokenizerError: if it is no list of pieces, or an added token does not fit.
    """
    if not isinstance(values, list):
        raise TokenizerError("model.vocab is not a list of [piece, score]")
    for id_, entry in enumerate(values):
        if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
            raise TokenizerError(f"model.vocab[{id_}] is {shown(entry)}, not [piece, score]")
        if type(entry[1]) not in (int, float) or not abs(entry[1]) < 1e300:
            raise TokenizerError(f"the score of piece {id_} is {shown(entry[1])}")
    pieces = [(text, float(score)) for text, score in values]
    check_text("".join(text for text, _ in pieces))
    beyond = sorted(token.id for token in added if token.id >= len(pieces))
    if beyond != list(range(len(pieces), len(pieces) + len(beyond))):
        raise TokenizerError(f"added tokens do not follow the {len(pieces)} pieces without a gap")
    for token in added:
        if token.id < len(pieces) and pieces[token.id][0] != token.content:
            raise TokenizerError(
                f"id {token.id} stands for {pieces[token.id][0]!r} and for {token.content!r}"
            )
    return pieces


def read_merges(values: Any, ids: Mapping[str, int], where: str = "model.merges") -> Rows:
    """Merges as ``"a b"`` or ``["a", "b"]``: the library has written both.

    Args:
        values: the list.
        ids: token -> id.
        where: its place in the file, for messages.

    Raises:
        TokenizerError: if it is no list of pairs of tokens.
    """
    if not isinstance(values, list):
        raise TokenizerError(f"{where} is not a list")
    halves = _halves(values)
    if halves is None:
        raise _wrong_merge(values, ids, where)
    try:
        found = list(map(ids.__getitem__, halves))
    except KeyError:
        raise _wrong_merge(values, ids, where) from None
    return np.array(found, np.int64).reshape(-1, 2)


def _halves(values: list[Any]) -> list[str] | None:
    """The tokens of all merges in one list (a list for each would take longer); None if a merge has
    not two."""
    kinds = set(map(type, values))
    if kinds == {str, list}:
        values = [one.split(" ") if isinstance(one, str) else one for one in values]
        kinds = {list}
    if kinds == {list}:
        flat = list(chain.from_iterable(values))
        proper = set(map(len, values)) == {2} and set(map(type, flat)) == {str}
        return flat if proper else None
    if kinds != {str}:
        return None if kinds else []
    together = "\n".join(values)
    data = np.frombuffer(together.encode(errors="surrogatepass"), np.uint8)
    marks = data[(data == ord(" ")) | (data == ord("\n"))]
    # One space in each merge and no end of line: they alternate.
    alternate = (marks[::2] == ord(" ")).all() and (marks[1::2] == ord("\n")).all()
    proper = marks.size == 2 * len(values) - 1 and alternate
    return together.replace(" ", "\n").split("\n") if proper else None


def _wrong_merge(values: list[Any], ids: Mapping[str, int], where: str) -> TokenizerError:
    def proper(merge: Any) -> bool:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        if not isinstance(pair, list) or len(pair) != 2:
            return False
        return all(isinstance(half, str) and half in ids for half in pair)

    rank = next((i for i, merge in enumerate(values) if not proper(merge)), 0)
    return TokenizerError(
        f"{where}: merge {rank}, {shown(values[rank])}, is not a pair of tokens of the vocabulary"
    )


def spelled(tokens: Sequence[str], names: Mapping[int, str]) -> list[bytes]:
    """The bytes of tokens that are written in GPT-2's alphabet.

    Args:
        tokens: the tokens by id; `UNUSED` has no bytes.
        names: id -> text of the added tokens, which are written as they are.

    Raises:
        TokenizerError: if another token is written otherwise.
    """
    learned = list(tokens)
    for id_ in names:
        learned[id_] = UNUSED
    codes = np.frombuffer("".join(learned).encode("utf-32-le"), np.uint32)
    values = _BYTE_OF[np.minimum(codes, _BYTE_OF.size - 1)]
    ends = np.cumsum(np.fromiter(map(len, learned), np.int64, len(learned)))
    if (wrong := np.flatnonzero(values < 0)).size:
        id_ = int(np.searchsorted(ends, wrong[0], side="right"))
        raise TokenizerError(f"token {id_}, {tokens[id_]!r}, is not written in GPT-2's alphabet")
    data = values.astype(np.uint8).tobytes()
    places = [0, *ends.tolist()]
    spellings = list(map(data.__getitem__, map(slice, places, places[1:])))
    for id_, name in names.items():
        spellings[id_] = name.encode()
    return spellings


def _bytes_by_character() -> NDArray[np.int16]:
    """The byte that each character of GPT-2's alphabet stands for; -1 for all others."""
    characters = to_visible(BYTE_ORDER)
    table = np.full(max(map(ord, characters)) + 2, -1, np.int16)
    for character, value in zip(characters, BYTE_ORDER, strict=True):
        table[ord(character)] = value
    return table


_BYTE_OF = _bytes_by_character()
