"""SentencePiece's ``.model``: pieces with their scores, and how a text is prepared for them.

The file is one Protocol Buffers message. Fields that only say how the model was trained are
skipped; a field that is not known here is refused: it might change the ids.

Source: github.com/google/sentencepiece, ``src/sentencepiece_model.proto``.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.files import read_bytes
from stemma.tokenizers.formats.protobuf import (
    BYTES,
    FOUR_BYTES,
    VARINT,
    bytes_field,
    float_field,
    read_field,
    read_fields,
    varint_field,
)
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.substrings import Substrings
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

UNIGRAM, BPE = 1, 2
_OTHER_TYPES = {3: "word", 4: "char"}

_MODEL = {1: "pieces", 2: "trainer_spec", 3: "normalizer_spec", 5: "denormalizer_spec"}
_SELF_TEST_DATA = 4
_PIECES = 0x0A
"""The key of field 1, a piece."""
_SHORT = 0x80
"""A message of fewer bytes has its length in one byte."""
_PIECE = {1: ("piece", BYTES), 2: ("score", FOUR_BYTES), 3: ("type", VARINT)}
_BY_NUMBER = {int(kind): kind for kind in Kind}
_NORMALIZER = {
    1: ("name", BYTES),
    2: ("precompiled_charsmap", BYTES),
    3: ("add_dummy_prefix", VARINT),
    4: ("remove_extra_whitespaces", VARINT),
    5: ("escape_whitespaces", VARINT),
    6: ("normalization_rule_tsv", BYTES),
}
_TRAINER = {
    3: ("model_type", VARINT),
    24: ("treat_whitespace_as_suffix", VARINT),
    35: ("byte_fallback", VARINT),
    44: ("unk_surface", BYTES),
    46: ("bos_piece", BYTES),
    47: ("eos_piece", BYTES),
    48: ("pad_piece", BYTES),
}
_TRAINING_ONLY = {
    *(1, 2, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 25, 26),
    *(30, 31, 32, 33, 34, 36, 40, 41, 42, 43, 45, 49, 50, 51, 52, 53, 54, 55),
}
"""What was asked of the trainer; what came of it are the pieces."""


def read(path: str | Path) -> SentencePieceTokenizer:
    """Read a ``.model``: a Unigram or a BPE tokenizer.

    Raises:
        TokenizerError: if it cannot be read, is damaged, or asks for what is not known here.
    """
    data = read_bytes(Path(path))
    try:
        return parse(data)
    except TokenizerError as error:
        where = f"{path}: {error.where}" if error.where else str(path)
        raise TokenizerError(error.what, where=where, cure=error.cure) from None


def parse(data: bytes) -> SentencePieceTokenizer:
    """`read` from bytes."""
    starts: list[int] = []
    long: dict[int, int] = {}
    specs: dict[int, list[bytes]] = {2: [], 3: [], 5: []}
    at, last = 0, len(data) - _SHORT
    while at < len(data):
        start = at + 2
        if at < last and data[at] == _PIECES and data[at + 1] < _SHORT:  # nearly all there is
            at = start + data[at + 1]
            starts.append(start)
            continue
        (number, wire_type, value), at = read_field(data, at)
        if number == _SELF_TEST_DATA:
            continue
        if number not in _MODEL or wire_type != BYTES or not isinstance(value, bytes):
            raise _unknown("", number, wire_type)
        if number == 1:
            long[len(starts)] = at
            starts.append(at - len(value))
        else:
            specs[number].append(value)
    pieces = _pieces(data, np.array(starts, np.int64), long)
    # Messages that come in several parts are merged, which is to join their bytes.
    trainer_spec, normalizer, denormalizer = (b"".join(parts) for parts in specs.values())
    trainer = _fields(trainer_spec, "trainer_spec", _TRAINER, _TRAINING_ONLY)
    model_type = trainer.get("model_type", UNIGRAM)
    if model_type not in (UNIGRAM, BPE):
        raise TokenizerError(
            f"the model type is {_OTHER_TYPES.get(model_type, model_type)}",
            where="trainer_spec.model_type",
            cure="Unigram and BPE models can be read.",
        )
    settings = _settings(trainer, normalizer, denormalizer)
    family = UnigramTokenizer if model_type == UNIGRAM else SentencePieceBPE
    return family(pieces, settings)


def _pieces(data: bytes, starts: NDArray[np.int64], long: Mapping[int, int]) -> list[Piece]:
    """The pieces of a file.

    Those that are short and written as the trainer does are read all at once: they are nearly all,
    and opening them one field after another takes ten times as long.

    Args:
        data: the file.
        starts: where the message of each piece begins.
        long: where those end that do not have their length in the byte before.
    """
    padded = data + bytes(0x100 + 16)  # whatever a message says of its length
    row = np.frombuffer(padded, np.uint8)
    ends = starts + row[starts - 1]
    ends[[*long]] = [*long.values()]
    sizes = row[starts + 1].astype(np.int64)
    score_at = starts + 2 + sizes
    scores = np.ndarray(row.size - 3, "<f4", row, strides=(1,))[score_at + 1]
    kind_at = score_at + 5
    plain = (ends - starts < _SHORT) & (row[starts] == 0x0A) & (row[score_at] == 0x15)
    typed = (
        (ends == kind_at + 2) & (row[kind_at] == 0x18) & np.isin(row[kind_at + 1], [*_BY_NUMBER])
    )
    plain &= (ends == kind_at) | typed
    texts = Substrings(padded, starts[plain] + 2, sizes[plain]).decoded()
    if texts is None:  # the slower way says what is wrong with it
        texts, plain = [], np.zeros_like(plain)
    kinds = map(_BY_NUMBER.__getitem__, np.where(typed, row[kind_at + 1], 1)[plain].tolist())
    found = map(Piece, texts, scores[plain].tolist(), kinds)
    pieces: list[Piece] = []
    for i in np.flatnonzero(~plain).tolist():
        pieces += islice(found, i - len(pieces))
        pieces.append(_piece(data[starts[i] : ends[i]]))
    return [*pieces, *found]


def _piece(message: bytes) -> Piece:
    fields = _fields(message, "pieces", _PIECE, ())
    kind = fields.get("type", 1)
    if kind not in _BY_NUMBER:
        raise TokenizerError(f"there is no type {kind}", where="pieces.type")
    (score,) = struct.unpack("<f", fields.get("score", b"\0" * 4))
    return Piece(_text(fields.get("piece", b""), "pieces.piece"), score, Kind(kind))


def _settings(
    trainer: Mapping[str, Any], normalizer: bytes, denormalizer: bytes
) -> SentencePieceSettings:
    before = _fields(normalizer, "normalizer_spec", _NORMALIZER, ())
    after = _fields(denormalizer, "denormalizer_spec", _NORMALIZER, ())
    denormalizer_charsmap = after.get("precompiled_charsmap", b"")
    for name in ("add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces"):
        if denormalizer_charsmap and after.get(name, 1):
            raise TokenizerError("is on, which is not supported", where=f"denormalizer_spec.{name}")
    after_name = _text(after.get("name", b""), "denormalizer_spec.name")
    default = SentencePieceSettings()
    return SentencePieceSettings(
        charsmap=before.get("precompiled_charsmap", b""),
        charsmap_name=_text(before.get("name", b""), "normalizer_spec.name"),
        add_dummy_prefix=bool(before.get("add_dummy_prefix", 1)),
        remove_extra_whitespaces=bool(before.get("remove_extra_whitespaces", 1)),
        escape_whitespaces=bool(before.get("escape_whitespaces", 1)),
        treat_whitespace_as_suffix=bool(trainer.get("treat_whitespace_as_suffix", 0)),
        byte_fallback=bool(trainer.get("byte_fallback", 0)),
        unknown_surface=_named(trainer, "unk_surface", default.unknown_surface),
        bos_piece=_named(trainer, "bos_piece", default.bos_piece),
        eos_piece=_named(trainer, "eos_piece", default.eos_piece),
        pad_piece=_named(trainer, "pad_piece", default.pad_piece),
        denormalizer_charsmap=denormalizer_charsmap,
        denormalizer_name=after_name if denormalizer_charsmap else "",
    )


def _fields(
    message: bytes,
    where: str,
    known: Mapping[int, tuple[str, int]],
    skipped: Collection[int],
) -> dict[str, Any]:
    """Name -> value of the fields that are known; of one that comes twice the last value."""
    found: dict[str, Any] = {}
    for number, wire_type, value in read_fields(message):
        if number in skipped:
            continue
        name, wanted = known.get(number, ("", -1))
        if wire_type != wanted:
            raise _unknown(f"{where}.", number, wire_type)
        found[name] = value
    return found


def _unknown(where: str, number: int, wire_type: int) -> TokenizerError:
    return TokenizerError(
        f"field {number} (wire type {wire_type}) is not known here and might change the ids",
        where=f"{where}{number}",
    )


def _named(fields: Mapping[str, Any], name: str, default: str) -> str:
    return _text(fields[name], f"trainer_spec.{name}") if name in fields else default


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise TokenizerError(f"is not UTF-8: {data[:40]!r}", where=where) from None


def write(tokenizer: SentencePieceTokenizer, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a ``.model`` that ``sentencepiece`` opens, and encodes equally with.

    Raises:
        TokenizerError: if the tokenizer has tokens that are no pieces, another file is there
            (unless ``overwrite``), or it cannot be written.
    """
    return write_file(Path(path), serialize(tokenizer), overwrite=overwrite)


