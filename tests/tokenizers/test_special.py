from __future__ import annotations

import pytest

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteTokenizer
from stemma.tokenizers.special import SpecialTokens


def test_the_longest_of_several_is_found() -> None:
    special = SpecialTokens({"<|a|>": 7, "<|a|><|b|>": 8, "|": 9})
    assert list(special.split("x<|a|>y<|a|><|b|>|", "all")) == ["x", 7, "y", 8, 9]


def test_only_the_allowed_ones_are_found() -> None:
    special = SpecialTokens({"<|a|>": 7, "<|b|>": 8})
    assert list(special.split("<|a|><|b|>", ["<|b|>"])) == ["<|a|>", 8]
    assert list(special.split("<|a|><|b|>", ())) == ["<|a|><|b|>"]


def test_names_with_pattern_characters_are_taken_literally() -> None:
    tokenizer = ByteTokenizer([".*", "[end]"])
    assert tokenizer.encode("a.*[end]", allowed_special="all").tolist() == [97, 256, 257]


@pytest.mark.parametrize(
    ("ids", "message"), [({"": 1}, "empty string"), ({"a": 1, "b": 1}, "share one id")]
)
def test_inconsistent_tokens_are_refused(ids: dict[str, int], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        SpecialTokens(ids)
