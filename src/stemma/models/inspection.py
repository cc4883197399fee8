"""A config -> what the model is made of, and what it costs; no weight is needed for that."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from stemma.models.memoryless import without_memory
from stemma.models.transformer import Transformer
from stemma.models.transformer_config import TransformerConfig

BYTES = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5}
"""Bytes of a parameter; the scales of quantised weights come on top (3 to 13 % of it)."""


@dataclass(frozen=True)
class Part:
    """A part of a model, or several alike that follow each other.

    Attributes:
        name: in its whole; of several, the numbers of the first and the last.
        kind: its class.
        shapes: its own parameters, without those of its parts.
        parts: what it consists of.
        n_parameters: of one of them, all parts included; a tied matrix counts where it is first.
        count: how many alike there are.
        tied: whether its matrix is that of the embedding.
    """

    name: str
    kind: str
    shapes: dict[str, tuple[int, ...]]
    parts: tuple[Part, ...]
    n_parameters: int
    count: int = 1
    tied: bool = False


@dataclass(frozen=True)
class Inspection:
    """What a model is made of and what it costs.

    Attributes:
        config: of the model.
        tree: its parts.
        n_parameters: all of them, tied ones counted once.
        n_embedding: those of the embedding and of the head.
        n_active: those that one token uses: all but the experts that it does not go through.
        n_multiplied: those of ``n_active`` that a token is multiplied with: the matrices, without
            the tables that rows are looked up in; a head that is one counts.
        kv_numbers: numbers that the cache keeps of one position; 0 for an encoder.
    """

    config: TransformerConfig
    tree: Part
    n_parameters: int
    n_embedding: int
    n_active: int
    n_multiplied: int
    kv_numbers: int

    def memory(self, dtype: str) -> int:
        """Bytes of the parameters in a precision of `BYTES`."""
        return int(self.n_parameters * BYTES[dtype])

    def cache_bytes(self, n_positions: int, dtype: str = "bfloat16") -> int:
        """Bytes of the keys and values of one text."""
        return int(self.kv_numbers * n_positions * BYTES[dtype])

    def flops_per_token(self, position: int) -> int:
        r"""Floating-point operations of the forward pass for a token of a text that is fed whole.

        :math:`2 N + \sum_l 2\, n_{heads}\, (d_q + d_v)\, T_l`: two for each of the N parameters
        that multiply, and in each layer two each for the products of its queries, of :math:`d_q`
        features a head, with the keys and of the weights with the values, of :math:`d_v`, of the
        :math:`T_l` positions it sees: of a causal model ``position``, counted from 1, and of
        another the whole text, of ``position`` tokens; or the window, if that is less, which
        reaches to both sides where the model is not causal. Norms, softmax and activations are
        left out. Layers with latents are counted as they compute a text, with keys and values.

        Kaplan et al. 2020, arXiv:2001.08361, section 2.1.
        """
        config, local = self.config, self.config.local
        reach = position
        if local is not None:
            reach = min(position, local.window if config.causal else 2 * local.window - 1)
        seen = [
            reach if local is not None and local.holds(i) else position
            for i in range(config.n_layers)
        ]
        attention = config.attention
        sizes = attention.query_size(config.d_model) + attention.value_size(config.d_model)
        return 2 * self.n_multiplied + 2 * attention.n_heads * sizes * sum(seen)

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        context = self.config.context_length
        return {
            "parameters": self.n_parameters,
            "embedding_parameters": self.n_embedding,
            "active_parameters": self.n_active,
            "context_length": context,
            "memory_bytes": {dtype: self.memory(dtype) for dtype in BYTES},
            "flops_per_token": {
                "first": self.flops_per_token(1),
                "full_context": self.flops_per_token(context),
            },
            "kv_cache_bytes_per_token": {
                dtype: self.cache_bytes(1, dtype) for dtype in ("float32", "bfloat16")
            },
            "kv_cache_bytes_full_context": {
                dtype: self.cache_bytes(context, dtype) for dtype in ("float32", "bfloat16")
            },
            "tree": _plain(self.tree),
            "config": self.config.model_dump(mode="json", exclude_none=True),
        }


def inspect_config(config: TransformerConfig) -> Inspection:
    """Build the model without memory and count.

    Args:
        config: of the model; also of one that no machine could hold.
    """
    with without_memory():
        model = Transformer(config)
    tables = {
        id(p)
        for part in model.modules()
        if isinstance(part, nn.Embedding)
        for p in part.parameters()
    }
    head = {id(p) for p in model.head.parameters()}
    n_parameters = model.n_parameters()
    n_active = model.n_parameters(active=True)
    matrices = (p for p in model.parameters() if p.ndim > 1)
    n_met = sum(p.numel() for p in matrices if id(p) not in tables or id(p) in head)
    return Inspection(
        config=config,
        tree=_part("model", model, set()),
        n_parameters=n_parameters,
        n_embedding=n_parameters - model.n_parameters(embeddings=False),
        n_active=n_active,
        n_multiplied=n_met - (n_parameters - n_active),
        kv_numbers=_kv_numbers(model) if config.causal else 0,
    )


def _kv_numbers(model: Transformer) -> int:
    layout = model.cache_layout(torch.float32)
    return layout.bytes_per_position // layout.dtype.itemsize


def _part(name: str, module: nn.Module, seen: set[int]) -> Part:
    own = dict(module.named_parameters(recurse=False))
    tied = bool(own) and all(id(p) in seen for p in own.values())
    n_own = sum(p.numel() for p in own.values() if id(p) not in seen)
    seen.update(id(p) for p in own.values())
    children = [_part(child, part, seen) for child, part in module.named_children()]
    children = [child for child in children if child.n_parameters or child.tied]
    folded = tuple(_folded(children) if isinstance(module, nn.ModuleList) else children)
    return Part(
        name=name,
        kind=type(module).__name__,
        shapes={key: tuple(p.shape) for key, p in own.items()},
        parts=folded,
        n_parameters=n_own + sum(child.n_parameters for child in children),
        tied=tied,
    )


def _folded(parts: list[Part]) -> list[Part]:
    """Parts that are alike but for their number, as one."""
    rows: list[tuple[Part, int]] = []
    for part in parts:
        if rows and replace(part, name="") == replace(rows[-1][0], name=""):
            rows[-1] = (rows[-1][0], rows[-1][1] + 1)
        else:
            rows.append((part, 1))
    return [
        part
        if count == 1
        else replace(part, name=f"{part.name}-{int(part.name) + count - 1}", count=count)
        for part, count in rows
    ]


def _plain(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "kind": part.kind,
        "count": part.count,
        "parameters": part.n_parameters,
        "shapes": {name: list(shape) for name, shape in part.shapes.items()},
        "tied": part.tied,
        "parts": [_plain(inner) for inner in part.parts],
    }
