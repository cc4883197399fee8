"""Models of llama2.c, files ``.bin``: a header of seven numbers, then the weights without names.

Three versions are in use: the first, which has no magic number (a vocabulary below zero says that
the head is a matrix of its own); version 1, the same numbers behind 256 bytes of header; version 2,
whose matrices are 8-bit numbers with a scale for each group of them.

Source: github.com/karpathy/llama2.c, ``export.py``, ``run.c`` and ``runq.c``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from stemma.errors import ConfigError, ModelError
from stemma.hub.assembly import assembled, half_split
from stemma.hub.model_directory import filled
from stemma.hub.weight_files import is_pickle, refuse_pickle
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.tokenizers import Tokenizer, load_tokenizer

MAGIC = b"24ka"  # 0x616b3432, "ak42" as a number, in the order of its bytes in the file
_HEADER_BYTES = 256
_NUMBERS = struct.Struct("<7i")
_CONSTANT = {"rms_norm_eps": 1e-5, "rope_theta": 10_000.0, "hidden_act": "silu"}
"""What ``run.c`` has in its code."""

_LAYER = "model.layers.{}."
_NAMES = {
    "embedding": "model.embed_tokens.weight",
    "norm1": _LAYER + "input_layernorm.weight",
    "norm2": _LAYER + "post_attention_layernorm.weight",
    "q": _LAYER + "self_attn.q_proj.weight",
    "k": _LAYER + "self_attn.k_proj.weight",
    "v": _LAYER + "self_attn.v_proj.weight",
    "o": _LAYER + "self_attn.o_proj.weight",
    "gate": _LAYER + "mlp.gate_proj.weight",
    "down": _LAYER + "mlp.down_proj.weight",
    "up": _LAYER + "mlp.up_proj.weight",
    "norm": "model.norm.weight",
    "head": "lm_head.weight",
}
_MATRICES = ("q", "k", "v", "o")
_FIRST_ORDER = (
    "embedding", "norm1", *_MATRICES, "norm2", "gate", "down", "up", "norm", "angles", "head",
)  # fmt: skip
_ORDER = ("norm1", "norm2", "norm", "embedding", *_MATRICES, "gate", "down", "up", "head")


@dataclass(frozen=True)
class Header:
    """What a file says of its model.

    Attributes:
        version: 0, 1 or 2.
        d_model: size of the hidden states.
        d_ff: size of the feed-forward's inner states.
        n_layers: number of layers.
        n_heads: number of heads.
        n_kv_heads: number of heads of keys and values.
        vocab_size: number of ids.
        context_length: the longest text, in tokens.
        tied: whether the head is the embedding.
        group: how many numbers share a scale in version 2.
    """

    version: int
    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    vocab_size: int
    context_length: int
    tied: bool
    group: int = 0

    @property
    def order(self) -> list[str]:
        """The parts of the file, in turn."""
        order = _ORDER if self.version else _FIRST_ORDER
        return [part for part in order if part != "head" or not self.tied]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Part -> shape; ``angles`` are cosines and sines that nobody reads any more."""
        d, kv = self.d_model, self.d_model // self.n_heads * self.n_kv_heads
        return {
            **dict.fromkeys(("embedding", "head"), (self.vocab_size, d)),
            **dict.fromkeys(("norm1", "norm2", "norm"), (d,)),
            **dict.fromkeys(("q", "o"), (d, d)),
            **dict.fromkeys(("k", "v"), (kv, d)),
            **dict.fromkeys(("gate", "up"), (self.d_ff, d)),
            "down": (d, self.d_ff),
            "angles": (self.context_length, d // self.n_heads),
        }

    def n_bytes(self, part: str) -> int:
        """The length of one tensor of a part."""
        shape = self.shapes[part]
        n = int(np.prod(shape, dtype=object))
        return n + 4 * (n // self.group) if self.group and len(shape) == 2 else 4 * n

    @property
    def file_bytes(self) -> int:
        """How long the file must be."""
        start = _HEADER_BYTES if self.version else _NUMBERS.size
        return start + sum(self.n_bytes(part) * self._n_of(part) for part in self.order)

    def places(self) -> Iterator[tuple[str, tuple[int, ...], int]]:
        """Hugging Face's name, the shape and the first byte of each tensor."""
        at = _HEADER_BYTES if self.version else _NUMBERS.size
        for part in self.order:
            for i in range(self._n_of(part)):
                if part != "angles":
                    yield _NAMES[part].format(i), self.shapes[part], at
                at += self.n_bytes(part)

    def _n_of(self, part: str) -> int:
        return self.n_layers if _LAYER in _NAMES.get(part, "") else 1

    def config_json(self) -> dict[str, Any]:
        """The same in the words of ``config.json``."""
        return {
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context_length,
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.n_layers,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "tie_word_embeddings": self.tied,
            **_CONSTANT,
        }


def read_header(path: Path) -> Header:
    """What a file says of its model; it has the length that follows from it.

    Raises:
        ModelError: if it cannot be read, is a pickle, or is no file of llama2.c.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEADER_BYTES)
        size = path.stat().st_size
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path)) from None
    if is_pickle(path):
        raise refuse_pickle(path)
    if len(data) < _HEADER_BYTES:
        raise _not_llama2c(path, f"it has {size} bytes, which no model fits into")
    header = _parsed(data, path)
    wrong = [name for name, value in vars(header).items() if name in _POSITIVE and value < 1]
    if wrong:
        raise _not_llama2c(path, f"its header says {wrong[0]} = {getattr(header, wrong[0])}")
    if header.d_model % header.n_heads or header.n_heads % header.n_kv_heads:
        heads = f"{header.n_heads} heads, {header.n_kv_heads} of keys"
        raise _not_llama2c(path, f"its header says {heads}, and {header.d_model} features")
    if header.version == 2 and (header.d_model % header.group or header.d_ff % header.group):
        raise _not_llama2c(path, f"its header says groups of {header.group}")
    if header.file_bytes != size:
        said = f"its header announces {header.file_bytes:,} bytes, and there are {size:,}"
        raise _not_llama2c(path, said)
    return header


def load_llama2c(
    path: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Transformer:
    """Read the model of a ``.bin`` of llama2.c, tensor by tensor.

    Args:
        path: the file.
        dtype: of the parameters; float32 by default.
        device: where they are put.

    Raises:
        ModelError: if the file cannot be read, is damaged, or is something else: a pickle, say.
    """
    path = Path(path)
    header = read_header(path)
    family = FAMILIES["llama"]
    weights = Llama2cWeights(path, header, dtype or torch.float32, torch.device(device))
    try:
        config: TransformerConfig = family.read_config(header.config_json())
        return filled(config, family.translate(config, weights, copy=False), dtype)
    except (ConfigError, ModelError) as error:
        raise ModelError(error.what, where=str(path), cure=error.cure) from None


def tokenizer_beside(path: Path) -> Tokenizer:
    """The tokenizer of a ``.bin``: ``tok512.bin`` for a model of 512 ids, or ``tokenizer.bin``.

    Raises:
        ModelError: if there is none, or it is of another size than the model.
        TokenizerError: if it is damaged.
    """
    vocab_size = read_header(path).vocab_size
    names = (f"tok{vocab_size}.bin", "tokenizer.bin")
    found = next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)
    if found is None:
        raise ModelError(
            f"has no tokenizer beside it: neither {' nor '.join(names)}",
            where=str(path),
            cure="Put the one there that the model was trained with.",
        )
    tokenizer = load_tokenizer(found)
    if tokenizer.vocab_size != vocab_size:
        raise ModelError(
            f"has {tokenizer.vocab_size:,} ids, the model {vocab_size:,}",
            where=str(found),
            cure=f"Put the model's own beside it, as {names[0]} if need be.",
        )
    return tokenizer


class _Place(NamedTuple):
    shape: tuple[int, ...]
    start: int


class Llama2cWeights(Mapping[str, Tensor]):
    """Hugging Face's name -> tensor, read from the file when it is asked for, and not kept.

    Args:
        path: the file.
        header: what it says of its model.
        dtype: what the numbers are turned into.
        device: where the tensors are put.
    """

    def __init__(
        self, path: Path, header: Header, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._path = path
        self._header = header
        self._dtype = dtype
        self._device = device
        self._places = {name: _Place(shape, start) for name, shape, start in header.places()}

    def __getitem__(self, name: str) -> Tensor:
        place = self._places[name]
        read = self._plain if len(place.shape) == 1 or not self._header.group else self._groups
        tensor = assembled(place.shape, self._dtype, self._device, lambda *rows: read(place, *rows))
        heads = {"q_proj": self._header.n_heads, "k_proj": self._header.n_kv_heads}
        part = name.split(".")[-2]
        return half_split(tensor, heads[part]) if part in heads else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _plain(self, place: _Place, first: int, end: int) -> Tensor:
        row = place.shape[-1]
        return self._numbers("<f4", place.start + 4 * row * first, row * (end - first))

    def _groups(self, place: _Place, first: int, end: int) -> Tensor:
        row, group = place.shape[-1], self._header.group
        n = row * (end - first)
        scales_at = place.start + place.shape[0] * row + 4 * (first * row // group)
        numbers = self._numbers("<i1", place.start + first * row, n)
        scales = self._numbers("<f4", scales_at, n // group)
        if not bool((torch.isfinite(scales) & (scales >= 0)).all()):
            raise ModelError("its scales are no scales: it is damaged, or of an early version 2")
        return numbers.float().reshape(-1, group) * scales[:, None]

    def _numbers(self, kind: str, start: int, n: int) -> Tensor:
        found = np.fromfile(self._path, kind, count=n, offset=start)
        if found.size < n:
            raise ModelError("became shorter while it was read")
        return torch.from_numpy(found)


_POSITIVE = ("d_model", "d_ff", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "context_length")


def _parsed(data: bytes, path: Path) -> Header:
    if not data.startswith(MAGIC):
        numbers = dict(zip(_POSITIVE, _NUMBERS.unpack_from(data), strict=True))
        tied = numbers["vocab_size"] > 0
        numbers["vocab_size"] = abs(numbers["vocab_size"])
        return Header(version=0, tied=tied, **numbers)
    (version,) = struct.unpack_from("<i", data, 4)
    if version not in (1, 2):
        raise _not_llama2c(path, f"it is of version {version}; there is 1 and 2")
    numbers = dict(zip(_POSITIVE, _NUMBERS.unpack_from(data, 8), strict=True))
    at = 8 + _NUMBERS.size
    group = struct.unpack_from("<i", data, at + 1)[0] if version == 2 else 0
    if version == 2 and group < 1:
        raise _not_llama2c(path, f"its header says groups of {group}")
    return Header(version=version, tied=bool(data[at]), group=group, **numbers)


def _not_llama2c(path: Path, why: str) -> ModelError:
    return ModelError(
        f"is not a model of llama2.c, or is damaged: {why}",
        where=str(path),
        cure="Copy or download it again. A checkpoint of PyTorch's is never opened, as it can run "
        "any code: have `transformers` write it as safetensors.",
    )
