"""tiktoken's rank files: OpenAI's are known by their content, others need their pattern named."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, load_tokenizer
from stemma.tokenizers.formats.tiktoken import (
    ENCODINGS,
    load_tiktoken,
    parse_ranks,
    write_tiktoken,
)

SINGLE = {bytes([value]): value for value in range(256)}
RANKS = SINGLE | {b"th": 256, b"in": 257, b"the": 258, b" the": 300}


def written(ranks: dict[bytes, int]) -> bytes:
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks.items())


@pytest.fixture(scope="module")
def openai(mirror: Callable[[str], Path]) -> Callable[[str], tiktoken.Encoding]:
    """tiktoken's encodings, their ranks read from the mirror and not from the network."""

    def build(name: str) -> tiktoken.Encoding:
        path = mirror(f"tokenizers/tiktoken/{ENCODINGS[name].file}.tiktoken")
        lines = path.read_bytes().splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
        loader = openai_public.load_tiktoken_bpe
        openai_public.load_tiktoken_bpe = lambda *_, **__: ranks
        try:
            return tiktoken.Encoding(**openai_public.ENCODING_CONSTRUCTORS[name]())
        finally:
            openai_public.load_tiktoken_bpe = loader

    return build


@pytest.mark.parametrize("name", ENCODINGS)
def test_openai_s_encodings_give_tiktoken_s_ids(
    name: str,
    openai: Callable[[str], tiktoken.Encoding],
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    theirs = openai(name)
    path = mirror(f"tokenizers/tiktoken/{ENCODINGS[name].file}.tiktoken")
    ours = load_tiktoken(path, encoding=name)
    assert ours.vocab_size == theirs.n_vocab
    special = set(ours.special_tokens)
    assert special <= theirs.special_tokens_set
    assert {ours.special_tokens[t] for t in special} == {
        theirs.encode(t, allowed_special="all")[0] for t in theirs.special_tokens_set
    }
    generator = random.Random(2)
    for text in [*awkward, *random_texts(1000, 11)]:
        ids = ours.encode(text).tolist()
        assert ids == theirs.encode(text, disallowed_special=())
        assert ours.decode(ids) == text
        mixed = text + generator.choice(sorted(special)) + text
        ids = ours.encode(mixed, allowed_special="all").tolist()
        assert ids == theirs.encode(mixed, allowed_special=special, disallowed_special=())
        assert theirs.decode(ids) == mixed


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_a_hundred_thousand_strings(
    name: str,
    *,
    openai: Callable[[str], tiktoken.Encoding],
    mirror: Callable[[str], Path],
    random_texts: Callable[[int, int], Iterator[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = list(random_texts(100_000, 12))
    expected = openai(name).encode_ordinary_batch(texts)
    ours = load_tokenizer(mirror(f"tokenizers/tiktoken/{name}.tiktoken"))
    for by_kernels in (True, False):
        monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda _, on=by_kernels: on)
        for text, ids, wanted in zip(texts, ours.encode_batch(texts), expected, strict=True):
            assert ids.tolist() == wanted, (by_kernels, text)


@pytest.mark.parametrize("file", ["r50k_base", "p50k_base", "cl100k_base", "o200k_base"])
def test_they_are_known_by_their_content(
    file: str, mirror: Callable[[str], Path], tmp_path: Path
) -> None:
    source = mirror(f"tokenizers/tiktoken/{file}.tiktoken")
    path = tmp_path / "renamed.bin"
    path.write_bytes(source.read_bytes())
    tokenizer = load_tokenizer(path)
    assert tokenizer.special_tokens == ENCODINGS[file].special_tokens
    assert write_tiktoken(load_tiktoken(path), tmp_path / "again").read_bytes() == path.read_bytes()


def test_a_file_of_one_s_own_needs_its_pattern(tmp_path: Path) -> None:
    path = tmp_path / "own.tiktoken"
    path.write_bytes(written(RANKS))
    with pytest.raises(
        TokenizerError, match=r"(?s)does not say how text is cut.*pattern="
    ) as caught:
        load_tokenizer(path)
    assert caught.value.where == str(path)
    tokenizer = load_tiktoken(path, pattern="gpt2", special_tokens={"<|end|>": 310})
    theirs = tiktoken.Encoding(
        "own",
        pat_str=tiktoken_gpt2_pattern(),
        mergeable_ranks=RANKS,
        special_tokens={"<|end|>": 310},
    )
    for text in ("the thin", "in the<|end|>", " the the"):
        ids = tokenizer.encode(text, allowed_special="all").tolist()
        assert ids == theirs.encode(text, allowed_special="all")
    assert tokenizer.vocab_size == 311
    again = load_tiktoken(write_tiktoken(tokenizer, tmp_path / "a" / "b"), pattern="gpt2")
    assert again.encode("in the").tolist() == tokenizer.encode("in the").tolist()


def tiktoken_gpt2_pattern() -> str:
    return r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def test_our_own_vocabularies_can_be_written_where_ids_are_ranks(tmp_path: Path) -> None:
    ours = ByteLevelBPE.train(["low lower lowest newer newest wide wider widest " * 9], 270)
    path = write_tiktoken(ours, tmp_path / "own.tiktoken")
    again = load_tiktoken(path, pattern="gpt2", special_tokens=ours.special_tokens)
    assert again.encode("newest low widow").tolist() == ours.encode("newest low widow").tolist()
    spellings = [ours.token_bytes(i) for i in range(ours.vocab_size)]
    swapped = ByteLevelBPE(spellings, ours.merges[::-1], ours.special_tokens)
    with pytest.raises(TokenizerError, match="not in the order of the merges"):
        write_tiktoken(swapped, tmp_path / "swapped.tiktoken")


def test_a_token_must_be_made_of_tokens_before_it(tmp_path: Path) -> None:
    spellings = [*SINGLE, b"abc", b"ab"]
    tokenizer = ByteLevelBPE(spellings, [(257, ord("c")), (ord("a"), ord("b"))])
    with pytest.raises(TokenizerError, match="not in the order of the merges"):
        write_tiktoken(tokenizer, tmp_path / "own.tiktoken")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no tokens"),
        (b"IQ== 0\nIQ==\n", "line 2, 'IQ==', is not a token in base64 and a rank"),
        (b"IQ== 0\nIQ 1 2\n", "line 2"),
        (b"IQ== 0\nJA== -1\n", "line 2"),
        (b"IQ== 0\nJA== 1_0\n", "line 2"),
        (b"IQ== 0\nJA== 99999999999\n", "line 2"),
        (b"IQ== 0\nJ! 1\n", "line 2, 'J! 1', holds no token in base64"),
        (b"IQ== 0\nJ!A== 1\n", "line 2, 'J!A== 1', holds no token in base64"),
        (b"IQ== 0\n 1\n", "line 2.*holds no token"),
        (b"IQ== 0\nIQ== 1\n", "line 2: the token b'!' is listed twice"),
    ],
)
def test_damaged_files_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        parse_ranks(data)


@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        (RANKS | {b"x1": 5}, "share an id"),
        ({b"a": 0}, "no token for 242 bytes"),
        (RANKS | {b"far": 900_000_000}, "too high"),
    ],
)
def test_inconsistent_ranks_are_refused(
    ranks: dict[bytes, int], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "own.tiktoken"
    path.write_bytes(written(ranks))
    with pytest.raises(TokenizerError, match=message) as caught:
        load_tiktoken(path, pattern="gpt2")
    assert caught.value.where == str(path)


def test_special_tokens_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.tiktoken"
    path.write_bytes(written(RANKS))
    with pytest.raises(TokenizerError, match="share an id"):
        load_tiktoken(path, pattern="gpt2", special_tokens={"<|x|>": 256})
    with pytest.raises(TokenizerError, match="no encoding named 'x'"):
        load_tiktoken(path, encoding="x")
    with pytest.raises(TokenizerError, match="is not o200k_base"):
        load_tiktoken(path, encoding="o200k_harmony")


@given(data=st.binary(max_size=200) | st.text("IQJA=+/0123456789 \n", max_size=80).map(str.encode))
def test_any_bytes_are_ranks_or_are_refused(data: bytes) -> None:
    try:
        ranks = parse_ranks(data)
    except TokenizerError:
        return
    lines = list(filter(None, data.splitlines()))
    assert ranks == {base64.b64decode(t): int(r) for t, r in (line.split(b" ") for line in lines)}
    assert len(ranks) == len(lines)
