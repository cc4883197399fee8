"""llama2.c's ``tokenizer.bin``: scores and texts of SentencePiece's pieces, and nothing else.

The file holds the length of the longest text (4 bytes, little-endian, like all numbers in it), and
for each id the score (a float), the length of the text (4 bytes), and the text, in which a space
stands for ``▁``. What a piece is for follows from its id: 0 is unknown, 1 and 2 (written between
newlines) begin and end a text, and 3 to 258 are the bytes. Older files write a byte as the
character of that number, newer ones ``<0x0A>``.

Source: github.com/karpathy/llama2.c, ``tokenizer.py`` and ``run.c``.
"""

from __future__ import annotations

import struct
from pathlib import Path

from stemma.errors import TokenizerError
from stemma.tokenizers.files import read_bytes
from stemma.tokenizers.formats.sentencepiece_model import write_file
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.normalizer import SPACE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings, byte_piece
from stemma.tokenizers.steps.template import Special, Template, Text

UNKNOWN, BOS, EOS = "<unk>", "<s>", "</s>"
SETTINGS = SentencePieceSettings(remove_extra_whitespaces=False, byte_fallback=True)
"""What ``run.c`` does: a space in front, nothing else changed, bytes for unknown characters."""

_FIRST_BYTE = 3
_BYTES = range(_FIRST_BYTE, _FIRST_BYTE + 256)
_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<fI")
_BEGINNING = struct.pack("<I", len(UNKNOWN)) + UNKNOWN.encode()


def read(path: str | Path) -> SentencePieceBPE:
    """Read a ``tokenizer.bin``; its template puts ``<s>`` in front of a text.

    Raises:
        TokenizerError: if it cannot be read, or is damaged or another format.
    """
    data = read_bytes(Path(path))
    try:
        return parse(data)
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure) from None


def parse(data: bytes) -> SentencePieceBPE:
    """`read` from bytes."""
    if data[_HEADER.size + 4 :][: len(_BEGINNING)] != _BEGINNING:
        raise TokenizerError("is not a tokenizer.bin of llama2.c: its first text is not <unk>")
    entries = _entries(data)
    if [text for text, _ in entries[1:_FIRST_BYTE]] != [f"\n{BOS}\n", f"\n{EOS}\n"]:
        raise TokenizerError("is damaged: ids 1 and 2 are not <s> and </s>")
    if len(entries) < _BYTES.stop:
        raise TokenizerError(f"is damaged: it holds {len(entries)} pieces, fewer than the bytes")
    for i in _BYTES:
        value = i - _FIRST_BYTE
        if entries[i][0] not in (byte_piece(value), chr(value)):
            raise TokenizerError(f"is damaged: id {i} is not byte {value} but {entries[i][0]!r}")
    kinds = [Kind.UNKNOWN, Kind.CONTROL, Kind.CONTROL, *[Kind.BYTE] * 256]
    names = [UNKNOWN, BOS, EOS, *map(byte_piece, range(256))]
    names += [text.replace(" ", SPACE) for text, _ in entries[_BYTES.stop :]]
    kinds += [Kind.NORMAL] * (len(names) - len(kinds))
    scores = [score for _, score in entries]
    pieces = list(map(Piece, names, scores, kinds))
    template = Template((Special(BOS, (1,)), Text()))
    return SentencePieceBPE(pieces, SETTINGS, template=template)


def _entries(data: bytes) -> list[tuple[str, float]]:
    """Text and score of each id."""
    if len(data) < _HEADER.size:
        raise TokenizerError("is damaged: it ends within its header")
    entries: list[tuple[str, float]] = []
    at = _HEADER.size
    while at < len(data):
        if at + _ENTRY.size > len(data):
            raise TokenizerError(f"is damaged: it ends within id {len(entries)}")
        score, size = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        if size > len(data) - at:
            raise TokenizerError(f"is damaged: it ends within the text of id {len(entries)}")
        try:
            entries.append((data[at : at + size].decode(), score))
        except UnicodeDecodeError:
            raise TokenizerError(f"is damaged: id {len(entries)} is not UTF-8") from None
        at += size
    return entries


def write(tokenizer: SentencePieceBPE, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a ``tokenizer.bin`` that ``run.c`` opens, and encodes equally with.

    Raises:
        TokenizerError: if the pieces or settings are not those that the format stands for, another
            file is there already (unless ``overwrite``), or it cannot be written.
    """
    return write_file(Path(path), serialize(tokenizer), overwrite=overwrite)


def serialize(tokenizer: SentencePieceBPE) -> bytes:
    """`write` to bytes."""
    _check(tokenizer)
    texts = [piece.text.replace(SPACE, " ") for piece in tokenizer.pieces]
    texts[1:_FIRST_BYTE] = [f"\n{BOS}\n", f"\n{EOS}\n"]
    encoded = [text.encode() for text in texts]
    parts = [_HEADER.pack(max(map(len, encoded)))]
    for piece, data in zip(tokenizer.pieces, encoded, strict=True):
        parts += [_ENTRY.pack(piece.score, len(data)), data]
    return b"".join(parts)


def _check(tokenizer: SentencePieceBPE) -> None:
    given = tokenizer.settings
    shared = ("charsmap", "add_dummy_prefix", "remove_extra_whitespaces", "escape_whitespaces")
    for name in (*shared, "treat_whitespace_as_suffix", "byte_fallback", "denormalizer_charsmap"):
        if getattr(given, name) != getattr(SETTINGS, name):
            raise TokenizerError(f"llama2.c has no {name} other than {getattr(SETTINGS, name)!r}")
    wanted = [(UNKNOWN, Kind.UNKNOWN), (BOS, Kind.CONTROL), (EOS, Kind.CONTROL)]
    wanted += [(byte_piece(value), Kind.BYTE) for value in range(256)]
    for i, (text, _, kind) in enumerate(tokenizer.pieces):
        if i < len(wanted) and (text, kind) != wanted[i]:
            raise TokenizerError(f"id {i} is {text!r}: llama2.c wants {wanted[i][0]} there")
        if i >= len(wanted) and (kind != Kind.NORMAL or " " in text):
            raise TokenizerError(f"llama2.c has no place for the {kind.name} piece {text!r}")
    if tokenizer.vocab_size != len(tokenizer.pieces):
        raise TokenizerError(f"llama2.c has no place for token {len(tokenizer.pieces)}")
