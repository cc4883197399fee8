"""SentencePiece's families on the fast path: vocabulary and rules as arrays."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.kernels import double_array, spm_bpe, spm_normalize, spm_words, unigram
from stemma.tokenizers.sentencepiece import FOUND_IN_TEXT, Kind, SentencePieceTokenizer
from stemma.tokenizers.sentencepiece_normalizer import SPACE, SentencePieceNormalizer

if TYPE_CHECKING:
    from stemma.tokenizers.unigram_model import UnigramModel

WORDS_KEPT = 1 << 16
"""Entries of a thread's table of words: 4 MB."""

MOST_WORK = 1 << 32
"""The squares of all pieces' lengths, summed; with more the vocabulary stays on the slow path."""

_READ_BEYOND = bytes(8)
_NO_CHARSMAP = (1024).to_bytes(4, "little") + bytes(1024) + b"\0"


class TextEncoder(ABC):
    """Texts -> ids by a kernel. Threads may call it at once: each has its own table of words.

    Args:
        tokenizer: whose ids they are.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer) -> None:
        self._rules = normalizer_arrays(tokenizer.rewrite)
        self._byte_ids = np.array(tokenizer.byte_ids or [0], np.int32)
        self._unknown = tokenizer.unknown_id
        self._local = threading.local()

    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The ids of each text."""
        encoded = [text.encode() for text in texts]
        data = np.frombuffer(b"".join([*encoded, _READ_BEYOND]), np.uint8)
        limits = np.cumsum([0, *map(len, encoded)])
        if not hasattr(self._local, "table"):
            self._local.table = spm_words.new_table(WORDS_KEPT)
        ids, ends = self._run(data, limits, self._local.table)
        return [ids[start:end] for start, end in pairwise([0, *ends.tolist()])]

    @abstractmethod
    def _run(self, data: Any, limits: Any, table: Any) -> tuple[Any, Any]:
        """The ids of all texts, and where those of each end."""


class UnigramEncoder(TextEncoder):
    """`UnigramTokenizer` by a kernel.

    Args:
        tokenizer: whose ids they are.
        model: its language model.

    Raises:
        TokenizerError: if the vocabulary is too large.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer, model: UnigramModel) -> None:
        super().__init__(tokenizer)
        found = _written(tokenizer, {Kind.NORMAL, Kind.USER_DEFINED})
        self._cells, ends = double_array.double_array(list(found))
        self._scores = np.array(model.scores, np.float32)
        self._cell_ids = np.array([*found.values(), -1], np.int32)[ends]
        self._cell_scores = np.where(ends >= 0, self._scores[self._cell_ids], np.float32(0))
        self._unknown_score = np.float32(model.unknown_score)
        self._words = word_rule(found)
        self._largest = float(max(abs(self._unknown_score), np.abs(self._cell_scores).max()))

    def _run(self, data: Any, limits: Any, table: Any) -> tuple[Any, Any]:
        encode: Any = unigram.encode_texts
        result: tuple[Any, Any] = encode(
            data,
            limits,
            *self._rules,
            self._cells,
            self._cell_ids,
            self._cell_scores,
            self._scores,
            self._unknown,
            self._unknown_score,
            self._byte_ids,
            self._words,
            self._largest,
            table,
        )
        return result


class BPEEncoder(TextEncoder):
    """`SentencePieceBPE` by a kernel.

    Args:
        tokenizer: whose ids they are.
        ranks: piece -> a number that is the higher, the sooner it is made.

    Raises:
        TokenizerError: if the vocabulary is too large.
    """

    def __init__(self, tokenizer: SentencePieceTokenizer, ranks: dict[str, int]) -> None:
        super().__init__(tokenizer)
        fixed = _written(tokenizer, {Kind.USER_DEFINED})
        self._fixed, ends = double_array.double_array(list(fixed))
        self._fixed_ids = np.array([*fixed.values(), -1], np.int32)[ends]
        pieces = _written(tokenizer, FOUND_IN_TEXT - {Kind.USER_DEFINED})
        characters = {c.encode() for c in b"".join(pieces).decode()} - pieces.keys()
        parts = [*pieces, *sorted(characters)]
        self._cells, self._part_of = double_array.double_array(parts)
        self._sizes = np.array([len(part) for part in parts], np.int32)
        kinds = [tokenizer.pieces[id_].kind for id_ in pieces.values()]
        tokens = [
            spm_bpe.UNUSED if kind == Kind.UNUSED else id_
            for id_, kind in zip(pieces.values(), kinds, strict=True)
        ]
        self._tokens = np.array([*tokens, *[spm_bpe.NO_TOKEN] * len(characters)], np.int32)
        self._ranks = np.zeros(len(parts), np.int32)
        self._ranks[: len(pieces)] = [ranks[tokenizer.pieces[id_].text] for id_ in pieces.values()]
        self._pairs = _pairs(list(pieces), self._cells, self._part_of)
        whole = Kind.UNUSED in kinds
        self._words = spm_words.WHOLE if whole else word_rule([*pieces, *fixed])

    def _run(self, data: Any, limits: Any, table: Any) -> tuple[Any, Any]:
        encode: Any = spm_bpe.encode_texts
        result: tuple[Any, Any] = encode(
            data,
            limits,
            *self._rules,
            self._fixed,
            self._fixed_ids,
            self._cells,
            self._part_of,
            self._pairs,
            self._ranks,
            self._tokens,
            self._sizes,
            self._unknown,
            self._byte_ids,
            self._words,
            table,
        )
        return result


def _pairs(pieces: Sequence[bytes], cells: Any, part_of: Any) -> NDArray[np.uint64]:
    """The hash table of the pairs of parts that make a piece."""
    if sum(len(piece) ** 2 for piece in pieces) > MOST_WORK:
        raise TokenizerError("the vocabulary is too large for the fast path")
    data = np.frombuffer(b"".join([*pieces, _READ_BEYOND]), np.uint8)
    starts = np.cumsum([0, *map(len, pieces)])
    slots = 1 << max(8, (3 * len(pieces)).bit_length())
    while True:
        pairs = np.zeros(2 * slots, np.uint64)
        if spm_bpe.index_pairs(data, starts, cells, part_of, pairs) >= 0:
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
    return _known_bytes(normalizer, units), units, strings, whole, flags


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
