"""Fuzz what reads models: whatever a file holds, only a `StemmaError` may come out.

Each format is mutated from small files that stemma and transformers write, guided by coverage; a
model that can be read is also run. One run may take 8 GiB of addresses, of which torch itself takes
the most, and 10 seconds of the processor. Run:

    pip install atheris
    python scripts/fuzz_models.py all --seconds 600 --findings findings

Every new kind of failure (exception and place) is printed, and its file kept in `--findings`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris
import fuzzing
import torch
from fuzzing import packed, read_directory

with atheris.instrument_imports(include=["stemma.hub", "stemma.models"]):
    from stemma.hub import (  # noqa: F401 - to be watched
        export_gguf,
        load_model,
        model_directory,
        opening,
        read_manners,
        save_model,
        weight_files,
    )
    from stemma.hub.gguf_model import load_gguf
    from stemma.hub.llama2c_model import load_llama2c

from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig, RotaryConfig
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer

MEMORY_BYTES = 8 << 30
TOKENIZER = ByteLevelBPE.train(["a cat"], 257, special_tokens=["<|endoftext|>"])
SIZE: dict[str, Any] = {"vocab_size": 260, "context_length": 8, "d_model": 4, "n_layers": 1}
NORM = RMSNormConfig()
LLAMA: dict[str, Any] = {
    **SIZE,
    "feedforward": GatedMLPConfig(d_ff=4),
    "norm": NORM,
    "position": RotaryConfig(),
}
PLAIN = AttentionConfig(n_heads=2, n_kv_heads=1, bias=False)
CONFIGS = {
    "gpt2": TransformerConfig(**SIZE, attention=AttentionConfig(n_heads=2)),
    "llama": TransformerConfig(**LLAMA, attention=PLAIN),
    "qwen2": TransformerConfig(**LLAMA, attention=PLAIN.replace(bias="qkv")),
    "qwen3": TransformerConfig(**LLAMA, attention=PLAIN.replace(qk_norm=NORM)),
}
ODD_VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 2**31, 2**63, 10**40, 1e308, 1e-308, float("nan"), 0.5),
    *("", "llama", "mistral", "yarn", "linear", "llama3", "default", [], {}, [[]], [0, ""]),
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4},
    {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 4},
]
_fixed: dict[str, bytes] = {}


def directory_of(family: str, folder: Path) -> dict[str, bytes]:
    """The files of a small random model."""
    torch.manual_seed(0)
    place = save_model(Transformer(CONFIGS[family]), ByteTokenizer(), folder / family)
    return {name: (place / name).read_bytes() for name in ("config.json", "model.safetensors")}


def of_directories(folder: Path) -> list[bytes]:
    """Single files of safetensors, with their configurations."""
    return [packed(directory_of(family, folder)) for family in CONFIGS]


def of_shards(folder: Path) -> list[bytes]:
    """Two files of safetensors and their index."""
    from safetensors.torch import load, save

    files = directory_of("llama", folder)
    tensors = load(files.pop("model.safetensors"))
    names = ["first.safetensors", "second.safetensors"]
    places = {name: names[i % 2] for i, name in enumerate(tensors)}
    for file in names:
        files[file] = save({name: tensors[name] for name in tensors if places[name] == file})
    files["model.safetensors.index.json"] = json.dumps({"weight_map": places}).encode()
    return [packed(files)]


def of_configs(folder: Path) -> list[bytes]:
    """Configurations; the weights stay as they are."""
    found = []
    for family in CONFIGS:
        files = directory_of(family, folder)
        _fixed[family] = files["model.safetensors"]
        found.append(files["config.json"])
    return found


def of_gguf(folder: Path) -> list[bytes]:
    """Files of several architectures and types."""
    found = []
    for family, config in CONFIGS.items():
        for dtype in ("f32", "f16"):
            path = folder / f"{family}-{dtype}.gguf"
            export_gguf(Transformer(config), TOKENIZER, path, dtype=dtype)
            found.append(path.read_bytes())
    return found


def of_llama2c(folder: Path) -> list[bytes]:
    """The three versions of llama2.c's files, of random numbers."""
    del folder
    import struct

    d, d_ff, n_layers, n_heads, vocab_size, context = 8, 8, 1, 2, 12, 4
    sizes = [d, d_ff, n_layers, n_heads, n_heads, vocab_size, context]
    matrices = [vocab_size * d, *[d * d] * 4, *[d * d_ff] * 3]
    norms = d * (2 * n_layers + 1)
    first = struct.pack("<7i", *sizes)
    later = [struct.pack("<Ii7iBi", 0x616B3432, v, *sizes, 1, 4).ljust(256, b"\0") for v in (1, 2)]
    plain = bytes(4 * (norms + sum(matrices)))
    return [
        first + bytes(4 * context * d // n_heads) + plain,
        later[0] + plain,
        later[1] + bytes(4 * norms + 2 * sum(matrices)),
    ]


def run(model: Transformer) -> None:
    """Whatever could be read must work."""
    if model.vocab_size > 1 << 20:
        return
    with torch.no_grad():
        model(torch.zeros(1, min(2, model.config.context_length), dtype=torch.long))


def load_directory(data: bytes, folder: Path) -> None:
    """A directory; what stands around its weights is read as well."""
    place = read_directory(data, folder)
    run(load_model(place))
    read_manners(place, TOKENIZER)
    opening.find_model(place)


def load_config(data: bytes, folder: Path) -> None:
    """A configuration in front of weights of its family."""
    (folder / "config.json").write_bytes(data)
    try:
        family = json.loads(data).get("model_type")
    except (ValueError, AttributeError, RecursionError):
        family = None
    weights = _fixed.get(family if isinstance(family, str) else "", _fixed["llama"])
    (folder / "model.safetensors").write_bytes(weights)
    run(load_model(folder))


def load_gguf_file(data: bytes, folder: Path) -> None:
    """A GGUF file."""
    path = folder / "m.gguf"
    path.write_bytes(data)
    run(load_gguf(path))
    read_manners(path, TOKENIZER)


def load_llama2c_file(data: bytes, folder: Path) -> None:
    """A file of llama2.c."""
    path = folder / "m.bin"
    path.write_bytes(data)
    run(load_llama2c(path))


FORMATS: dict[str, tuple[Callable[[bytes, Path], None], Callable[[Path], list[bytes]]]] = {
    "safetensors": (load_directory, of_directories),
    "shards": (load_directory, of_shards),
    "config": (load_config, of_configs),
    "gguf": (load_gguf_file, of_gguf),
    "llama2c": (load_llama2c_file, of_llama2c),
}


def fuzz_one(name: str, arguments: argparse.Namespace) -> None:
    """Fuzz one format."""
    fuzzing.fuzz(
        name,
        *FORMATS[name],
        arguments,
        memory_bytes=MEMORY_BYTES,
        odd_values=ODD_VALUES if name == "config" else None,
    )


if __name__ == "__main__":
    fuzzing.run(__file__, __doc__.splitlines()[0], list(FORMATS), fuzz_one)
