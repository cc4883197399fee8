"""A `Transformer` that is asked through compiled code wherever few positions are new."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.engine.fitness import DTYPES, obstacle
from stemma.inference.engine.large_pages import settle
from stemma.inference.engine.places import Place, ServedCache, check_places, memory_of, place_of
from stemma.inference.engine.tables import KINDS, Tables, tables_of
from stemma.inference.engine.team import team
from stemma.inference.kernels import layout
from stemma.inference.kernels.step import apply_linear, step
from stemma.models import Transformer
from stemma.nn import BlockPool, KVCache, RaggedCache

MOST_ROWS = 32
"""New positions up to which the kernels are faster than torch's matrix products."""

_WORTH_A_THREAD = 4_000_000


class Engine:
    """A Transformer on a CPU, decoding by compiled code.

    It computes what the model computes, with float32 activations between its weights. Many
    positions at once, and whatever else the kernels cannot do, go through the model itself.

    Args:
        model: what is served; its weights stay where they are.

    Raises:
        ModelError: if it cannot be served; see `obstacle`.
    """

    def __init__(self, model: Transformer) -> None:
        if problem := obstacle(model):
            raise ModelError(f"the engine cannot serve this model: {problem}")
        self.model = model
        self.vocab_size = model.vocab_size
        self.context_length = model.context_length
        self._tables: Tables | None = None
        self._angles = np.zeros((2, 0, 1), np.float32)
        settle(model)

    def new_cache(self, batch_size: int, *, capacity: int | None = None) -> KVCache:
        """An empty cache of the model, whose weights may have moved since the last one was made."""
        self._tables = tables_of(self.model)
        return self.model.new_cache(batch_size, capacity=capacity)

    def new_ragged_cache(self, batch_size: int, *, capacity: int | None = None) -> RaggedCache:
        """The same for rows of different lengths."""
        self._tables = tables_of(self.model)
        return self.model.new_ragged_cache(batch_size, capacity=capacity)

    def new_block_pool(self, n_blocks: int, *, block_size: int = 16) -> BlockPool:
        """The same in blocks, for texts that come and go."""
        self._tables = tables_of(self.model)
        return self.model.new_block_pool(n_blocks, block_size=block_size)

    def next_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """What the model says of whole texts."""
        return self.model.next_log_probs(ids)

    def hidden_states(
        self, ids: Int[Tensor, "batch seq"], *, cache: ServedCache | None = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads, for ids that follow those in the cache; adds them to it."""
        if cache is None or not self._can_step(ids, cache):
            return self.model.hidden_states(ids, cache=cache)
        batch, new = ids.shape
        own, taken = ids.flatten(), None
        if isinstance(cache, KVCache):
            rows = torch.arange(batch).repeat_interleave(new)
            positions = cache.positions(new).repeat(batch)
        else:
            rows, positions, taken = cache.places(new)
            own = own if taken is None else own[taken]
        hidden = self.step(own, positions, rows, cache)
        if taken is not None:
            hidden = hidden.new_zeros(batch * new, hidden.shape[1]).index_copy_(0, taken, hidden)
        cache.advance(new)
        return hidden.view(batch, new, -1)

    def _can_step(self, ids: Tensor, cache: ServedCache) -> bool:
        """Whether there are few ids, and nothing that the model would refuse."""
        n = ids.shape[1]
        if not 0 < ids.numel() <= MOST_ROWS or torch.is_grad_enabled():
            return False
        n_rows = cache.batch_size if isinstance(cache, KVCache) else len(cache.lengths)
        fits = cache.end(n) <= self.context_length and cache.has_room(n) and len(ids) == n_rows
        lowest, highest = ids.aminmax()
        known = int(lowest) >= 0 and int(highest) < self.vocab_size
        return fits and known and memory_of(cache).dtype in DTYPES

    def step(
        self,
        ids: Int[Tensor, " ids"],
        positions: Int[Tensor, " ids"],
        rows: Int[Tensor, " ids"],
        cache: ServedCache,
    ) -> Float[Tensor, "ids d_model"]:
        """What the head reads at some new positions, each of its own row or of the same one.

        Keys and values are written to the cache, whose length stays as it is. A position sees those
        before it in its row of the cache, the new ones among them.

        Args:
            ids: the ids that stand there.
            positions: where, counted from the beginning of a text.
            rows: of the cache.
            cache: holds the positions before.

        Raises:
            ModelError: if the cache has no such rows or positions, or is of another model.
        """
        check_places(self.model, cache, positions, rows)
        tables = self._current_tables()
        n_threads = _threads(tables.n_bytes)
        plan = tables.plan._replace(cache_kind=KINDS[memory_of(cache).dtype])
        place = place_of(cache, rows)
        longest = int(positions.max()) + 1
        work = _work(plan, len(ids), place, n_threads, longest)
        work.x[:] = self.model.embed(ids, positions).float().numpy()
        news = layout.Rows(positions.numpy(), place.runs, *self._rotation(positions, longest))
        team().run(step, n_threads, plan, tables.linears, tables.norms, news, work)
        return torch.from_numpy(work.x)

    def head(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, float32."""
        flat = hidden.reshape(-1, hidden.shape[-1])
        if len(flat) > MOST_ROWS or torch.is_grad_enabled():
            dtype = next(self.model.final_norm.parameters()).dtype
            many: Tensor = self.model.head(hidden.to(dtype)).float()
            return many
        x = flat.float().contiguous()
        logits = torch.empty(len(x), self.vocab_size)
        tables = self._current_tables()
        arrays = (tables.head, x.numpy(), logits.numpy())
        team().run(apply_linear, _threads(tables.n_bytes), *arrays)
        return logits.view(*hidden.shape[:-1], -1)

    def _current_tables(self) -> Tables:
        """The tables, made anew if weights have moved, as other threads and casts move them."""
        tables = self._tables
        if tables is None or not tables.are_current():
            tables = self._tables = tables_of(self.model)
        return tables

    def _rotation(self, positions: Tensor, longest: int) -> tuple[Any, Any]:
        """Cosines and sines of positions below ``longest``."""
        rotary = self.model.whole.rotary
        if rotary is None:
            nothing = np.zeros((0, 0), np.float32)
            return nothing, nothing
        angles = self._angles
        if angles.shape[1] < longest:
            n = min(max(2 * longest, 256), max(self.context_length, longest))
            rotation = rotary(torch.arange(n))
            angles = self._angles = np.stack([rotation.cos.numpy(), rotation.sin.numpy()])
        at = positions.numpy()
        return angles[0, at], angles[1, at]


def _threads(n_bytes: int) -> int:
    """torch's number of threads, but no more than have enough weights to read between meetings."""
    return min(torch.get_num_threads(), 1 + n_bytes // _WORTH_A_THREAD)


def _work(
    plan: layout.Plan, n_rows: int, place: Place, n_threads: int, longest: int
) -> layout.Memory:
    """Room for activations, and where the cache is."""
    attended, keys = plan.n_heads * plan.d_head, plan.n_kv_heads * plan.d_head
    return layout.Memory(
        x=_room(n_rows, plan.d_model),
        normed=_room(n_threads, n_rows, plan.d_model),
        q=_room(n_rows, attended),
        k=_room(n_rows, keys),
        v=_room(n_rows, keys),
        attended=_room(n_rows, attended),
        hidden=_room(n_rows, plan.d_ff),
        gated=_room(n_rows, plan.d_ff),
        scores=_room(n_threads, longest),
        cache=place.starts,
        strides=place.strides,
    )


def _room(*shape: int) -> NDArray[np.float32]:
    """Room for numbers that begins with a line of the cache, as torch allocates it."""
    return torch.empty(shape).numpy()
