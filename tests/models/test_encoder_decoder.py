"""The encoder-decoder: against torch's own, caches, padding, what is shared."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from stemma.errors import ConfigError, ModelError
from stemma.models import EncoderDecoder, EncoderDecoderConfig
from stemma.models.encoder_decoder_config import encoder_decoder, original
from stemma.nn import MultiHeadAttention, RMSNormConfig


def tiny(**values: Any) -> EncoderDecoderConfig:
    sizes = {"vocab_size": 19, "d_model": 8, "n_layers": 2, "n_heads": 2, "d_ff": 12}
    return original(**{**sizes, "context_length": 9, "dropout": 0.0, **values})


def t5_like() -> EncoderDecoderConfig:
    common = tiny().decoder.replace(
        cross_attention=None,
        norm={"kind": "rms_norm"},
        position={"kind": "relative_buckets", "n_buckets": 8, "max_distance": 6},
        placement="pre",
        scale_embeddings=False,
        attention={"n_heads": 2, "bias": False, "scale": 1.0},
        head={"kind": "linear", "scaled": True},
    )
    return encoder_decoder(common, n_decoder_layers=3)


CONFIGS = {"original": tiny, "t5": t5_like}


def built(config: EncoderDecoderConfig, seed: int = 0) -> EncoderDecoder:
    """Every parameter random, biases and gains too."""
    model = EncoderDecoder(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = 0.4 * torch.randn(parameter.shape, generator=generator)
        parameter.copy_(1 + noise if "norm" in name else noise)
    return model


def pairs(seed: int, n_words: list[int], target: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(19, (len(n_words), max(n_words)), generator=generator)
    targets = torch.randint(19, (len(n_words), target), generator=generator)
    return source, targets, torch.arange(max(n_words)) < torch.tensor(n_words)[:, None]


def copy_attention(theirs: nn.MultiheadAttention, ours: Any) -> None:
    parts = (ours.q_proj, ours.k_proj, ours.v_proj)
    theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
    theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.out_proj.load_state_dict(ours.o_proj.state_dict())


@torch.no_grad()
def torchs(model: EncoderDecoder) -> tuple[nn.TransformerEncoder, nn.TransformerDecoder]:
    """torch's own layers with the same weights."""
    encoder_layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
    decoder_layer = nn.TransformerDecoderLayer(8, 2, 12, batch_first=True)
    encoder = nn.TransformerEncoder(encoder_layer, 2, enable_nested_tensor=False).eval()
    decoder = nn.TransformerDecoder(decoder_layer, 2).eval()
    for stack, blocks in ((encoder, model.encoder.blocks), (decoder, model.decoder.blocks)):
        for layer, block in zip(stack.layers, blocks, strict=True):
            copy_attention(layer.self_attn, block.attention)
            layer.norm1.load_state_dict(block.norm1.state_dict())
            layer.linear1.load_state_dict(block.feedforward.up_proj.state_dict())
            layer.linear2.load_state_dict(block.feedforward.down_proj.state_dict())
            last = layer.norm2
            if block.cross_attention is not None:
                copy_attention(layer.multihead_attn, block.cross_attention)
                layer.norm2.load_state_dict(block.cross_norm.state_dict())
                last = layer.norm3
            last.load_state_dict(block.norm2.state_dict())
    return encoder, decoder


def waves(length: int, d_model: int = 8) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)), PE(pos, 2i + 1) its cosine: the paper's formula."""
    table = torch.zeros(length, d_model, dtype=torch.float64)
    for position in range(length):
        for i in range(0, d_model, 2):
            angle = torch.tensor(position / 10_000 ** (i / d_model), dtype=torch.float64)
            table[position, i], table[position, i + 1] = angle.sin(), angle.cos()
    return table.float()


