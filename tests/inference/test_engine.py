"""The engine computes what the model computes."""

from __future__ import annotations

import copy
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import stemma
from stemma.errors import ModelError
from stemma.inference import Batch, ContinuousBatch, SamplingConfig, generate_ids
from stemma.inference.engine import Engine, choice, obstacle
from stemma.inference.quantisation import quantise
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.nn import (
    AttentionConfig,
    GatedMLPConfig,
    LayerNormConfig,
    Llama3ScalingConfig,
    MLPConfig,
    NoPositionsConfig,
    RMSNormConfig,
    RotaryConfig,
)

TOLERANCE = 1e-4
GREEDY = SamplingConfig(temperature=0)
SCALED = RotaryConfig(scaling=Llama3ScalingConfig(factor=4.0, original_context=8))


def config(**changes: Any) -> TransformerConfig:
    values: dict[str, Any] = {
        "vocab_size": 29,
        "context_length": 24,
        "d_model": 24,
        "n_layers": 2,
        "attention": AttentionConfig(n_heads=6, n_kv_heads=2, bias=False),
        "feedforward": GatedMLPConfig(d_ff=37),
        "norm": RMSNormConfig(),
        "position": RotaryConfig(),
    }
    return TransformerConfig(**{**values, **changes})


@st.composite
def configs(draw: st.DrawFn) -> TransformerConfig:
    n_kv_heads, group = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    norms = st.sampled_from([RMSNormConfig(), LayerNormConfig(), LayerNormConfig(bias=False)])
    activation = draw(st.sampled_from(["gelu", "gelu_tanh", "silu", "relu", "relu2"]))
    gated, d_ff = draw(st.booleans()), draw(st.integers(1, 40))
    biased = draw(st.booleans())
    kind = GatedMLPConfig if gated else MLPConfig
    return config(
        vocab_size=draw(st.integers(2, 40)),
        d_model=n_kv_heads * group * 2 * draw(st.integers(1, 5)),
        n_layers=draw(st.integers(1, 3)),
        attention=AttentionConfig(
            n_heads=n_kv_heads * group,
            n_kv_heads=n_kv_heads,
            d_head=draw(st.sampled_from([None, 2, 16, 18, 72])),
            bias=draw(st.sampled_from([True, False, "qkv"])),
            qk_norm=draw(st.none() | norms),
        ),
        feedforward=kind(d_ff=d_ff, activation=activation, bias=biased),
        norm=draw(norms),
        position=draw(
            st.sampled_from([None, NoPositionsConfig(), RotaryConfig(theta=100.0), SCALED])
        )
        or config().position,
        residual=draw(st.booleans()),
        tie_embeddings=draw(st.booleans()),
    )


def randomised(settings_: TransformerConfig, seed: int = 0) -> Transformer:
    """Every parameter is random: gains and biases too."""
    generator = torch.Generator().manual_seed(seed)
    model = settings_.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in name else 0.3 * noise)
    return model.eval()


def random_ids(model: Transformer, *shape: int, seed: int = 1) -> Tensor:
    return torch.randint(model.vocab_size, shape, generator=torch.Generator().manual_seed(seed))


def by_steps(engine: Engine, ids: Tensor, sizes: list[int]) -> Tensor:
    """Logits of every position, given to the engine in pieces."""
    cache = engine.new_cache(len(ids), capacity=ids.shape[1])
    pieces = [engine.hidden_states(piece, cache=cache) for piece in ids.split(sizes, dim=1)]
    assert cache.length == ids.shape[1]
    return torch.cat([engine.head(piece) for piece in pieces], dim=1)


@torch.inference_mode()
@settings(max_examples=40, deadline=None)
@given(configs(), st.integers(0, 100), st.data())
def test_steps_equal_the_model(tiny: TransformerConfig, seed: int, data: st.DataObject) -> None:
    model = randomised(tiny, seed)
    rows = data.draw(st.integers(1, 3))
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    ids = random_ids(model, rows, sum(sizes))
    found, expected = by_steps(Engine(model), ids, sizes), model(ids)
    # Without residual connections some models are so steep that float32 itself is further off.
    exact = copy.deepcopy(model).double()(ids)
    bound = TOLERANCE * (1 + exact.abs().max()) + 4 * (expected - exact).abs().max()
    assert (found - exact).abs().max() < bound


