"""What is in a vocabulary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.view.comparison import Measure, kinds_of, measure
from stemma.tokenizers.view.scripts import main_script

N_LONGEST = 20
# A neighbour may join a token to a longer one: hence many neighbours, of which each is tried with
# those tokens alone that have not been found yet.
_NEIGHBOURS = "aqzxjbcdefghiklmnoprstuvwyQZ0123456789éжא中."
_CONTEXTS = ("{}", " {}", "{} ", "\n{}", "{}a", *(f"{character}{{}}" for character in _NEIGHBOURS))


@dataclass(frozen=True)
class Listed:
    """A token: its id, its bytes as the vocabulary writes them, and those that it decodes to."""

    id: int
    spelling: bytes
    surface: bytes

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        text = self.spelling.decode(errors="replace")
        return {"id": self.id, "token": text, "bytes": self.spelling.hex()}


@dataclass(frozen=True)
class Statistics:
    """One tokenizer in numbers.

    Args:
        tokenizer: its name.
        family: its class.
        vocab_size: number of ids.
        special: name -> id of the special tokens.
        added: name -> id of the other added tokens.
        merges: number of merges; None if the family has none.
        pattern: the rule by which text is cut into words, if it has a name.
        normalizer: the kind of its normaliser.
        lengths: characters -> number of tokens; tokens that are no text stand under 0.
        longest: the longest tokens, those of equal length by their ids.
        scripts: script -> number of tokens; ``Common`` are digits, marks and spaces.
        leading_space: number of tokens that begin with a space and go on.
        single_characters: number of tokens that are one character, or one after a space.
        bytes: number of tokens that are a byte or another part of a character.
        unreachable: tokens that no text was found for that is cut into them.
        measure: how it cuts a text, if one was given.
    """

    tokenizer: str
    family: str
    vocab_size: int
    special: dict[str, int]
    added: dict[str, int]
    merges: int | None
    pattern: str | None
    normalizer: str | None
    lengths: dict[int, int]
    longest: tuple[Listed, ...]
    scripts: dict[str, int]
    leading_space: int
    single_characters: int
    bytes: int
    unreachable: tuple[Listed, ...]
    measure: Measure | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {
            "longest": [token.to_json() for token in self.longest],
            "unreachable": [token.to_json() for token in self.unreachable],
        }


def statistics(tokenizer: Tokenizer, name: str, text: str | None = None) -> Statistics:
    """Look through a vocabulary; added tokens count nowhere but in ``special`` and ``added``.

    Raises:
        TokenizerError: if the tokenizer cannot spell ``text``.
    """
    added = {token.id for token in tokenizer.added_tokens}
    unused = set(tokenizer.unused_ids.tolist())
    learned = [id_ for id_ in range(tokenizer.vocab_size) if id_ not in added and id_ not in unused]
    tokens = [
        Listed(id_, tokenizer.token_bytes(id_), tokenizer.piece(id_, first=False))
        for id_ in learned
    ]
    texts = {token.id: _text(token.surface) for token in tokens}
    single, partial = kinds_of(tokenizer, learned)
    merges = getattr(tokenizer, "merges", None)
    pattern = getattr(tokenizer, "pattern", None)
    normalizer = tokenizer.normalizer
    return Statistics(
        name,
        type(tokenizer).__name__,
        tokenizer.vocab_size,
        tokenizer.special_tokens,
        {token.content: token.id for token in tokenizer.added_tokens if not token.special},
        None if merges is None else len(merges),
        pattern if isinstance(pattern, str) else None,
        None if normalizer is None else type(normalizer).__name__,
        dict(sorted(Counter(len(text or "") for text in texts.values()).items())),
        tuple(sorted(tokens, key=lambda token: (-_length(token, texts), token.id))[:N_LONGEST]),
        dict(Counter(_script(text) for text in texts.values()).most_common()),
        sum(bool(text and text[0] == " " and len(text) > 1) for text in texts.values()),
        int(single.sum()),
        int(partial.sum()),
        tuple(unreachable(tokenizer, tokens)),
        None if text is None else measure(tokenizer, text, name),
    )


def unreachable(tokenizer: Tokenizer, tokens: Sequence[Listed]) -> list[Listed]:
    """Those tokens that come out of none of the texts tried: their own text, alone and in company.

    A token that is part of a character is tried inside characters that have its bytes.
    """
    left = list(tokens)
    for context in _CONTEXTS:
        if not left:
            break
        texts = [_text(token.surface) for token in left]
        rows = tokenizer.encode_batch([context.format(text or "") for text in texts])
        left = [
            t for t, text, ids in zip(left, texts, rows, strict=True) if not text or t.id not in ids
        ]
    return [token for token in left if not _in_a_character(tokenizer, token)]


def _in_a_character(tokenizer: Tokenizer, token: Listed) -> bool:
    """Whether a character that holds the token's bytes is cut into it; true for what is text."""
    if _text(token.surface):
        return False
    return any(token.id in tokenizer.encode(text) for text in completions(token.surface))


def completions(data: bytes) -> list[str]:
    """Texts whose UTF-8 holds ``data``, which begins or ends amid a character."""
    fillers = [bytes([value]) for value in (0x80, 0x90, 0x9F, 0xA0, 0xAC, 0xB8, 0xBF)]
    found = []
    for before in (b"", *(lead + b for lead in _LEADS for b in (b"", *fillers[:3]))):
        for missing in range(4):
            for filler in fillers:
                text = _text(before + data + filler * missing)
                if text:
                    found.append(text)
    return list(dict.fromkeys(found))


_LEADS = (b"\xc3", b"\xd0", b"\xe2", b"\xe3", b"\xe4", b"\xe6", b"\xf0", b"\xf0\x9f", b"\xe0\xa4")


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _length(token: Listed, texts: dict[int, str | None]) -> int:
    return len(texts[token.id] or "")


def _script(text: str | None) -> str:
    return "bytes" if text is None else main_script(text)
