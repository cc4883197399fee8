"""The Transformer: GPT-2, Llama and BERT are points in the space of its config."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from stemma.errors import ModelError
from stemma.models.initialization import initialize
from stemma.models.layer_kind import LayerKind
from stemma.models.transformer_config import TransformerConfig
from stemma.nn import (
    Block,
    BlockPool,
    Cache,
    CacheLayout,
    Embedding,
    KVCache,
    Memory,
    MixtureOfExperts,
    RaggedCache,
    StreamMix,
    Streams,
)
from stemma.nn.sight import Sight


class Transformer(nn.Module):
    """A stack of blocks between an embedding and an output head; predicts the next id if causal.

    Vaswani et al. 2017, arXiv:1706.03762: the decoder alone (Radford et al. 2018 and 2019), or with
    ``causal=False`` the encoder alone (Devlin et al. 2018, arXiv:1810.04805).

    Args:
        config: its numbers and parts.
        seed: determines the fresh weights; torch's global generators are neither read nor moved.
    """

    def __init__(self, config: TransformerConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = config.vocab_size
        self.context_length = config.context_length
        # The parts draw weights of their own when they are made; `initialize` draws them again.
        with torch.random.fork_rng(devices=_default_cuda_device()):
            self.embed = _build_embedding(config)
            self.blocks = nn.ModuleList(_build_block(config) for _ in range(config.n_layers))
            final = config.placement in ("pre", "sandwich")
            self.final_norm = config.norm.build(config.d_model) if final else nn.Identity()
            self.head = config.head.build(config.d_model, config.vocab_size)
            self.whole = LayerKind.of(config)
            self.local = LayerKind.of(config, config.local) if config.local else None
        self.tie_weights()
        sublayers = 3 if config.cross_attention else 2
        initialize(self, config.init, n_sublayers=sublayers * config.n_layers, seed=seed)

    def tie_weights(self) -> Self:
        """Make the head's matrix that of the token embedding, if the config says so.

        To be called after weights were replaced rather than written to, as by
        ``load_state_dict(..., assign=True)`` or ``to_empty``.
        """
        if self.config.tie_embeddings:
            self.head.weight = self.embed.tokens.weight
        return self

    def forward(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        document_ids: Int[Tensor, "batch seq"] | None = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        cache: Cache | None = None,
        memory: Sequence[Memory] | None = None,
    ) -> Float[Tensor, "batch seq vocab"]:
        """Logits of the id after each position; the arguments are those of `hidden_states`."""
        hidden = self.hidden_states(
            ids, document_ids=document_ids, segment_ids=segment_ids, cache=cache, memory=memory
        )
        logits: Tensor = self.head(hidden)
        return logits

    def hidden_states(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        document_ids: Int[Tensor, "batch seq"] | None = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        cache: Cache | None = None,
        memory: Sequence[Memory] | None = None,
    ) -> Float[Tensor, "batch seq d_model"]:
        """What the head reads: the output of the last block, normed.

        Args:
            ids: at least one per row; with a cache, those that follow what it holds.
            document_ids: which document a position belongs to, each a run of equal numbers.
                Attention stays within a document, and positions count from its beginning. Padding
                is a document of its own.
            segment_ids: the part of its text that each position belongs to, where these have
                vectors; all the first by default.
            cache: of `new_cache`; the positions are added to it.
            memory: of `read`, for a decoder that reads an encoder's output.

        Raises:
            ModelError: if an id is outside the vocabulary (checked on the CPU only; a GPU stops by
                itself), the positions reach beyond ``context_length``, or memory is missing.
        """
        if cache is not None and document_ids is not None:
            raise ModelError(
                "document_ids together with a cache",
                cure="A cache holds one text per row: leave document_ids out, or the cache.",
            )
        x, sights = self._begin(ids, document_ids, segment_ids, cache)
        streams = self._streams(x)
        layers = zip(self.blocks, sights, self._memories(memory), strict=True)
        for i, (block, sight, source) in enumerate(layers):
            layer = None if cache is None else cache.layer(i)
            x = block(x, sight=sight, cache=layer, memory=source, streams=streams)
        if cache is not None:
            cache.advance(ids.shape[1])
        hidden: Tensor = self.final_norm(x)
        return hidden

    def attention_weights(
        self,
        ids: Int[Tensor, "batch seq"],
        *,
        document_ids: Int[Tensor, "batch seq"] | None = None,
        segment_ids: Int[Tensor, "batch seq"] | None = None,
        memory: Sequence[Memory] | None = None,
    ) -> list[Float[Tensor, "batch n_heads query key"]]:
        """Where each position looks, for each layer: rows sum to 1, by the explicit path."""
        x, sights = self._begin(ids, document_ids, segment_ids, None)
        layers = []
        streams = self._streams(x)
        blocks = cast("Iterable[Block]", self.blocks)
        for block, sight, source in zip(blocks, sights, self._memories(memory), strict=True):
            x, weights = block.forward_with_weights(x, sight=sight, memory=source, streams=streams)
            layers.append(weights)
        return layers

    def read(
        self,
        states: Float[Tensor, "batch source d_model"],
        mask: Bool[Tensor, "batch source"] | None = None,
    ) -> list[Memory]:
        """What each layer keeps of an encoder's output, for `hidden_states`.

        Args:
            states: the output.
            mask: False at padding.

        Raises:
            ModelError: if this is no decoder that reads one.
        """
        layers = [block.cross_attention for block in cast("Iterable[Block]", self.blocks)]
        if self.config.cross_attention is None:
            raise ModelError(
                "this model has no attention to an encoder",
                cure="Give its config a cross_attention, as the decoder of an EncoderDecoder has.",
            )
        return [layer.read(states, mask) for layer in layers if layer is not None]

    def _streams(self, x: Float[Tensor, "batch seq d_model"]) -> Streams:
        """What flows past the layers; the first one's values are computed once more for it."""
        streams = Streams(embeddings=x if self.config.embedding_stream else None)
        if not self.config.value_stream or not self.blocks:
            return streams
        first = cast("Block", self.blocks[0])
        return streams._replace(values=first.values(x, streams))

    def _memories(self, memory: Sequence[Memory] | None) -> Sequence[Memory | None]:
        if (memory is None) != (self.config.cross_attention is None):
            raise ModelError(
                "memory of an encoder's output is missing"
                if memory is None
                else "memory of an encoder's output, and no layer that reads it",
                cure="Call the EncoderDecoder that this is the decoder of, or give it what "
                "read() returns.",
            )
        return [None] * len(self.blocks) if memory is None else memory

    def _begin(
        self,
        ids: Tensor,
        document_ids: Tensor | None,
        segment_ids: Tensor | None,
        cache: Cache | None,
    ) -> tuple[Tensor, list[Sight]]:
        """Check and embed the ids; what each layer sees."""
        n = ids.shape[1]
        self._check(ids, n if cache is None else cache.end(n))
        same = None
        if cache is None:
            keys = positions = torch.arange(n, device=ids.device)
        else:
            keys, positions = cache.key_positions(n, ids.device), cache.positions(n)
        if document_ids is not None:
            same = document_ids.unsqueeze(-1) == document_ids.unsqueeze(-2)
            keys = positions = _positions_in_documents(document_ids)
        x = self.embed(ids, positions, segment_ids)
        whole = self.whole(positions, keys, same)
        if self.local is None or self.config.local is None:
            return x, [whole] * len(self.blocks)
        local = self.local(positions, keys, same)
        holds = self.config.local.holds
        return x, [local if holds(i) else whole for i in range(len(self.blocks))]

    def _check(self, ids: Tensor, length: int) -> None:
        if length > self.context_length:
            raise ModelError(
                f"{length} positions, and the model's context holds {self.context_length}",
                cure="Give it shorter rows, or a sliding window over them.",
            )
        if ids.device.type != "cpu" or ids.numel() == 0 or torch.compiler.is_compiling():
            return
        lowest, highest = (int(bound) for bound in ids.aminmax())
        if lowest < 0 or highest >= self.vocab_size:
            raise ModelError(
                f"id {lowest if lowest < 0 else highest} is outside the vocabulary of "
                f"{self.vocab_size} ids",
                cure="Use the tokenizer that the model was trained with.",
            )

    def next_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq vocab"]:
        """Log-probabilities of the next id, in nats and in float32 at least."""
        logits = self.forward(ids)
        return logits.log_softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def token_log_probs(self, ids: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch seq-1"]:
        """``log p(ids[:, t + 1] | ids[:, : t + 1])`` in nats."""
        logits = self.forward(ids[:, :-1])
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -F.cross_entropy(wide.transpose(1, 2), ids[:, 1:], reduction="none")

    def new_cache(
        self, batch_size: int, *, capacity: int | None = None, dtype: torch.dtype | None = None
    ) -> KVCache:
        """An empty cache for ``batch_size`` rows.

        Args:
            batch_size: rows.
            capacity: the most positions; ``context_length`` by default.
            dtype: of keys and values; by default that of the model, or of autocast where it is on.
        """
        longest = self.context_length if capacity is None else capacity
        return KVCache(self.cache_layout(dtype), batch_size, longest)

    def new_ragged_cache(self, batch_size: int, *, capacity: int | None = None) -> RaggedCache:
        """An empty cache for rows that have lengths of their own, of ``capacity`` at most."""
        longest = self.context_length if capacity is None else capacity
        return RaggedCache(self.cache_layout(), batch_size, longest)

    def new_block_pool(self, n_blocks: int, *, block_size: int = 16) -> BlockPool:
        """Memory for the keys and values of many texts."""
        return BlockPool(self.cache_layout(), n_blocks, block_size)

    def cache_layout(self, dtype: torch.dtype | None = None) -> CacheLayout:
        """Sizes and precision of this model's caches; ``dtype`` as in `new_cache`."""
        if not self.config.causal:
            raise ModelError(
                "this model sees the whole text at once, and cannot continue one",
                cure="Use its hidden_states: it is an encoder. A model that generates is causal.",
            )
        device = next(chain(self.parameters(), self.buffers())).device
        if dtype is None:
            autocast = torch.is_autocast_enabled(device.type)
            dtype = torch.get_autocast_dtype(device.type) if autocast else self._dtype()
        shape = self.config.attention.cache_shape(self.config.d_model)
        return CacheLayout(self.config.n_layers, *shape, dtype, device)

    def _dtype(self) -> torch.dtype:
        """That of the embedding; in few bits it says which it had, and its matrix is not made."""
        tokens = self.embed.tokens
        return getattr(tokens, "dtype", None) or tokens.weight.dtype

    def n_parameters(self, *, embeddings: bool = True, active: bool = False) -> int:
        """Number of parameters, a tied matrix counted once.

        Args:
            embeddings: whether token and position embeddings and an untied head count; scaling laws
                leave them out (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
            active: whether only those count that one token meets: of a mixture of experts, those
                that it takes.
        """
        total = sum(parameter.numel() for parameter in self.parameters())
        if active:
            mixtures = (part for part in self.modules() if isinstance(part, MixtureOfExperts))
            total -= sum(part.n_idle_parameters for part in mixtures)
        if embeddings:
            return total
        outside = {id(p): p for part in (self.embed, self.head) for p in part.parameters()}
        return total - sum(parameter.numel() for parameter in outside.values())


def _build_embedding(config: TransformerConfig) -> Embedding:
    return Embedding(
        nn.Embedding(config.vocab_size, config.d_model),
        config.position.build_embedding(config.context_length, config.d_model),
        segments=nn.Embedding(config.n_segments, config.d_model) if config.n_segments else None,
        norm=config.norm.build(config.d_model) if config.embedding_norm else None,
        scale=math.sqrt(config.d_model) if config.scale_embeddings else 1.0,
        dropout=config.dropout,
    )


def _build_mix(config: TransformerConfig) -> StreamMix | None:
    if not (config.embedding_stream or config.value_stream):
        return None
    return StreamMix(embeddings=config.embedding_stream, values=config.value_stream)


def _build_block(config: TransformerConfig) -> Block:
    def norm(there: bool = True) -> nn.Module:
        return config.norm.build(config.d_model) if there else nn.Identity()

    placed = config.placement != "none"
    sandwich = config.placement == "sandwich"
    cross = config.cross_attention
    return Block(
        config.attention.build(config.d_model),
        config.feedforward.build(config.d_model),
        norm(placed),
        norm(placed),
        post_norm1=norm() if sandwich else None,
        post_norm2=norm() if sandwich else None,
        cross_attention=cross.build_cross(config.d_model) if cross else None,
        cross_norm=norm(placed) if cross else None,
        mix=_build_mix(config),
        placement=config.placement,
        residual=config.residual,
        dropout=config.dropout,
    )


def _positions_in_documents(
    document_ids: Int[Tensor, "batch seq"],
) -> Int[Tensor, "batch seq"]:
    """How far each position is from the beginning of its document."""
    index = torch.arange(document_ids.shape[1], device=document_ids.device)
    begins = document_ids != document_ids.roll(1, -1)
    return index - torch.where(begins, index, 0).cummax(-1).values


def _default_cuda_device() -> list[int]:
    """The CUDA device that new tensors land on, whose generator must be put back; none on a CPU."""
    device = torch.get_default_device()
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]
