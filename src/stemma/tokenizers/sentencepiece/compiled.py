"""SentencePiece's families on the fast path: vocabulary and rules as arrays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.kernels import (
    double_array,
    neighbours,
    spm_bpe,
    spm_merge,
    spm_normalize,
    spm_words,
    unigram,
)
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.normalizer import SPACE, SentencePieceNormalizer
from stemma.tokenizers.sentencepiece.pieces import FOUND_IN_TEXT, Kind
from stemma.tokenizers.texts import all_utf8

if TYPE_CHECKING:
    from stemma.tokenizers.unigram.model import UnigramModel

WORDS_KEPT = 1 << 18
"""Entries of a table of words: 16 MB, of which only what is used takes memory."""

MOST_WORK = 1 << 32
"""The squares of all pieces' lengths, summed; with more the vocabulary stays on the slow path."""

_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_READ_BEYOND = bytes(8)
_NO_CHARSMAP = (1024).to_bytes(4, "little") + bytes(1024) + b"\0"


class TextEncoder:
    """Texts -> ids by a kernel. Threads may call it at once: each uses a table of words alone.

    Args:
        encode: the kernel.
        tokenizer: whose ids they are.
        vocabulary: what the kernel wants to know of it.
        sums: whether the kernel adds scores up, and wants to know the sum before a text.
    """

    def __init__(
        self,
        encode: Any,
        tokenizer: SentencePieceTokenizer,
        vocabulary: tuple[Any, ...],
        *,
        sums: bool = False,
    ) -> None:
        self._encode = encode
        self._sums = sums
        self._rules = normalizer_arrays(tokenizer.rewrite)
        self._vocabulary = vocabulary
        self._tables: list[NDArray[np.uint64]] = []  # those that no thread uses at the moment

    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids of each text."""
        return self._rows(texts, self._rules, np.zeros(len(texts), np.float32))

    def stretch(
        self, text: str, total: float, *, first: bool, last: bool
    ) -> tuple[NDArray[np.int32], float]:
        """The ids of a part of a longer text, and the sum of all scores up to its end.

        Args:
            text: the part, between two `Edges`.
            total: the sum of the scores before it; 0 if scores are not added up.
            first: whether the text begins with it.
            last: whether the text ends with it.
        """
        known, units, strings, whole, flags, characters = self._rules
        flags |= spm_normalize.FOLLOWS_OTHERS * (not first) | spm_normalize.GOES_ON * (not last)
        totals = np.array([total], np.float32)
        rules = known, units, strings, whole, flags, characters
        (ids,) = self._rows([text], rules, totals)
        return ids, float(totals[0])

    def _rows(
        self, texts: Sequence[str], rules: tuple[Any, ...], totals: NDArray[np.float32]
    ) -> list[NDArray[np.int32]]:
        """The ids of each text; the sums before the texts become those behind them."""
        rows = all_utf8(texts)
        data = np.frombuffer(b"".join([*rows, _READ_BEYOND]), np.uint8)
        limits = np.cumsum([0, *map(len, rows)])
        try:
            table = self._tables.pop()
        except IndexError:
            table = spm_words.new_table(WORDS_KEPT)
        sums = (totals,) if self._sums else ()
        ids, ends = self._encode(data, limits, rules, self._vocabulary, *sums, table)
        self._tables.append(table)
        return [ids[start:end] for start, end in pairwise([0, *ends.tolist()])]


def unigram_encoder(tokenizer: SentencePieceTokenizer, model: UnigramModel) -> TextEncoder:
    """`UnigramTokenizer` by a kernel.

    Args:
        tokenizer: whose ids they are.
        model: its language model.

    Raises:
        TokenizerError: if the vocabulary is too large.
    """
    found = _written(tokenizer, {Kind.NORMAL, Kind.USER_DEFINED})
    cells, ends = double_array.double_array(list(found))
    scores = np.array(model.scores, np.float32)
    cell_ids = np.array([*found.values(), -1], np.int32)[ends]
    cell_scores = np.where(ends >= 0, scores[cell_ids], np.float32(0))
    unknown_score = np.float32(model.unknown_score)
    largest = float(max(abs(unknown_score), np.abs(cell_scores).max()))
    unknown = tokenizer.unknown_id, unknown_score, _byte_ids(tokenizer)
    rule = word_rule(found), largest, _neighbours(found)
    vocabulary = cells, cell_ids, cell_scores, scores, *unknown, *rule
    return TextEncoder(unigram.encode_texts, tokenizer, vocabulary, sums=True)


def bpe_encoder(tokenizer: SentencePieceTokenizer, ranks: Mapping[str, int]) -> TextEncoder:
    """`SentencePieceBPE` by a kernel.

    Args:
        tokenizer: whose ids they are.
        ranks: piece -> a number that is the higher, the sooner it is made.

    Raises:
        TokenizerError: if the vocabulary is too large.
    """
    fixed = _written(tokenizer, {Kind.USER_DEFINED})
    fixed_cells, fixed_ends = double_array.double_array(list(fixed))
    fixed_ids = np.array([*fixed.values(), -1], np.int32)[fixed_ends]
    found = _written(tokenizer, FOUND_IN_TEXT - {Kind.USER_DEFINED})
    pieces = [tokenizer.pieces[id_] for id_ in found.values()]
    unused = [piece.kind == Kind.UNUSED for piece in pieces]
    characters = {c.encode() for c in b"".join(found).decode()} - found.keys()
    parts = [*found, *sorted(characters)]
    cells, part_of = double_array.double_array(parts)
    tokens = np.full(len(parts), spm_merge.NO_TOKEN, np.int32)
    tokens[: len(pieces)] = np.where(unused, spm_merge.UNUSED, list(found.values()))
    part_ranks = np.zeros(len(parts), np.int32)
    part_ranks[: len(pieces)] = [ranks[piece.text] for piece in pieces]
    sizes = np.array([len(part) for part in parts], np.int32)
    pairs = _pairs(list(found), cells, part_of)
    words, side_by_side = word_rule([*found, *fixed]), _neighbours([*found, *fixed])
    if any(unused):
        words, side_by_side = spm_words.WHOLE, np.full_like(side_by_side, _ALL)
    known = fixed_cells, fixed_ids, cells, part_of, pairs, part_ranks, tokens, sizes
    vocabulary = *known, tokenizer.unknown_id, _byte_ids(tokenizer), words, side_by_side
    return TextEncoder(spm_bpe.encode_texts, tokenizer, vocabulary)


def _neighbours(pieces: Collection[bytes]) -> NDArray[np.uint64]:
    """Which characters stand side by side in a piece."""
    data = np.frombuffer(b"".join([*pieces, _READ_BEYOND]), np.uint8)
    limits = np.cumsum([0, *map(len, pieces)])
    table: NDArray[np.uint64] = neighbours.table_of(data, limits)
    return table


def _byte_ids(tokenizer: SentencePieceTokenizer) -> NDArray[np.int32]:
    return np.array(tokenizer.byte_ids or [0], np.int32)


def _pairs(pieces: Sequence[bytes], cells: Any, part_of: Any) -> NDArray[np.uint64]:
    """The hash table of the pairs of parts that make a piece."""
    if sum(len(piece) ** 2 for piece in pieces) > MOST_WORK:
        raise TokenizerError("the vocabulary is too large for the fast path")
    data = np.frombuffer(b"".join([*pieces, _READ_BEYOND]), np.uint8)
    starts = np.cumsum([0, *map(len, pieces)])
    slots = 1 << max(8, (3 * len(pieces)).bit_length())
    while True:
        pairs = np.zeros(2 * slots, np.uint64)
        if spm_merge.index_pairs(data, starts, cells, part_of, pairs) >= 0:
            return pairs
        slots *= 2


def _written(tokenizer: SentencePieceTokenizer, kinds: Iterable[Kind]) -> dict[bytes, int]:
    """Piece as it stands in a text that the kernel has normalised -> id.

    Where spaces are escaped, ``▁`` is a space there, and a piece with a space is never found.
    """
    found = [(p.text, i) for i, p in enumerate(tokenizer.pieces) if p.kind in kinds]
    if not tokenizer.settings.escape_whitespaces:
        return {text.encode(): i for text, i in found}
    return {text.replace(SPACE, " ").encode(): i for text, i in found if " " not in text}


def word_rule(pieces: Iterable[bytes]) -> int:
    """How a text falls into words that no piece reaches over.

    Spaces belong to the word that follows if no piece has one behind another character; else to the
    word before, if no piece has one in front of another character; else all is one word.
    """
    with_space = [piece for piece in pieces if b" " in piece]
    if not any(b" " in piece.lstrip(b" ") for piece in with_space):
        return spm_words.SPACE_FIRST
    if not any(b" " in piece.rstrip(b" ") for piece in with_space):
        return spm_words.SPACE_LAST
    return spm_words.WHOLE


def normalizer_arrays(normalizer: SentencePieceNormalizer) -> tuple[Any, ...]:
    """What `spm_normalize.normalize` asks for after the text, in its order."""
    charsmap = normalizer.charsmap.data or _NO_CHARSMAP
    size = int.from_bytes(charsmap[:4], "little")
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.uint32)
    strings = np.frombuffer(charsmap, np.uint8, offset=4 + size).copy()
    whole, _ = double_array.double_array([text.encode() for text in normalizer.user_defined])
    spaces = normalizer.spaces
    flags = (
        spm_normalize.DUMMY_PREFIX * spaces.add_dummy_prefix
        | spm_normalize.REMOVE_EXTRA * spaces.remove_extra
        | spm_normalize.ESCAPE * spaces.escape
        | spm_normalize.SUFFIX * spaces.suffix
    )
    known = _known_bytes(normalizer, units)
    return known, units, strings, whole, flags, _known_characters(normalizer)


def _known_characters(normalizer: SentencePieceNormalizer) -> NDArray[np.uint8]:
    """What is known of each character of the first plane, as bits of `spm_normalize`."""
    known = np.zeros(1 << 16, np.uint8)
    found = normalizer.charsmap.characters
    begins = [ord(text[0]) for text in normalizer.user_defined]
    for codes, bit in (
        (found.single, spm_normalize.CHANGES),
        (found.first, spm_normalize.BEGINS),
        (found.second, spm_normalize.FOLLOWS),
        (np.array([*begins, ord(SPACE)]), spm_normalize.CHANGES),
    ):
        known[codes[codes < known.size]] |= bit
    return known


def _known_bytes(
    normalizer: SentencePieceNormalizer, units: NDArray[np.uint32]
) -> NDArray[np.uint8]:
    known = np.full(256, spm_normalize.SLOWLY, np.uint8)
    for byte in _without_pairs(units):
        rule = normalizer.charsmap.longest(chr(byte), 0) if normalizer.charsmap.data else None
        new = rule.new if rule else chr(byte)
        if new == " ":
            known[byte] = spm_normalize.PLAIN_SPACE
        elif new == chr(byte):
            known[byte] = spm_normalize.PLAIN
    known[[text.encode()[0] for text in normalizer.user_defined]] = spm_normalize.SLOWLY
    spaces_stay = known[spm_normalize.SPACE] == spm_normalize.PLAIN_SPACE
    if spaces_stay and (known[0x21:0x7F] == spm_normalize.PLAIN).all():
        known[0xFF] = spm_normalize.PLAIN
    return known


def _without_pairs(units: NDArray[np.uint32]) -> list[int]:
    """The ASCII bytes that no rule takes together with an ASCII byte after them."""
    offsets = (units >> 10) << ((units & 1 << 9) >> 6)
    labels = units & 0x800000FF
    seconds = np.arange(1, 128, dtype=np.uint32)
    alone = []
    for byte in range(128):
        node = int(offsets[0]) ^ byte
        is_node = node < units.size and labels[node] == byte
        cells = seconds ^ offsets[node] ^ node if is_node else seconds[:0]
        inside = cells < units.size
        if not (labels[cells[inside]] == seconds[: cells.size][inside]).any():
            alone.append(byte)
    return alone
