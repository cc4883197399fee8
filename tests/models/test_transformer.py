"""The Transformer: causality and caching by every path, documents, tying, precision, errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from stemma.errors import ConfigError, ModelError
from stemma.models import Transformer, TransformerConfig, token_log_probs
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    NoPositionsConfig,
    RMSNormConfig,
    RotaryConfig,
)

GPT2 = TransformerConfig(
    vocab_size=31,
    context_length=16,
    d_model=24,
    n_layers=2,
    attention=AttentionConfig(n_heads=4),
    init={"std": 0.3, "embedding_std": 1.0},
)
QWEN = GPT2.replace(
    attention=AttentionConfig(
        n_heads=4, n_kv_heads=2, d_head=8, bias=False, qk_norm=RMSNormConfig()
    ).model_dump(),
    feedforward=GatedMLPConfig(d_ff=40).model_dump(),
    norm=RMSNormConfig().model_dump(),
    position=RotaryConfig().model_dump(),
    tie_embeddings=False,
)
POST = GPT2.replace(placement="post", norm=LayerNormConfig(bias=False).model_dump())
BARE = QWEN.replace(placement="none", position=NoPositionsConfig().model_dump(), init={"std": 0.15})
CONFIGS = {"gpt2": GPT2, "qwen": QWEN, "post": POST, "bare": BARE}


@pytest.fixture(scope="module", params=CONFIGS)
def model(request: pytest.FixtureRequest) -> Transformer:
    return Transformer(CONFIGS[request.param], seed=3).eval().requires_grad_(False)


def some_ids(batch: int, seq: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(31, (batch, seq), generator=generator)


def cached_in(*chunks: int) -> Callable[[Transformer, Tensor], Tensor]:
    def run(model: Transformer, ids: Tensor) -> Tensor:
        cache = model.new_cache(ids.shape[0])
        return torch.cat([model(part, cache=cache) for part in ids.split(chunks, dim=1)], dim=1)

    return run


def explicit(model: Transformer, ids: Tensor) -> Tensor:
    x, sights = model._begin(ids, None, None, None)
    for block, sight in zip(model.blocks, sights, strict=True):
        x, _ = block.forward_with_weights(x, sight=sight)
    return model.head(model.final_norm(x))


def in_one_document(model: Transformer, ids: Tensor) -> Tensor:
    return model(ids, document_ids=torch.zeros_like(ids))


def training_in_bfloat16(model: Transformer, ids: Tensor) -> Tensor:
    with torch.enable_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden = model.embed.tokens.weight.requires_grad_()
        logits = model(ids)
        hidden.requires_grad_(False)
    return logits.detach()


PATHS: dict[str, Callable[[Transformer, Tensor], Tensor]] = {
    "fused": lambda model, ids: model(ids),
    "explicit": explicit,
    "one document": in_one_document,
    "cached at once": cached_in(12),
    "cached one by one": cached_in(*[1] * 12),
    "cached in chunks": cached_in(5, 1, 4, 2),
    "training in bfloat16": training_in_bfloat16,
}


@pytest.mark.parametrize("path", PATHS)
def test_a_later_token_never_changes_an_earlier_logit(model: Transformer, path: str) -> None:
    ids = some_ids(2, 12)
    before = PATHS[path](model, ids)
    for at in (1, 6, 11):
        changed = ids.clone()
        changed[:, at:] = (changed[:, at:] + 1) % 31
        after = PATHS[path](model, changed)
        assert after[:, :at].equal(before[:, :at])
        assert not after[:, at:].isclose(before[:, at:]).all()


@pytest.mark.parametrize("path", PATHS)
def test_every_path_is_one_function(model: Transformer, path: str) -> None:
    ids = some_ids(3, 12, seed=1)
    expected, found = model(ids), PATHS[path](model, ids)
    if path == "training in bfloat16":
        assert (found - expected).norm() < 0.05 * expected.norm()
        assert not found.float().equal(expected)
    else:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=5), st.integers(0, 1000))
def test_cached_in_any_chunks_equals_uncached(chunks: list[int], seed: int) -> None:
    chunks = chunks[: next((i for i in range(5, 0, -1) if sum(chunks[:i]) <= 16), 1)]
    for config in (GPT2, QWEN):
        model = Transformer(config.replace(n_layers=1), seed=seed).eval()
        ids = some_ids(2, sum(chunks), seed)
        with torch.no_grad():
            torch.testing.assert_close(
                cached_in(*chunks)(model, ids), model(ids), atol=1e-5, rtol=1e-5
            )


def test_a_cache_rolls_back(model: Transformer) -> None:
    ids = some_ids(2, 10)
    cache = model.new_cache(2)
    model(ids[:, :6], cache=cache)
    model(some_ids(2, 4, seed=9), cache=cache)
    cache.truncate(6)
    found = model(ids[:, 6:], cache=cache)
    torch.testing.assert_close(found, model(ids)[:, 6:], atol=1e-5, rtol=1e-5)
    assert cache.length == 10


def test_a_cache_in_float64_is_exact_to_the_last_places() -> None:
    model = Transformer(QWEN, seed=1).double().eval()
    ids = some_ids(2, 16)
    with torch.no_grad():
        difference = (cached_in(7, 1, 8)(model, ids) - model(ids)).abs().max()
    assert model.new_cache(1).n_bytes == 2 * 2 * 1 * 2 * 16 * 8 * 8
    assert difference < 1e-10


def test_a_cache_takes_the_precision_that_the_model_runs_in() -> None:
    model = Transformer(QWEN).eval()
    half = model.new_cache(1, capacity=4, dtype=torch.bfloat16)
    assert half.n_bytes * 8 == model.new_cache(1).n_bytes
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        cache = model.new_cache(2)
        ids = some_ids(2, 8)
        found = torch.cat([model(ids[:, :5], cache=cache), model(ids[:, 5:], cache=cache)], 1)
        torch.testing.assert_close(found, model(ids), atol=0.1, rtol=0.1)
    assert cache.n_bytes * 2 == model.new_cache(2).n_bytes


def test_documents_are_as_if_alone(model: Transformer) -> None:
    lengths = [[4, 1, 7], [2, 10]]
    ids = some_ids(2, 12)
    document_ids = torch.tensor(
        [[i for i, n in enumerate(row) for _ in range(n)] for row in lengths]
    )
    together = model(ids, document_ids=document_ids)
    for row, sizes in enumerate(lengths):
        alone = [model(part) for part in ids[row : row + 1].split(sizes, dim=1)]
        torch.testing.assert_close(
            together[row : row + 1], torch.cat(alone, 1), atol=1e-5, rtol=1e-5
        )
    assert (together - model(ids)).abs().max() > 1e-2
    for weights in model.attention_weights(ids, document_ids=document_ids):
        assert weights[0, :, 4:, :4].abs().max() == 0
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 12))


def test_documents_in_training_by_products() -> None:
    model = Transformer(QWEN, seed=2)
    ids = some_ids(2, 12)
    document_ids = torch.tensor([[0] * 5 + [1] * 7, [3] * 12])
    with torch.autocast("cpu", torch.bfloat16):
        trained = model(ids, document_ids=document_ids)
        with torch.no_grad():
            fused = model(ids, document_ids=document_ids)
    assert (trained - fused).norm() < 0.03 * fused.norm()


def test_distributions(model: Transformer) -> None:
    ids = some_ids(2, 8)
    log_probs = model.next_log_probs(ids)
    assert log_probs.shape == (2, 8, 31)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 8))
    gathered = log_probs[:, :-1].gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(token_log_probs(model, ids), gathered)
    torch.testing.assert_close(model.head(model.hidden_states(ids)), model(ids))


def test_log_probabilities_are_wide_when_the_model_is_narrow() -> None:
    model = Transformer(GPT2).to(torch.bfloat16)
    assert model.next_log_probs(some_ids(1, 3)).dtype == torch.float32
    assert model.token_log_probs(some_ids(1, 3)).dtype == torch.float32
    assert model.double().next_log_probs(some_ids(1, 3)).dtype == torch.float64


def test_a_tied_head_is_one_matrix_with_both_gradients() -> None:
    tied = Transformer(GPT2, seed=1)
    assert tied.head.weight is tied.embed.tokens.weight
    assert "head.weight" in tied.state_dict()
    untied = Transformer(GPT2.replace(tie_embeddings=False), seed=1)
    untied.load_state_dict(tied.state_dict())
    assert untied.n_parameters() - tied.n_parameters() == 31 * 24
    ids = some_ids(2, 9)
    for model in (tied, untied):
        model.token_log_probs(ids).sum().backward()
    both = untied.head.weight.grad + untied.embed.tokens.weight.grad
    torch.testing.assert_close(tied.head.weight.grad, both)


def test_weights_that_are_replaced_are_tied_again() -> None:
    with torch.device("meta"):
        model = Transformer(GPT2)
    stored = Transformer(GPT2, seed=4)
    model.load_state_dict(stored.state_dict(), assign=True)
    model.tie_weights()
    assert model.head.weight is model.embed.tokens.weight
    ids = some_ids(1, 5)
    assert model(ids).equal(stored(ids))


def test_a_rotary_model_made_on_the_meta_device_runs() -> None:
    with torch.device("meta"):
        model = Transformer(QWEN)
    stored = Transformer(QWEN, seed=4)
    model.load_state_dict(stored.state_dict(), assign=True)
    ids = some_ids(1, 5)
    assert model(ids).equal(stored(ids))


def test_training_after_inference_mode() -> None:
    model = Transformer(QWEN)
    with torch.inference_mode():
        model(some_ids(1, 5))
    model.token_log_probs(some_ids(1, 5)).sum().backward()
    assert model.blocks[0].attention.q_proj.weight.grad is not None


def test_one_step_of_gradient_descent_learns() -> None:
    model = Transformer(QWEN, seed=0)
    ids = some_ids(4, 12)
    before = model.token_log_probs(ids).mean()
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.add_(parameter.grad, alpha=0.01)
    assert model.token_log_probs(ids).mean() > before


def test_dropout_is_for_training_only() -> None:
    model = Transformer(GPT2.replace(dropout=0.5))
    ids = some_ids(1, 6)
    assert model.eval()(ids).equal(model(ids))
    with torch.random.fork_rng():
        assert not model.train()(ids).equal(model(ids))


def test_names_of_the_weights() -> None:
    qwen = set(Transformer(QWEN.replace(n_layers=1)).state_dict())
    parts = ["q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm"]
    assert qwen == {
        "embed.tokens.weight",
        "blocks.0.norm1.weight",
        *(f"blocks.0.attention.{part}.weight" for part in parts),
        "blocks.0.norm2.weight",
        *(f"blocks.0.feedforward.{part}_proj.weight" for part in ("up", "gate", "down")),
        "final_norm.weight",
        "head.weight",
    }
    assert "embed.positions.weight" in Transformer(GPT2).state_dict()


def test_too_long_and_unknown_ids(model: Transformer) -> None:
    with pytest.raises(ModelError, match="17 positions, and the model's context holds 16"):
        model(some_ids(1, 17))
    cache = model.new_cache(1)
    model(some_ids(1, 10), cache=cache)
    with pytest.raises(ModelError, match="17 positions, and the model's context holds 16"):
        model(some_ids(1, 7), cache=cache)
    assert cache.length == 10
    with pytest.raises(ModelError, match="id 31 is outside the vocabulary of 31 ids"):
        model(torch.tensor([[3, 31]]))
    with pytest.raises(ModelError, match="id -1 is outside"):
        model(torch.tensor([[-1, 31]]))
    with pytest.raises(ModelError, match="document_ids together with a cache"):
        model(some_ids(1, 2), cache=cache, document_ids=torch.zeros(1, 2))
    with pytest.raises(ModelError, match="the cache has 1 rows, the ids 2"):
        model(some_ids(2, 2), cache=cache)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 26}, r"d_model = 26 is not divisible by n_heads = 4: choose n_heads = 2"),
        (
            {"attention": {"n_heads": 4, "n_kv_heads": 3}},
            r"n_heads = 4 is not divisible by n_kv_heads = 3: choose n_kv_heads from \[1, 2, 4\]",
        ),
        (
            {"attention": {"n_heads": 8}, "position": {"kind": "rotary"}},
            r"position.*d_head = 3 is odd.*choose an even d_head",
        ),
        ({"n_layers": -1}, r"n_layers = -1: input should be greater than or equal to 0"),
        ({"vocab_size": 0}, "vocab_size = 0"),
        ({"dropout": 1.0}, "dropout = 1.0: input should be less than 1"),
        ({"placement": "before"}, "placement = 'before'"),
        ({"norm": {"kind": "rms_nrom"}}, "norm.*rms_nrom"),
        ({"feedforward": {"kind": "gated"}}, "'feedforward.d_ff' is missing"),
        ({"attention": {"n_head": 4}}, r"(?s)'attention.n_head'.*Did you mean 'attention.n_heads'"),
        ({"n_layer": 4}, r"(?s)unknown key 'n_layer'.*Did you mean 'n_layers'"),
    ],
)
def test_a_config_that_cannot_be_says_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TransformerConfig.parse({**GPT2.model_dump(), **changes})


def test_a_config_is_frozen() -> None:
    with pytest.raises(ValidationError):
        GPT2.n_layers = 5  # type: ignore[misc]


def test_no_layers_is_a_bigram_model() -> None:
    model = Transformer(GPT2.replace(n_layers=0, position={"kind": "none"})).eval()
    logits = model(torch.tensor([[4, 9, 4]]))
    assert logits[0, 0].equal(logits[0, 2])
    assert model.attention_weights(torch.tensor([[4]])) == []


def test_build_is_the_model(model: Transformer) -> None:
    assert model.config.build(seed=3).state_dict().keys() == model.state_dict().keys()
    ids = some_ids(1, 4)
    assert model.config.build(seed=3).eval()(ids).equal(model(ids))
