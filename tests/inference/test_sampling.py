from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from stemma.errors import ConfigError, ModelError
from stemma.inference import (
    STYLES,
    SamplingConfig,
    add_bias,
    apply_rules,
    apply_temperature,
    distribution,
    draw,
    keep_min_p,
    keep_top_k,
    keep_top_p,
    keep_typical,
    penalise_frequency,
    penalise_repetition,
    sample,
)

EXCLUDED = -math.inf


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def logits_of(*probabilities: float) -> Tensor:
    return torch.tensor([probabilities]).log()


def kept(logits: Tensor) -> list[int]:
    assert logits.shape[0] == 1
    return [i for i, logit in enumerate(logits[0].tolist()) if logit > EXCLUDED]


def random_logits(seed: int, batch: int = 3, vocab: int = 300, spread: float = 3.0) -> Tensor:
    return spread * torch.randn(batch, vocab, generator=generator(seed))


# By hand: probabilities 0.5, 0.3, 0.15, 0.05.
FOUR = logits_of(0.15, 0.5, 0.05, 0.3)


@pytest.mark.parametrize(
    ("p", "nucleus"),
    [
        (0.4, [1]),
        (0.51, [1, 3]),
        (0.79, [1, 3]),
        (0.81, [0, 1, 3]),
        (0.96, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
        (1e-9, [1]),
    ],
)
def test_the_nucleus_includes_the_id_that_crosses_p(p: float, nucleus: list[int]) -> None:
    assert kept(keep_top_p(FOUR, p)) == nucleus


def test_a_nucleus_that_holds_exactly_p_is_complete() -> None:
    assert kept(keep_top_p(logits_of(0.25, 0.5, 0.25), 0.5)) == [1]


def test_top_p_of_equals_keeps_the_fewest() -> None:
    assert len(kept(keep_top_p(torch.zeros(1, 8), 0.5))) == 4


@pytest.mark.parametrize(
    ("k", "ids"), [(1, [1]), (2, [1, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_k_by_hand(k: int, ids: list[int]) -> None:
    assert kept(keep_top_k(FOUR, k)) == ids


def test_top_k_keeps_ties_with_the_last() -> None:
    assert kept(keep_top_k(logits_of(0.4, 0.2, 0.2, 0.2), 2)) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("p", "ids"), [(0.09, [0, 1, 2, 3]), (0.2, [0, 1, 3]), (0.5, [1, 3]), (1, [1])]
)
def test_min_p_by_hand(p: float, ids: list[int]) -> None:
    assert kept(keep_min_p(FOUR, p)) == ids


def test_temperature_by_hand() -> None:
    # Squared and renormalised: 0.64 / 0.68 and 0.04 / 0.68.
    cold = apply_temperature(logits_of(0.8, 0.2), 0.5).softmax(-1)
    torch.testing.assert_close(cold, torch.tensor([[16 / 17, 1 / 17]]))


def test_repetition_penalty_by_hand() -> None:
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])
    seen = torch.tensor([[0, 1, 1, 3]])
    torch.testing.assert_close(
        penalise_repetition(logits, seen, 2.0), torch.tensor([[1.0, -4.0, 1.0, 0.0]])
    )


def test_temperature_comes_before_truncation() -> None:
    # At temperature 2 the probabilities of FOUR are 0.379, 0.294, 0.208, 0.120: three hold 0.75,
    # where at temperature 1 two do.
    rules = SamplingConfig(temperature=2.0, top_p=0.75)
    assert kept(apply_rules(FOUR, rules)) == [0, 1, 3]
    assert kept(apply_temperature(keep_top_p(FOUR, 0.75), 2.0)) == [1, 3]


def test_each_truncation_sees_what_the_one_before_left() -> None:
    # Top-2 leaves 0.625 and 0.375, so 0.6 needs one id, where of the whole it needs two.
    assert kept(apply_rules(FOUR, SamplingConfig(top_k=2, top_p=0.6))) == [1]


@given(st.integers(0, 10_000), st.floats(0.05, 0.99), st.floats(0.2, 4))
def test_top_p_equals_transformers(seed: int, p: float, spread: float) -> None:
    logits = random_logits(seed, vocab=700, spread=spread)
    theirs = TopPLogitsWarper(top_p=p)(None, logits)
    # The mass before an id is summed from opposite ends, so an id exactly at p may differ.
    probabilities = logits.double().softmax(-1).sort(descending=True).values
    if (probabilities.cumsum(-1) - p).abs().min() > 1e-5:
        torch.testing.assert_close(keep_top_p(logits, p), theirs, rtol=0, atol=0)


@given(st.integers(0, 10_000), st.integers(1, 400))
def test_top_k_equals_transformers(seed: int, k: int) -> None:
    logits = random_logits(seed)
    torch.testing.assert_close(
        keep_top_k(logits, k), TopKLogitsWarper(top_k=k)(None, logits), rtol=0, atol=0
    )


@given(st.integers(0, 10_000), st.floats(0.001, 0.999))
def test_min_p_equals_transformers(seed: int, p: float) -> None:
    logits = random_logits(seed)
    ratio = (logits.double() - logits.double().amax(-1, keepdim=True)).exp()
    if (ratio - p).abs().min() > 1e-6:
        torch.testing.assert_close(
            keep_min_p(logits, p), MinPLogitsWarper(min_p=p)(None, logits), rtol=0, atol=0
        )


@given(st.integers(0, 10_000), st.floats(0.05, 5))
def test_temperature_equals_transformers(seed: int, temperature: float) -> None:
    logits = random_logits(seed)
    torch.testing.assert_close(
        apply_temperature(logits, temperature).log_softmax(-1),
        TemperatureLogitsWarper(temperature)(None, logits).log_softmax(-1),
    )


@given(st.integers(0, 10_000), st.floats(0.5, 3))
def test_repetition_penalty_equals_transformers(seed: int, penalty: float) -> None:
    logits = random_logits(seed)
    seen = torch.randint(0, 300, (3, 50), generator=generator(seed))
    torch.testing.assert_close(
        penalise_repetition(logits, seen, penalty),
        RepetitionPenaltyLogitsProcessor(penalty)(seen, logits),
    )


@given(
    st.integers(0, 10_000),
    st.floats(0.3, 3),
    st.integers(2, 300),
    st.floats(0.1, 0.95),
    st.floats(0.01, 0.5),
)
def test_all_rules_together_equal_transformers_in_the_same_order(
    seed: int, temperature: float, k: int, p: float, p_base: float
) -> None:
    logits = random_logits(seed)
    seen = torch.randint(0, 300, (3, 20), generator=generator(seed))
    rules = SamplingConfig(
        temperature=temperature,
        top_k=k,
        top_p=p,
        min_p=p_base,
        typical_p=0.9,
        repetition_penalty=1.3,
    )
    theirs = RepetitionPenaltyLogitsProcessor(1.3)(seen, logits)
    for warp in (
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(k),
        TopPLogitsWarper(p),
        MinPLogitsWarper(p_base),
        TypicalLogitsWarper(0.9),
    ):
        theirs = warp(None, theirs)
    ours = apply_rules(logits, rules, seen=seen).softmax(-1)
    # An id exactly at a threshold may fall on either side: at most one per row, and a light one.
    different = ((ours > 0) != (theirs > EXCLUDED)).sum(-1)
    assert int(different.max()) <= 1
    if int(different.max()) == 0:
        torch.testing.assert_close(ours, theirs.softmax(-1), rtol=1e-4, atol=1e-6)


@given(st.integers(0, 10_000), st.floats(0.01, 0.99), st.sampled_from([0.1, 1, 5]))
def test_typical_equals_transformers(seed: int, mass: float, spread: float) -> None:
    logits = random_logits(seed, spread=spread)
    different = (keep_typical(logits, mass) != TypicalLogitsWarper(mass)(None, logits)).sum(-1)
    assert int(different.max()) <= 1  # an id exactly at the edge may fall on either side


def test_typical_by_hand() -> None:
    # Entropy of 0.5, 0.3, 0.15, 0.05: 1.142 nats. Surprises 0.693, 1.204, 1.897, 2.996: distances
    # 0.449, 0.062, 0.755, 1.854. So 0.3 is the most typical, then 0.5.
    assert kept(keep_typical(FOUR, 0.29)) == [3]
    assert kept(keep_typical(FOUR, 0.31)) == [1, 3]
    assert kept(keep_typical(FOUR, 0.81)) == [0, 1, 3]
    assert kept(keep_typical(FOUR, 1.0)) == [0, 1, 2, 3]


def test_typical_leaves_what_was_excluded_excluded() -> None:
    logits = torch.tensor([[0.0, EXCLUDED, 1.0, EXCLUDED]])
    assert kept(keep_typical(logits, 0.99)) == [0, 2]


def test_frequency_and_presence_by_hand() -> None:
    logits, generated = torch.zeros(1, 4), torch.tensor([[2, 2, 0, 2]])
    after = penalise_frequency(logits, generated, frequency=0.5, presence=0.25)
    assert after.tolist() == [[-0.75, 0, -1.75, 0]]


def test_frequency_counts_what_was_generated_and_repetition_the_whole_text() -> None:
    logits, seen = torch.ones(1, 4), torch.tensor([[0, 1, 1]])
    counted = apply_rules(logits, SamplingConfig(frequency_penalty=1), seen=seen, n_prompt=2)
    assert counted.tolist() == [[1, 0, 1, 1]]
    divided = apply_rules(logits, SamplingConfig(repetition_penalty=2), seen=seen, n_prompt=2)
    assert divided.tolist() == [[0.5, 0.5, 1, 1]]
    none = apply_rules(logits, SamplingConfig(presence_penalty=1), seen=seen, n_prompt=3)
    assert none.tolist() == logits.tolist()


@given(st.dictionaries(st.integers(0, 299), st.floats(-50, 50), min_size=1, max_size=20))
def test_bias_equals_transformers(bias: dict[int, float]) -> None:
    logits = random_logits(1)
    theirs = SequenceBiasLogitsProcessor([[[id_], value] for id_, value in bias.items()])
    text = torch.zeros(3, 4, dtype=torch.int64)
    torch.testing.assert_close(add_bias(logits, bias), theirs(text, logits))


def test_a_bias_of_an_unknown_id_is_refused() -> None:
    with pytest.raises(ModelError, match="logit_bias: id 4 is outside the vocabulary of 4 ids"):
        add_bias(FOUR, {4: 1.0})


def test_greedy_obeys_the_bias() -> None:
    rules = SamplingConfig(temperature=0, logit_bias={2: 100.0})
    assert sample(FOUR, rules, generator()).tolist() == [2]


def test_the_distribution_is_what_is_drawn_from() -> None:
    rules = SamplingConfig(temperature=0.7, top_p=0.9)
    expected = apply_rules(FOUR, rules).softmax(-1)
    torch.testing.assert_close(distribution(FOUR, rules), expected)
    assert distribution(FOUR, SamplingConfig(temperature=0)).tolist() == [[0, 1, 0, 0]]


configs = st.builds(
    SamplingConfig,
    temperature=st.sampled_from([1e-6, 0.1, 0.8, 1.0, 2.5, 100.0]),
    top_k=st.none() | st.integers(1, 60),
    top_p=st.none() | st.floats(1e-6, 1.0, exclude_min=True),
    min_p=st.none() | st.floats(1e-6, 1.0),
)
any_logits = st.lists(
    st.floats(-1e4, 1e4, width=32) | st.just(EXCLUDED), min_size=1, max_size=40
).filter(lambda row: max(row) > EXCLUDED)


@given(any_logits, configs)
def test_the_most_probable_id_always_stays_and_probabilities_sum_to_one(
    row: list[float], config: SamplingConfig
) -> None:
    logits = torch.tensor([row])
    after = apply_rules(logits, config)
    probabilities = after.softmax(-1)
    assert logits[after == after.max()].max() == logits.max() > EXCLUDED
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(1))
    assert not bool((probabilities > 0)[logits == EXCLUDED].any())


@given(any_logits, st.floats(1e-3, 1.0))
def test_typical_always_leaves_something(row: list[float], mass: float) -> None:
    assert kept(keep_typical(torch.tensor([row]), mass))


@given(st.integers(0, 10_000), configs)
def test_renaming_the_ids_renames_the_result(seed: int, config: SamplingConfig) -> None:
    logits = random_logits(seed, batch=2, vocab=50)
    order = torch.randperm(50, generator=generator(seed))
    torch.testing.assert_close(
        apply_rules(logits[:, order], config).softmax(-1),
        apply_rules(logits, config).softmax(-1)[:, order],
    )


@given(st.integers(0, 10_000), configs)
def test_rows_do_not_see_each_other(seed: int, config: SamplingConfig) -> None:
    logits = random_logits(seed, batch=4, vocab=700, spread=0.5) * torch.tensor(
        [[1.0], [9], [0], [3]]
    )
    together = apply_rules(logits, config).softmax(-1)
    alone = torch.cat([apply_rules(row[None], config) for row in logits]).softmax(-1)
    torch.testing.assert_close(together, alone)


def test_a_wide_nucleus_is_found_beyond_the_first_candidates() -> None:
    flat = 0.01 * torch.randn(1, 5000, generator=generator())
    probabilities = flat.softmax(-1)
    inside = keep_top_p(flat, 0.9) > EXCLUDED
    assert 0.9 <= float(probabilities[inside].sum()) < 0.9 + 3 / 5000
    assert float(probabilities[inside].min()) >= float(probabilities[~inside].max())


def test_frequencies_of_draws_are_the_probabilities() -> None:
    probabilities = torch.tensor([0.3, 0.0, 0.2, 0.15, 0.12, 0.1, 0.07, 0.04, 0.01, 0.01])
    n_draws = 20_000
    ids = draw(probabilities.log().expand(n_draws, -1), generator(1))
    counts = torch.bincount(ids, minlength=10).double()
    assert int(counts[1]) == 0
    expected = n_draws * probabilities.double()
    possible = expected > 0
    chi_square = float(((counts - expected) ** 2 / expected)[possible].sum())
    assert chi_square < 26.12  # 99.9 % quantile, 8 degrees of freedom


def test_frequencies_of_samples_are_those_of_the_rules() -> None:
    # Top-3 of FOUR: 0.5, 0.3, 0.15 over 0.95.
    n_draws = 20_000
    ids = sample(FOUR.expand(n_draws, -1), SamplingConfig(top_k=3), generator(2))
    counts = torch.bincount(ids, minlength=4).double()
    expected = n_draws * torch.tensor([0.15, 0.5, 0.0, 0.3], dtype=torch.float64) / 0.95
    assert int(counts[2]) == 0
    chi_square = float(((counts - expected) ** 2 / expected)[expected > 0].sum())
    assert chi_square < 13.82  # 99.9 % quantile, 2 degrees of freedom


def test_the_draw_inverts_the_cumulative_distribution() -> None:
    uniform = torch.rand((1000, 1), generator=generator(3), dtype=torch.float64)[:, 0]
    ids = draw(logits_of(0.25, 0.0, 0.5, 0.25).expand(1000, -1), generator(3))
    by_hand = torch.where(uniform < 0.25, 0, torch.where(uniform < 0.75, 2, 3))
    assert torch.equal(ids, by_hand)


@pytest.mark.parametrize(("uniform", "drawn"), [(0.0, 1), (1 - 2**-53, 2)])
def test_the_ends_of_the_interval_draw_possible_ids(
    uniform: float, drawn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = logits_of(0.0, 0.7, 0.3, 0.0)
    ends = torch.full((1, 1), uniform, dtype=torch.float64)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: ends)
    assert draw(logits, generator()).tolist() == [drawn]
    assert draw(logits[:, :3], generator()).tolist() == [drawn]


def test_impossible_ids_at_the_end_do_not_shift_the_draws() -> None:
    logits = random_logits(0, batch=500, vocab=20)
    padded = torch.cat([logits, torch.full((500, 44), EXCLUDED)], dim=-1)
    assert torch.equal(draw(logits, generator(4)), draw(padded, generator(4)))


def test_greedy_takes_the_best_and_draws_nothing() -> None:
    source = generator(5)
    state = source.get_state()
    ids = sample(FOUR.repeat(3, 1), SamplingConfig(temperature=0), source)
    assert ids.tolist() == [1, 1, 1]
    assert torch.equal(source.get_state(), state)


def test_greedy_obeys_the_repetition_penalty() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    rules = SamplingConfig(temperature=0, repetition_penalty=2)
    seen = torch.tensor([[0]])
    assert sample(logits, rules, generator(), seen=seen).tolist() == [1]
    assert sample(logits, rules, generator(), seen=seen[:, :0]).tolist() == [0]


def test_the_same_seed_draws_the_same_ids() -> None:
    logits = random_logits(6, batch=200)
    first, again, other = (sample(logits, SamplingConfig(), generator(s)) for s in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_logits_are_sampled_in_float32() -> None:
    logits = random_logits(9, batch=1, vocab=2000).bfloat16()
    assert sample(logits, SamplingConfig(top_p=0.9), generator()).shape == (1,)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    logits = torch.zeros(3, 5)
    logits[2, 4] = bad
    with pytest.raises(ModelError, match=f"row 2: the model's logits hold {bad}"):
        sample(logits, SamplingConfig(temperature=0), generator())


def test_a_row_without_any_possible_id_is_refused() -> None:
    logits = torch.zeros(2, 5)
    logits[1] = EXCLUDED
    with pytest.raises(ModelError, match="row 1: every id is excluded"):
        sample(logits, SamplingConfig(), generator())


def test_temperature_zero_cannot_divide() -> None:
    with pytest.raises(ModelError, match="temperature 0"):
        apply_temperature(FOUR, 0.0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -0.5}, "temperature = -0.5: a temperature is a number from 0 up"),
        ({"temperature": math.nan}, "temperature = nan: .*finite number"),
        ({"temperature": math.inf}, "temperature = inf: .*finite number"),
        ({"top_p": 0}, r"top_p = 0: top-p is a probability mass in \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p = 1.5: top-p is a probability mass in \(0, 1\]"),
        ({"top_k": 0}, "top_k = 0: top-k keeps at least 1 id"),
        ({"min_p": 0}, r"min_p = 0: min-p is a fraction in \(0, 1\]"),
        ({"min_p": 2}, r"min_p = 2: min-p is a fraction in \(0, 1\]"),
        (
            {"repetition_penalty": 0},
            "repetition_penalty = 0: a repetition penalty is a number above 0",
        ),
        ({"typical_p": 0}, r"typical_p = 0: typical-p is a probability mass in \(0, 1\]"),
        ({"frequency_penalty": math.inf}, "frequency_penalty = inf: .*finite number"),
        ({"logit_bias": {3: math.nan}}, "logit_bias.*finite number"),
        ({"seed": -1}, "seed = -1"),
        ({"temprature": 1}, "Did you mean 'temperature'"),
    ],
)
def test_a_bad_rule_is_refused_with_its_meaning(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SamplingConfig.parse(values)


def test_temperature_zero_is_greedy() -> None:
    assert SamplingConfig(temperature=0).greedy
    assert not SamplingConfig(temperature=0.1).greedy


def test_the_styles_are_the_five_ways_of_choosing() -> None:
    assert list(STYLES) == ["greedy", "temperature 0.8", "top-k 40", "top-p 0.9", "min-p 0.1"]
    assert STYLES["greedy"].greedy


@pytest.mark.parametrize(
    "rules",
    [
        {"logit_bias": {1: 1e39}},
        {"logit_bias": {1: float("nan")}},
        {"frequency_penalty": -1e39},
        {"presence_penalty": 1e39},
        {"repetition_penalty": 1e-320},
        {"repetition_penalty": float("inf")},
    ],
)
def test_numbers_that_would_overflow_are_refused(rules: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(rules))):
        SamplingConfig.parse(rules)


