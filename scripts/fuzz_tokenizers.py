"""Fuzz what reads tokenizers: whatever a file holds, only a `StemmaError` may come out.

Each format is mutated from small files that stemma itself writes (and from those in `--seeds`),
guided by coverage; what can be read is also used: encoded with, decoded, saved and read
again, which must give the same ids, as the kernels must. One run may take 2 GiB and 10 seconds
of the processor. Run:

    pip install atheris
    python scripts/fuzz_tokenizers.py all --seconds 600 --findings findings

Every new kind of failure (exception and place) is printed, and its file kept in `--findings`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import fuzzing
from fuzzing import packed, read_directory

from stemma import tokenizers as package
from stemma.tokenizers import kernels

LEFT_OUT = ("kernels", "view", "commands")
COMPILED = {f"{kernels.__name__}.{found.name}" for found in pkgutil.iter_modules(kernels.__path__)}

_kernels_are_on = False
kernels.worth = lambda _: _kernels_are_on  # before others import it

with atheris.instrument_imports(include=["stemma"], exclude=COMPILED):
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.split(".")[2] not in LEFT_OUT:
            importlib.import_module(found.name)

from gguf import GGUFWriter  # noqa: E402 - what is to be watched is imported first

from stemma.errors import StemmaError  # noqa: E402
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER, to_visible  # noqa: E402
from stemma.tokenizers.bpe.byte_level import ByteLevelBPE  # noqa: E402
from stemma.tokenizers.bpe.graphemes import GraphemeBPE  # noqa: E402
from stemma.tokenizers.character import CharacterTokenizer  # noqa: E402
from stemma.tokenizers.chat.template import CHATML, ChatTemplate  # noqa: E402
from stemma.tokenizers.formats import gguf_write, llama2c, sentencepiece_model  # noqa: E402
from stemma.tokenizers.formats.tiktoken import load_tiktoken, write_tiktoken  # noqa: E402
from stemma.tokenizers.load import load_tokenizer  # noqa: E402
from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE  # noqa: E402
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings  # noqa: E402
from stemma.tokenizers.tokenizer import Tokenizer  # noqa: E402
from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer  # noqa: E402
from stemma.tokenizers.word import WordTokenizer  # noqa: E402
from stemma.tokenizers.wordpiece.tokenizer import WordPiece  # noqa: E402

MEMORY_BYTES = 2 << 30
TEXTS = ("", " The cat, 12\n 345  e\u0301", "\u4f60\u597d\U0001f642<|endoftext|></s> a", "ab" * 200)
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
ODD_VALUES: list[Any] = [
    *({"type": name} for name in ("NFC", "Nmt", "Whitespace", "ByteFallback", "Fuse", "ByteLevel")),
    {"type": "Split", "pattern": {"Regex": "\\s+|."}, "behavior": "Isolated", "invert": False},
    {"type": "Replace", "pattern": {"String": "a"}, "content": "bb"},
    {"type": "Prepend", "prepend": "\u2581"},
    {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": True},
    {"type": "Digits", "individual_digits": True},
    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    *(None, True, -1, 0, 2**31, 2**63, 1e308, float("nan"), 0.5),
    *("", "\ud800", "\u2581", "a" * 300, "\\p{L}+|(a*)*b", [], {}, [[]], [0, ""]),
]


def tokenizers() -> dict[str, Tokenizer]:
    """A small tokenizer of each family."""
    text = ["the cat sat on the mat, and the cat ate 12 of 345 rats", "\u4f60\u597d e\u0301"]
    letters = [Piece(c, -9.0 - i) for i, c in enumerate("\u2581thecasonmr")]
    longer = [Piece(word, -float(i)) for i, word in enumerate(("\u2581t", "he", "\u2581the", "at"))]
    special = [
        Piece("<unk>", 0.0, Kind.UNKNOWN),
        Piece("<s>", 0.0, Kind.CONTROL),
        Piece("</s>", 0.0, Kind.CONTROL),
    ]
    raw = [Piece(f"<0x{value:02X}>", 0.0, Kind.BYTE) for value in range(256)]
    with_bytes = [*special, *raw, *longer, *letters]
    return {
        "bpe": ByteLevelBPE.train(text, 270, allow_fewer=True),
        "graphemes": GraphemeBPE.train(text, 300, allow_fewer=True),
        "characters": CharacterTokenizer.train(text),
        "words": WordTokenizer.train(text),
        "wordpiece": WordPiece.train(text, 60, allow_fewer=True),
        "unigram": UnigramTokenizer([*special, *longer, *letters], SentencePieceSettings()),
        "llama": SentencePieceBPE(with_bytes, llama2c.SETTINGS),
    }


def write_gguf(tokenizer: Tokenizer, path: Path) -> None:
    """A GGUF file that holds a tokenizer and nothing else."""
    writer = GGUFWriter(path, "llama")
    gguf_write.write_vocabulary(writer, tokenizer, chat_template=CHATML)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Format -> files that stemma reads; ``folder`` is for writing them."""
    made = tokenizers()
    found: dict[str, list[bytes]] = {name: [] for name in FORMATS}
    for name, tokenizer in made.items():
        files = tokenizer.save(folder / name)
        found["directory"].append(packed({f.name: f.read_bytes() for f in files.iterdir()}))
        found["json"].append((files / "tokenizer.json").read_bytes())
        if name in ("bpe", "wordpiece", "unigram", "llama"):
            path = folder / "one.gguf"
            path.unlink(missing_ok=True)
            write_gguf(tokenizer, path)
            found["gguf"].append(path.read_bytes())
    found["model"] = [sentencepiece_model.serialize(made[name]) for name in ("unigram", "llama")]
    found["llama2c"] = [llama2c.serialize(made["llama"])]
    found["tiktoken"] = [write_tiktoken(made["bpe"], folder / "ranks").read_bytes()]
    merges = b"#version: 0.2\nt h\nth e\n"
    letters = {character: i for i, character in enumerate(to_visible(BYTE_ORDER))}
    pairs = json.dumps(letters | {"th": 256, "the": 257}).encode()
    found["directory"] += [
        packed({"encoder.json": pairs, "vocab.bpe": merges}),
        packed({"vocab.json": pairs, "merges.txt": merges, "added_tokens.json": b'{"<s>": 258}'}),
        packed(
            {"vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n##s\n", "tokenizer_config.json": b"{}"}
        ),
    ]
    several = b'{"chat_template": [{"name": "default", "template": "{{ bos_token }}"}]}'
    found["chat"] = [
        packed({"chat_template.jinja": CHATML.encode(), "tokenizer_config.json": b"{}"}),
        packed({"tokenizer_config.json": several}),
        packed({"chat_template.json": b'{"chat_template": "{{ messages[0].content }}"}'}),
        *found["gguf"],
    ]
    return found


