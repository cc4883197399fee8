from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.formats import sentencepiece_model
from stemma.tokenizers.formats.protobuf import bytes_field, float_field, varint_field
from stemma.tokenizers.formats.sentencepiece_model import parse, read, serialize, write
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.substrings import Substrings
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

FILES = [
    ("tokenizers/sentencepiece/botchan_en_bpe_1000.model", SentencePieceBPE, 1000),
    ("tokenizers/sentencepiece/botchan_en_unigram_1000.model", UnigramTokenizer, 1000),
    ("tokenizers/sentencepiece/kyoto_ja_unigram_8000.model", UnigramTokenizer, 8000),
    ("tokenizers/t5/sentencepiece.model", UnigramTokenizer, 26),
]
SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the other foxes look on.",
    "Sphinx of black quartz, judge my vow: don't say 12,345 is a small number!",
    "ﬁnd the naïve café in ½ an hour … or １２３ more; 東京都に住んでいる。",
    "She sells sea shells by the sea shore.  Two  spaces,\ttabs and a fox.",
    "A rose is a rose is a rose, and foxes are foxes: the the the the the.",
] * 3


def train(**options: Any) -> bytes:
    """A model that ``sentencepiece`` itself has trained."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=model,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"vocab_size": 200, **options},
    )
    return model.getvalue()


@pytest.mark.parametrize(("file", "family", "size"), FILES)
def test_real_models_encode_and_decode_as_sentencepiece_does(
    file: str,
    family: type,
    size: int,
    *,
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    path = mirror(file)
    tokenizer = read(path)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    assert type(tokenizer) is family
    assert tokenizer.vocab_size == size == theirs.vocab_size()
    texts = [*awkward, *random_texts(700, 1)]
    fast = tokenizer._text_encoder()(texts)
    for text, fast_ids in zip(texts, fast, strict=True):
        proto = theirs.encode(text, return_type="proto")
        ids, spans = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == fast_ids.tolist() == [piece.id for piece in proto.pieces], text
        assert spans.tolist() == [[p.begin, p.end] for p in proto.pieces], text
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded == theirs.decode(ids.tolist()), text


@pytest.mark.parametrize(("file", "family", "size"), FILES)
def test_whole_books_encode_as_sentencepiece_does(
    file: str, family: type, size: int, mirror: Callable[[str], Path]
) -> None:
    """In one piece: sums are rounded, and made small again, many times on the way."""
    path = mirror(file)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = read(path)
    for book in ("text/sherlock.txt", "tokenizers/sentencepiece/botchan.txt"):
        text = mirror(book).read_text("utf-8")
        assert tokenizer.encode(text).tolist() == theirs.encode(text)
        lines = text.split("\n")
        assert [ids.tolist() for ids in tokenizer.encode_batch(lines)] == theirs.encode(lines)


@pytest.mark.parametrize(("file", "family", "size"), FILES)
def test_what_we_write_sentencepiece_reads(
    file: str, family: type, size: int, mirror: Callable[[str], Path], awkward: list[str]
) -> None:
    path = mirror(file)
    tokenizer = read(path)
    data = serialize(tokenizer)
    again = parse(data)
    assert (again.pieces, again.settings) == (tokenizer.pieces, tokenizer.settings)
    assert serialize(again) == data
    original = sentencepiece.SentencePieceProcessor(model_file=str(path))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    for text in awkward:
        assert theirs.encode(text) == original.encode(text)
    for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
        assert getattr(theirs, name)() == getattr(original, name)()


TRAINED: list[dict[str, Any]] = [
    {"model_type": family, **options}
    for family in ("unigram", "bpe")
    for options in (
        {"byte_fallback": True, "vocab_size": 400},
        {"user_defined_symbols": ["fox", "<sep>", "▁rose"], "control_symbols": ["<2en>"]},
        {"treat_whitespace_as_suffix": True},
        {"split_by_whitespace": False},
        {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
        {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False},
        {"allow_whitespace_only_pieces": True, "remove_extra_whitespaces": False},
        {"pad_id": 3, "unk_id": 2, "bos_id": 1, "eos_id": 0, "unk_surface": "?"},
        {"bos_id": -1, "eos_id": -1, "unk_piece": "[UNK]", "split_digits": True},
        {"bos_piece": "[BOS]", "eos_piece": "[EOS]", "vocab_size": 150},
    )
]


@pytest.mark.parametrize("options", TRAINED, ids=str)
def test_models_that_sentencepiece_trained(
    options: dict[str, Any], awkward: list[str], random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    data = train(**options)
    tokenizer = parse(data)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=data)
    written = sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))
    texts = [*SENTENCES, *awkward, " fox fox<sep>fox  rose ", *random_texts(40, 2)]
    fast = tokenizer._text_encoder()(texts)
    for text, fast_ids in zip(texts, fast, strict=True):
        proto = theirs.encode(text, return_type="proto")
        expected = [piece.id for piece in proto.pieces]
        ids, spans = tokenizer.encode_with_offsets(text)
        assert ids.tolist() == fast_ids.tolist() == written.encode(text) == expected, text
        assert spans.tolist() == [[p.begin, p.end] for p in proto.pieces], text
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded == theirs.decode(expected) == written.decode(expected), text
    assert written.bos_id() == theirs.bos_id()
    assert written.eos_id() == theirs.eos_id()


@pytest.mark.slow
@pytest.mark.parametrize("file", [file for file, _, _ in FILES])
def test_a_hundred_thousand_strings(
    file: str,
    *,
    mirror: Callable[[str], Path],
    random_texts: Callable[[int, int], Iterator[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = list(random_texts(100_000, 3))
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(mirror(file)))
    expected = [theirs.encode(text) for text in texts]
    ours = read(mirror(file))
    for by_kernels in (True, False):
        monkeypatch.setattr(
            "stemma.tokenizers.sentencepiece.base.worth", lambda _, on=by_kernels: on
        )
        for text, ids, wanted in zip(texts, ours.encode_batch(texts), expected, strict=True):
            assert ids.tolist() == wanted, (by_kernels, text)


# The parts of a message, to be put together wrongly.

UNKNOWN = bytes_field(1, b"<unk>") + varint_field(3, Kind.UNKNOWN)
PIECE = bytes_field(1, b"a") + float_field(2, -1.0)
SMALL = bytes_field(1, UNKNOWN) + bytes_field(1, PIECE)


def test_a_minimal_model() -> None:
    tokenizer = parse(SMALL)
    assert tokenizer.pieces == (Piece("<unk>", 0.0, Kind.UNKNOWN), Piece("a", -1.0))
    assert tokenizer.settings == SentencePieceSettings()
    assert isinstance(tokenizer, UnigramTokenizer)
    assert isinstance(parse(SMALL + bytes_field(2, varint_field(3, 2))), SentencePieceBPE)


def test_parts_of_a_message_are_merged() -> None:
    parts = [varint_field(3, 0), varint_field(4, 1), varint_field(4, 0)]
    tokenizer = parse(SMALL + b"".join(bytes_field(3, part) for part in parts))
    assert not tokenizer.settings.add_dummy_prefix
    assert not tokenizer.settings.remove_extra_whitespaces


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "0 unknown pieces"),
        (SMALL[:-1], "wants 8 bytes, 7 are left"),
        (SMALL + bytes_field(1, PIECE), "pieces 1 and 2 are both 'a'"),
        (SMALL + bytes_field(1, float_field(2, 1.0)), "piece 2 has 0 bytes"),
        (SMALL + bytes_field(1, bytes_field(1, b"\xff")), "pieces.piece: is not UTF-8"),
        (SMALL + bytes_field(1, PIECE + varint_field(3, 9)), "no type 9"),
        (SMALL + bytes_field(1, bytes_field(1, b"b") + varint_field(3, 6)), "byte"),
        (SMALL + bytes_field(1, PIECE + bytes_field(200, b"")), "pieces.200: field 200"),
        (SMALL + bytes_field(1, bytes_field(2, b"1")), r"pieces.2: field 2 \(wire type 2\)"),
        (SMALL + varint_field(2, 1), r"2: field 2 \(wire type 0\)"),
        (SMALL + bytes_field(7, b""), "7: field 7"),
        (SMALL + bytes_field(2, varint_field(3, 3)), "the model type is word"),
        (SMALL + bytes_field(2, varint_field(3, 4)), "the model type is char"),
        (SMALL + bytes_field(2, varint_field(3, 7)), "the model type is 7"),
        (SMALL + bytes_field(2, varint_field(60, 1)), "trainer_spec.60: field 60"),
        (SMALL + bytes_field(2, varint_field(35, 1)), "0 byte pieces, but byte_fallback is True"),
        (SMALL + bytes_field(3, varint_field(7, 1)), "normalizer_spec.7: field 7"),
        (SMALL + bytes_field(3, bytes_field(2, b"abc")), "character map"),
        (SMALL + bytes_field(5, bytes_field(2, b"x")), "denormalizer_spec.add_dummy_prefix"),
    ],
)
def test_what_a_model_must_not_hold(data: bytes, complaint: str) -> None:
    with pytest.raises(TokenizerError, match=complaint):
        parse(data)


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.model"
    path.write_bytes(SMALL + bytes_field(2, varint_field(60, 1)))
    with pytest.raises(TokenizerError, match=r"x\.model: trainer_spec\.60: field 60"):
        read(path)
    with pytest.raises(TokenizerError, match=r"y\.model: cannot be read: No such file"):
        read(tmp_path / "y.model")


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    tokenizer = parse(SMALL)
    path = write(tokenizer, tmp_path / "a.model")
    assert write(tokenizer, path) == path
    other = parse(SMALL + bytes_field(2, varint_field(3, 2)))
    with pytest.raises(TokenizerError, match="another file here"):
        write(other, path)
    write(other, path, overwrite=True)
    assert isinstance(read(path), SentencePieceBPE)
    with pytest.raises(TokenizerError, match="cannot be written"):
        write(tokenizer, tmp_path / "none" / "a.model")


def test_the_quick_way_to_read_pieces_gives_the_same(
    mirror: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mirror(FILES[1][0]).read_bytes()
    opened: list[bytes] = []
    slowly = sentencepiece_model._piece
    monkeypatch.setattr(
        sentencepiece_model, "_piece", lambda message: opened.append(message) or slowly(message)
    )
    quick = parse(data).pieces
    assert (len(quick), len(opened)) == (1000, 3)  # three pieces have no score
    monkeypatch.setattr(Substrings, "decoded", lambda self: None)
    assert parse(data).pieces == quick
    assert len(opened) == 1003


def test_pieces_that_are_written_otherwise_stand_at_their_places() -> None:
    plain = bytes_field(1, PIECE)
    odd = [
        bytes_field(1, bytes_field(1, b"b" * 200) + float_field(2, -2.0)),
        bytes_field(1, bytes_field(1, b"c" * 130)),
        bytes_field(1, float_field(2, -3.0) + bytes_field(1, b"d")),
        bytes_field(1, bytes_field(1, b"e") + float_field(2, -4.0) + varint_field(3, 1) * 2),
        bytes_field(1, bytes_field(1, b"f") + varint_field(3, 4)),
    ]
    last = bytes_field(1, bytes_field(1, b"g" * 300))
    parsed = parse(bytes_field(1, UNKNOWN) + odd[0] + plain + b"".join(odd[1:]) + last).pieces[1:]
    texts = ["b" * 200, "a", "c" * 130, "d", "e", "f", "g" * 300]
    scores = [-2.0, -1.0, 0.0, -3.0, -4.0, 0.0, 0.0]
    kinds = [Kind.USER_DEFINED if text == "f" else Kind.NORMAL for text in texts]
    assert parsed == tuple(map(Piece, texts, scores, kinds))
    # Fields in another order than the trainer's.
    score_last = bytes_field(1, varint_field(3, 2) + bytes_field(1, b"<unk>"))
    assert parse(score_last + plain).pieces == parse(SMALL).pieces


@given(st.data())
@settings(max_examples=300)
def test_damaged_models_are_refused_or_read(data: st.DataObject) -> None:
    """Never another exception, never a model that is read but cannot be used."""
    spec = bytes_field(3, bytes_field(1, b"x") + varint_field(4, 0))
    whole = SMALL + spec + bytes_field(2, varint_field(3, 2) + bytes_field(44, b"?"))
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        change = data.draw(st.sampled_from(["set", "insert", "delete", "cut"]))
        if change == "set":
            damaged[at] = data.draw(st.integers(0, 255))
        elif change == "insert":
            damaged[at:at] = data.draw(st.binary(max_size=5))
        elif change == "cut" and at:
            del damaged[at:]
        elif len(damaged) > 1:
            del damaged[at]
    try:
        tokenizer = parse(bytes(damaged))
    except TokenizerError:
        return
    ids = tokenizer.encode("a b")
    tokenizer.decode(ids)
    sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(data: bytes) -> None:
    try:
        parse(data)
    except TokenizerError:
        return


def test_damage_anywhere_in_a_real_model(mirror: Callable[[str], Path]) -> None:
    whole = mirror(FILES[0][0]).read_bytes()
    rng = random.Random(1)
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 5)):
            damaged[rng.randrange(20_000 if rng.random() < 0.8 else len(whole))] = rng.randrange(
                256
            )
        try:
            parse(bytes(damaged)).encode("It was a dark and stormy night: ①ﬁ")
        except TokenizerError:
            continue
    for size in (0, 1, 10, 5000, 13_000, 100_000, len(whole) - 1):
        with pytest.raises(TokenizerError):
            parse(whole[:size])


def test_a_large_vocabulary_is_read_in_linear_time() -> None:
    def message(n: int) -> bytes:
        pieces = (bytes_field(1, f"p{i}".encode()) + float_field(2, -i) for i in range(n))
        return bytes_field(1, UNKNOWN) + b"".join(bytes_field(1, piece) for piece in pieces)

    def seconds(data: bytes) -> float:
        start = time.process_time()
        parse(data)
        return time.process_time() - start

    small, large = message(5_000), message(50_000)
    ratio = min(seconds(large) for _ in range(3)) / min(seconds(small) for _ in range(3))
    assert ratio < 40
