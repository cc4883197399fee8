"""Independent tokenizers to compare with, and texts that make tokenizers fail."""

from __future__ import annotations

import base64
import io
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import tiktoken

from stemma.tokenizers import Tokenizer, parallel
from stemma.tokenizers.formats.sentencepiece_model import parse

AWKWARD = [
    "",
    " ",
    "\n",
    "Hello world",
    "don't you'll we've I'm he's she'd they're DON'T 's 'S 'll'll",
    "  two   three    \n\n \t\t tabs\t\n  ends with spaces   ",
    "a\u0301e\u0301\u0327 combining, क्षि, கொ",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽 emoji 🙂🙂",
    "你好，世界。こんにちは、世界！안녕하세요",
    "Ünïcödé ＡＢＣ ½ ² Ⅷ ٣٤٥ 12345,67",
    "\x00\x01\x1c\x1d\x85\x7f\u00a0\u200b\u2028\u3000\ufeff\ufffd",
    "if x:\n    return  y\r\n\r\n\tz = 'q'",
    "<|endoftext|> <|unk|> <|end",
    "\U0010ffff\ue000 \U000e0001",
    "='=== --- ....... !!!!!!!!!!",
]

# Weighted towards what breaks tokenizers: half of all characters are white space or combining.
_POOLS: list[Callable[[random.Random], str]] = [
    lambda r: r.choice(" \t\n\r\v\f\u00a0\u2003\u3000\x85\u2028") * r.randint(1, 6),
    lambda r: r.choice("abcXYZ'’0123456789") * r.randint(1, 3),
    lambda r: r.choice(["'s", "'LL", "'ve", " the", "n't", " '", "''d"]),
    lambda r: "e" + chr(r.randint(0x300, 0x36F)) * r.randint(1, 3),
    lambda r: chr(r.randint(0x1F300, 0x1FAFF)) + r.choice(["", "\u200d", "\ufe0f", "\U0001f3fd"]),
    lambda r: chr(r.randint(0x4E00, 0x9FFF)),
    lambda r: chr(r.randint(0, 0x1F)) + chr(r.randint(0x7F, 0xA0)),
    lambda r: chr(r.choice([r.randint(0, 0xD7FF), r.randint(0xE000, 0x10FFFF)])),
]


def _random_texts(n: int, seed: int) -> Iterator[str]:
    """Strings of 1 to 40 pieces drawn from all of Unicode, the same for the same seed."""
    generator = random.Random(seed)
    for _ in range(n):
        pieces = generator.randint(1, 40)
        yield "".join(generator.choice(_POOLS)(generator) for _ in range(pieces))


@pytest.fixture(scope="session")
def awkward() -> list[str]:
    return AWKWARD


@pytest.fixture(scope="session")
def random_texts() -> Callable[[int, int], Iterator[str]]:
    return _random_texts


@pytest.fixture(scope="session")
def tiktoken_gpt2(mirror: Callable[[str], Path]) -> tiktoken.Encoding:
    """tiktoken's GPT-2, from its own rank file."""
    lines = mirror("tokenizers/tiktoken/r50k_base.tiktoken").read_bytes().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines)}
    return tiktoken.Encoding(
        "gpt2-from-file",
        pat_str=r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": 50256},
    )


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Ids of a text that comes in small pieces, cut wherever a tokenizer knows how."""
    monkeypatch.setattr(parallel, "STREAMED", 5)
    monkeypatch.setattr(parallel, "LEAST_FOR_A_THREAD", 3)

    def encode(tokenizer: Tokenizer, text: str, *, threads: int = 1, **options: Any) -> list[int]:
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        rows = tokenizer.encode_chunks(pieces, threads=threads, **options)
        return [id_ for row in rows for id_ in row.tolist()]

    return encode


@pytest.fixture(scope="session")
def charsmap_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, str]], bytes]:
    """A character map with some rules, made by SentencePiece."""

    def make(rules: dict[str, str]) -> bytes:
        listing = tmp_path_factory.mktemp("rules") / "rules.tsv"
        codes = [[" ".join(f"{ord(c):X}" for c in text) for text in rule] for rule in rules.items()]
        listing.write_text("".join(f"{old}\t{new}\n" for old, new in codes))
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["any text"]),
            model_writer=made,
            vocab_size=12,
            hard_vocab_limit=False,
            normalization_rule_tsv=str(listing),
            minloglevel=9,
        )
        return parse(made.getvalue()).settings.charsmap

    return make
