"""SentencePiece's families as ``tokenizer.json``.

Both libraries then give the same ids, but for what ``tokenizers`` always does in another way: it
finds special tokens in every text; it applies the character map to clusters of characters (see
`steps.charsmap`); it sums scores in double precision; and a Unigram model of its own takes the name
of a byte piece, ``<0x0A>``, for that piece.
"""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.normalizer import SPACE
from stemma.tokenizers.sentencepiece.pieces import FOUND_IN_TEXT, Kind, SentencePieceSettings
from stemma.tokenizers.unigram.model import UnigramModel

_CURE = "Save it as a .model: stemma.tokenizers.formats.sentencepiece_model.write(...)."


def unigram_json(tokenizer: SentencePieceTokenizer, model: UnigramModel) -> dict[str, Any]:
    """A Unigram tokenizer.

    Args:
        tokenizer: pieces and settings.
        model: the scores.

    Raises:
        TokenizerError: if the format has no way to say what the settings or pieces ask for.
    """
    _check_settings(tokenizer)
    lowest = model.unknown_score + 10.0
    scores = []
    for piece, score in zip(tokenizer.pieces, model.scores, strict=True):
        rewritten = tokenizer.rewrite.charsmap.normalize(piece.text).replace(" ", "")
        if piece.kind == Kind.USER_DEFINED and rewritten != piece.text:
            raise _inexpressible(f"the user-defined piece {piece.text!r}, which the rules rewrite,")
        in_text = piece.kind in FOUND_IN_TEXT
        scores.append(float(score) if in_text else max(float(piece.score), lowest))
    # A word may be looked at by itself if no token can reach from one into the next: no piece, nor
    # several unknown characters together, the space among them.
    apart = SPACE in {piece.text for piece in tokenizer.pieces if piece.kind in FOUND_IN_TEXT}
    apart = apart and not any(SPACE in piece.text[1:] for piece in tokenizer.pieces)
    return _document(
        tokenizer,
        {
            "type": "Unigram",
            "unk_id": tokenizer.unknown_id,
            "vocab": [[p.text, s] for p, s in zip(tokenizer.pieces, scores, strict=True)],
            "byte_fallback": tokenizer.settings.byte_fallback,
        },
        # Without it the library looks at the whole text as one word, which is the same, but slow.
        pre_tokenizer=_METASPACE if apart else None,
    )


_METASPACE = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": True}


def bpe_json(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    """A BPE tokenizer: the list of merges is every way to make a piece, by the piece's score.

    Of the ways to make one piece that with the longer left half stands first. So runs of one
    character grow from the left, as here, even if all of them have one score.

    Args:
        tokenizer: pieces and settings.

    Raises:
        TokenizerError: if the format has no way to say what the settings or pieces ask for.
    """
    _check_settings(tokenizer)
    ids = {p.text: i for i, p in enumerate(tokenizer.pieces) if p.kind == Kind.NORMAL}
    if any(piece.kind == Kind.USER_DEFINED for piece in tokenizer.pieces):
        raise _inexpressible("a user-defined piece")
    made = [(tokenizer.pieces[i].score, text) for text, i in ids.items() if len(text) > 1]
    _check_scores(made)
    merges = [(-score, *halves) for score, text in made for halves in _halves(text, ids)]
    merges.sort(key=lambda merge: (merge[0], -len(merge[1]), -len(merge[2])))
    unknown = tokenizer.pieces[tokenizer.unknown_id].text
    return _document(
        tokenizer,
        {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": tokenizer.settings.byte_fallback,
            "ignore_merges": False,
            "vocab": {piece.text: i for i, piece in enumerate(tokenizer.pieces)},
            "merges": [f"{left} {right}" for _, left, right in merges],
        },
        pre_tokenizer=None,
    )


def _check_scores(made: list[tuple[float, str]]) -> None:
    """Of two pieces of one score the leftmost is made first: a list of merges cannot say that."""
    first: dict[float, str] = {}
    for score, text in made:
        other = first.setdefault(score, text)
        if {*other, *text} != {text[0]} and other != text:
            raise _inexpressible(f"that {other!r} and {text!r} have the same score, {score},")


def _halves(text: str, ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    """The pairs of pieces that make ``text``."""
    for i in range(1, len(text)):
        left, right = text[:i], text[i:]
        for part, other in ((left, right), (right, left)):
            if len(part) == 1 and part not in ids and (other in ids or len(other) == 1):
                raise _inexpressible(f"piece {text!r}, of which {part!r} is no piece,")
        if left in ids and right in ids:
            yield left, right


def _check_settings(tokenizer: SentencePieceTokenizer) -> None:
    settings = tokenizer.settings
    if settings.treat_whitespace_as_suffix:
        raise _inexpressible("treat_whitespace_as_suffix")
    if not settings.escape_whitespaces:
        raise _inexpressible("escape_whitespaces=False")
    if settings.denormalizer_charsmap:
        raise _inexpressible("a denormalizer")
    texts = Counter(piece.text for piece in tokenizer.pieces)
    if len(texts) != len(tokenizer.pieces):
        raise _inexpressible(f"two pieces {texts.most_common(1)[0][0]!r}")
    unused = [piece.text for piece in tokenizer.pieces if piece.kind == Kind.UNUSED]
    if unused:
        raise _inexpressible(f"an unused piece, {unused[0]!r},")


def _inexpressible(what: str) -> TokenizerError:
    return TokenizerError(f"{what} has no place in tokenizer.json", cure=_CURE)


def _document(
    tokenizer: SentencePieceTokenizer, model: dict[str, Any], *, pre_tokenizer: Any
) -> dict[str, Any]:
    added = sorted(tokenizer.added_tokens, key=lambda token: token.id)
    template = tokenizer.template
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [asdict(token) for token in added],
        "normalizer": _normalizer(tokenizer.settings),
        "pre_tokenizer": pre_tokenizer,
        "post_processor": template and template.to_json(),
        "decoder": _decoder(tokenizer),
        "model": model,
    }


def _normalizer(settings: SentencePieceSettings) -> dict[str, Any]:
    steps: list[dict[str, Any]] = []
    if settings.charsmap:
        encoded = base64.b64encode(settings.charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if settings.remove_extra_whitespaces:
        steps.append(_replace(Regex=rf"\A +|[ {SPACE}]+\z", content=""))
        steps.append(_replace(Regex=" {2,}", content=" "))
    if settings.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    return {"type": "Sequence", "normalizers": [*steps, _replace(String=" ", content=SPACE)]}


def _replace(*, content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _decoder(tokenizer: SentencePieceTokenizer) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [
        _replace(String=SPACE, content=" "),
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if tokenizer.settings.add_dummy_prefix or tokenizer.settings.remove_extra_whitespaces:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