def write_file(path: Path, data: bytes, *, overwrite: bool) -> Path:
    """Write a file beside itself first, and rename it then.

    Raises:
        TokenizerError: if another file is there already (unless ``overwrite``), or it cannot be
            written.
    """
    try:
        if path.exists() and not overwrite and path.read_bytes() != data:
            raise TokenizerError(
                "there is another file here",
                where=str(path),
                cure="Choose another name, or write(tokenizer, path, overwrite=True).",
            )
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as error:
        raise TokenizerError(f"cannot be written: {error.strerror}", where=str(path)) from None
    return path


def serialize(tokenizer: SentencePieceTokenizer) -> bytes:
    """`write` to bytes."""
    if tokenizer.vocab_size > len(tokenizer.pieces):
        raise TokenizerError(
            f"token {len(tokenizer.pieces)} is no piece", cure="Make it a user-defined piece."
        )
    is_bpe = isinstance(tokenizer, SentencePieceBPE)
    settings = tokenizer.settings
    parts = [bytes_field(1, _piece_message(piece)) for piece in tokenizer.pieces]
    parts.append(bytes_field(2, _trainer_message(tokenizer, BPE if is_bpe else UNIGRAM)))
    flags = (
        settings.add_dummy_prefix,
        settings.remove_extra_whitespaces,
        settings.escape_whitespaces,
    )
    parts.append(bytes_field(3, _rules(settings.charsmap_name, settings.charsmap, flags)))
    if settings.denormalizer_charsmap:
        rules = settings.denormalizer_name, settings.denormalizer_charsmap
        parts.append(bytes_field(5, _rules(*rules, (False, False, False))))
    return b"".join(parts)


