"""The state machine against Python's own regular expressions, on random patterns and texts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.tokenizers.scan.machine import compile_machine
from stemma.tokenizers.scan.pattern import Unsupported
from stemma.tokenizers.scan.tables import edges_of, tables_of
from stemma.tokenizers.scan.words import WordSplitter

LETTERS = "abcd"
AHEADS = ["(?!a)", "(?=[ab])", "(?![cd])", "$"]


def _patterns() -> st.SearchStrategy[str]:
    one = st.sampled_from(["a", "b", "[ab]", "[^a]", "[b-d]", ".", "[^bc]"])
    repeats = st.sampled_from(["?", "*", "+", "{2}", "{1,2}", "{2,}", "*?", "+?", "{1,3}?"])

    def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.one_of(
            st.tuples(inner, repeats).map(lambda t: f"(?:{t[0]}){t[1]}"),
            st.lists(inner, min_size=2, max_size=3).map("".join),
            st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
            st.tuples(inner, st.sampled_from(AHEADS)).map("".join),
        )

    return st.recursive(one, larger, max_leaves=7)


@settings(max_examples=1500, deadline=None)
@given(_patterns(), st.lists(st.text(LETTERS, max_size=12), min_size=1, max_size=6))
def test_matches_end_where_backtracking_ends_them(pattern: str, texts: list[str]) -> None:
    try:
        machine = compile_machine(pattern)
    except Unsupported as refused:
        why = str(refused)
        machine = None
    if machine is None:
        assert "empty text" in why
        return
    reference = re.compile(pattern.replace("$", r"\Z"))
    for text in texts:
        for start in range(len(text)):
            found = reference.match(text, start)
            assert machine.match(text, start) == (found.end() if found else -1)


@settings(max_examples=600, deadline=None)
@given(
    st.lists(_patterns(), min_size=1, max_size=2),
    st.lists(st.text(LETTERS + "é🙂", max_size=14), min_size=1, max_size=5),
)
def test_readable_and_fast_words_are_the_same(patterns: list[str], texts: list[str]) -> None:
    try:
        for pattern in patterns:
            compile_machine(pattern)
    except Unsupported:
        return
    splitter = WordSplitter(tuple(patterns))
    expected = [word for text in texts for word in splitter.split(text)]
    assert "".join(expected) == "".join(texts)
    encoded = [text.encode() for text in texts]
    data = np.frombuffer(b"".join((*encoded, bytes(16))), np.uint8)
    limits = np.cumsum([len(text) for text in encoded], dtype=np.int32)
    ends = splitter.ends(data, limits).tolist()
    found = [data[a:b].tobytes().decode() for a, b in zip([0, *ends], ends, strict=False)]
    assert found == expected


@settings(max_examples=600, deadline=None)
@given(st.lists(_patterns(), min_size=1, max_size=3), st.text(LETTERS, min_size=2, max_size=16))
def test_a_text_cut_at_an_edge_has_the_same_words(patterns: list[str], text: str) -> None:
    try:
        splitter = WordSplitter(tuple(patterns))
        edges = edges_of(splitter.patterns)
    except Unsupported:
        return
    if edges is None:
        return
    words = splitter.split(text)
    for i in range(1, len(text)):
        if edges.pairs[edges.kinds[ord(text[i - 1])], edges.kinds[ord(text[i])]]:
            assert splitter.split(text[:i]) + splitter.split(text[i:]) == words, i


def test_the_commonest_rules_have_edges_and_fast_tables() -> None:
    for pattern in WordSplitter("gpt2").patterns + WordSplitter("o200k").patterns:
        tables = tables_of(pattern)
        edges = edges_of((pattern,))
        assert tables is not None
        assert tables.fast.size > 1
        assert edges is not None
        assert edges.pairs[edges.kinds[ord("a")], edges.kinds[ord(" ")]]
        assert not edges.pairs[edges.kinds[ord(" ")], edges.kinds[ord("a")]]
        newline_belongs_to_what_follows = "[\\r\\n]+" not in pattern
        at_newline = edges.pairs[edges.kinds[ord("\n")], edges.kinds[ord("a")]]
        assert at_newline != newline_belongs_to_what_follows


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(?<=a)b", "a group that begins with"),
        ("(?!ab)c", "more than one character"),
        (r"(a)\1", r"\\1"),
        ("a*", "empty text"),
        ("a++a", "gives nothing back before the same"),
        ("(?:ab)?+a", "group that gives nothing back"),
        (r"\p{NoSuchThing}", "NoSuchThing"),
        ("(?i:é)", "beyond ASCII"),
        ("[a", "ends too early"),
        ("a)", "left over"),
        ("*a", "'\\*' here"),
    ],
)
def test_what_the_machine_cannot_do_is_said(pattern: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        compile_machine(pattern)


def test_a_pattern_with_too_many_states_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"too large|too many states"):
        compile_machine("[ab]*a[ab]{14}c")
