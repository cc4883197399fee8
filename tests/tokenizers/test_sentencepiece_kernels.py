"""The parts of the fast path beside the readable code; whole texts are compared elsewhere."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.formats.sentencepiece_model import read, serialize
from stemma.tokenizers.kernels import double_array, neighbours, spm_normalize, spm_words
from stemma.tokenizers.sentencepiece import compiled
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE
from stemma.tokenizers.sentencepiece.compiled import normalizer_arrays, word_rule
from stemma.tokenizers.sentencepiece.normalizer import SentencePieceNormalizer, Spaces
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

MODEL = "tokenizers/sentencepiece/botchan_en_unigram_1000.model"
UNKNOWN = Piece("<unk>", 0.0, Kind.UNKNOWN)


def find(strings: list[bytes], wanted: bytes) -> int:
    cells, ends = double_array.double_array(strings)
    data = np.frombuffer(wanted + b"\0", np.uint8)
    return int(double_array.find(cells, ends, data, 0, len(wanted)))


@given(st.sets(st.binary(min_size=1, max_size=6), max_size=60), st.binary(min_size=1, max_size=6))
def test_a_trie_holds_its_strings_and_no_others(strings: set[bytes], other: bytes) -> None:
    known = sorted(strings)[::-1]
    cells, ends = double_array.double_array(known)
    assert ends[ends >= 0].size == len(known)
    probes = [*known, other, b"\0", b"\xff", *(s[:-1] for s in known)]
    probes += [s + b"\0" + t for s in known for t in (b"", *known[:3])]
    for probe in filter(None, probes):
        data = np.frombuffer(probe + b"\0", np.uint8)
        found = double_array.find(cells, ends, data, 0, len(probe))
        assert found == (known.index(probe) if probe in strings else -1)


def test_tries_that_are_hard_to_pack() -> None:
    chain = [b"a" * i for i in range(1, 2000)]
    assert find(chain, b"a" * 1500) == 1499
    every = [bytes([i, j]) for i in range(256) for j in range(0, 256, 3)]
    assert find(every, bytes([7, 255])) == every.index(bytes([7, 255]))


def test_a_trie_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(double_array, "MOST_CELLS", 256)
    with pytest.raises(TokenizerError, match="too large for the fast path"):
        double_array.double_array([bytes([i, j]) for i in range(50) for j in range(50)])
    # Such a vocabulary stays on the readable path.
    letters = [Piece(chr(0x4E00 + i), -1.0) for i in range(2000)]
    for family in (UnigramTokenizer, SentencePieceBPE):
        tokenizer = family([UNKNOWN, Piece("▁", -1.0), *letters])
        assert tokenizer._fast is None
        assert tokenizer.encode("一" * 100_000)[:3].tolist() == [1, 2, 2]


def normalized(normalizer: SentencePieceNormalizer, text: str) -> str:
    data = np.frombuffer(text.encode() + bytes(8), np.uint8)
    room = np.empty(16, np.uint8)
    rules = normalizer_arrays(normalizer)
    out, n = spm_normalize.normalize(data, 0, data.size - 8, rules, room)
    written = out[:n].tobytes().decode()
    return written.replace(" ", "▁") if normalizer.spaces.escape else written


SPACES = st.builds(Spaces, *[st.booleans()] * 4)
AWKWARD = st.text(
    st.sampled_from("ab  \t\n▁é\u0301你😀ﬁ½\u3000\x00\x7f") | st.characters(codec="utf-8")
)


@given(SPACES, st.lists(st.text("ab ▁é", min_size=1, max_size=3), max_size=3), AWKWARD)
def test_the_normaliser_without_rules(spaces: Spaces, user_defined: list[str], text: str) -> None:
    normalizer = SentencePieceNormalizer(b"", spaces, {*user_defined})
    assert normalized(normalizer, text) == normalizer(text)


def test_the_normaliser_with_rules(mirror: Callable[[str], Path]) -> None:
    charsmap = read(mirror(MODEL)).settings.charsmap

    @given(SPACES, st.lists(st.text("ab ﬁ½", min_size=1, max_size=3), max_size=2), AWKWARD)
    def compare(spaces: Spaces, user_defined: list[str], text: str) -> None:
        normalizer = SentencePieceNormalizer(charsmap, spaces, {*user_defined})
        assert normalized(normalizer, text) == normalizer(text)

    compare()


EVERYTHING = np.full(neighbours.SIZE, 2**64 - 1, np.uint64)


@given(st.integers(0, 2), st.text("ab  é世", max_size=40))
def test_words(rule: int, text: str) -> None:
    """Cut before runs of spaces, behind them, or not at all."""
    data = np.frombuffer(text.encode() + bytes(spm_words.ROOM), np.uint8)
    n = data.size - spm_words.ROOM
    words = []
    at = 0
    while at < n:
        end = int(spm_words.word_end(data, at, n, rule, EVERYTHING))
        words.append(data[at:end].tobytes().decode())
        at = end
    cuts = [i for i in range(1, len(text)) if (text[i] == " ") != (text[i - 1] == " ")]
    if rule == spm_words.SPACE_FIRST:
        cuts = [i for i in cuts if text[i] == " "]
    elif rule == spm_words.SPACE_LAST:
        cuts = [i for i in cuts if text[i] != " "]
    else:
        cuts = []
    expected = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert words == [word for word in expected if word]


@given(st.text("世界人 ", max_size=30), st.sets(st.text("世界人", min_size=2, max_size=3)))
def test_words_of_wide_characters_end_where_no_piece_reaches_over(
    text: str, pieces: set[str]
) -> None:
    strings = [piece.encode() for piece in sorted(pieces)]
    data = np.frombuffer(b"".join(strings) + bytes(8), np.uint8)
    table = neighbours.table_of(data, np.cumsum([0, *map(len, strings)]))
    data = np.frombuffer(text.encode() + bytes(spm_words.ROOM), np.uint8)
    n = data.size - spm_words.ROOM
    ends = []
    while not ends or ends[-1] < n:
        start = ends[-1] if ends else 0
        ends.append(int(spm_words.word_end(data, start, n, spm_words.SPACE_FIRST, table)))
    together = {i for piece in pieces for i in range(1, len(text)) if _reaches(piece, text, i)}
    for end in ends[:-1]:
        assert len(text.encode()[:end].decode()) not in together
    lonely = {i for i in range(1, len(text)) if {*text[i - 1 : i + 1]} <= {*"世界人"}} - {
        i for i in range(1, len(text)) if any(text[i - 1 : i + 1] in piece for piece in pieces)
    }
    assert {len(text[:i].encode()) for i in lonely} <= {*ends}


def _reaches(piece: str, text: str, place: int) -> bool:
    """Whether the piece stands in the text on both sides of a place."""
    starts = range(max(place - len(piece) + 1, 0), place)
    return any(text.startswith(piece, start) for start in starts)


def test_where_pieces_let_a_text_fall_into_words() -> None:
    assert word_rule([b" a", b"a", b"  ", b"  b"]) == spm_words.SPACE_FIRST
    assert word_rule([b"a ", b"a", b"  ", b"b  "]) == spm_words.SPACE_LAST
    assert word_rule([b" a", b"a "]) == spm_words.WHOLE
    assert word_rule([b"a b"]) == spm_words.WHOLE
    assert word_rule([]) == spm_words.SPACE_FIRST


def test_words_that_push_each_other_out_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "WORDS_KEPT", 4)
    rng = random.Random(2)
    scores = {text: -rng.random() * 9 for text in ["▁", "a", "b", "ab", "▁a", "ba", "bab", "▁b"]}
    for family in (UnigramTokenizer, SentencePieceBPE):
        tokenizer = family([UNKNOWN, *(Piece(*item) for item in scores.items())])
        text = "".join(rng.choice("ab  c") for _ in range(5000))
        small = tokenizer._text_encoder()([text])[0].tolist()
        readable = tokenizer.rewrite(text)
        parts = tokenizer._joined(readable, tokenizer._segment(readable))
        assert small == [id_ for id_, _, _ in parts]


def test_a_word_seen_before_is_cut_anew_where_rounding_decides() -> None:
    """a b leads ab by 0.002: after a large sum the two are equal, and the longer piece wins."""
    scores = {"▁": -1.0, "▁f": -10.0, "a": -1.0, "b": -1.998, "ab": -3.0}
    tokenizer = UnigramTokenizer([UNKNOWN, *(Piece(*item) for item in scores.items())])
    theirs = sentencepiece.SentencePieceProcessor(model_proto=serialize(tokenizer))
    encode = tokenizer._text_encoder()
    found = set()
    for n in [0, 10, 1000, 2000, 5000, 9000, 9900, *range(9980, 10_020), 15_000]:
        text = "ab" + " f" * n + " ab"
        ids = encode([text])[0].tolist()
        assert ids == theirs.encode(text), n
        found.add(tuple(ids[-3:]))
    assert found == {(1, 3, 4), (2, 1, 5)}


def test_threads_share_an_encoder(mirror: Callable[[str], Path]) -> None:
    """Each has its own table of words: at once they find what one alone finds."""
    tokenizer = read(mirror(MODEL))
    encode = tokenizer._text_encoder()
    text = mirror("text/sherlock.txt").read_text("utf-8")
    parts = [text[i : i + 50_000] for i in range(0, 500_000, 50_000)]
    expected = [ids.tolist() for ids in encode(parts)]
    found: list[list[list[int]]] = []

    def work() -> None:
        found.append([ids.tolist() for ids in encode(parts[::-1])][::-1])

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 6
    assert [ids.tolist() for ids in tokenizer.encode_batch(parts, threads=3)] == expected


def test_no_two_threads_use_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = UnigramTokenizer([UNKNOWN, Piece("a", -1.0)])._text_encoder()
    together = threading.Barrier(3)
    used: list[int] = []

    def kernel(data: Any, limits: Any, *others: Any) -> tuple[Any, Any]:
        used.append(others[-1].ctypes.data)
        together.wait(timeout=60)
        return np.zeros(1, np.int32), np.ones(1, np.int64)

    monkeypatch.setattr(encode, "_encode", kernel)
    for _ in range(2):
        threads = [threading.Thread(target=encode, args=(["a"],)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({*used[:3]}) == 3
    assert {*used[3:]} == {*used[:3]}  # kept, and used again


def test_short_texts_do_not_wait_for_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_state", {"loaded": False, "bytes": 0})
    tokenizer = UnigramTokenizer([UNKNOWN, Piece("▁", -1.0), Piece("a", -2.0)])
    assert tokenizer.encode("a a").tolist() == [1, 2, 1, 2]
    assert tokenizer.encode_batch(["a", "a"])[1].tolist() == [1, 2]
    assert "_fast" not in vars(tokenizer)
    assert tokenizer.encode("a" * 200_000).size == 200_001
    assert "_fast" in vars(tokenizer)


def test_a_batch_with_special_tokens_is_cut_at_them() -> None:
    control = Piece("</s>", 0.0, Kind.CONTROL)
    settings = SentencePieceSettings(remove_extra_whitespaces=False)
    tokenizer = UnigramTokenizer([UNKNOWN, control, Piece("▁", -1.0), Piece("a", -2.0)], settings)
    long = "a" * 200_000
    ids = tokenizer.encode_batch([long + "</s>a"], allowed_special="all")[0]
    assert ids[-3:].tolist() == [1, 2, 3]
    assert tokenizer.encode_batch([long, "a"])[1].tolist() == [2, 3]


def test_importing_a_family_does_not_load_numba() -> None:
    import subprocess

    code = (
        "import sys, stemma.tokenizers.unigram.tokenizer as _;"
        "import stemma.tokenizers.formats.sentencepiece_model;"
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
