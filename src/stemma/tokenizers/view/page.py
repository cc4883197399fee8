"""A cut text as a page that needs nothing but itself."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from stemma.tokenizers.special import AllowedSpecial
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.view.cuts import Cut, Token, cut
from stemma.tokenizers.view.glyphs import (
    NEWLINE,
    SPACE,
    TAB,
    glyphs,
    shortened,
    signs,
    visible,
)
from stemma.tokenizers.view.replay import Matches, Merges, Paths, Piece, Replay, Whole, replay
from stemma.tokenizers.view.tree import tree_svg

MOST_WORDS = 300
MOST_TOKENS = 20_000
"""A browser is still quick with so many; they are about as many pages as a short book has."""
_COLOURS = 6
_EXPLANATIONS: dict[type, str] = {
    Merges: (
        "At the bottom what a word begins with; each box above joins the two below it. The small "
        "number is the rank of that merge (or the score of the piece): of all neighbours that can "
        "be joined, those go first whose merge was learned first. What is left on top are the "
        "tokens."
    ),
    Matches: "From the left, always the longest token that the rest of the word begins with.",
    Paths: (
        "Of all ways to cut a word into pieces, the one whose scores (log probabilities) have the "
        "largest sum; below it the next best."
    ),
    Whole: "Some words are tokens as they stand.",
}


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page from one of our templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("stemma.tokenizers.view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template(template).render(values)


def cut_page(
    tokenizer: Tokenizer, text: str, *, name: str, allowed_special: AllowedSpecial = ()
) -> str:
    """A text, its tokens, and how each of its words was cut.

    Of a long text the first `MOST_TOKENS` tokens are shown, and the page says so.

    Args:
        tokenizer: what cuts the text.
        text: the text.
        name: what to call the tokenizer.
        allowed_special: see `Tokenizer.encode`.

    Raises:
        TokenizerError: see `Tokenizer.encode`.
    """
    from markupsafe import Markup

    whole = cut(tokenizer, text, name=name, allowed_special=allowed_special)
    found = _beginning(whole)
    replays = replay(tokenizer, found.text, allowed_special=allowed_special)
    counts = Counter(one.word for one in replays)
    distinct = {one.word: one for one in replays}
    shown = [*distinct.values()][:MOST_WORDS]
    n_left = len(distinct) - len(shown)
    kinds = list(dict.fromkeys(type(one) for one in shown))
    return render(
        "cut.html.jinja",
        {
            "title": f"How {name} cuts a text",
            "lead": _lead(whole, tokenizer),
            "tiles": _tiles(whole, len(distinct)),
            "cut_off": _cut_off(whole, found),
            "tokens": Markup(_text(found, replays, {one.word: i for i, one in enumerate(shown)})),
            "legend": "· is a space, ⏎ a new line, → a tab. Codes in angle brackets are bytes that "
            "are no character by themselves, or characters that cannot be seen.",
            "explanation": " ".join(_EXPLANATIONS[kind] for kind in kinds),
            "words": [_word(one, counts[one.word]) for one in shown],
            "left_out": f"{n_left:,} further words are left out." if n_left else "",
        },
    )


def _beginning(whole: Cut) -> Cut:
    """As much of a text as a page shows."""
    if len(whole.tokens) <= MOST_TOKENS:
        return whole
    tokens = whole.tokens[:MOST_TOKENS]
    end = max(token.end for token in tokens)
    return Cut(whole.tokenizer, whole.text.encode()[:end].decode(errors="ignore"), tokens)


def _cut_off(whole: Cut, shown: Cut) -> str:
    n = len(whole.tokens)
    if len(shown.tokens) == n:
        return ""
    return (
        f"The text is long: these are its first {len(shown.tokens):,} tokens of {n:,}, "
        "and so are the words below. The numbers above are those of the whole text."
    )


def coloured(tokens: Sequence[Token]) -> str:
    """Tokens as HTML, in turns of colour."""
    return "".join(
        f'<span class="t {_colour(token, i)}">{_shown(token.spelling)}</span>'
        for i, token in enumerate(tokens)
    )


def _lead(found: Cut, tokenizer: Tokenizer) -> str:
    n, n_bytes = len(found.tokens), found.n_bytes
    family = type(tokenizer).__name__
    return f"{n:,} tokens for {n_bytes:,} bytes; a {family} of {tokenizer.vocab_size:,} tokens."


def _tiles(found: Cut, n_words: int) -> list[dict[str, str]]:
    n = len(found.tokens)
    cut_off = " shown" if n > MOST_TOKENS else ""
    return [
        {"label": "bytes per token", "value": f"{found.n_bytes / max(n, 1):.2f}"},
        {"label": "tokens", "value": f"{n:,}"},
        {"label": "different tokens", "value": f"{len({t.id for t in found.tokens}):,}"},
        {"label": "bytes", "value": f"{found.n_bytes:,}"},
        {"label": "characters", "value": f"{len(found.text):,}"},
        {"label": f"different words{cut_off}", "value": f"{n_words:,}"},
    ]


def _text(found: Cut, replays: Sequence[Replay], numbers: Mapping[str, int]) -> str:
    """The tokens as links to their words; added tokens, which have none, stand between these."""
    words = deque((id_, one) for one in replays for id_ in one.ids)
    facts = {id_: fact for one in replays for id_, fact in _facts(one).items()}
    data = found.text.encode()
    parts = []
    for i, token in enumerate(found.tokens):
        one = words.popleft()[1] if words and words[0][0] == token.id else None
        href = f' href="#w{numbers[one.word]}"' if one and one.word in numbers else ""
        attributes = {
            "id": str(token.id),
            "name": glyphs(token.spelling),
            "hex": token.spelling.hex(" "),
            "at": f"bytes {token.start}-{token.end}" if token.end > token.start else "nothing",
            "part": _part(data, token),
            **facts.get(token.id, {}),
        }
        listed = "".join(f' data-{k}="{escape(v)}"' for k, v in attributes.items() if v)
        tag = "a" if href else "span"
        parts.append(f'<{tag} class="t {_colour(token, i)}"{href}{listed}>')
        parts.append(f"{_shown(token.spelling)}</{tag}>")
        parts.append("\n" if token.spelling.endswith(b"\n") else "<wbr>")
    return "".join(parts)


def _part(data: bytes, token: Token) -> str:
    """The characters that a token holds only a part of."""
    start, end = token.start, token.end
    while start > 0 and start < len(data) and data[start] & 0xC0 == 0x80:
        start -= 1
    while end < len(data) and data[end] & 0xC0 == 0x80:
        end += 1
    if (start, end) == (token.start, token.end):
        return ""
    return visible(data[start:end].decode(errors="replace"))


def _facts(one: Replay) -> dict[int, dict[str, str]]:
    """What is known of a word's tokens beyond their spelling."""
    if isinstance(one, Merges):
        return {
            merge.made.id: (
                {"score": f"{merge.made.score:g}"}
                if merge.rank is None
                else {"rank": f"{merge.rank:,}"}
            )
            for merge in one.merges
            if merge.made.id is not None
        }
    if isinstance(one, Paths) and one.paths:
        best = one.paths[0].pieces
        return {p.id: {"score": f"{p.score:.3f}"} for p in best if p.id is not None}
    return {}


