"""Model and prompt -> ids, as functions that stack: predict, prefill, decode_one, generate_ids.

Any language model decodes. One that can keep keys and values (`CachedModel`) feeds each id once;
any other is asked about its whole window again. Both are the same function of the ids, because the
window is: see `window_start`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from stemma.errors import ModelError
from stemma.inference.cached_model import Cache, CachedModel
from stemma.inference.engine import engine_for
from stemma.inference.evaluation_mode import device_of, evaluating
from stemma.inference.growing_text import GrowingText, PromptIds, checked_prompt
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.models import LanguageModel

Overflow = Literal["error", "slide"]
"""What to do with a text longer than the context: refuse it (or end there), or slide a window."""

OnToken = Callable[[int, Float[Tensor, " vocab"]], None]
"""Called with each id and the logits it was chosen from, before any sampling rule."""

_FIRST_CAPACITY = 2048


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
    return _last_without_cache(model, ids, 1)[:, -1]


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
        longest: the most ids that a text will have; the cache need not hold more. Where it is not
            known, the cache doubles when it is full, and is filled anew.
    """

    def __init__(
        self, model: LanguageModel, *, cached: bool = True, longest: int | None = None
    ) -> None:
        self._model = model
        self._cached_model: CachedModel | None = None
        self._capacity = 0
        self._fed: Tensor | None = None
        if cached and isinstance(model, CachedModel):
            n = _FIRST_CAPACITY if longest is None else longest
            self._cached_model = engine_for(model, n) or model
            self._make_room(self._cached_model, n)

    def _make_room(self, model: CachedModel, n: int) -> None:
        """A cache for ``n`` positions, if there are not as many; what the old one held is lost."""
        if n <= self._capacity:
            return
        bounds = [max(n, 2 * self._capacity), self._model.context_length]
        self._capacity = min(bound for bound in bounds if bound is not None)
        self._cache = model.new_cache(1, capacity=self._capacity)
        self._fed = None

    def __call__(self, ids: Int[Tensor, "1 seq"]) -> Float[Tensor, "1 vocab"]:
        """Logits after ``ids``, or after the window of them that the context holds."""
        return self.last(ids, 1)[:, -1]

    def n_shared(self, ids: Sequence[int]) -> int:
        """How many positions of the cache are those of these ids: they will not be fed again."""
        if self._cached_model is None or not ids:
            return 0
        row = torch.tensor([[*ids]], dtype=torch.int64)
        row = row[:, window_start(len(ids), self._model.context_length) :]
        return self._n_shared(row if self._fed is None else row.to(self._fed.device), 1)

    def last(self, ids: Int[Tensor, "1 seq"], n: int) -> Float[Tensor, "1 n vocab"]:
        """Logits after each of the last ``n`` ids: one pass that checks a draft."""
        window = ids[:, window_start(ids.shape[1], self._model.context_length) :]
        if self._cached_model is None:
            return _last_without_cache(self._model, window, n)
        self._make_room(self._cached_model, window.shape[1])
        self._cache.truncate(self._n_shared(window, n))
        new = window[:, self._cache.length :]
        self._fed = window
        hidden = self._cached_model.hidden_states(new, cache=self._cache)
        return self._cached_model.head(hidden[:, -n:])

    def _n_shared(self, window: Int[Tensor, "1 seq"], n_anew: int) -> int:
        """How many positions of the cache are those of ``window``; the last are fed anew."""
        if self._fed is None:
            return 0
        n = min(self._cache.length, self._fed.shape[1], window.shape[1] - n_anew)
        different = (self._fed[0, :n] != window[0, :n]).nonzero()
        return int(different[0]) if len(different) else n


def _last_without_cache(
    model: LanguageModel, ids: Int[Tensor, "1 seq"], n: int
) -> Float[Tensor, "1 n vocab"]:
    if isinstance(model, CachedModel):
        return model.head(model.hidden_states(ids)[:, -n:])
    if isinstance(model, Markovian):
        ids = ids[:, -(max(model.order - 1, 1) + n - 1) :]
    return model.next_log_probs(ids)[:, -n:]


def generate_ids(
    model: LanguageModel,
    prompt_ids: PromptIds,
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
    longest = model.context_length if overflow == "error" else None
    prompt = checked_prompt(prompt_ids, n_ids=n_ids, longest=longest)
    if overflow == "error" and model.context_length is not None:
        # The last id is never fed, so a full context still gives one more.
        max_new_tokens = min(max_new_tokens, model.context_length + 1 - len(prompt))
    most = len(prompt) + max_new_tokens
    return _decode(
        model,
        GrowingText(prompt.to(device_of(model)), sampling or SamplingConfig(), n_ids=n_ids),
        max_new_tokens,
        stop_ids=frozenset(stop_ids),
        on_token=on_token,
        next_logits=kept or NextLogits(model, cached=cached, longest=most),
    )


@torch.inference_mode()
def _decode(
    model: LanguageModel,
    text: GrowingText,
    max_new_tokens: int,
    *,
    stop_ids: frozenset[int],
    on_token: OnToken | None,
    next_logits: NextLogits,
) -> Generator[int, None, None]:
    with evaluating(model):
        for _ in range(max_new_tokens):
            logits = next_logits(text.ids)
            chosen = text.choose(logits)
            if on_token is not None:
                on_token(chosen, text.allowed(logits)[0])
            yield chosen
            if chosen in stop_ids:
                return
