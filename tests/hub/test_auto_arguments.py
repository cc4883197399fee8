"""What `transformers` asks of a model of our own shapes: as its Llama answers it, or refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import get_ident
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import ModelError
from stemma.hub import auto_model
from stemma.models import Transformer, TransformerConfig, own
from stemma.models.families import FAMILIES

LLAMA: dict[str, Any] = {
    "vocab_size": 37,
    "context_length": 24,
    "d_model": 16,
    "n_layers": 3,
    "attention": {"n_heads": 4, "n_kv_heads": 2, "bias": False},
    "feedforward": {"kind": "gated", "d_ff": 24},
    "norm": {"kind": "rms_norm", "eps": 1e-5},
    "position": {"kind": "rotary"},
    "tie_embeddings": False,
}


def randomised(seed: int = 0, **changes: Any) -> Transformer:
    model = TransformerConfig.parse({**LLAMA, **changes}).build(seed=seed)
    noise = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=noise)
    return model.eval()


def wrapped(model: Transformer, kind: Any = auto_model.StemmaForCausalLM) -> Any:
    """The model as `transformers` has it."""
    values = {k: v for k, v in own.to_config_json(model.config).items() if k != "architectures"}
    found = kind(auto_model.StemmaConfig(**values))
    found.model.load_state_dict(model.state_dict())
    return found.eval()


def llama(model: Transformer) -> Any:
    """Their Llama, with the same weights."""
    config_json, tensors = FAMILIES["llama"].to_huggingface(model.config, model.state_dict())
    config = transformers.LlamaConfig(**config_json, attn_implementation="eager")
    theirs = transformers.LlamaForCausalLM(config)
    theirs.load_state_dict(dict(tensors))
    return theirs.eval()


def ids_of(seed: int, n: int = 9, batch: int = 2) -> torch.Tensor:
    return torch.randint(37, (batch, n), generator=torch.Generator().manual_seed(seed))


def same(ours: Any, theirs: Any, where: torch.Tensor | None = None) -> None:
    """As many vectors, in the same order, of the same values where there is text."""
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        kept = ... if where is None else where
        torch.testing.assert_close(one[kept], other[kept], atol=1e-4, rtol=1e-4)


@settings(max_examples=10)
@given(seed=st.integers(0, 99), padded=st.booleans(), embedded=st.booleans())
def test_hidden_states_and_attentions_are_those_of_llama(
    seed: int, padded: bool, embedded: bool
) -> None:
    model = randomised(seed)
    ours, theirs, ids = wrapped(model), llama(model), ids_of(seed)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, :3] = 0
    given = {"input_ids": ids}
    if embedded:
        given = {"inputs_embeds": ours.get_input_embeddings()(ids) * 0.7}
    asked = {"attention_mask": mask, "output_hidden_states": True, "output_attentions": True}
    if padded:
        asked["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    one, other = ours(**given, **asked), theirs(**given, **asked)
    text = mask.bool()
    same(one.hidden_states, other.hidden_states, text)
    assert len(one.hidden_states) == 4
    assert not one.hidden_states[0].equal(one.hidden_states[1])
    same([one.logits], [other.logits], text)
    pairs = (text[:, None, :, None] & text[:, None, None, :]).expand(-1, 4, -1, -1)
    same(one.attentions, other.attentions, pairs)


def test_nothing_is_recorded_that_nobody_asked_for() -> None:
    ours, ids = wrapped(randomised()), ids_of(1)
    before = ours(ids)
    assert before.hidden_states is None
    assert before.attentions is None
    ours(ids, output_hidden_states=True)
    ours(inputs_embeds=ours.get_input_embeddings()(ids))
    assert ours(ids_of(2)).logits.equal(wrapped(randomised())(ids_of(2)).logits)
    assert not any(module._forward_pre_hooks for module in ours.modules())
    ours.config.output_hidden_states = True
    assert len(ours(ids).hidden_states) == 4


def test_two_threads_that_call_one_model_do_not_mix() -> None:
    """The second calls while the first is within: its vectors and states are its own."""
    ours, texts = wrapped(randomised()), [ids_of(1, n=6), ids_of(2)]
    table = ours.get_input_embeddings()
    calls = [{"inputs_embeds": 0.7 * table(ids), "output_hidden_states": True} for ids in texts]
    expected = [*(ours(**call) for call in calls), ours(texts[0])]
    meanwhile: list[Any] = []
    first = get_ident()

    def interrupt(*_: Any) -> None:
        if get_ident() == first and not meanwhile:
            with ThreadPoolExecutor(1) as pool:
                meanwhile.extend(pool.map(lambda f: f(), second))

    second = [lambda: ours(**calls[1]), lambda: ours(texts[0])]
    hook = ours.model.blocks[1].register_forward_hook(interrupt)
    found = [ours(**calls[0]), *meanwhile]
    hook.remove()
    assert len(found) == 3
    for one, other in zip(found, expected, strict=True):
        assert one.logits.equal(other.logits)
    for one, other in zip(found[:2], expected[:2], strict=True):
        assert len(one.hidden_states) == 4
        assert all(map(torch.equal, one.hidden_states, other.hidden_states))


def test_hidden_states_go_with_a_cache() -> None:
    model = randomised()
    ours, theirs, ids = wrapped(model), llama(model), ids_of(4)
    found = []
    for each in (ours, theirs):
        past = each(ids[:, :5], use_cache=True).past_key_values
        found.append(each(ids[:, 5:], past_key_values=past, output_hidden_states=True))
    same(found[0].hidden_states, found[1].hidden_states)
    with pytest.raises(ModelError, match=r"(?s)output_attentions.*use_cache=False"):
        ours(ids, use_cache=True, output_attentions=True)


@pytest.mark.parametrize("position", [{"kind": "learned"}, {"kind": "rotary"}, {"kind": "alibi"}])
@pytest.mark.parametrize("scaled", [True, False])
def test_vectors_of_the_table_are_as_good_as_ids(position: dict[str, str], scaled: bool) -> None:
    """Of a model that scales them too; and a text goes on from there."""
    ours = wrapped(randomised(position=position, scale_embeddings=scaled))
    ids = ids_of(3)
    vectors = ours.get_input_embeddings()(ids)
    assert ours(inputs_embeds=vectors).logits.equal(ours(ids).logits)
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    options["attention_mask"] = torch.ones_like(ids)
    texts = ours.generate(inputs_embeds=vectors, **options)
    assert texts.tolist() == ours.generate(ids, **options)[:, 9:].tolist()
    vectors.requires_grad_()
    vectors.retain_grad()
    ours(inputs_embeds=vectors).logits.sum().backward()
    assert vectors.grad is not None
    assert vectors.grad.abs().sum() > 0
    for wrong in ({}, {"input_ids": ids, "inputs_embeds": vectors}):
        with pytest.raises(ModelError, match="either input_ids or inputs_embeds"):
            ours(**wrong)


def test_positions_that_follow_anyway_are_taken_and_others_refused() -> None:
    ours, ids = wrapped(randomised()), ids_of(5)
    plain = ours(ids, use_cache=True)
    counted = torch.arange(9)
    for positions in (counted, counted.expand(2, -1)):
        assert ours(ids, position_ids=positions).logits.equal(plain.logits)
    newest = ids[:, -1:]
    ours(newest, past_key_values=plain.past_key_values, position_ids=torch.tensor([[9]]))
    for positions in (counted + 1, counted.flip(0), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4])):
        with pytest.raises(ModelError, match="position_ids"):
            ours(ids, position_ids=positions)
    with pytest.raises(ModelError, match="position_ids"):
        ours(newest, past_key_values=plain.past_key_values, position_ids=torch.tensor([[9]]))
    mask = torch.tensor([[0] * 4 + [1] * 5, [1] * 9])
    ours(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0))
    ours(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).masked_fill(mask == 0, 1))
    with pytest.raises(ModelError, match="position_ids"):
        ours(ids, attention_mask=mask, position_ids=counted.expand(2, -1))


def test_what_is_not_known_is_refused() -> None:
    ours, ids = wrapped(randomised()), ids_of(6)
    ours(ids, head_mask=None, output_router_logits=False)
    with pytest.raises(ModelError, match="encoder_hidden_states is no argument"):
        ours(ids, encoder_hidden_states=torch.zeros(2, 3, 16))
    with pytest.raises(ModelError, match=r"logits_to_keep of the shape \(2, 1\)"):
        ours(ids, logits_to_keep=torch.zeros(2, 1, dtype=torch.int64))


def test_some_logits() -> None:
    ours, ids = wrapped(randomised()), ids_of(7)
    logits = ours(ids).logits
    for kept in (torch.tensor([2, 8, 3]), torch.tensor([0])):
        torch.testing.assert_close(ours(ids, logits_to_keep=kept).logits, logits[:, kept])
    torch.testing.assert_close(ours(ids, logits_to_keep=2).logits, logits[:, 7:])


def test_a_tuple_and_a_loss_over_many_batches_are_those_of_llama() -> None:
    model = randomised()
    ours, theirs, ids = wrapped(model), llama(model), ids_of(8)
    options = {"labels": ids, "num_items_in_batch": 50, "return_dict": False, "use_cache": False}
    one, other = (each(ids, output_hidden_states=True, **options) for each in (ours, theirs))
    same(one[:2], other[:2])
    same(one[2], other[2])
    assert len(one) == len(other) == 3
    mean = ours(ids, labels=ids).loss
    torch.testing.assert_close(one[0], mean * 16 / 50)  # two rows of eight that are predicted


SEGMENTED = {"position": {"kind": "learned"}, "n_segments": 2, "embedding_norm": True}


def test_segments_reach_the_model_that_has_them() -> None:
    segments = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]])
    for kind, changes in (
        (auto_model.StemmaForCausalLM, {}),
        (auto_model.StemmaModel, {"causal": False, "head": {"kind": "none"}}),
    ):
        model, ids = randomised(**SEGMENTED, **changes), ids_of(9, 5)
        ours = wrapped(model, kind)
        asked = {"output_hidden_states": True, "output_attentions": True}
        found = ours(ids, token_type_ids=segments, **asked)
        expected = model.hidden_states(ids, segment_ids=segments)
        assert found.hidden_states[-1].equal(expected)
        assert not expected.equal(model.hidden_states(ids))
        weights = model.attention_weights(ids, segment_ids=segments)
        same(found.attentions, weights)
        assert not weights[0].equal(model.attention_weights(ids)[0])
    plain = wrapped(randomised())
    assert plain(ids, token_type_ids=torch.zeros_like(ids)).logits.equal(plain(ids).logits)
    with pytest.raises(ModelError, match="token_type_ids"):
        plain(ids, token_type_ids=segments)


@pytest.mark.parametrize("position", [{"kind": "learned"}, {"kind": "rotary"}])
def test_padding_on_the_left_and_a_cache(position: dict[str, str]) -> None:
    """Padding takes no position: each row is what it is alone, in the prompt and after it."""
    ours = wrapped(randomised(position=position))
    ids = ids_of(10)
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    past = ours(ids[:, :7], attention_mask=mask[:, :7], use_cache=True).past_key_values
    with pytest.raises(ModelError, match="attention_mask of 8 positions, and there are 9"):
        ours(ids[:, 7:], attention_mask=mask[:, :8], past_key_values=past)
    together = ours(ids[:, 7:], attention_mask=mask, past_key_values=past).logits
    for row, begin in ((0, 4), (1, 0)):
        alone = ours(ids[row : row + 1, begin:]).logits[0, -2:]
        torch.testing.assert_close(together[row], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_another_vocabulary(tied: bool) -> None:
    head = {"kind": "linear", "softcap": 3.0}
    ours = wrapped(randomised(head=head, tie_embeddings=tied))
    ids = ids_of(11)
    before = ours(ids).logits
    ours.resize_token_embeddings(41, mean_resizing=False)
    after = ours(ids).logits
    assert after.shape == (2, 9, 41)
    torch.testing.assert_close(after[..., :37], before)
    ours(torch.tensor([[40]]), labels=torch.tensor([[40]]))
    assert (ours.get_output_embeddings().weight is ours.get_input_embeddings().weight) == tied
    again = auto_model.StemmaForCausalLM(ours.config).eval()
    again.load_state_dict(ours.state_dict())
    assert again(ids).logits.equal(after)