def _word(one: Replay, count: int) -> dict[str, Any]:
    from markupsafe import Markup

    n = len(one.ids)
    listed = " ".join(map(str, one.ids[:30])) + (" …" if n > 30 else "")
    times = f"{count} times in the text" if count > 1 else ""
    return {
        "name": shortened(visible(one.word), 80),
        "tokens": f"{n} token{'' if n == 1 else 's'}: {listed}",
        "note": times,
        "body": Markup(_body(one)),
    }


def _body(one: Replay) -> str:
    note = f'<p class="note">{escape(one.note)}</p>' if one.note else ""
    if isinstance(one, Merges):
        return f'<div class="tree">{tree_svg(one)}</div>{note}'
    if isinstance(one, Matches):
        return _table(("longest token", "id", "left over"), _match_rows(one)) + note
    if isinstance(one, Paths):
        return _table(("score", "pieces and their scores"), _path_rows(one)) + note
    return note


def _match_rows(one: Matches) -> list[tuple[str, ...]]:
    return [
        (
            _boxes([match.piece], i) if match.piece else "none",
            "" if match.piece is None else str(match.piece.id),
            f'<span class="mono">{escape(visible(match.rest))}</span>',
        )
        for i, match in enumerate(one.matches)
    ]


def _path_rows(one: Paths) -> list[tuple[str, ...]]:
    return [
        (
            f"{path.score:.2f}",
            _boxes(path.pieces)
            + f' <span class="note">{" ".join(f"{p.score:.2f}" for p in path.pieces)}</span>',
        )
        for path in one.paths
    ]


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(f"<tr>{''.join(f'<td class=wrap>{c}</td>' for c in row)}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _boxes(pieces: Sequence[Piece], first: int = 0) -> str:
    return "".join(
        f'<span class="t mono c{(first + i) % _COLOURS}">{_shown(piece.spelling)}</span>'
        for i, piece in enumerate(pieces)
    )


def _colour(token: Token, i: int) -> str:
    return "special" if token.special else f"c{i % _COLOURS}"


def _shown(spelling: bytes) -> str:
    """A token's glyphs: codes are small, and what stands for what cannot be seen is faint."""
    return "".join(
        f"<small>{escape(text)}</small>"
        if is_code
        else f"<i>{text}</i>"
        if text in (SPACE, NEWLINE, TAB)
        else escape(text)
        for text, is_code in signs(spelling)
    )
