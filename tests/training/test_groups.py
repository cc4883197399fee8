"""Groups by name: every parameter once, decay and rates by pattern, state by name."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from safetensors.torch import load, save
from torch import Tensor, nn

from stemma.errors import CheckpointError, ConfigError
from stemma.models import Transformer, preset
from stemma.nn import AttentionConfig
from stemma.training.optimizers import AdamW, AdamWConfig, Muon, MuonConfig, OptimizerConfig
from stemma.training.optimizers.named import OptimizerSet


def tiny(name: str = "qwen3", *, tie: bool = True) -> Transformer:
    values = {"vocab_size": 40, "context_length": 16, "d_model": 16, "n_layers": 2}
    config = preset("gpt2-small" if name == "gpt2" else "quickstart")
    attention = config.attention.replace(n_heads=2, n_kv_heads=None, d_head=8)
    assert isinstance(attention, AttentionConfig)
    return config.replace(
        **values, attention=attention.model_dump(), tie_embeddings=tie, dropout=0.0
    ).build()


def build(model: nn.Module, **values: object) -> OptimizerSet:
    return TypeAdapter(OptimizerConfig).validate_python(values).build(model)


def names_by_group(model: nn.Module, optimizer: OptimizerSet) -> dict[str, set[str]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    found: dict[str, set[str]] = {}
    for group in optimizer.param_groups:
        found.setdefault(group["name"], set()).update(names[p] for p in group["params"])
    return found


def train(model: nn.Module, optimizer: OptimizerSet, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] / (step + 1)
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
@pytest.mark.parametrize("tie", [True, False])
@given(frozen=st.sets(st.integers(0, 20)), factor=st.sampled_from([None, "*", "*norm*"]))
def test_every_trainable_parameter_is_in_exactly_one_group(
    kind: str, family: str, tie: bool, frozen: set[int], factor: str | None
) -> None:
    model = tiny(family, tie=tie)
    # Layers alone are frozen, so that both optimizers and every pattern have something left.
    parameters = list(model.parameters())
    for index in frozen:
        list(model.blocks[0].parameters())[index % 6].requires_grad_(False)
    adamw = {"lr_factors": {factor: 0.5} if factor else {}}
    values = {"adamw": adamw} if kind == "muon" else adamw
    optimizer = build(model, kind=kind, **values)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trainable = [id(p) for p in parameters if p.requires_grad]
    assert sorted(grouped) == sorted(trainable)


def test_norms_biases_and_embeddings_do_not_decay() -> None:
    model = tiny("gpt2", tie=False)
    optimizer = build(model, kind="adamw", weight_decay=0.1)
    decay = {group["name"]: group["weight_decay"] for group in optimizer.param_groups}
    assert decay == {"adamw": 0.1, "adamw without decay": 0.0}
    groups = names_by_group(model, optimizer)
    decayed = groups["adamw"]
    assert decayed == {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and not name.startswith("embed.")
    }
    assert "head.weight" in decayed
    assert {"embed.tokens.weight", "embed.positions.weight"} <= groups["adamw without decay"]


def test_which_parameters_decay_can_be_said_by_name() -> None:
    model = tiny()
    optimizer = build(model, kind="adamw", weight_decay=0.1, no_decay=["blocks.0.*"])
    groups = names_by_group(model, optimizer)
    assert groups["adamw without decay"] == {n for n in dict(model.named_parameters()) if "0" in n}
    assert [g["weight_decay"] for g in optimizer.param_groups if g["name"] == "adamw"] == [0.1]


def test_muon_has_the_matrices_of_the_blocks_and_nothing_else() -> None:
    model = tiny("gpt2", tie=False)
    optimizer = build(model, kind="muon", lr=0.02, adamw={"lr": 0.004})
    groups = names_by_group(model, optimizer)
    assert groups["muon"] == {
        f"blocks.{i}.{layer}.weight"
        for i in range(2)
        for layer in (
            *(f"attention.{p}_proj" for p in "qkvo"),
            *(f"feedforward.{p}_proj" for p in ("up", "down")),
        )
    }
    assert "head.weight" in groups["adamw"]
    assert [type(member) for member in optimizer.members] == [Muon, AdamW]
    assert optimizer.param_groups[0]["base_lr"] == 0.02
    assert {group["base_lr"] for group in optimizer.param_groups[1:]} == {0.004}


def test_muon_has_the_stacks_of_experts_too() -> None:
    model = (
        preset("quickstart")
        .replace(n_layers=1, feedforward={"kind": "moe", "d_ff": 8, "n_experts": 4})
        .build()
    )
    groups = names_by_group(model, build(model, kind="muon"))
    names = ("router", "gate_proj", "up_proj", "down_proj")
    assert {f"blocks.0.feedforward.{name}.weight" for name in names} <= groups["muon"]
    decayed = names_by_group(model, build(model, kind="adamw"))["adamw"]
    assert {f"blocks.0.feedforward.{name}.weight" for name in names} <= decayed


def test_tied_weights_are_one_embedding() -> None:
    model = tiny(tie=True)
    groups = names_by_group(model, build(model, kind="muon"))
    assert "embed.tokens.weight" in groups["adamw without decay"]
    assert not any("head" in name for names in groups.values() for name in names)


def test_learning_rates_by_name() -> None:
    model = tiny(tie=False)
    optimizer = build(
        model, kind="adamw", lr=0.01, lr_factors={"head.*": 0.1, "*.weight": 0.5, "*": 7}
    )
    names = {parameter: name for name, parameter in model.named_parameters()}
    rates = {names[p]: g["base_lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates["head.weight"] == pytest.approx(0.001)
    assert rates["embed.tokens.weight"] == pytest.approx(0.005)


def test_a_rate_for_nobody_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'haed\.\*' matches no parameter"):
        build(tiny(), kind="adamw", lr_factors={"haed.*": 0.1})


def test_muon_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"(?s)no matrix .* layers\.\*.*kind = 'adamw'"):
        build(tiny(), kind="muon", hidden=["layers.*"])


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ConfigError, match="no parameter to train"):
        build(tiny().requires_grad_(False), kind="adamw")


def test_the_loops_rate_is_applied() -> None:
    model = tiny()
    optimizer = build(model, kind="muon")
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_the_summary_names_every_group_and_counts_every_parameter() -> None:
    model = tiny()
    optimizer = build(model, kind="muon", lr=0.03, adamw={"lr": 0.008})
    summary = optimizer.summary()
    counts = [int(line.split(": ")[1].split()[0].replace(",", "")) for line in summary.splitlines()]
    assert sum(counts) == sum(p.numel() for p in model.parameters())
    assert "muon: " in summary
    assert "lr 0.03, weight decay 0" in summary


@pytest.mark.parametrize("config", [AdamWConfig(), AdamWConfig(fused=False), MuonConfig()])
def test_training_goes_on_exactly_from_a_named_state(config: AdamWConfig | MuonConfig) -> None:
    straight = tiny("gpt2")
    first = config.build(straight)
    train(straight, first, range(4))
    weights = {name: tensor.clone() for name, tensor in straight.state_dict().items()}
    saved = load(save({n: t.clone().contiguous() for n, t in first.named_state(straight).items()}))
    train(straight, first, range(4, 8))

    resumed = tiny("gpt2")
    resumed.load_state_dict(weights)
    second = config.build(resumed)
    train(resumed, second, range(50, 52))  # whatever it held before must not matter
    resumed.load_state_dict(weights)
    second.load_named_state(resumed, saved)
    train(resumed, second, range(4, 8))
    for name, parameter in resumed.named_parameters():
        assert torch.equal(parameter, straight.get_parameter(name)), name


def test_the_state_is_flat_tensors_under_the_parameters_names() -> None:
    model = tiny()
    optimizer = build(model, kind="muon")
    train(model, optimizer, range(3))
    state = optimizer.named_state(model)
    assert state["blocks.0.attention.q_proj.weight/momentum"].shape == (16, 16)
    assert state["embed.tokens.weight/exp_avg"].shape == (40, 16)
    assert state["final_norm.weight/step"].shape == ()
    assert all(tensor == 3 for name, tensor in state.items() if name.endswith("/step"))
    assert all(type(tensor) is Tensor for tensor in state.values())


def test_the_order_and_grouping_of_parameters_do_not_matter() -> None:
    model, shuffled = tiny(), tiny()
    optimizer = build(model, kind="adamw")
    other = OptimizerSet([AdamW(list(shuffled.parameters())[::-1], lr=1e-3)])
    train(model, optimizer, range(2))
    other.load_named_state(shuffled, optimizer.named_state(model))
    ours, theirs = optimizer.named_state(model), other.named_state(shuffled)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.weight/exp_avg_sq"), "has no 'head.weight/exp_avg_sq'"),
        (lambda s: s.update({"x/step": torch.zeros(())}), "has 'x/step', which this optimizer has"),
        (lambda s: s.update({"head.weight/exp_avg": torch.zeros(2, 2)}), r"as \(2, 2\) float32"),
        (
            lambda s: s.update({"head.weight/step": torch.zeros((), dtype=torch.int64)}),
            r"'head.weight/step' as \(\) int64",
        ),
    ],
)
def test_a_foreign_state_is_refused_by_name_and_nothing_is_taken_up(
    change: object, message: str
) -> None:
    model = tiny(tie=False)
    optimizer = build(model, kind="muon")
    foreign = {name: torch.ones_like(t) for name, t in optimizer.named_state(model).items()}
    change(foreign)
    with pytest.raises(CheckpointError, match=message):
        optimizer.load_named_state(model, foreign)
    assert all(tensor.abs().sum() == 0 for tensor in optimizer.named_state(model).values())


def test_the_state_of_another_model_is_refused() -> None:
    optimizer = build(tiny(), kind="adamw")
    with pytest.raises(CheckpointError, match="that Transformer has not"):
        optimizer.named_state(tiny())


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("adamw", {"betas": [0.9, 1.0]}),
        ("adamw", {"lr": 0}),
        ("adamw", {"momentum": 0.9}),
        ("muon", {"scale": "large"}),
        ("muon", {"momentum": 1.5}),
    ],
)
def test_senseless_settings_are_refused(kind: str, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        (AdamWConfig if kind == "adamw" else MuonConfig).parse(values)
