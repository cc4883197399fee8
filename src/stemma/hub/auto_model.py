"""Import this, and `transformers` opens models of our own shapes: AutoModelForCausalLM and all.

A directory that `save_model` wrote for a shape of no family known there (``model_type`` "stemma")
brings a small file that imports this one, so ``trust_remote_code=True`` does it too. ``generate``
with padded batches and its own cache, losses and ``save_pretrained`` work as with any other model.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import transformers
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    DynamicCache,
    GenerationMixin,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput, CausalLMOutputWithPast

from stemma.errors import ModelError
from stemma.models import Transformer, TransformerConfig
from stemma.models.own import FAMILY, KEY
from stemma.nn import Cache

_FAR = 2**30


class StemmaConfig(PreTrainedConfig):  # type: ignore[misc]
    """The ``config.json`` of a model of our own shapes.

    Args:
        transformer: the values of a `TransformerConfig`.
        rest: what every config of `transformers` has.
    """

    model_type = FAMILY.model_type

    def __init__(self, transformer: dict[str, Any] | None = None, **rest: Any) -> None:
        self.transformer = transformer
        super().__init__(**rest)

    def ours(self) -> TransformerConfig:
        """The config of the `Transformer`.

        Raises:
            ConfigError: if a field is unknown or out of range.
        """
        return TransformerConfig.parse(self.transformer or {}, source=f"config.json, {KEY}")


class _StemmaPreTrained(PreTrainedModel):  # type: ignore[misc]
    config_class = StemmaConfig
    base_model_prefix = ""

    def __init__(self, config: StemmaConfig) -> None:
        super().__init__(config)
        self.model = Transformer(config.ours())
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """A `Transformer` draws its weights itself."""

    def get_input_embeddings(self) -> nn.Module:
        """The table of the tokens' vectors."""
        return self.model.embed.tokens

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        """Put another table in its place."""
        self.model.embed.tokens = value


class StemmaModel(_StemmaPreTrained):
    """An encoder of our own shapes, as `transformers` wants it."""

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        **_: Any,
    ) -> BaseModelOutput:
        """Hidden states of every position; 0 in ``attention_mask`` is padding."""
        documents = None if attention_mask is None else attention_mask.long()
        hidden = self.model.hidden_states(
            input_ids, document_ids=documents, segment_ids=token_type_ids
        )
        return BaseModelOutput(last_hidden_state=hidden)


class StemmaForCausalLM(_StemmaPreTrained, GenerationMixin):  # type: ignore[misc]
    """A language model of our own shapes, as `transformers` wants it."""

    _tied_weights_keys: ClassVar = {"model.head.weight": "model.embed.tokens.weight"}

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.model.head

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        past_key_values: transformers.Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        """Logits, and the loss where there are labels; 0 in ``attention_mask`` is padding.

        Raises:
            ModelError: if the mask is not one of rows and positions.
        """
        if attention_mask is not None and attention_mask.ndim != 2:
            raise ModelError(
                f"an attention_mask of the shape {tuple(attention_mask.shape)}",
                cure="Give one number per position: 1 for text, 0 for padding.",
            )
        text = attention_mask
        if text is not None and bool(text.all()):
            text = None
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        if past_key_values is None:
            documents = None if text is None else text.long()
            hidden = self.model.hidden_states(input_ids, document_ids=documents)
        else:
            cache = _BorrowedCache(past_key_values, text, input_ids.device)
            hidden = self.model.hidden_states(input_ids, cache=cache)
        if isinstance(logits_to_keep, int):
            kept = hidden[:, -logits_to_keep:] if logits_to_keep else hidden
        else:
            kept = hidden[:, logits_to_keep]
        logits = self.model.head(kept)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits, labels, vocab_size=self.model.vocab_size)
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=past_key_values)


class _BorrowedCache(Cache):
    """A cache of theirs in the words of ours.

    Args:
        theirs: holds the keys and values.
        text: ``[batch, seq]``, 0 where a position, old or new, is padding; None: nowhere.
        device: of the ids.
    """

    def __init__(
        self, theirs: transformers.Cache, text: Tensor | None, device: torch.device
    ) -> None:
        self._theirs = theirs
        self._device = device
        self._places: Tensor | None = None
        if text is not None:
            places = text.long().cumsum(-1) - 1
            self._places = places.masked_fill(text == 0, _FAR)

    @property
    def length(self) -> int:
        """Number of positions it holds, padding included."""
        return int(self._theirs.get_seq_length())

    def end(self, n: int) -> int:
        """The same once ``n`` more are in."""
        return self.length + n

    def has_room(self, n: int) -> bool:
        """Theirs grows."""
        return True

    def positions(self, n: int) -> Tensor:
        """Where the new ids stand."""
        if self._places is None:
            return torch.arange(self.length, self.end(n), device=self._device)
        new = self._places[:, -n:]
        return new.masked_fill(new == _FAR, 0)

    def key_positions(self, n: int, device: torch.device) -> Tensor:
        """Where all stand; padding is later than anything, so that nothing sees it."""
        return super().key_positions(n, device) if self._places is None else self._places

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Hand them on, and get all."""
        found: tuple[Tensor, Tensor] = self._theirs.update(keys, values, layer)
        return found

    def advance(self, n: int) -> None:
        """Nothing to do: theirs counts by itself."""


AutoConfig.register(FAMILY.model_type, StemmaConfig, exist_ok=True)
AutoModel.register(StemmaConfig, StemmaModel, exist_ok=True)
AutoModelForCausalLM.register(StemmaConfig, StemmaForCausalLM, exist_ok=True)
