from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from stemma.tokenizers import ByteLevelBPE, ByteTokenizer, gpt2
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.view.statistics import Listed, completions, statistics
from stemma.tokenizers.view.tables import show_statistics
from stemma.tokenizers.wordpiece.tokenizer import WordPiece


def test_gpt2() -> None:
    """Its 13 bytes that no UTF-8 has are in no text; every other token is."""
    found = statistics(gpt2(), "gpt2", "Hello wörld")
    assert (found.family, found.vocab_size, found.merges) == ("ByteLevelBPE", 50257, 50000)
    assert (found.pattern, found.special) == ("gpt2", {"<|endoftext|>": 50256})
    assert sum(found.lengths.values()) == 50256
    assert sum(found.scripts.values()) == 50256
    assert found.leading_space == sum(
        gpt2().token_bytes(i)[:1] == b" " and _is_text(gpt2().token_bytes(i)[1:])
        for i in range(50256)
    )
    never = {0xC0, 0xC1, *range(0xF5, 0x100)}
    assert {token.surface for token in found.unreachable} == {bytes([value]) for value in never}
    assert found.bytes == found.lengths[0] == found.scripts["bytes"]
    assert len(found.longest[0].surface) == 66
    assert found.measure is not None
    assert found.measure.tokens == 4


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.decode())
    except UnicodeDecodeError:
        return False


def test_by_hand() -> None:
    tokens = ["[UNK]", "[CLS]", "[SEP]", "a", "##b", "b", "##!", "ab", "[unused]"]
    found = statistics(WordPiece.bert(tokens), "x")
    assert found.special == {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}
    assert [token.spelling for token in found.unreachable] == [b"##!", b"[unused]"]
    assert found.normalizer == "BertNormalizer"
    assert found.measure is None
    assert found.to_json()["unreachable"][0] == {"id": 6, "token": "##!", "bytes": b"##!".hex()}


def test_a_token_that_its_merges_miss() -> None:
    """``abc`` is made of ``bc`` and ``a``, but ``ab`` is always merged first."""
    letters = [bytes([value]) for value in range(256)]
    a, b, c = b"abc"
    tokenizer = ByteLevelBPE(
        [*letters, b"ab", b"bc", b"abc"],
        [(a, b), (b, c), (a, 257)],
        [AddedToken("<t>", 259, special=False)][:0],
    )
    assert [t.surface for t in statistics(tokenizer, "x").unreachable if len(t.surface) > 1] == [
        b"abc"
    ]


def test_added_tokens_count_by_themselves() -> None:
    letters = [bytes([value]) for value in range(256)]
    added = [AddedToken("<|endoftext|>", 256), AddedToken("<t>", 257, special=False)]
    tokenizer = ByteLevelBPE([*letters, b"<|endoftext|>", b"<t>"], [], added)
    found = statistics(tokenizer, "x")
    assert (found.special, found.added) == ({"<|endoftext|>": 256}, {"<t>": 257})
    assert sum(found.lengths.values()) == 256


@pytest.mark.parametrize("data", [b"\x9f", b"\xe2\x80", b"a\xf0", b"\x99\x82", b"\xbf\xbdx"])
def test_completions_hold_the_bytes(data: bytes) -> None:
    texts = completions(data)
    assert texts
    assert all(data in text.encode() for text in texts)


def test_the_table() -> None:
    for tokenizer, name in ((gpt2(), "gpt2"), (ByteTokenizer(), "bytes")):
        file = StringIO()
        text = "Hello" if name == "gpt2" else None
        show_statistics(Console(file=file, width=80), statistics(tokenizer, name, text))
        lines = file.getvalue().splitlines()
        assert all(len(line) <= 82 for line in lines)
        assert lines[0].split() == ["tokenizer", name, f"({type(tokenizer).__name__})"]
        assert ("bytes per" in file.getvalue()) == (text is not None)
    assert Listed(1, b"a", b"a").to_json() == {"id": 1, "token": "a", "bytes": "61"}


def test_an_id_that_is_not_used_is_no_token() -> None:
    spellings = [bytes([value]) for value in range(256)] + [b"", b"ab"]
    found = statistics(ByteLevelBPE(spellings, [(97, 98)]), "own")
    assert (found.vocab_size, sum(found.lengths.values())) == (258, 257)