def read_file(data: bytes, folder: Path) -> Path:
    """The file ``tokenizer.json`` or any other, told by its content."""
    path = folder / ("tokenizer.json" if data[:1] == b"{" else "tokenizer")
    path.write_bytes(data)
    return path


def use(tokenizer: Tokenizer, folder: Path) -> None:
    """Whatever could be read must work, and be the same when written and read again."""
    _switch_kernels(on=False)
    rows = [encoded(tokenizer, text) for text in TEXTS]
    again = load_tokenizer(tokenizer.save(folder / "saved"))
    if [encoded(again, text) for text in TEXTS] != rows:
        raise AssertionError("gives other ids once it is written and read again")
    _switch_kernels(on=True)
    if [encoded(tokenizer, text) for text in TEXTS] != rows:
        raise AssertionError("the kernels give other ids")


def _switch_kernels(*, on: bool) -> None:
    global _kernels_are_on  # noqa: PLW0603
    _kernels_are_on = on


def encoded(tokenizer: Tokenizer, text: str) -> list[int] | None:
    """Ids of a text, none if it cannot be spelled; decodes them as well."""
    try:
        ids = tokenizer.encode(text, add_special_tokens=True).tolist()
        tokenizer.encode_with_offsets(text, allowed_special="all")
        tokenizer.decode(ids)
    except StemmaError:
        return None
    return ids


def load(data: bytes, folder: Path) -> None:
    """One file."""
    use(load_tokenizer(read_file(data, folder)), folder)


def load_several(data: bytes, folder: Path) -> None:
    """A directory of several files."""
    use(load_tokenizer(read_directory(data, folder)), folder)


def load_ranks(data: bytes, folder: Path) -> None:
    """A rank file, with what it does not say."""
    use(load_tiktoken(read_file(data, folder), pattern="gpt2"), folder)


def load_chat(data: bytes, folder: Path) -> None:
    """A chat template, and a conversation by it."""
    read = read_file if data.startswith(b"GGUF") else read_directory
    ChatTemplate.from_file(read(data, folder)).render(MESSAGES)


FORMATS: dict[str, Callable[[bytes, Path], None]] = {
    "json": load,
    "tiktoken": load_ranks,
    "model": load,
    "gguf": load,
    "llama2c": load,
    "directory": load_several,
    "chat": load_chat,
}


def fuzz_one(name: str, arguments: argparse.Namespace) -> None:
    """Fuzz one format."""
    fuzzing.fuzz(
        name,
        FORMATS[name],
        lambda folder: seeds(folder)[name],
        arguments,
        memory_bytes=MEMORY_BYTES,
        odd_values=ODD_VALUES if name == "json" else None,
    )


if __name__ == "__main__":
    fuzzing.run(__file__, __doc__.splitlines()[0], list(FORMATS), fuzz_one)
