from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.formats import llama2c
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings, byte_piece

FILES = [("weights/stories260K/tok512.bin", 512), ("weights/stories15M/tokenizer.bin", 32000)]


def entry(score: float, text: bytes) -> bytes:
    return struct.pack("<fI", score, len(text)) + text


BEGINNING = entry(0, b"<unk>") + entry(0, b"\n<s>\n") + entry(0, b"\n</s>\n")
IN_BYTES = b"".join(entry(0, byte_piece(value).encode()) for value in range(256))
SMALL = struct.pack("<I", 6) + BEGINNING + IN_BYTES + entry(-1, b" a") + entry(-2, b"a")


def by_run_c(texts: list[str], scores: list[float], text: str) -> list[int]:
    """The rule of ``run.c``: look at all pairs, merge the best, begin again."""
    ids = {piece: i for i, piece in reversed(list(enumerate(texts)))}
    tokens = [ids[" "]] if text else []
    for character in text:
        if character in ids:
            tokens.append(ids[character])
        else:
            tokens += [byte + 3 for byte in character.encode()]
    while True:
        best = None
        for i in range(len(tokens) - 1):
            joined = ids.get(texts[tokens[i]] + texts[tokens[i + 1]])
            if joined is not None and (best is None or scores[joined] > best[0]):
                best = (scores[joined], joined, i)
        if best is None:
            return tokens
        tokens[best[2] : best[2] + 2] = [best[1]]


@pytest.mark.parametrize(("file", "size"), FILES)
def test_real_files_encode_as_run_c_does(
    file: str,
    size: int,
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    tokenizer = llama2c.read(mirror(file))
    assert tokenizer.vocab_size == size
    assert tokenizer.special_tokens == {"<s>": 1, "</s>": 2}
    # Of the bytes only their ids are used: a text that has one as a character is spelled otherwise.
    texts = [piece.text.replace("▁", " ") for piece in tokenizer.pieces]
    scores = [piece.score for piece in tokenizer.pieces]
    for text in ["Once upon a time, there was a little girl.", *awkward, *random_texts(100, 1)]:
        if "▁" not in text:
            assert tokenizer.encode(text).tolist() == by_run_c(texts, scores, text), text
            assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_story_that_llama2c_tells(mirror: Callable[[str], Path]) -> None:
    """The beginning of the model's own story, with the token that begins a text."""
    tokenizer = llama2c.read(mirror(FILES[0][0]))
    ids = tokenizer.encode("Once upon a time", add_special_tokens=True)
    assert ids.tolist() == [1, 403, 407, 261, 378]


def test_both_ways_to_write_a_byte(mirror: Callable[[str], Path]) -> None:
    newer, older = (mirror(file).read_bytes() for file, _ in FILES)
    assert b"<0x0A>" in newer
    assert b"<0x0A>" not in older
    for data in (newer, older):
        tokenizer = llama2c.parse(data)
        assert [piece.kind for piece in tokenizer.pieces[3:259]] == [Kind.BYTE] * 256
        assert tokenizer.encode("\x01").tolist()[-1] == 4


def test_what_we_write_is_read(mirror: Callable[[str], Path], tmp_path: Path) -> None:
    for file, _ in FILES:
        tokenizer = llama2c.read(mirror(file))
        path = llama2c.write(tokenizer, tmp_path / "tokenizer.bin", overwrite=True)
        assert llama2c.read(path).fingerprint == tokenizer.fingerprint
    original = mirror(FILES[0][0]).read_bytes()
    assert llama2c.serialize(llama2c.parse(original)) == original
    with pytest.raises(TokenizerError, match="another file here"):
        llama2c.write(llama2c.parse(SMALL), path)


def test_the_vocabulary_is_llamas(mirror: Callable[[str], Path]) -> None:
    import gguf

    path = mirror("tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf")
    fields = gguf.GGUFReader(path).fields
    pieces = llama2c.read(mirror(FILES[1][0])).pieces
    assert [piece.text for piece in pieces] == fields["tokenizer.ggml.tokens"].contents()
    assert [piece.kind for piece in pieces] == fields["tokenizer.ggml.token_type"].contents()


def test_a_small_file() -> None:
    tokenizer = llama2c.parse(SMALL)
    assert tokenizer.pieces[259:] == (Piece("▁a", -1.0), Piece("a", -2.0))
    assert tokenizer.encode("aa").tolist() == [259, 260]
    assert tokenizer.encode("b").tolist() == [3 + byte for byte in "▁b".encode()]
    assert llama2c.serialize(tokenizer) == SMALL


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "its first text is not <unk>"),
        (SMALL[:13], "its first text is not <unk>"),
        (struct.pack("<I", 512) + SMALL[8:], "its first text is not <unk>"),
        (SMALL[:-1], "ends within the text of id 260"),
        (SMALL + b"\0\0", "ends within id 261"),
        (SMALL + struct.pack("<fI", 0, 2**32 - 1), "ends within the text of id 261"),
        (SMALL + entry(0, b"\xff"), "id 261 is not UTF-8"),
        (SMALL + entry(0, b"a"), "pieces 260 and 261 are both 'a'"),
        (SMALL + entry(0, b""), "piece 261 has 0 bytes"),
        (SMALL + entry(float("nan"), b"b"), "the score of piece 261, 'b', is nan"),
        (SMALL[:4] + BEGINNING, "holds 3 pieces, fewer than the bytes"),
        (SMALL[:4] + BEGINNING[:13] + entry(0, b"<s>") + IN_BYTES, "ids 1 and 2 are not"),
        (SMALL.replace(b"<0x0A>", b"<0x0B>"), "id 13 is not byte 10 but '<0x0B>'"),
    ],
)
def test_what_is_no_such_file(data: bytes, complaint: str) -> None:
    with pytest.raises(TokenizerError, match=complaint):
        llama2c.parse(data)


def test_errors_name_the_file(mirror: Callable[[str], Path], tmp_path: Path) -> None:
    other = mirror("weights/stories260K/tokenizer.bin")  # of a port to another machine
    with pytest.raises(TokenizerError, match=r"tokenizer\.bin: is not a tokenizer\.bin of llama2"):
        llama2c.read(other)
    with pytest.raises(TokenizerError, match=r"none\.bin: cannot be read"):
        llama2c.read(tmp_path / "none.bin")


@given(st.data())
@settings(max_examples=200)
def test_damaged_files_are_refused_or_read(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        if data.draw(st.booleans()):
            damaged[at] = data.draw(st.integers(0, 255))
        else:
            del damaged[at : at + data.draw(st.integers(1, 50))]
    try:
        tokenizer = llama2c.parse(bytes(damaged))
    except TokenizerError:
        return
    tokenizer.decode(tokenizer.encode("a b"))


def test_what_llama2c_has_no_place_for() -> None:
    pieces = list(llama2c.parse(SMALL).pieces)
    for wrong, settings_, complaint in [
        (pieces, SentencePieceSettings(byte_fallback=True), "no remove_extra_whitespaces"),
        ([*pieces, Piece("x", 0.0, Kind.USER_DEFINED)], llama2c.SETTINGS, "USER_DEFINED piece 'x'"),
        ([*pieces, Piece("a b", 0.0)], llama2c.SETTINGS, "NORMAL piece 'a b'"),
        ([pieces[1], pieces[0], *pieces[2:]], llama2c.SETTINGS, "id 0 is '<s>'"),
    ]:
        with pytest.raises(TokenizerError, match=complaint):
            llama2c.serialize(SentencePieceBPE(wrong, settings_))
