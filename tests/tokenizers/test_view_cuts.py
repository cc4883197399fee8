from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from stemma.tokenizers import ByteTokenizer, gpt2
from stemma.tokenizers.view.cuts import Cut, Token, cut
from stemma.tokenizers.view.terminal import Cell, fold, pieces, show_cut, styles, summary


def shown(text: str, width: int = 80, *, with_ids: bool = True, special: bool = False) -> str:
    """The plain lines of a text cut by GPT-2."""
    file = StringIO()
    console = Console(file=file, width=width, highlight=False)
    found = cut(gpt2(), text, name="gpt2", allowed_special="all" if special else ())
    show_cut(console, found, with_ids=with_ids)
    return file.getvalue()


def test_cut_by_hand() -> None:
    found = cut(gpt2(), "Hello wörld<|endoftext|>", name="gpt2", allowed_special="all")
    assert found == Cut(
        "gpt2",
        "Hello wörld<|endoftext|>",
        (
            Token(15496, b"Hello", 0, 5),
            Token(266, b" w", 5, 7),
            Token(30570, "ör".encode(), 7, 10),
            Token(335, b"ld", 10, 12),
            Token(50256, b"<|endoftext|>", 12, 25, special=True),
        ),
    )
    assert summary(found) == "5 tokens, 25 bytes, 5.00 bytes per token (gpt2)"
    assert found.to_json()["tokens"][2] == {
        "id": 30570,
        "token": "ör",
        "bytes": "c3b672",
        "start": 7,
        "end": 10,
        "special": False,
    }
    assert summary(cut(gpt2(), "", name="x")) == "0 tokens, 0 bytes (x)"
    assert summary(cut(gpt2(), "a", name="x")) == "1 token, 1 byte, 1.00 bytes per token (x)"


def test_plain_lines() -> None:
    assert shown("Hello wörld\n[bold]€") == (
        "Hello│·w │ör   │ld │⏎\n15496│266│30570│335│198\n[ │bold │] │€\n58│36575│60│26391\n"
    )
    assert shown("Hello wörld", with_ids=False) == "Hello│·w│ör│ld\n"
    assert shown("") == ""
    assert shown("\x1b[31m").startswith("␛  │[ │31")
    assert "<|endoftext|>\n50256" in shown("<|endoftext|>", special=True)


@pytest.mark.parametrize("width", range(1, 12))
def test_a_terminal_may_be_as_narrow_as_it_likes(width: int) -> None:
    assert "15496" in shown("Hello Hello 世界 internationalisation", width)


@given(st.text(max_size=60), st.integers(12, 60))
def test_no_line_is_wider_than_the_console(text: str, width: int) -> None:
    lines = shown(text, width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    uppers, lowers = lines[::2], lines[1::2]
    assert [id_ for line in lowers for id_ in map(int, line.split("│"))] == gpt2().encode(
        text
    ).tolist()
    for upper, lower in zip(uppers, lowers, strict=True):
        # Every token begins in the column in which its id begins.
        bars = [cell_len(lower[:i]) for i, c in enumerate(lower) if c == "│"]
        assert bars == [cell_len(upper[:i]) for i, c in enumerate(upper) if c == "│"] or "│" in text


def test_a_token_wider_than_the_console_is_shortened() -> None:
    console = Console(file=StringIO(), width=20)
    token = Token(1, ("日" * 30).encode(), 0, 90)
    show_cut(console, Cut("x", "日" * 30, (token,)))
    assert console.file.getvalue().splitlines()[0] == "日日日日…日日日"  # type: ignore[attr-defined]


def test_wide_characters_and_marks_stand_in_their_columns() -> None:
    console = Console(file=StringIO(), width=80)
    tokens = (
        Token(1, b"e", 0, 1),
        Token(12, "\u0301".encode(), 1, 3),
        Token(3, "日本".encode(), 3, 9),
        Token(4, b"x", 9, 10),
    )
    show_cut(console, Cut("x", "e\u0301日本x", tokens))
    assert console.file.getvalue() == (  # type: ignore[attr-defined]
        "e│◌\u0301 │日本│x\n1│12│3   │4\n"
    )


def test_right_to_left_tokens_keep_their_places() -> None:
    upper = shown("אב גד").splitlines()[0]
    assert all("\u200e" in cell for cell in upper.split("│") if any(c >= "א" for c in cell))


def colours(system: str | None) -> Console:
    return Console(file=StringIO(), force_terminal=True, color_system=system, width=80)  # type: ignore[arg-type]


def test_colours() -> None:
    assert styles(Console(file=StringIO())) == ()
    plain = Console(file=StringIO(), force_terminal=True, color_system="256", no_color=True)
    assert styles(plain) == ()
    assert len(styles(colours("truecolor"))) == 6
    assert len(styles(colours("standard"))) == 3
    console = colours("truecolor")
    show_cut(console, cut(gpt2(), "Hello wörld", name="gpt2"))
    written = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[30;48;2" in written
    assert "│" not in written


def test_an_encoding_without_the_marks() -> None:
    class Ascii(StringIO):
        encoding = "ascii"  # type: ignore[assignment]

    file = Ascii()
    show_cut(Console(file=file, width=80), cut(gpt2(), "é a\n", name="gpt2"))
    assert file.getvalue() == "\\xe9|_a |\\n\n2634|257|198\n"


def test_fold() -> None:
    cells = [Cell("abc", "1", ""), Cell("d", "22222", "", ends_line=True), Cell("e", "3", "")]
    assert [[cell.text for cell in row] for row in fold(cells, 9, 1)] == [["abc", "d"], ["e"]]
    assert [[cell.text for cell in row] for row in fold(cells, 8, 1)] == [["abc"], ["d"], ["e"]]


@pytest.mark.parametrize("system", [None, "truecolor"])
def test_pieces(system: str | None) -> None:
    console = colours(system) if system else Console(file=StringIO())
    text = pieces(console, [b"ab", b"\xe2", b" c"], marked=1)
    assert text.plain == ("ab<e2>·c" if system else "ab|<e2>|·c")
    folded = pieces(console, [b"ab", b"\xe2\x80", b" c"], width=9).plain
    assert folded == ("ab<e280>\n·c" if system else "ab|<e280>\n·c")


def test_every_family_can_be_shown() -> None:
    found = cut(ByteTokenizer(), "é", name="bytes")
    assert [(t.id, t.start, t.end) for t in found.tokens] == [(195, 0, 1), (169, 1, 2)]
