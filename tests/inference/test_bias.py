"""Biases by text or id."""

from __future__ import annotations

import pytest

from stemma.errors import ConfigError
from stemma.inference import parse_bias
from stemma.tokenizers import ByteTokenizer

BYTES = ByteTokenizer()


def test_a_token_is_a_text_or_an_id() -> None:
    assert parse_bias(BYTES, ["a=-5", "98=0.5", "==1"]) == {97: -5.0, 98: 0.5, 61: 1.0}
    assert parse_bias(BYTES, ["<|endoftext|>=2"]) == {BYTES.end_of_text: 2.0}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("a", "'a' is not TOKEN=NUMBER"),
        ("a=b", "'a=b' is not TOKEN=NUMBER"),
        ("=3", "'=3' is not TOKEN=NUMBER"),
        ("ab=3", r"'ab' is 2 tokens: 'a' \(97\), 'b' \(98\)"),
    ],
)
def test_what_is_no_bias_is_refused(item: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_bias(BYTES, [item])