@pytest.mark.parametrize("bound", [1e6, -1e6])
def test_the_largest_numbers_still_leave_a_distribution(bound: float) -> None:
    logits = torch.randn(1, 9, generator=torch.Generator().manual_seed(1)) * 100
    seen = torch.tensor([[1, 2, 2]])
    for rules in (
        SamplingConfig(logit_bias={1: bound}),
        SamplingConfig(frequency_penalty=bound),
        SamplingConfig(presence_penalty=bound),
        SamplingConfig(repetition_penalty=1e6),
        SamplingConfig(repetition_penalty=1e-6),
    ):
        p = distribution(logits, rules, seen=seen)
        assert p.isfinite().all()
        assert float(p.sum()) == pytest.approx(1)
        for seed in range(5):
            generator = torch.Generator().manual_seed(seed)
            assert int(sample(logits, rules, generator, seen=seen)) < 9


@pytest.mark.parametrize(
    ("rule", "wrong", "said"),
    [
        (keep_top_k, [0, -1], "keeps at least 1 id"),
        (keep_top_p, [0.0, -0.5, 1.5, math.nan], r"mass in \(0, 1\]"),
        (keep_min_p, [0.0, -0.5, 2.0, math.nan], r"fraction in \(0, 1\]"),
        (keep_typical, [0.0, -0.5, 1.5, math.nan], r"mass in \(0, 1\]"),
        (lambda logits, x: penalise_repetition(logits, torch.tensor([[1]]), x), [0.0, -1.0],
         "above 0"),
    ],
)  # fmt: skip
def test_numbers_that_no_rule_has_are_refused(rule: Any, wrong: list[float], said: str) -> None:
    """In a call of the rule itself as in a SamplingConfig: nothing could be left, or NaN come."""
    for value in wrong:
        with pytest.raises(ModelError, match=f"(?s)= {value}.*{said}"):
            rule(FOUR, value)
