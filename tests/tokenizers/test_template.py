"""Templates put special tokens around texts as the post-processors of Hugging Face's library do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.byte import ByteTokenizer
from stemma.tokenizers.steps.template import Special, Template, Text, from_json, surround

CLS, SEP = Special("[CLS]", (256,)), Special("[SEP]", (257,))
BERT = Template((CLS, Text(), SEP), (CLS, Text(), SEP, Text("B", 1), Special("[SEP]", (257,), 1)))
STEPS: list[dict[str, Any]] = [
    BERT.to_json(),
    {"type": "BertProcessing", "sep": ["[SEP]", 257], "cls": ["[CLS]", 256]},
    {
        "type": "RobertaProcessing",
        "sep": ["[SEP]", 257],
        "cls": ["[CLS]", 256],
        "trim_offsets": True,
        "add_prefix_space": True,
    },
    surround({"[CLS]": 256}, {}).to_json(),
    surround({}, {"[SEP]": 257}).to_json(),
    Template((Text("A", 3), Text(), CLS), (Text("B"), CLS, Text("A", 2), Text("B", 1))).to_json(),
    Template((Special("x", (257, 256, 257), 4, ("[SEP]", "[CLS]", "[SEP]")), Text())).to_json(),
    {
        "type": "Sequence",
        "processors": [
            {
                "type": "ByteLevel",
                "add_prefix_space": True,
                "trim_offsets": False,
                "use_regex": True,
            },
            BERT.to_json(),
        ],
    },
]
ROBERTA = STEPS[2]


def library(step: dict[str, Any]) -> tokenizers.Tokenizer:
    document = ByteTokenizer(("[CLS]", "[SEP]")).to_json() | {"post_processor": step}
    return tokenizers.Tokenizer.from_str(json.dumps(document))


@pytest.mark.parametrize("step", STEPS, ids=lambda step: json.dumps(step)[:60])
@given(text=st.text("ab ", max_size=5), other=st.none() | st.text("ab ", max_size=5))
def test_ids_and_types_are_the_library_s(
    step: dict[str, Any], text: str, other: str | None
) -> None:
    template = from_json(step)
    assert template is not None
    theirs = library(step)
    expected = theirs.encode(text) if other is None else theirs.encode(text, other)
    ids, pair = ByteTokenizer().encode(text), None
    if other is not None:
        pair = ByteTokenizer().encode(other)
    assert template.apply(ids, pair).tolist() == expected.ids
    sizes = (len(ids), None if pair is None else len(pair))
    assert template.type_ids(*sizes).tolist() == expected.type_ids


@pytest.mark.parametrize("step", STEPS, ids=lambda step: json.dumps(step)[:60])
def test_what_is_written_does_the_same(step: dict[str, Any]) -> None:
    template = from_json(step)
    assert template is not None
    assert from_json(template.to_json()) == template
    theirs, again = library(step), library(template.to_json())
    assert theirs.encode("ab", "c").ids == again.encode("ab", "c").ids
    assert theirs.encode("ab").ids == again.encode("ab").ids


def test_by_hand() -> None:
    assert BERT.apply([7, 8]).tolist() == [256, 7, 8, 257]
    assert BERT.apply([7], [8, 9]).tolist() == [256, 7, 257, 8, 9, 257]
    assert BERT.type_ids(1, 2).tolist() == [0, 0, 0, 1, 1, 1]
    assert BERT.type_ids(2).tolist() == [0, 0, 0, 0]
    roberta = from_json(ROBERTA)
    assert roberta is not None
    assert roberta.apply([7], [8]).tolist() == [256, 7, 257, 257, 8, 257]
    assert surround({}, {"[SEP]": 257}).apply([7], [8]).tolist() == [7, 257, 8, 257]


def test_what_only_trims_offsets_is_nothing() -> None:
    step = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    assert from_json(None) is None
    assert from_json(step) is None
    assert from_json({"type": "Sequence", "processors": [step]}) is None


def test_its_tokens_must_be_the_tokenizer_s() -> None:
    tokenizer = ByteTokenizer(("[CLS]", "[SEP]"))
    BERT.check(tokenizer)
    for wrong in (Special("[CLS]", (257,)), Special("[CLS]", (999,)), Special("x", (0,))):
        with pytest.raises(TokenizerError, match="does not stand at its id"):
            Template((wrong, Text())).check(tokenizer)


def changed(**parts: Any) -> dict[str, Any]:
    return BERT.to_json() | parts


A: dict[str, Any] = {"Sequence": {"id": "A", "type_id": 0}}
B: dict[str, Any] = {"Sequence": {"id": "B", "type_id": 0}}


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"type": "New"}, "asks for post_processor = New"),
        ("x", "not an object"),
        (changed(single=[]), "of one text must name A"),
        (changed(single=[A, B]), "of one text must name A"),
        (changed(pair=[A]), "of two texts must name A and B"),
        (
            changed(single=[A, {"SpecialToken": {"id": "?", "type_id": 0}}]),
            r"single\[1\].*not one of",
        ),
        (changed(single=[{"Sequence": {"id": "C", "type_id": 0}}]), "not one of A, B"),
        (changed(single=[{"Sequence": {"id": "A", "type_id": -1}}]), "not an integer from 0"),
        (changed(single=[{}]), "must hold one of Sequence, SpecialToken"),
        (changed(special_tokens={"[CLS]": {"id": "[CLS]", "ids": [], "tokens": []}}), "has 0 ids"),
        (
            changed(special_tokens={"[CLS]": {"id": "[CLS]", "ids": [1, 2], "tokens": ["a"]}}),
            "has 2 ids and 1 tokens",
        ),
        (
            changed(special_tokens={"[CLS]": {"id": "[CLS]", "ids": [True], "tokens": ["a"]}}),
            r"ids\[0\] is true, not an id",
        ),
        (
            changed(special_tokens={"[CLS]": {"id": "[CLS]", "ids": [1], "tokens": [1]}}),
            r"tokens\[0\] is 1, not a string",
        ),
        (
            {"type": "BertProcessing", "sep": ["a"], "cls": ["b", 1]},
            "sep is not a token and its id",
        ),
        ({"type": "Sequence", "processors": [STEPS[1], STEPS[1]]}, "around a text twice"),
        (STEPS[1] | {"new": 1}, "post_processor.new = 1"),
    ],
)
def test_what_makes_no_sense_is_named(step: Any, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        from_json(step)