FAMILY_CONFIGS = {
    "gpt2": TransformerConfig(
        vocab_size=31, context_length=20, d_model=32, n_layers=2, attention={"n_heads": 4}
    ),
    "llama": config(norm=RMSNormConfig(eps=1e-5), position=SCALED),
    "qwen2": config(attention=AttentionConfig(n_heads=6, n_kv_heads=2, bias="qkv")),
    "qwen3": config(
        attention=AttentionConfig(
            n_heads=6, n_kv_heads=2, d_head=8, bias=False, qk_norm=RMSNormConfig()
        )
    ),
}


@torch.inference_mode()
@pytest.mark.parametrize("name", FAMILY_CONFIGS)
def test_steps_equal_transformers(name: str) -> None:
    family, model = FAMILIES[name], randomised(FAMILY_CONFIGS[name])
    config_json, tensors = family.to_huggingface(model.config, model.state_dict())
    theirs_config = transformers.AutoConfig.for_model(
        **config_json, bos_token_id=None, eos_token_id=None
    )
    theirs = getattr(transformers, family.architecture)(theirs_config).eval()
    theirs.load_state_dict(tensors, strict=False)
    theirs.tie_weights()
    ids = random_ids(model, 2, 12)
    found, expected = by_steps(Engine(model), ids, [1] * 12), theirs(ids).logits
    assert (found - expected).abs().max() < TOLERANCE
    with torch.no_grad():
        model.blocks[1].attention.v_proj.weight[3] *= 1.1
    assert (by_steps(Engine(model), ids, [1] * 12) - expected).abs().max() > 10 * TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("bits", ["int8", "int4"])
@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_quantised_steps_equal_the_quantised_model(bits: Any, rows: int) -> None:
    model = quantise(randomised(config(d_model=96, feedforward=GatedMLPConfig(d_ff=64))), bits)
    ids = random_ids(model, rows, 6)
    torch.testing.assert_close(
        by_steps(Engine(model), ids, [2, 1, 1, 2]), model(ids), atol=TOLERANCE, rtol=TOLERANCE
    )


@torch.inference_mode()
def test_a_quantised_model_may_be_cast() -> None:
    """Its scales and its cache are bfloat16 then."""
    model = quantise(randomised(config(d_model=96, feedforward=GatedMLPConfig(d_ff=64))), "int8")
    model.to(torch.bfloat16)
    ids = random_ids(model, 1, 4)
    found = by_steps(Engine(model), ids, [1] * 4)
    exact = model.float()(ids)
    assert (found - exact).norm() < 0.02 * exact.norm()


@torch.inference_mode()
def test_bfloat16_is_as_near_to_the_exact_model_as_torch_s() -> None:
    model = randomised(config(d_model=48, n_layers=4))
    half = config(d_model=48, n_layers=4).build().to(torch.bfloat16).eval()
    half.load_state_dict(model.state_dict())
    model.load_state_dict(half.state_dict())
    ids = random_ids(model, 2, 20)
    exact = model(ids)
    ours, torchs = by_steps(Engine(half), ids, [1] * 20), half(ids).float()
    assert (ours - exact).square().mean() < (torchs - exact).square().mean()