@settings(max_examples=20)
@given(seed=st.integers(0, 99), n_words=st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_the_original_is_that_of_torch(seed: int, n_words: list[int]) -> None:
    model = built(tiny(), seed)
    encoder, decoder = torchs(model)
    source, targets, mask = pairs(seed, n_words)
    matrix = model.encoder.embed.tokens.weight
    read = encoder(matrix[source] * 8**0.5 + waves(source.shape[1]), src_key_padding_mask=~mask)
    written = decoder(
        matrix[targets] * 8**0.5 + waves(5),
        read,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
        memory_key_padding_mask=~mask,
        tgt_is_causal=True,
    )
    found = model(source, targets, source_mask=mask)
    torch.testing.assert_close(found, written @ matrix.T, atol=1e-4, rtol=1e-4)
    model.decoder.blocks[1].cross_attention.o_proj.weight[0].add_(0.5)
    assert (model(source, targets, source_mask=mask) - found).abs().max() > 1e-3


@pytest.mark.parametrize("name", CONFIGS)
@given(
    seed=st.integers(0, 99),
    n_words=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    cut=st.integers(1, 4),
)
def test_cached_is_uncached_and_rows_and_padding_do_not_matter(
    name: str, seed: int, n_words: list[int], cut: int
) -> None:
    model = built(CONFIGS[name](), seed)
    source, targets, mask = pairs(seed, n_words)
    whole = model(source, targets, source_mask=mask)
    conditional = model.given(source, source_mask=mask)
    torch.testing.assert_close(conditional(targets), whole)
    cache = conditional.new_cache(len(n_words), capacity=5)
    parts = [targets[:, :cut], *targets[:, cut:].split(1, dim=1)]
    hidden = torch.cat([conditional.hidden_states(part, cache=cache) for part in parts], dim=1)
    torch.testing.assert_close(conditional.head(hidden), whole, atol=1e-4, rtol=1e-4)
    for row, length in enumerate(n_words):
        alone = model(source[[row], :length], targets[[row]])
        torch.testing.assert_close(alone, whole[[row]], atol=1e-4, rtol=1e-4)
    rows = torch.arange(len(n_words)).flip(0).repeat(2)
    chosen = conditional.select(rows)
    torch.testing.assert_close(chosen(targets[rows]), whole[rows], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_one_source_has_any_number_of_targets(name: str) -> None:
    model = built(CONFIGS[name]())
    source, targets, _ = pairs(0, [4])
    several = torch.cat([targets, targets.flip(1), targets.roll(1, 1)])
    mask = torch.arange(4)[None] >= 1
    for padding in (None, mask):
        conditional = model.given(source, source_mask=padding)
        found = conditional(several)
        for row in range(3):
            alone = conditional(several[[row]])
            torch.testing.assert_close(found[[row]], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_may_stand_in_front(name: str) -> None:
    model = built(CONFIGS[name]())
    source, targets, _ = pairs(0, [4])
    padded = nn.functional.pad(source, (3, 0), value=7)
    mask = torch.arange(7)[None] >= 3
    found = model(padded, targets, source_mask=mask)
    torch.testing.assert_close(found, model(source, targets), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_target_is_causal_and_the_source_is_not(name: str) -> None:
    model = built(CONFIGS[name]())
    source, targets, _ = pairs(0, [6])
    whole = model(source, targets)
    changed = targets.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 19
    torch.testing.assert_close(model(source, changed)[:, :3], whole[:, :3])
    assert (model(source, changed)[:, 3:] - whole[:, 3:]).abs().max() > 1e-3
    for position in range(6):
        changed = source.clone()
        changed[:, position] = (changed[:, position] + 1) % 19
        assert (model(changed, targets)[:, 0] - whole[:, 0]).abs().max() > 1e-4


def test_one_matrix_for_three_uses() -> None:
    model = tiny().build()
    matrix = model.encoder.embed.tokens.weight
    assert model.decoder.embed.tokens.weight is matrix
    assert model.decoder.head.weight is matrix
    assert model.n_parameters() == sum(p.numel() for p in model.parameters())
    assert model.n_parameters(embeddings=False) == model.n_parameters() - matrix.numel()
    apart = tiny().replace(share_embeddings=False).build()
    assert apart.n_parameters() == model.n_parameters() + matrix.numel()
    assert apart.decoder.embed.tokens.weight is not apart.encoder.embed.tokens.weight


def test_the_base_model_has_the_papers_size() -> None:
    """Table 3 says 65 million parameters."""
    with torch.device("meta"):
        assert original().build().n_parameters() == pytest.approx(65e6, rel=0.05)


def test_encoder_and_decoder_begin_differently_and_one_seed_is_one_model() -> None:
    model, again = tiny().build(seed=3), tiny().build(seed=3)
    states = model.state_dict()
    assert all(torch.equal(states[name], value) for name, value in again.state_dict().items())
    attentions = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    firsts = {a.q_proj.weight[0, 0].item() for a in attentions}
    assert len(firsts) == 4
    other = tiny().build(seed=4).state_dict()
    assert not torch.equal(
        states["encoder.embed.tokens.weight"], other["encoder.embed.tokens.weight"]
    )


def test_a_decoder_of_three_sublayers_is_scaled_by_three() -> None:
    config = tiny(d_model=64, d_ff=256).replace(share_embeddings=False)
    scaled = config.decoder.replace(init={"std": 0.02, "residual": "scaled"})
    block = config.replace(decoder=scaled).build().decoder.blocks[0]
    for part in (block.attention.o_proj, block.cross_attention.o_proj):
        assert part.weight.std().item() == pytest.approx(0.02 / 6**0.5, rel=0.1)


def test_what_is_wrong_is_named() -> None:
    model = built(tiny())
    source, targets, mask = pairs(0, [3, 2])
    with pytest.raises(ModelError, match="a source without a token"):
        model(source, targets, source_mask=mask & torch.tensor([[True], [False]]))
    with pytest.raises(ModelError, match="1 targets of 2 sources"):
        model.given(source)(targets[:1])
    with pytest.raises(ModelError, match="4 targets of 2 sources"):
        model.given(source)(targets.repeat(2, 1))
    with pytest.raises(ModelError, match="memory of an encoder's output is missing"):
        model.decoder(targets)
    with pytest.raises(ModelError, match="no layer that reads it"):
        model.encoder.hidden_states(source, memory=model.encode(source))
    with pytest.raises(ModelError, match="no attention to an encoder"):
        model.encoder.read(torch.zeros(1, 2, 8))


@pytest.mark.parametrize(
    ("part", "changes", "named"),
    [
        ("encoder", {"causal": True}, "encoder.causal = true"),
        ("encoder", {"head": {"kind": "linear"}}, "encoder.head"),
        ("encoder", {"vocab_size": 20}, "vocabularies of 20 and 19"),
        ("decoder", {"causal": False}, "decoder.causal = false"),
        ("decoder", {"cross_attention": None}, "decoder.cross_attention is missing"),
        ("decoder", {"placement": "sandwich"}, "sandwich"),
        ("decoder", {"d_model": 16}, "d_model = 8 and 16"),
    ],
)
def test_parts_that_do_not_fit_are_named(part: str, changes: dict[str, Any], named: str) -> None:
    values = tiny().model_dump()
    with pytest.raises(ConfigError, match=named):
        EncoderDecoderConfig.parse({**values, part: {**values[part], **changes}})
    with pytest.raises(ConfigError, match="start_id = 19"):
        EncoderDecoderConfig.parse({**values, "start_id": 19})


def test_it_learns_to_reverse() -> None:
    """The source is needed, and used: the same targets with shuffled sources are not predicted."""
    torch.manual_seed(0)
    model = encoder_decoder(
        tiny(d_model=32, d_ff=64).decoder.replace(
            cross_attention=None, placement="pre", norm=RMSNormConfig().model_dump()
        )
    ).build(seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(250):
        source = torch.randint(1, 19, (32, 6))
        targets = torch.cat([torch.zeros(32, 1, dtype=torch.int64), source.flip(1)], dim=1)
        logits = model(source, targets[:, :-1])
        loss = nn.functional.cross_entropy(logits.transpose(1, 2), targets[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    right = (model(source, targets[:, :-1]).argmax(-1) == targets[:, 1:]).float().mean()
    lost = (model(source.roll(1, 0), targets[:, :-1]).argmax(-1) == targets[:, 1:]).float().mean()
    assert right > 0.9
    assert lost < 0.3
