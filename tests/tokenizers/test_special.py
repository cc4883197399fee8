from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers import ByteTokenizer
from stemma.tokenizers.special import AddedToken, AddedTokens, Part, special_tokens


def parts(added: AddedTokens, text: str, allowed: object = "all", **options: bool) -> list[Part]:
    names = added.allowed(allowed)  # type: ignore[arg-type]
    return [part for part, _, _ in added.split(text, names, **options)]


def plain(ids: Mapping[str, int]) -> AddedTokens:
    return AddedTokens(special_tokens(ids))


def test_the_longest_of_several_is_found() -> None:
    special = plain({"<|a|>": 7, "<|a|><|b|>": 8, "|": 9})
    assert parts(special, "x<|a|>y<|a|><|b|>|") == ["x", 7, "y", 8, 9]


def test_only_the_allowed_ones_are_found() -> None:
    special = plain({"<|a|>": 7, "<|b|>": 8})
    assert parts(special, "<|a|><|b|>", ["<|b|>"]) == ["<|a|>", 8]
    assert parts(special, "<|a|><|b|>", ()) == ["<|a|><|b|>"]


def test_added_tokens_that_are_not_special_are_always_found() -> None:
    added = AddedTokens([AddedToken("<think>", 5, special=False), AddedToken("<|end|>", 6)])
    assert parts(added, "a<think><|end|>", ()) == ["a", 5, "<|end|>"]
    assert parts(added, "a<think><|end|>", "all") == ["a", 5, 6]
    assert added.special == {"<|end|>": 6}


def test_places_are_told() -> None:
    added = AddedTokens([AddedToken("<m>", 1, lstrip=True, rstrip=True)])
    found = list(added.split("ab  <m> \n c", added.allowed("all")))
    assert found == [("ab", 0, 2), (1, 2, 10), ("c", 10, 11)]


def test_normalised_tokens_are_sought_apart() -> None:
    added = AddedTokens([AddedToken("a", 1, normalized=True), AddedToken("b", 2)])
    assert parts(added, "ab") == ["a", 2]
    assert parts(added, "ab", normalized=True) == [1, "b"]


def test_a_token_that_may_not_stand_somewhere_is_text_there() -> None:
    """Then a shorter one that begins there is asked about, and then what begins within it."""
    added = plain({"<|a|>": 7, "<|a|><|b|>": 8, "|>": 9})
    asked: list[tuple[str, int, int]] = []

    def accept(token: AddedToken, start: int, end: int) -> bool:
        asked.append((token.content, start, end))
        return token.id == 9

    found = list(added.split("x<|a|><|b|>", added.allowed("all"), accept=accept))
    assert found == [("x<|a", 0, 4), (9, 4, 6), ("<|b", 6, 9), (9, 9, 11)]
    assert asked == [("<|a|><|b|>", 1, 11), ("<|a|>", 1, 6), ("|>", 4, 6), ("|>", 9, 11)]
    names = added.allowed(["<|a|><|b|>"])
    assert [p for p, _, _ in added.split("<|a|><|b|>", names, accept=lambda *_: False)] == [
        "<|a|><|b|>"
    ]


def test_both_kinds_are_found_at_once_and_alone_words_only_alone() -> None:
    added = AddedTokens([AddedToken("a", 1, normalized=True), AddedToken("b", 2, single_word=True)])
    names = added.allowed("all")
    found = [part for part, _, _ in added.split("b abb", names, normalized=None)]
    assert found == [2, " ", 1, "bb"]
    asked: list[int] = []
    accept = lambda token, start, end: asked.append(start) or True  # noqa: E731
    again = [part for part, _, _ in added.split("b abb", names, normalized=None, accept=accept)]
    assert (again, asked) == (found, [0, 2])


def test_tokens_are_found_as_the_tokenizers_library_finds_them() -> None:
    """A tokenizer of single characters, with added tokens of all kinds, on random text."""
    generator = random.Random(3)
    contents = ["<a>", "<a><b>", "ab", " c", "éc", "a b"]
    for _ in range(150):
        added = [
            AddedToken(
                content,
                100 + i,
                special=generator.random() < 0.5,
                single_word=generator.random() < 0.4,
                lstrip=generator.random() < 0.3,
                rstrip=generator.random() < 0.3,
            )
            for i, content in enumerate(generator.sample(contents, generator.randint(1, 5)))
        ]
        alphabet = {c: i for i, c in enumerate("<ab>cé _\n1")}
        model = tokenizers.models.BPE(alphabet, [])
        theirs = tokenizers.Tokenizer(model)
        for token in added:
            flags = {"single_word": token.single_word, "lstrip": token.lstrip}
            one = tokenizers.AddedToken(
                token.content, special=token.special, rstrip=token.rstrip, normalized=False, **flags
            )
            add = theirs.add_special_tokens if token.special else theirs.add_tokens
            add([one])
        ids = {theirs.token_to_id(token.content): token.id for token in added}
        ours = AddedTokens(added)
        for _ in range(30):
            length = generator.randint(0, 12)
            text = "".join(
                generator.choice([*contents, "<", "a", " ", "\n", "_", "1"]) for _ in range(length)
            )
            expected = [
                ids.get(id_, text[slice(*span)])
                for id_, span in zip(*_encoded(theirs, text), strict=True)
            ]
            found: list[Part] = []
            for part in parts(ours, text):
                found += [part] if isinstance(part, int) else list(part)
            assert found == expected, (text, added)


def _encoded(theirs: tokenizers.Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    encoding = theirs.encode(text)
    return encoding.ids, encoding.offsets


def test_names_with_pattern_characters_are_taken_literally() -> None:
    tokenizer = ByteTokenizer([".*", "[end]"])
    assert tokenizer.encode("a.*[end]", allowed_special="all").tolist() == [97, 256, 257]


@pytest.mark.parametrize(
    ("ids", "message"), [({"": 1}, "empty string"), ({"a": 1, "b": 1}, "share one id")]
)
def test_inconsistent_tokens_are_refused(ids: dict[str, int], message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        plain(ids)


def test_a_text_listed_twice_is_refused() -> None:
    with pytest.raises(TokenizerError, match="share one text"):
        AddedTokens([AddedToken("a", 1), AddedToken("a", 2)])


def test_an_unknown_token_cannot_be_allowed() -> None:
    with pytest.raises(TokenizerError, match=r"no such special token: '<x>'"):
        plain({"<a>": 1}).allowed(["<x>"])
