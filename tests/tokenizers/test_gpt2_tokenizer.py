"""GPT-2's ids, against tiktoken's own rank file and Hugging Face's own tokenizer.json."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiktoken

from stemma.errors import TokenizerError
from stemma.tokenizers import gpt2, load_tokenizer
from stemma.tokenizers.bpe import gpt2 as gpt2_module

RandomTexts = Callable[[int, int], Iterator[str]]


def test_ids_known_from_gpt2s_publication() -> None:
    tokenizer = gpt2()
    assert tokenizer.vocab_size == 50257
    assert tokenizer.end_of_text == 50256
    assert len(tokenizer.merges) == 50000
    assert tokenizer.encode("Hello, I'm a language model,").tolist() == (
        [15496, 11, 314, 1101, 257, 3303, 2746, 11]
    )


def test_every_byte_and_token_has_tiktokens_id(tiktoken_gpt2: tiktoken.Encoding) -> None:
    tokenizer = gpt2()
    for id_ in range(tokenizer.vocab_size):
        assert tokenizer.token_bytes(id_) == tiktoken_gpt2.decode_single_token_bytes(id_)


def test_ids_equal_tiktokens_on_awkward_and_random_text(
    tiktoken_gpt2: tiktoken.Encoding, awkward: list[str], random_texts: RandomTexts
) -> None:
    for text in [*awkward, "".join(awkward), *random_texts(1000, 1)]:
        assert gpt2().encode(text).tolist() == tiktoken_gpt2.encode_ordinary(text)
    text = "a<|endoftext|>b"
    assert gpt2().encode(text, allowed_special="all").tolist() == (
        tiktoken_gpt2.encode(text, allowed_special="all")
    )


def test_ids_equal_tiktokens_around_every_character(tiktoken_gpt2: tiktoken.Encoding) -> None:
    """Each character between a letter, a digit, spaces and itself; every 17th by default."""
    for code in [*range(0x300), *range(0x300, 0x110000, 17)]:
        if not 0xD800 <= code < 0xE000:
            c = chr(code)
            text = f"a{c}1 {c}{c} {c}'s"
            assert gpt2().encode(text).tolist() == tiktoken_gpt2.encode_ordinary(text), hex(code)


def test_ids_equal_tiktokens_on_a_sample_of_real_text(
    tiktoken_gpt2: tiktoken.Encoding, mirror: Callable[[str], Path]
) -> None:
    names = ["text/tinyshakespeare.txt", "text/enwik8/enwik8_first10MB.gz", "text/udhr2.zip"]
    for name in names:
        for text in _texts_of(mirror(name), limit=200_000):
            assert gpt2().encode(text).tolist() == tiktoken_gpt2.encode_ordinary(text)


@pytest.mark.slow
def test_ids_equal_tiktokens_on_10_000_random_texts(
    tiktoken_gpt2: tiktoken.Encoding, random_texts: RandomTexts
) -> None:
    for text in random_texts(10_000, 2):
        assert gpt2().encode(text).tolist() == tiktoken_gpt2.encode_ordinary(text)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["text", "tasks", "instruct"])
def test_ids_equal_tiktokens_on_all_real_text(
    part: str, tiktoken_gpt2: tiktoken.Encoding, mirror: Callable[[str], Path]
) -> None:
    files = [path for path in sorted(mirror(part).rglob("*")) if path.is_file()]
    assert files
    for path in files:
        for text in _texts_of(path):
            ids = gpt2().encode(text)
            assert ids.tolist() == tiktoken_gpt2.encode_ordinary(text), path
            assert gpt2().decode(ids) == text, path


@pytest.mark.parametrize("piece", ["a", " ", "\n", "ab", "é", "🙂", "=-"])
def test_a_very_long_word_is_no_trap(piece: str, tiktoken_gpt2: tiktoken.Encoding) -> None:
    """tiktoken's own time is quadratic here, so it checks 20 kB of the 200 kB that we encode."""
    short = piece * (20_000 // len(piece.encode()))
    assert gpt2().encode(short).tolist() == tiktoken_gpt2.encode_ordinary(short)
    assert gpt2().decode(gpt2().encode(short * 10)) == short * 10


def test_hugging_faces_own_file_is_the_same_tokenizer(mirror: Callable[[str], Path]) -> None:
    theirs = load_tokenizer(mirror("tokenizers/gpt2/tokenizer.json"))
    assert theirs.fingerprint == gpt2().fingerprint


def test_the_encoder_that_openai_published_has_the_same_ids(
    mirror: Callable[[str], Path],
) -> None:
    published = json.loads(mirror("tokenizers/gpt2/encoder.json").read_text("utf-8"))
    assert gpt2().to_json()["model"]["vocab"] == published


def test_the_shipped_file_is_openais() -> None:
    data = gpt2_module._read_vocabulary().encode()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (456_318, gpt2_module.SHA256)


@pytest.mark.parametrize("damage", [b"", b"not xz", lzma.compress(b"#version: 0.2\n")])
def test_a_damaged_shipped_file_is_refused(
    damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vocab.bpe.xz").write_bytes(damage)
    monkeypatch.setattr(gpt2_module, "VOCABULARY", tmp_path / "vocab.bpe.xz")
    with pytest.raises(TokenizerError, match="GPT-2's merges are missing or damaged"):
        gpt2_module.load_gpt2.__wrapped__()


def _texts_of(path: Path, limit: int | None = None) -> Iterator[str]:
    """Everything in a file as text; what is not UTF-8 becomes U+FFFD, which is text as well."""
    data = path.read_bytes()
    if path.suffix == ".zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            whole = [archive.read(name) for name in archive.namelist()]
        whole = whole if limit is None else whole[::20]
    else:
        unpack = {".gz": gzip.decompress, ".xz": lzma.decompress, ".bz2": bz2.decompress}
        whole = [unpack.get(path.suffix, bytes)(data)]
    for content in whole:
        yield content[:limit].decode("utf-8", "replace")
