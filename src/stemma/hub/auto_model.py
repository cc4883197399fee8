"""Import this, and `transformers` opens models of our own shapes: AutoModelForCausalLM and all.

A directory that `save_model` wrote for a shape of no family known there (``model_type`` "stemma")
brings a small file that imports this one, so ``trust_remote_code=True`` does it too. ``generate``
with padded batches and its own cache, losses and ``save_pretrained`` work as with any other model.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, ClassVar, NamedTuple

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
from stemma.hub.auto_arguments import (
    check_length,
    check_positions,
    embedded,
    positions_kept,
    recorded,
    refuse_others,
    text_of,
)
from stemma.hub.borrowed_cache import BorrowedCache
from stemma.models import Transformer, TransformerConfig
from stemma.models.own import FAMILY, KEY


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


class _Pass(NamedTuple):
    """What `transformers` asks of one pass.

    Attributes:
        hidden: what the head reads.
        states: what each block reads, and ``hidden``; None where nobody asked.
        weights: of the attention of each layer; None where nobody asked.
    """

    hidden: Tensor
    states: tuple[Tensor, ...] | None
    weights: tuple[Tensor, ...] | None


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

    def resize_token_embeddings(self, *arguments: Any, **options: Any) -> nn.Module:
        """Make the vocabulary larger or smaller; the arguments are those of `transformers`."""
        table: nn.Embedding = super().resize_token_embeddings(*arguments, **options)
        size = table.num_embeddings
        self.model.config = self.model.config.replace(vocab_size=size)
        self.model.vocab_size = size
        self.config.transformer = {**self.config.transformer, "vocab_size": size}
        return table

    def _pass(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        *,
        inputs_embeds: Tensor | None,
        position_ids: Tensor | None,
        token_type_ids: Tensor | None,
        past_key_values: transformers.Cache | None = None,
        output_hidden_states: bool | None,
        output_attentions: bool | None,
        rest: dict[str, Any],
    ) -> _Pass:
        """Run the blocks.

        Raises:
            ModelError: if an argument asks for what cannot be done here.
        """
        refuse_others(rest)
        if (input_ids is None) == (inputs_embeds is None):
            raise ModelError("give either input_ids or inputs_embeds")
        given = input_ids if inputs_embeds is None else inputs_embeds[..., 0].long().zero_()
        assert given is not None
        text = text_of(attention_mask)
        n_past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        check_length(text, n_past + given.shape[1])
        check_positions(position_ids, text, n_past, given.shape[1])
        if token_type_ids is not None and self.model.embed.segments is None:
            if bool(token_type_ids.any()):
                raise ModelError("token_type_ids, and this model has no vectors of segments")
            token_type_ids = None
        options: dict[str, Any] = {"document_ids": None if text is None else text.long()}
        if past_key_values is not None:
            options = {"cache": BorrowedCache(past_key_values, text, given.device)}
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        with ExitStack() as stack:
            if inputs_embeds is not None:
                stack.enter_context(embedded(self.model, inputs_embeds))
            states = weights = None
            if output_attentions:
                if past_key_values is not None:
                    raise ModelError(
                        "output_attentions together with a cache", cure="Set use_cache=False."
                    )
                found = self.model.attention_weights(given, segment_ids=token_type_ids, **options)
                weights = tuple(found)
            if output_hidden_states:
                states = stack.enter_context(recorded(self.model))
            hidden = self.model.hidden_states(given, segment_ids=token_type_ids, **options)
        return _Pass(hidden, None if states is None else (*states, hidden), weights)

    def _returned(self, output: Any, return_dict: bool | None) -> Any:
        """A tuple, where one is asked for."""
        as_named = self.config.return_dict if return_dict is None else return_dict
        return output if as_named else output.to_tuple()


class StemmaModel(_StemmaPreTrained):
    """An encoder of our own shapes, as `transformers` wants it."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        **rest: Any,
    ) -> BaseModelOutput | tuple[Tensor, ...]:
        """Hidden states of every position; the arguments are those of `StemmaForCausalLM`."""
        hidden, states, weights = self._pass(
            input_ids,
            attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            rest=rest,
        )
        output = BaseModelOutput(last_hidden_state=hidden, hidden_states=states, attentions=weights)
        return self._returned(output, return_dict)


class StemmaForCausalLM(_StemmaPreTrained, GenerationMixin):  # type: ignore[misc]
    """A language model of our own shapes, as `transformers` wants it."""

    _tied_weights_keys: ClassVar = {"model.head.weight": "model.embed.tokens.weight"}

    def get_output_embeddings(self) -> nn.Module:
        """The head."""
        return self.model.head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        """Give the head another matrix and bias; its soft-cap stays."""
        head: Any = self.model.head
        head.weight, head.bias, head.out_features = value.weight, value.bias, value.out_features

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        past_key_values: transformers.Cache | None = None,
        inputs_embeds: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **rest: Any,
    ) -> CausalLMOutputWithPast | tuple[Any, ...]:
        """Logits, and the loss where there are labels.

        Args:
            input_ids: of the tokens.
            attention_mask: one number a position, those of the cache included; 0 is padding.
            position_ids: where each stands in its text; nothing else than follows from the mask.
            past_key_values: what was seen before.
            inputs_embeds: in place of ids, vectors of the table of tokens.
            token_type_ids: the segment of each, where the model has vectors of segments.
            labels: ids that are to be predicted, shifted here; -100 is left out.
            use_cache: whether to begin a cache.
            logits_to_keep: at how many of the last positions, or at which ones; 0: at all.
            output_attentions: whether to give the weights of each layer, by a pass of its own;
                impossible with a cache.
            output_hidden_states: whether to give what each block reads, and the head.
            return_dict: False for a tuple.
            num_items_in_batch: what the sum of the losses is divided by; the labels that count.
            rest: nothing else.

        Raises:
            ModelError: if the mask is not one of rows and positions, or another argument asks for
                what cannot be done here.
        """
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        hidden, states, weights = self._pass(
            input_ids,
            attention_mask,
            inputs_embeds=inputs_embeds,
            position_ids=position_ids,
            token_type_ids=token_type_ids,
            past_key_values=past_key_values,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            rest=rest,
        )
        logits = self.model.head(positions_kept(hidden, logits_to_keep))
        loss = None
        if labels is not None:
            size = self.model.vocab_size
            loss = self.loss_function(
                logits, labels, vocab_size=size, num_items_in_batch=num_items_in_batch
            )
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=past_key_values,
            hidden_states=states,
            attentions=weights,
        )
        return self._returned(output, return_dict)


AutoConfig.register(FAMILY.model_type, StemmaConfig, exist_ok=True)
AutoModel.register(StemmaConfig, StemmaModel, exist_ok=True)
AutoModelForCausalLM.register(StemmaConfig, StemmaForCausalLM, exist_ok=True)
