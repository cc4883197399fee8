from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.tokenizers import ByteLevelBPE, gpt2
from stemma.tokenizers.view.glyphs import glyphs
from stemma.tokenizers.view.page import cut_page
from stemma.tokenizers.view.replay import Merges, replay
from stemma.tokenizers.view.tree import Node, forest, tree_svg
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

VOID = {"meta", "input", "br", "wbr"}


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps what stands in the tokens."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tokens: list[str] = []
        self.token_depth = 0
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if "data-id" in dict(attrs):
            self.tokens.append("")
            self.token_depth = len(self.open)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if len(self.open) == self.token_depth:
            self.token_depth = 0
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.token_depth:
            self.tokens[-1] += data

    def tokens_shown(self) -> list[str]:
        """What a reader sees of each token."""
        return self.tokens


TEXT = 'Hello wörld <script>alert("x")</script> & 1234\n\tyes 你<|endoftext|>'


def test_the_page_holds_the_tokens_and_nothing_of_the_text_as_code() -> None:
    html = cut_page(gpt2(), TEXT, name="gpt2", allowed_special="all")
    page = Page(html)
    found = [(tag, attributes) for tag, attributes in page.tags if "data-id" in attributes]
    assert [int(a["data-id"] or "") for _, a in found] == gpt2().encode(
        TEXT, allowed_special="all"
    ).tolist()
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    names = [glyphs(gpt2().token_bytes(int(a["data-id"] or ""))) for _, a in found]
    assert [a["data-name"] for _, a in found] == page.tokens_shown() == names
    assert "<|endoftext|>" in names
    hello = found[0][1]
    assert (hello["data-hex"], hello["data-rank"], hello["data-at"]) == (
        "48 65 6c 6c 6f",
        "15,240",
        "bytes 0-5",
    )
    assert [a["data-part"] for _, a in found if a.get("data-part")] == ["你", "你"]


def test_the_page_needs_nothing_else() -> None:
    html = cut_page(gpt2(), TEXT, name="gpt2")
    assert not re.search(r"https?:|src=|url\(|@import|<link", html)
    assert "prefers-color-scheme: dark" in html


@settings(max_examples=40)
@given(st.text(max_size=40))
def test_any_text_makes_a_sound_page(text: str) -> None:
    page = Page(cut_page(gpt2(), text, name="<&>"))
    ids = [a["data-id"] for _, a in page.tags if "data-id" in a]
    assert [int(id_ or "") for id_ in ids] == gpt2().encode(text).tolist()


def test_each_token_leads_to_its_word() -> None:
    page = Page(cut_page(gpt2(), "one two one <|endoftext|> two", name="x", allowed_special="all"))
    found = [(a["data-name"], a.get("href")) for _, a in page.tags if "data-id" in a]
    assert found == [
        ("one", "#w0"),
        ("·two", "#w1"),
        ("·one", "#w2"),
        ("·", "#w3"),
        ("<|endoftext|>", None),
        ("·two", "#w1"),
    ]
    anchors = {a["id"] for tag, a in page.tags if tag == "details"}
    assert anchors == {"w0", "w1", "w2", "w3"}


def test_unknown_tokens_belong_to_words() -> None:
    tokenizer = WordPiece.bert(["[UNK]", "[CLS]", "[SEP]", "a", "##b"])
    page = Page(cut_page(tokenizer, "ab x ab", name="x"))
    found = [(a["data-name"], a.get("href")) for _, a in page.tags if "data-id" in a]
    assert found == [("a", "#w0"), ("##b", "#w0"), ("[UNK]", "#w1"), ("a", "#w0"), ("##b", "#w0")]


def test_many_words_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemma.tokenizers.view.page.MOST_WORDS", 3)
    html = cut_page(gpt2(), "a b c d e", name="x")
    assert "2 further words are left out" in html
    assert sum("data-id" in a for _, a in Page(html).tags) == 5


def leaves(node: Node) -> list[bytes]:
    if not node.children:
        return [node.piece.spelling]
    return [leaf for child in node.children for leaf in leaves(child)]


def walk(node: Node) -> list[Node]:
    return [node, *(below for child in node.children for below in walk(child))]


def test_of_a_long_text_the_beginning_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "One two three 🙂🙂 and more"
    assert "The text is long" not in cut_page(gpt2(), text, name="gpt2")
    n = len(gpt2().encode(text))
    for most in range(1, n):
        monkeypatch.setattr("stemma.tokenizers.view.page.MOST_TOKENS", most)
        found = cut_page(gpt2(), text, name="gpt2")
        assert f"these are its first {most} tokens of {n}," in found
        assert f"{n} tokens for {len(text.encode())} bytes" in found
        assert found.count("data-at=") == most
        assert "#w0" in found
        assert "different words shown" in found
        assert ('id="w1"' in found) == (most > 1)
    assert "more" not in found.partition('id="text"')[2].partition("</div>")[0]


def test_a_tree_by_hand() -> None:
    (one,) = replay(gpt2(), "wörld")
    assert isinstance(one, Merges)
    roots = forest(one)
    assert [root.piece.id for root in roots] == [86, 30570, 335]
    assert [root.level for root in roots] == [0, 2, 1]
    assert [root.label for root in roots] == ["", "30,314", "79"]
    assert [leaf for root in roots for leaf in leaves(root)] == [p.spelling for p in one.symbols]


@pytest.mark.parametrize("word", ["wörld", "·", " antidisestablishmentarianism", "🙂🙂", "x" * 60])
def test_boxes_do_not_overlap(word: str) -> None:
    (one,) = replay(gpt2(), word)[:1]
    assert isinstance(one, Merges)
    svg = tree_svg(one)
    Page(svg)
    boxes = [
        tuple(float(value) for value in found)
        for found in re.findall(r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)"', svg)
    ]
    assert len(boxes) == len(one.symbols) + len(one.merges)
    width, height = (float(v) for v in re.findall(r'width="(\d+)" height="(\d+)" viewBox', svg)[0])
    for i, (x, y, w) in enumerate(boxes):
        assert x >= 0
        assert x + w <= width + 1
        assert 0 <= y <= height
        for x2, y2, w2 in boxes[:i]:
            assert y != y2 or x + w <= x2 or x2 + w2 <= x


def test_ranks_by_tiktokens_rule() -> None:
    base = ByteLevelBPE.train(["low lower lowest " * 9], 264)
    ranks = {base.token_bytes(i): i for i in range(263)}
    tokenizer = ByteLevelBPE.from_ranks(ranks, {"<|e|>": 263}, pattern="gpt2")
    assert "is a token as it stands" in cut_page(tokenizer, "low", name="x")
