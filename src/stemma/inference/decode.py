"""Model and prompt -> ids, as functions that stack: predict, prefill, decode_one, generate_ids.

Any language model decodes. One that can keep keys and values (`CachedModel`) feeds each id once;
any other is asked about its whole window again. Both are the same function of the ids, because the
window is: see `window_start`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.inference.sampling import sample
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.models import LanguageModel

Overflow = Literal["error", "slide"]
"""What to do with a text longer than the context: refuse it (or end there), or slide a window."""

OnToken = Callable[[int, Float[Tensor, " vocab"]], None]
"""Called with each id and the logits it was chosen from, before any sampling rule."""

_FIRST_CAPACITY = 1024


class Cache(Protocol):
    """Keys and values of the positions seen so far."""

    @property
    def length(self) -> int:
        """Number of positions it holds."""

    def truncate(self, length: int) -> None:
        """Forget all positions from ``length`` on."""


@runtime_checkable
class CachedModel(Protocol):
    """A model that continues from a cache, and whose head can be applied to the last position."""

    def new_cache(self, batch_size: int, *, capacity: int | None = None) -> Any:
        """An empty cache for ``batch_size`` rows and at most ``capacity`` positions."""

    def hidden_states(
        self, ids: Int[Tensor, "batch seq"], *, cache: Any = None
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads, for ids that follow those in the cache; adds them to it."""

    def head(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits."""


@runtime_checkable
class Markovian(Protocol):
    """A model that looks at the last ``order - 1`` ids only."""

    order: int


def prefill(
    model: CachedModel, ids: Int[Tensor, "batch seq"], cache: Cache | None = None
) -> Float[Tensor, "batch vocab"]:
    """Run many ids at once, adding them to the cache; the logits after the last one."""
    return model.head(model.hidden_states(ids, cache=cache)[:, -1])


def decode_one(
    model: CachedModel, ids: Int[Tensor, "batch 1"], cache: Cache
) -> Float[Tensor, "batch vocab"]:
    """Run one id per row, adding it to the cache; the logits after it."""
    return model.head(model.hidden_states(ids, cache=cache).squeeze(1))


def predict(model: LanguageModel, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch vocab"]:
    """Logits after the last id, without a cache, from any language model."""
    if isinstance(model, CachedModel):
        return prefill(model, ids)
    if isinstance(model, Markovian):
        ids = ids[:, -max(model.order - 1, 1) :]
    log_probs: Tensor = model.next_log_probs(ids)
    return log_probs[:, -1]


def window_start(length: int, context_length: int | None) -> int:
    """Index of the first id that is seen when a text of ``length`` ids is continued.

    Whenever the context is full, the older half of it is dropped:
    ``0`` if ``length <= C``, else ``H * ceil((length - C) / H)`` with ``H = max(C // 2, 1)``.

    It depends on the length alone, so decoding with and without a cache, in one go or continued,
    see the same ids; and a cache is rebuilt once in ``H`` ids, not at every one. The ids that
    remain are at positions ``0, 1, ...`` again, which learned positions need and rotary ones allow.
    """
    if context_length is None or length <= context_length:
        return 0
    dropped = max(context_length // 2, 1)
    return dropped * -(-(length - context_length) // dropped)


class NextLogits:
    """Logits after a text; what it shares with the text of the last call is not computed again.

    Args:
        model: any language model.
        cached: keep keys and values between calls if the model can.
        longest: the most ids that a text will have; the cache need not hold more.
    """

    def __init__(
        self, model: LanguageModel, *, cached: bool = True, longest: int | None = None
    ) -> None:
        self._model = model
        self._fed: Tensor | None = None
        self._cached_model = model if cached and isinstance(model, CachedModel) else None
        if self._cached_model is not None:
            bounds = [n for n in (model.context_length, longest) if n is not None]
            self._cache = self._cached_model.new_cache(1, capacity=min(bounds, default=None))

    def __call__(self, ids: Int[Tensor, "1 seq"]) -> Float[Tensor, "1 vocab"]:
        """Logits after ``ids``, or after the window of them that the context holds."""
        window = ids[:, window_start(ids.shape[1], self._model.context_length) :]
        if self._cached_model is None:
            return predict(self._model, window)
        self._cache.truncate(self._n_shared(window))
        new = window[:, self._cache.length :]
        self._fed = window
        if new.shape[1] == 1:
            return decode_one(self._cached_model, new, self._cache)
        return prefill(self._cached_model, new, self._cache)

    def _n_shared(self, window: Int[Tensor, "1 seq"]) -> int:
        """How many positions of the cache are those of ``window``; its last is always fed anew."""
        if self._fed is None:
            return 0
        n = min(self._cache.length, self._fed.shape[1], window.shape[1] - 1)
        different = (self._fed[0, :n] != window[0, :n]).nonzero()
        return int(different[0]) if len(different) else n


def generate_ids(
    model: LanguageModel,
    prompt_ids: Sequence[int] | NDArray[np.integer] | Int[Tensor, " prompt"],
    *,
    max_new_tokens: int,
    sampling: SamplingConfig | None = None,
    stop_ids: Collection[int] = (),
    overflow: Overflow = "error",
    cached: bool = True,
    on_token: OnToken | None = None,
    n_ids: int | None = None,
    kept: NextLogits | None = None,
) -> Generator[int, None, None]:
    """Continue a prompt, one id at a time.

    It ends after ``max_new_tokens`` ids, after one of ``stop_ids`` (which is yielded too), or, with
    ``overflow="error"``, when the context is full. A module is in evaluation mode meanwhile.

    Args:
        model: any language model; it continues from a cache if it can.
        prompt_ids: at least one id.
        max_new_tokens: the most ids to add.
        sampling: how each id is chosen; the model's own distribution by default.
        stop_ids: ids that end the text.
        overflow: ``"slide"`` moves a window over a text longer than the context (`window_start`).
        cached: False recomputes the window for every id: slower, and the same function.
        on_token: called with each id and its logits ``[vocab]``.
        n_ids: ids from here on are padding of the model's vocabulary and never chosen.
        kept: of an earlier text of the same model: what both begin with is not computed again.

    Raises:
        ModelError: if the prompt is empty, holds an id outside the vocabulary or is longer than the
            context (naming both lengths); while iterating, if logits are not numbers.
    """
    if overflow not in get_args(Overflow):
        raise ModelError(f"overflow={overflow!r}", cure="Use 'error' or 'slide'.")
    if max_new_tokens < 0:
        raise ModelError(f"max_new_tokens={max_new_tokens} is negative", cure="Ask for 0 or more.")
    n_ids = model.vocab_size if n_ids is None else min(n_ids, model.vocab_size)
    prompt = torch.as_tensor(np.asarray(prompt_ids), dtype=torch.int64)
    _check_prompt(prompt, n_ids, model.context_length if overflow == "error" else None)
    if overflow == "error" and model.context_length is not None:
        # The last id is never fed, so a full context still gives one more.
        max_new_tokens = min(max_new_tokens, model.context_length + 1 - len(prompt))
    ids = prompt.to(_device_of(model)).unsqueeze(0)
    return _decode(
        model,
        ids,
        max_new_tokens,
        sampling or SamplingConfig(),
        stop_ids=frozenset(stop_ids),
        cached=cached,
        on_token=on_token,
        n_ids=n_ids,
        kept=kept,
    )


def _check_prompt(prompt: Tensor, n_ids: int, longest: int | None) -> None:
    if prompt.ndim != 1:
        raise ModelError(f"the prompt must be one row of ids, not {tuple(prompt.shape)}")
    if len(prompt) == 0:
        raise ModelError(
            "the prompt is empty: there is no id to continue from",
            cure="Give it at least one token, such as the end-of-text token.",
        )
    if longest is not None and len(prompt) > longest:
        raise ModelError(
            f"the prompt has {len(prompt):,} tokens, the model's context holds {longest:,}",
            cure="Shorten the prompt, or let a window slide over it: overflow='slide', --slide.",
        )
    lowest, highest = int(prompt.min()), int(prompt.max())
    if lowest < 0 or highest >= n_ids:
        raise ModelError(
            f"the prompt holds id {lowest if lowest < 0 else highest}, the vocabulary ends at "
            f"{n_ids - 1}",
            cure="Encode the prompt with the model's own tokenizer.",
        )


@torch.inference_mode()
def _decode(
    model: LanguageModel,
    ids: Int[Tensor, "1 prompt"],
    max_new_tokens: int,
    sampling: SamplingConfig,
    *,
    stop_ids: frozenset[int],
    cached: bool,
    on_token: OnToken | None,
    n_ids: int,
    kept: NextLogits | None,
) -> Generator[int, None, None]:
    seed = secrets.randbits(32) if sampling.seed is None else sampling.seed
    generator = torch.Generator().manual_seed(seed)
    n_prompt = ids.shape[1]
    next_logits = kept or NextLogits(model, cached=cached, longest=n_prompt + max_new_tokens)
    text = torch.cat([ids, ids.new_empty(1, min(max_new_tokens, _FIRST_CAPACITY))], dim=1)
    with evaluating(model):
        for length in range(n_prompt, n_prompt + max_new_tokens):
            logits = next_logits(text[:, :length])[:, :n_ids]
            seen = text[:, :length]
            chosen = int(sample(logits, sampling, generator, seen=seen, n_prompt=n_prompt))
            if on_token is not None:
                on_token(chosen, logits[0])
            yield chosen
            if chosen in stop_ids:
                return
            if length == text.shape[1]:
                text = torch.cat([text, torch.empty_like(text)], dim=1)
            text[0, length] = chosen


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
    """Put a module into evaluation mode (no dropout), and every part back as it was afterwards."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    was_training = [module for module in modules if module.training]
    for module in was_training:
        module.training = False
    try:
        yield
    finally:
        for module in was_training:
            module.training = True


def _device_of(model: LanguageModel) -> torch.device:
    parameter = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return torch.device("cpu") if parameter is None else parameter.device
