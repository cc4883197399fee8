"""A saved tokenizer is whole, or it is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer, Tokenizer, load_tokenizer

TOKENIZER = ByteLevelBPE.train(["ab abc abcd " * 3], 261)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return TOKENIZER.save(tmp_path / "tokenizer")


def test_the_checksum_is_one_that_sha256sum_can_check(saved: Path) -> None:
    expected = hashlib.sha256((saved / "tokenizer.json").read_bytes()).hexdigest()
    assert (saved / "tokenizer.json.sha256").read_text() == f"{expected}  tokenizer.json\n"
    assert sorted(path.name for path in saved.iterdir()) == (
        ["tokenizer.json", "tokenizer.json.sha256", "tokenizer_config.json"]
    )


@pytest.mark.parametrize("target", ["", "tokenizer.json"])
def test_a_changed_letter_is_noticed(saved: Path, target: str) -> None:
    path = saved / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"a b"', '"b a"'), "utf-8")
    with pytest.raises(TokenizerError, match="is damaged: its sha256") as caught:
        load_tokenizer(saved / target)
    assert "delete tokenizer.json.sha256" in str(caught.value)


@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_no_changed_byte_gets_through(
    at: int, flip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = TOKENIZER.save(tmp_path_factory.mktemp("t"))
    path = directory / "tokenizer.json"
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= flip
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match="is damaged"):
        load_tokenizer(directory)


@given(keep=st.integers(1, 5000))
def test_a_cut_file_from_elsewhere_is_refused(
    keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "tokenizer.json"
    data = json.dumps(TOKENIZER.to_json()).encode()
    path.write_bytes(data[: min(keep, len(data) - 1)])
    with pytest.raises(TokenizerError, match="damaged or not JSON"):
        load_tokenizer(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{\xff\xfe", "damaged or not JSON"),
        (b'{"a": ' + b"[" * 100_000, "damaged or not JSON"),
        (b'{"model": 1, "model": 2}', "'model' is listed twice"),
        (b'{"model": {"vocab": {"a": 1, "b": 2, "a": 3}}}', "'a' is listed twice"),
        (b"{}", "has no model"),
    ],
)
def test_files_that_are_no_tokenizer(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(data)
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(path)


def test_a_file_without_a_checksum_opens(saved: Path) -> None:
    (saved / "tokenizer.json.sha256").unlink()
    assert load_tokenizer(saved).fingerprint == TOKENIZER.fingerprint


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / "tokenizer.json"):
        with pytest.raises(TokenizerError, match="there is no tokenizer here"):
            load_tokenizer(path)


def test_another_tokenizer_is_not_overwritten_unless_asked(saved: Path) -> None:
    TOKENIZER.save(saved)  # the same one: nothing is lost
    with pytest.raises(TokenizerError, match="another tokenizer here"):
        ByteTokenizer().save(saved)
    assert load_tokenizer(saved).fingerprint == TOKENIZER.fingerprint
    ByteTokenizer().save(saved, overwrite=True)
    assert load_tokenizer(saved).fingerprint == ByteTokenizer().fingerprint


def test_a_full_disk_is_reported_and_leaves_no_part_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("stemma.tokenizers.files.os.fsync", no_space)
    with pytest.raises(TokenizerError, match="cannot be written: No space left on device"):
        TOKENIZER.save(tmp_path / "t")
    assert list((tmp_path / "t").iterdir()) == []


def test_a_class_reads_only_its_own(saved: Path) -> None:
    assert isinstance(ByteLevelBPE.from_file(saved), ByteLevelBPE)
    assert Tokenizer.from_file(saved).fingerprint == TOKENIZER.fingerprint
    with pytest.raises(TokenizerError, match="holds a ByteLevelBPE, not a ByteTokenizer"):
        ByteTokenizer.from_file(saved)


@pytest.mark.parametrize("half", ["\\uD800", "\\ud800"])
def test_half_a_surrogate_pair_is_refused_wherever_it_stands(half: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(f'{{"model": {{"type": "GraphemeBPE", "patterns": ["🙂 {half}"]}}}}', "utf-8")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: holds a lone surrogate, U\+D800"):
        load_tokenizer(path)
