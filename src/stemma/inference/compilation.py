"""Decoding that is compiled: one program for every position.

A decoding step does little arithmetic in hundreds of small operations. `compiled` makes one program
of it with fixed shapes, which on a GPU is recorded as a CUDA graph and replayed without Python. The
prefill is another program, or none: its operations are large already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.models import Transformer
from stemma.nn import FixedCache, KVCache

Part = Literal["decode", "prefill"]


class CompiledModel:
    """A model whose passes from a cache are compiled; anything else is the model's own.

    Args:
        model: in evaluation mode; its weights are shared, not copied.
        parts: what is compiled.
        options: of ``torch.compile``.
    """

    def __init__(self, model: Transformer, parts: frozenset[Part], options: dict[str, Any]) -> None:
        self.model = model
        self.vocab_size = model.vocab_size
        self.context_length: int | None = model.context_length
        self.head = model.head
        self._decode: Callable[..., Tensor] = self._fixed_pass
        self._prefill: Callable[..., Tensor] = self._fixed_pass
        self._parts = parts
        if "decode" in parts:
            self._decode = torch.compile(self._fixed_pass, dynamic=False, **options)
        if "prefill" in parts:
            prefill = {key: value for key, value in options.items() if key != "mode"}
            self._prefill = torch.compile(self._fixed_pass, dynamic=True, **prefill)

    def next_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """As the model."""
        return self.model.next_log_probs(ids)

    def parameters(self) -> Any:
        """Those of the model."""
        return self.model.parameters()

    def new_cache(self, batch_size: int, *, capacity: int | None = None) -> KVCache:
        """An empty cache; each number of rows and each capacity is a program of its own.

        So that texts of many lengths share a program, the capacity is rounded up to a power of two,
        as far as the context reaches.
        """
        longest = self.model.context_length
        wanted = longest if capacity is None else min(capacity, longest)
        rounded = min(max(1 << (wanted - 1).bit_length(), 16), longest)
        cache = self.model.new_cache(batch_size, capacity=max(rounded, wanted))
        if cache.memory.device.type == "cuda":
            # A recorded program writes to the same place whenever it is replayed.
            torch._dynamo.mark_static_address(cache.memory)
        return cache

    def hidden_states(
        self, ids: Int[Tensor, "batch seq"], *, cache: KVCache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads.

        Raises:
            ModelError: if the ids do not fit into the cache.
        """
        n = ids.shape[1]
        part: Part = "decode" if n == 1 else "prefill"
        if cache is None or part not in self._parts:
            return self.model.hidden_states(ids, cache=cache)
        if cache.length + n > cache.capacity:
            raise ModelError(
                f"the cache holds {cache.capacity} positions; {cache.length} are taken and {n} "
                "more do not fit",
                cure="Make a larger cache, or truncate this one.",
            )
        start = torch.tensor(cache.length, device=cache.memory.device)
        run = self._decode if part == "decode" else self._prefill
        # A slice of a longer text has that text's strides, which would make another program.
        hidden = run(ids.clone(memory_format=torch.contiguous_format), cache.memory, start)
        cache.advance(n)
        # A recorded program overwrites what it returned when it is replayed.
        return hidden.clone() if hidden.device.type == "cuda" else hidden

    def _fixed_pass(self, ids: Tensor, memory: Tensor, start: Tensor) -> Tensor:
        return self.model.hidden_states(ids, cache=FixedCache(memory, start))


def compiled(
    model: nn.Module, *, parts: frozenset[Part] | None = None, **options: Any
) -> CompiledModel:
    """A model that decodes by compiled programs; the first step of each shape compiles.

    Args:
        model: a `Transformer`; it stays as it is.
        parts: ``"decode"``, ``"prefill"`` or both; by default decoding, and on a GPU both.
        options: of ``torch.compile``; on a GPU ``mode="reduce-overhead"`` by default.

    Raises:
        ModelError: if the model is of another kind.
    """
    if not isinstance(model, Transformer):
        raise ModelError(f"{type(model).__name__} cannot be compiled for decoding")
    on_gpu = model.embed.tokens.weight.device.type == "cuda"
    if parts is None:
        parts = frozenset(("decode", "prefill") if on_gpu else ("decode",))
    if on_gpu and "backend" not in options:
        options = {"mode": "reduce-overhead", **options}
    return CompiledModel(model.eval(), parts, {"fullgraph": True, **options})
