"""The Transformer of 2017: an encoder reads a source, a decoder writes a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.models.encoder_decoder_config import EncoderDecoderConfig
from stemma.models.transformer import Transformer
from stemma.nn import Cache, CrossAttention, KVCache, Memory

Mask = Bool[Tensor, "batch source"]


class EncoderDecoder(nn.Module):
    """Two Transformers: the decoder's layers look at the encoder's output too.

    Vaswani et al. 2017, arXiv:1706.03762; T5: Raffel et al. 2020, arXiv:1910.10683.

    Args:
        config: its numbers and parts.
        seed: determines the fresh weights; torch's global generators are neither read nor moved.
    """

    def __init__(self, config: EncoderDecoderConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = config.decoder.vocab_size
        self.context_length = config.decoder.context_length
        # Two seeds, since layers of one shape would begin with the same weights otherwise.
        self.encoder = Transformer(config.encoder, seed=2 * seed)
        self.decoder = Transformer(config.decoder, seed=2 * seed + 1)
        self.tie_weights()

    def tie_weights(self) -> Self:
        """Make the matrices one that the config says are; see `Transformer.tie_weights`."""
        if self.config.share_embeddings:
            self.decoder.embed.tokens.weight = self.encoder.embed.tokens.weight
        self.decoder.tie_weights()
        return self

    def forward(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        *,
        source_mask: Mask | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """Logits of the id after each position of the target, all of which are known.

        Args:
            source_ids: what is read.
            target_ids: what is written, behind ``start_id``. What stands behind a shorter row does
                not change the logits before it.
            source_mask: False at padding, in front or behind.
        """
        memory = self.encode(source_ids, source_mask=source_mask)
        logits: Tensor = self.decoder(target_ids, memory=memory)
        return logits

    def encode(
        self, source_ids: Int[Tensor, "batch source"], *, source_mask: Mask | None = None
    ) -> list[Memory]:
        """What each layer of the decoder keeps of a source; see `forward`.

        Raises:
            ModelError: if a row is nothing but padding.
        """
        if source_mask is None:
            return self.decoder.read(self.encoder.hidden_states(source_ids))
        if not torch.compiler.is_compiling() and not bool(source_mask.any(-1).all()):
            raise ModelError(
                "a source without a token", cure="Give every source its end-of-text token at least."
            )
        states = self.encoder.hidden_states(source_ids, document_ids=source_mask.long())
        return self.decoder.read(states, source_mask)

    def given(
        self, source_ids: Int[Tensor, "batch source"], *, source_mask: Mask | None = None
    ) -> ConditionalDecoder:
        """The decoder with these sources read: a language model of their targets.

        Dropout acts, and a graph is kept, as the mode of the model and of torch say.
        """
        memory = self.encode(source_ids, source_mask=source_mask)
        return ConditionalDecoder(self.decoder, memory, rows=source_ids.shape[0])

    def alignments(
        self,
        source_ids: Int[Tensor, "batch source"],
        target_ids: Int[Tensor, "batch target"],
        *,
        source_mask: Mask | None = None,
    ) -> list[Float[Tensor, "batch n_heads target source"]]:
        """Where each position of the target looks in the source, for each layer of the decoder.

        Rows sum to 1 and are 0 at padding; the arguments are those of `forward`.
        """
        found: list[Tensor] = []

        def look(layer: CrossAttention, seen: tuple[Tensor, Memory]) -> None:
            found.append(layer.forward_with_weights(*seen)[1])

        layers = [part for part in self.decoder.modules() if isinstance(part, CrossAttention)]
        hooks = [layer.register_forward_pre_hook(look) for layer in layers]
        try:
            self.forward(source_ids, target_ids, source_mask=source_mask)
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def n_parameters(self, *, embeddings: bool = True, active: bool = False) -> int:
        """Number of parameters, shared ones counted once; see `Transformer.n_parameters`."""
        both = sum(
            part.n_parameters(embeddings=embeddings, active=active)
            for part in (self.encoder, self.decoder)
        )
        shared = self.config.share_embeddings and embeddings
        return both - self.encoder.embed.tokens.weight.numel() if shared else both


class ConditionalDecoder(nn.Module):
    """A decoder that has read its sources; what continues a text continues its target.

    Args:
        decoder: of an `EncoderDecoder`.
        memory: of `EncoderDecoder.encode`.
        rows: how many sources.
    """

    def __init__(self, decoder: Transformer, memory: Sequence[Memory], *, rows: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.memory = memory
        self.rows = rows
        self.vocab_size = decoder.vocab_size
        self.context_length = decoder.context_length
        self.train(decoder.training)

    def select(self, rows: Int[Tensor, " n"]) -> ConditionalDecoder:
        """The decoder of some of the sources, in that order; one may come several times."""
        memory = [layer.select(rows) for layer in self.memory]
        return ConditionalDecoder(self.decoder, memory, rows=len(rows))

    def hidden_states(
        self, ids: Int[Tensor, "batch target"], *, cache: Cache | None = None
    ) -> Float[Tensor, "batch target d_model"]:
        """What the head reads, for ids that follow those in the cache; adds them to it.

        Args:
            ids: a row for each source, or any number of rows for a single one, as in beam search.
            cache: of `new_cache`.

        Raises:
            ModelError: if there are more or fewer rows than sources.
        """
        n, memory = ids.shape[0], self.memory
        if n != self.rows:
            if self.rows != 1:
                raise ModelError(
                    f"{n} targets of {self.rows} sources",
                    cure="Choose the sources of these rows with select().",
                )
            memory = [layer.expand(n) for layer in memory]
        return self.decoder.hidden_states(ids, cache=cache, memory=memory)

    def head(self, hidden: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch vocab"]:
        """Logits."""
        logits: Tensor = self.decoder.head(hidden)
        return logits

    def forward(self, ids: Int[Tensor, "batch target"]) -> Float[Tensor, "batch target vocab"]:
        """Logits of the id after each position."""
        return self.head(self.hidden_states(ids))

    def next_log_probs(
        self, ids: Int[Tensor, "batch target"]
    ) -> Float[Tensor, "batch target vocab"]:
        """Log-probabilities of the next id, in nats and in float32 at least."""
        logits = self.forward(ids)
        return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def new_cache(self, batch_size: int, **values: Any) -> KVCache:
        """An empty cache; see `Transformer.new_cache`."""
        return self.decoder.new_cache(batch_size, **values)
