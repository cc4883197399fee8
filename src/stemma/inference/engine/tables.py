"""A model -> the tables that the kernels read: addresses of its weights, and its numbers.

Matrices stay where the model has them, so what changes them in place changes what is computed; of
norms and biases, which are small, there are copies in float32.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stemma.inference.kernels import layout
from stemma.inference.quantisation import QuantisedLinear
from stemma.models import Transformer
from stemma.nn import ACTIVATIONS, GatedMLP, LayerNorm, RMSNorm

KINDS = {
    torch.float32: layout.FLOAT32,
    torch.bfloat16: layout.BFLOAT16,
    "int8": layout.INT8,
    "int4": layout.INT4,
}
"""What weights and caches are to the kernels."""

_ACTIVATIONS = {
    "gelu": layout.GELU,
    "gelu_tanh": layout.GELU_TANH,
    "silu": layout.SILU,
    "relu": layout.RELU,
    "relu2": layout.RELU2,
    "sigmoid": layout.SIGMOID,
    "identity": layout.IDENTITY,
}


class Tables(NamedTuple):
    """What the kernels are told of a model.

    Attributes:
        plan: its numbers.
        linears: of the layers' linear maps.
        head: of the output head.
        norms: of the layers' norms.
        n_bytes: memory of all matrices.
        kept: what holds the memory whose addresses stand in the tables, whatever becomes of the
            parameters.
        places: each matrix and where it was.
    """

    plan: layout.Plan
    linears: NDArray[np.int64]
    head: NDArray[np.int64]
    norms: NDArray[np.int64]
    n_bytes: int
    kept: list[Tensor]
    places: list[tuple[Tensor, int]]

    def are_current(self) -> bool:
        """Whether all matrices are still where they were."""
        return all(matrix.data_ptr() == place for matrix, place in self.places)


def tables_of(model: Transformer) -> Tables:
    """The tables of a model that the engine can serve."""
    kept: list[Tensor] = []
    places: list[tuple[Tensor, int]] = []
    n_layers = len(model.blocks)
    linears = np.zeros((n_layers, layout.N_LINEAR, layout.N_FIELDS), np.int64)
    norms = np.zeros((n_layers + 1, layout.N_NORMS, 2), np.int64)
    for i, block in enumerate(_blocks(model)):
        for part, linear in _linears(block).items():
            linears[i, part] = _linear(linear, kept, places)
        for part, norm in _norms(block).items():
            norms[i, part] = _norm(norm, kept)
    norms[n_layers, layout.FINAL] = _norm(cast("RMSNorm", model.final_norm), kept)
    head = _linear(cast("nn.Linear", model.head), kept, places)
    n_bytes = sum(tensor.nbytes for tensor in kept)
    return Tables(_plan(model), linears, head, norms, n_bytes, kept, places)


def _blocks(model: Transformer) -> list[Any]:
    return list(model.blocks)


def _linears(block: Any) -> dict[int, Any]:
    attention, feedforward = block.attention, block.feedforward
    found = {
        layout.QUERY: attention.q_proj,
        layout.KEY: attention.k_proj,
        layout.VALUE: attention.v_proj,
        layout.OUT: attention.o_proj,
        layout.UP: feedforward.up_proj,
        layout.DOWN: feedforward.down_proj,
    }
    if isinstance(feedforward, GatedMLP):
        found[layout.GATE] = feedforward.gate_proj
    return found


def _norms(block: Any) -> dict[int, Any]:
    found = {
        layout.BEFORE_ATTENTION: block.norm1,
        layout.BEFORE_FEEDFORWARD: block.norm2,
        layout.OF_QUERIES: block.attention.q_norm,
        layout.OF_KEYS: block.attention.k_norm,
    }
    return {part: norm for part, norm in found.items() if norm is not None}


def _linear(
    linear: nn.Linear | QuantisedLinear, kept: list[Tensor], places: list[tuple[Tensor, int]]
) -> NDArray[np.int64]:
    row = np.zeros(layout.N_FIELDS, np.int64)
    if isinstance(linear, QuantisedLinear):
        weight, kind = linear.values, KINDS[linear.bits]
        scales = linear.scales.to(torch.float32 if linear.bits == "int8" else torch.bfloat16)
        kept.append(scales)
        row[layout.SCALE] = scales.data_ptr()
        row[layout.N_IN] = linear.in_features
    else:
        weight = linear.weight
        kind = KINDS[weight.dtype]
        row[layout.N_IN] = weight.shape[1]
    held = weight.detach()  # the memory, and not the parameter, whose memory may be replaced
    kept.append(held)
    places.append((weight, held.data_ptr()))
    row[layout.WEIGHT], row[layout.KIND], row[layout.N_OUT] = held.data_ptr(), kind, len(held)
    row[layout.BIAS] = _floats(linear.bias, kept)
    return row


def _norm(norm: LayerNorm | RMSNorm, kept: list[Tensor]) -> list[int]:
    return [_floats(norm.weight, kept), _floats(getattr(norm, "bias", None), kept)]


def _floats(vector: Tensor | None, kept: list[Tensor]) -> int:
    """The address of a vector in float32, 0 if there is none."""
    if vector is None:
        return 0
    wide = vector.detach().float().contiguous()
    kept.append(wide)
    return wide.data_ptr()


def _plan(model: Transformer) -> layout.Plan:
    config = model.config
    block = _blocks(model)[0]
    attention, feedforward, qk_norm = block.attention, block.feedforward, block.attention.q_norm
    name = next(name for name, f in ACTIVATIONS.items() if f is feedforward.activation)
    return layout.Plan(
        n_layers=config.n_layers,
        d_model=config.d_model,
        d_ff=feedforward.down_proj.in_features,
        n_heads=attention.n_heads,
        n_kv_heads=attention.n_kv_heads,
        d_head=attention.d_head,
        activation=_ACTIVATIONS[name],
        gated=int(isinstance(feedforward, GatedMLP)),
        rotated=int(model.whole.rotary is not None),
        cache_kind=layout.FLOAT32,
        norm_is_rms=int(isinstance(block.norm1, RMSNorm)),
        norm_eps=block.norm1.eps,
        qk_norm_is_rms=int(isinstance(qk_norm, RMSNorm)),
        qk_norm_eps=0.0 if qk_norm is None else qk_norm.eps,
        residual=int(config.residual),
    )