def _piece_message(piece: Piece) -> bytes:
    kind = varint_field(3, piece.kind) if piece.kind != Kind.NORMAL else b""
    return bytes_field(1, piece.text.encode()) + float_field(2, piece.score) + kind


def _trainer_message(tokenizer: SentencePieceTokenizer, model_type: int) -> bytes:
    settings = tokenizer.settings
    ids = {piece.text: i for i, piece in enumerate(tokenizer.pieces) if piece.kind == Kind.CONTROL}
    unknown = tokenizer.unknown_id
    names = (settings.bos_piece, settings.eos_piece, settings.pad_piece)
    parts = [
        varint_field(3, model_type),
        varint_field(4, len(tokenizer.pieces)),
        varint_field(24, settings.treat_whitespace_as_suffix),
        varint_field(35, settings.byte_fallback),
        varint_field(40, unknown),
        *(varint_field(41 + i, ids.get(name, -1)) for i, name in enumerate(names)),
        bytes_field(44, settings.unknown_surface.encode()),
        bytes_field(45, tokenizer.pieces[unknown].text.encode()),
        *(bytes_field(46 + i, name.encode()) for i, name in enumerate(names)),
    ]
    return b"".join(parts)


def _rules(name: str, charsmap: bytes, flags: tuple[bool, bool, bool]) -> bytes:
    parts = [bytes_field(1, name.encode()), bytes_field(2, charsmap)]
    return b"".join([*parts, *(varint_field(3 + i, flag) for i, flag in enumerate(flags))])