@torch.inference_mode()
def test_rows_of_different_lengths() -> None:
    """Each row at a position of its own, as when texts of several lengths are continued at once."""
    model = randomised(config())
    engine, ids = Engine(model), random_ids(model, 3, 9)
    cache = engine.new_cache(3, capacity=9)
    engine.hidden_states(ids[:, :5], cache=cache)
    lengths = torch.tensor([5, 2, 4])
    rows = torch.arange(3)
    hidden = engine.step(ids[rows, lengths], lengths, rows, cache)
    for row, length in enumerate(lengths):
        expected = model(ids[row : row + 1, : length + 1])[:, -1]
        torch.testing.assert_close(engine.head(hidden[row : row + 1]), expected, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_several_new_positions_of_one_row_see_each_other() -> None:
    model = randomised(config())
    engine, ids = Engine(model), random_ids(model, 2, 8)
    cache = engine.new_cache(2, capacity=8)
    engine.hidden_states(ids[:, :4], cache=cache)
    rows, positions = torch.tensor([1, 1, 1, 0]), torch.tensor([4, 5, 6, 4])
    hidden = engine.step(ids[rows, positions], positions, rows, cache)
    expected = torch.cat([model(ids[1:, :7])[0, 4:], model(ids[:1, :5])[0, 4:]])
    torch.testing.assert_close(engine.head(hidden), expected, atol=TOLERANCE, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8", "int4"])
def test_a_row_gets_the_same_bits_whatever_is_computed_beside_it(precision: Any) -> None:
    """So batched, speculative and plain decoding choose the same tokens."""
    model = randomised(config(d_model=96, feedforward=GatedMLPConfig(d_ff=64)))
    if precision.startswith("int"):
        quantise(model, precision)
    else:
        model.to(getattr(torch, precision))
    engine, ids = Engine(model), random_ids(model, 1, 7)
    alone = by_steps(engine, ids, [1] * 7)
    assert torch.equal(by_steps(engine, ids, [3, 4]), alone)
    others = torch.cat([random_ids(model, 5, 7, seed=3), ids])
    assert torch.equal(by_steps(engine, others, [2, 1, 2, 2])[5:], alone)


@torch.inference_mode()
def test_a_truncated_cache_goes_on() -> None:
    model = randomised(config())
    engine, ids, others = Engine(model), random_ids(model, 1, 10), random_ids(model, 1, 10, seed=2)
    cache = engine.new_cache(1, capacity=10)
    engine.hidden_states(others, cache=cache)
    cache.truncate(0)
    engine.hidden_states(ids[:, :6], cache=cache)
    cache.truncate(4)
    hidden = engine.hidden_states(ids[:, 4:], cache=cache)
    torch.testing.assert_close(engine.head(hidden), model(ids)[:, 4:], atol=TOLERANCE, rtol=0)


@torch.inference_mode()
def test_any_number_of_threads_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.inference.engine.engine._WORTH_A_THREAD", 1)
    model = randomised(config(d_model=36))
    ids = random_ids(model, 2, 12)
    before, found = torch.get_num_threads(), []
    try:
        for n in (1, 2, 3, 7):
            torch.set_num_threads(n)
            found.append(by_steps(Engine(model), ids, [1, 3, 1, 7]))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found[1:])


@torch.inference_mode()
def test_weights_may_change_between_two_texts() -> None:
    model = randomised(config())
    engine, ids = Engine(model), random_ids(model, 1, 5)
    by_steps(engine, ids, [1] * 5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.1)
    torch.testing.assert_close(by_steps(engine, ids, [1] * 5), model(ids), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_may_move_within_a_text(dtype: torch.dtype) -> None:
    """A cast and other threads replace the memory of parameters; none of it is read again."""
    model = randomised(config(d_model=96))
    engine, ids = Engine(model), random_ids(model, 1, 12)
    cache = engine.new_cache(1, capacity=12)
    engine.hidden_states(ids[:, :6], cache=cache)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype).clone()
    litter = [torch.full((96, 96), 7.0) for _ in range(200)]
    found = engine.head(engine.hidden_states(ids[:, 6:], cache=cache))
    wide = copy.deepcopy(model).float()
    expected = wide(ids)[:, 6:]
    assert len(litter) == 200
    assert (found - expected).norm() < 0.02 * expected.norm()


def test_threads_may_share_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first to come moves its weights to large pages, while others read them."""
    monkeypatch.setattr("stemma.inference.decode.engine_for", lambda model, _: Engine(model))
    model = randomised(config(d_model=768, n_layers=6, context_length=64))
    expected = list(generate_ids(copy.deepcopy(model), [1, 2], max_new_tokens=12, sampling=GREEDY))
    found: list[list[int]] = []

    def run() -> None:
        found.append(list(generate_ids(model, [1, 2], max_new_tokens=12, sampling=GREEDY)))

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 4


def test_what_the_model_refuses_is_refused() -> None:
    engine = Engine(randomised(config()))
    cache = engine.new_cache(1, capacity=3)
    with pytest.raises(ModelError, match="id 29 is outside"):
        engine.hidden_states(torch.tensor([[29]]), cache=cache)
    engine.hidden_states(torch.tensor([[1, 2, 3]]), cache=cache)
    with pytest.raises(ModelError, match="holds 3 positions"):
        engine.hidden_states(torch.tensor([[1]]), cache=cache)
    with pytest.raises(ModelError, match="rows"):
        engine.hidden_states(torch.tensor([[1], [2]]), cache=engine.new_cache(1, capacity=3))


@torch.inference_mode()
def test_places_outside_the_cache_are_refused() -> None:
    engine = Engine(randomised(config()))
    cache, ids, zero = engine.new_cache(2, capacity=3), torch.tensor([1]), torch.tensor([0])
    for wrong in (torch.tensor([3]), torch.tensor([-1])):
        with pytest.raises(ModelError, match="3 positions"):
            engine.step(ids, wrong, zero, cache)
    with pytest.raises(ModelError, match="2 rows"):
        engine.step(ids, zero, torch.tensor([2]), cache)
    other = config(n_layers=3).build().new_cache(2, capacity=3)
    with pytest.raises(ModelError, match="not one of this model"):
        engine.step(ids, zero, zero, other)
    paged = engine.new_block_pool(4, block_size=2).rows([[1], [0, 2]], [0, 0])
    engine.step(ids, torch.tensor([3]), torch.tensor([1]), paged)
    with pytest.raises(ModelError, match="blocks hold"):
        engine.step(ids, torch.tensor([2]), zero, paged)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"placement": "post"}, "placement = 'post'"),
        ({"placement": "none"}, "placement = 'none'"),
        ({"n_layers": 0}, "no layers"),
        ({}, None),
    ],
)
def test_what_cannot_be_served_is_named(changes: dict[str, Any], reason: str | None) -> None:
    found = obstacle(config(**changes).build())
    assert found is None if reason is None else reason in str(found)


def test_parts_that_are_not_known_are_named() -> None:
    class Scaled(nn.Linear):
        pass

    model = config().build()
    model.blocks[1].attention.o_proj = Scaled(24, 24)
    assert obstacle(model) == "blocks.1.attention.o_proj is a Scaled"
    model = config().build()
    model.blocks[0].register_forward_hook(lambda *_: None)
    assert obstacle(model) == "blocks.0 has hooks"
    assert "float16" in str(obstacle(config().build().half()))
    assert obstacle(nn.Linear(2, 2)) == "Linear is not a Transformer"
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert obstacle(config().build()) == "autocast is on"
    with pytest.raises(ModelError, match="cannot serve this model: placement"):
        Engine(config(placement="post").build())


def test_a_choice_of_the_future_is_an_obstacle_unless_it_is_at_its_default() -> None:
    class Windowed(AttentionConfig):
        window: int | None = None

    class Wider(TransformerConfig):
        attention: Windowed

    values = config().model_dump() | {"attention": {"n_heads": 6, "n_kv_heads": 2}}
    assert obstacle(Wider(**values).build()) is None
    values["attention"]["window"] = 4
    assert obstacle(Wider(**values).build()) == "attention.window = 4"


def test_it_is_taken_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    model = config(n_layers=3).build()
    monkeypatch.setitem(choice._state, "seconds", 0.0)
    monkeypatch.setattr(choice, "kernels", type("elsewhere", (), {"__name__": "x", "__file__": ""}))
    monkeypatch.setattr(choice, "cached", lambda _: True)
    assert choice.engine_for(model, 1000) is None
    assert isinstance(choice.engine_for(model, 1000), Engine)
    monkeypatch.setattr(choice, "cached", lambda _: False)
    assert choice.engine_for(model, 1000) is None
    assert isinstance(choice.engine_for(model, 3000), Engine)
    assert choice.engine_for(config(placement="post").build(), 10**6) is None


def test_it_pays_sooner_for_weights_in_few_bits() -> None:
    model = config(d_model=96).build()
    before = choice._by_torch(model)
    assert choice._by_torch(quantise(model, "int8")) > before


def test_generation_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(config(context_length=16))
    made = []
    for engine_for in (lambda *_: None, lambda model, _: Engine(model)):
        monkeypatch.setattr("stemma.inference.decode.engine_for", engine_for)
        for rules in (GREEDY, SamplingConfig(seed=3)):
            made.append(
                list(
                    generate_ids(model, [1, 2], max_new_tokens=40, sampling=rules, overflow="slide")
                )
            )
    assert made[:2] == made[2:]


@torch.inference_mode()
@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=5),
    st.integers(0, 100),
)
def test_ragged_rows_equal_the_model(passes: list[list[int]], seed: int) -> None:
    """Some ids for each of three rows, pass after pass, with padding where a row has fewer."""
    model = randomised(config(context_length=20), seed)
    ids, engine = random_ids(model, 3, 20), Engine(model)
    cache = engine.new_ragged_cache(3, capacity=20)
    for counts in passes:
        n = max(counts)
        if n == 0:
            continue
        before = cache.lengths
        rows = [ids[row, start : start + n] for row, start in enumerate(before)]
        cache.expect(counts)
        hidden = engine.hidden_states(torch.stack(rows), cache=cache)
        assert cache.lengths == tuple(map(sum, zip(before, counts, strict=True)))
        for row, (end, count) in enumerate(zip(cache.lengths, counts, strict=True)):
            if count:
                expected = model(ids[row : row + 1, :end])[0, -count:]
                found = engine.head(hidden[row, :count])
                torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("paged", [False, True])
def test_a_batch_is_what_its_texts_are_alone(monkeypatch: pytest.MonkeyPatch, paged: bool) -> None:
    model = randomised(config(context_length=30))
    prompts = [[1], [2, 3, 4], [5, 6], [7] * 9]
    rules = [GREEDY, SamplingConfig(seed=3), SamplingConfig(seed=4, top_k=5), GREEDY]
    alone = [
        list(generate_ids(model, prompt, max_new_tokens=n, sampling=rule))
        for n, (prompt, rule) in enumerate(zip(prompts, rules, strict=True), start=8)
    ]
    made: list[Engine] = []

    def engine_for(model: Transformer, _: int) -> Engine:
        made.append(Engine(model))
        return made[-1]

    name = "continuous" if paged else "batch"
    monkeypatch.setattr(f"stemma.inference.{name}.engine_for", engine_for)
    batch = ContinuousBatch(model, n_blocks=9, block_size=4) if paged else Batch(model)
    texts: dict[int, list[int]] = {}
    for n, (prompt, rule) in enumerate(zip(prompts, rules, strict=True), start=8):
        texts[batch.add(prompt, max_new_tokens=n, sampling=rule)] = []
    while batch.busy:
        for token in batch.step():
            texts[token.handle].append(token.id)
    assert [*texts.values()] == alone
    assert made


@pytest.mark.slow
@torch.inference_mode()
def test_smollm2_is_the_same(smollm2: Path) -> None:
    model, tokenizer = stemma.load(smollm2)
    ids = torch.from_numpy(tokenizer.encode("The capital of France is").astype(np.int64))[None]
    logits = by_steps(Engine(model), ids, [1] * ids.shape[1])
    assert (logits - model(ids)).abs().max() < TOLERANCE
