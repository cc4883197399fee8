"""tiktoken's rank files: on each line a token in base64 and its rank, which is also its id.

A file says nothing of how text is cut into words, nor of special tokens. Those of OpenAI's files
are known by the files' contents; for others both have to be named.
"""

from __future__ import annotations

import base64
import hashlib
from binascii import a2b_base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge import NEVER
from stemma.tokenizers.files import read_bytes, write_bytes
from stemma.tokenizers.scan.patterns import Rule
from stemma.tokenizers.special import END_OF_TEXT

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

_LONGEST_RANK = 9
_FILL_IN = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
_END_OF_PROMPT = "<|endofprompt|>"


@dataclass(frozen=True)
class Encoding:
    """What a rank file does not say.

    Args:
        file: the name of the rank file, without its suffix.
        pattern: how text is cut into words, see `scan.patterns`.
        special_tokens: name -> id.
    """

    file: str
    pattern: str
    special_tokens: Mapping[str, int]


def _harmony() -> dict[str, int]:
    """The special tokens of OpenAI's open-weight models: most ids have but a number for a name."""
    named = {
        199998: "<|startoftext|>",
        199999: END_OF_TEXT,
        200002: "<|return|>",
        200003: "<|constrain|>",
        200005: "<|channel|>",
        200006: "<|start|>",
        200007: "<|end|>",
        200008: "<|message|>",
        200012: "<|call|>",
        # It also has the name <|reserved_200018|>.
        200018: _END_OF_PROMPT,
    }
    return {named.get(i, f"<|reserved_{i}|>"): i for i in range(199998, 201088)}


ENCODINGS = {
    "r50k_base": Encoding("r50k_base", "gpt2", {END_OF_TEXT: 50256}),
    "p50k_base": Encoding("p50k_base", "gpt2", {END_OF_TEXT: 50256}),
    "p50k_edit": Encoding(
        "p50k_base",
        "gpt2",
        {END_OF_TEXT: 50256} | {name: 50281 + i for i, name in enumerate(_FILL_IN)},
    ),
    "cl100k_base": Encoding(
        "cl100k_base",
        "cl100k",
        {END_OF_TEXT: 100257, _END_OF_PROMPT: 100276}
        | {name: 100258 + i for i, name in enumerate(_FILL_IN)},
    ),
    "o200k_base": Encoding("o200k_base", "o200k", {END_OF_TEXT: 199999, _END_OF_PROMPT: 200018}),
    "o200k_harmony": Encoding("o200k_base", "o200k", _harmony()),
}
"""OpenAI's encodings by name. A file that serves two of them is read as the first."""

SHA256 = {
    "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930": "r50k_base",
    "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069": "p50k_base",
    "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7": "cl100k_base",
    "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d": "o200k_base",
}
"""The contents of OpenAI's rank files -> their names."""


def load_tiktoken(
    path: str | Path,
    *,
    encoding: str | None = None,
    pattern: str | Rule | None = None,
    special_tokens: Mapping[str, int] | None = None,
) -> ByteLevelBPE:
    """Read a rank file.

    Args:
        path: the file.
        encoding: the name of one of OpenAI's encodings, where two share one file (``p50k_edit``,
            ``o200k_harmony``); else the file's content tells it.
        pattern: for another file how text is cut into words: the name of a rule of
            `scan.patterns`, or patterns applied one within another.
        special_tokens: for another file name -> id.

    Raises:
        TokenizerError: if the file is damaged, is not the encoding's, or is not known and comes
            without a ``pattern``.
    """
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

    path = Path(path)
    data = read_bytes(path)
    try:
        known = _recognise(data, encoding)
        if pattern is None:
            if known is None:
                raise TokenizerError(
                    "is a rank file that is not known: it does not say how text is cut into words",
                    cure="In Python load_tiktoken(path, pattern=..., special_tokens=...) reads it; "
                    "then save it: its tokenizer.json says it. The pattern is given "
                    "by name (gpt2, cl100k, o200k, ...) or as a regular expression.",
                )
            pattern = known.pattern
        if special_tokens is None:
            special_tokens = known.special_tokens if known else {}
        return ByteLevelBPE.from_ranks(parse_ranks(data), special_tokens, pattern=pattern)
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure) from error


def _recognise(data: bytes, encoding: str | None) -> Encoding | None:
    file = SHA256.get(hashlib.sha256(data).hexdigest())
    if encoding is None:
        return ENCODINGS[file] if file else None
    if encoding not in ENCODINGS:
        raise TokenizerError(
            f"there is no encoding named {encoding!r}", cure=f"Use one of {', '.join(ENCODINGS)}."
        )
    if ENCODINGS[encoding].file != file:
        raise TokenizerError(f"is not {ENCODINGS[encoding].file}.tiktoken: its sha256 is another")
    return ENCODINGS[encoding]


def parse_ranks(data: bytes) -> dict[bytes, int]:
    """The content of a rank file: the bytes of each token -> its rank.

    Raises:
        TokenizerError: if a line is not a token in base64 and a rank, or a token or a rank comes
            twice.
    """
    lines = list(filter(None, data.splitlines()))
    if set(map(bytes.count, lines, repeat(b" "))) != {1}:
        raise _wrong_line(lines)
    fields = b" ".join(lines).split(b" ")
    digits = fields[1::2]
    if not all(map(bytes.isdigit, digits)) or max(map(len, digits)) > _LONGEST_RANK:
        raise _wrong_line(lines)
    try:
        tokens = list(map(partial(a2b_base64, strict_mode=True), fields[::2]))
    except ValueError:
        raise _wrong_line(lines) from None
    ranks = dict(zip(tokens, map(int, digits), strict=True))
    if b"" in ranks or len(ranks) != len(lines):
        raise _wrong_line(lines)
    return ranks


def _wrong_line(lines: list[bytes]) -> TokenizerError:
    seen: set[bytes] = set()
    for number, line in enumerate(lines, 1):
        token, _, rank = line.partition(b" ")
        shown = repr(line[:60])[1:]
        if not rank.isdigit() or len(rank) > _LONGEST_RANK:
            return TokenizerError(f"line {number}, {shown}, is not a token in base64 and a rank")
        try:
            spelling = a2b_base64(token, strict_mode=True)
        except ValueError:
            spelling = b""
        if not spelling:
            return TokenizerError(f"line {number}, {shown}, holds no token in base64")
        if spelling in seen:
            return TokenizerError(f"line {number}: the token {spelling!r} is listed twice")
        seen.add(spelling)
    return TokenizerError("holds no tokens")


def write_tiktoken(tokenizer: ByteLevelBPE, path: str | Path) -> Path:
    """Write a tokenizer's ranks; its pattern and its special tokens have no place in the file.

    Raises:
        TokenizerError: if its ids are not its ranks, so that tiktoken would cut text otherwise, or
            the file cannot be written.
    """
    added = {token.id for token in tokenizer.added_tokens}
    ranks = {
        token: id_ for id_, token in enumerate(tokenizer._spellings) if token and id_ not in added
    }
    spelled = tokenizer._spellings
    given = [] if tokenizer._given_merges is None else tokenizer.merges
    made = [(spelled[left], spelled[right]) for left, right in given]
    n_bytes = sum(len(token) == 1 for token in ranks)
    if tokenizer._given_merges is not None and (
        len(made) != len(ranks) - n_bytes
        or not all(_last_merge(left + right, ranks) == (left, right) for left, right in made)
        or any(ranks[a + b] >= ranks[c + d] for (a, b), (c, d) in pairwise(made))
    ):
        raise TokenizerError(
            "the ids are not in the order of the merges: tiktoken would cut text otherwise",
            cure="Save it as tokenizer.json.",
        )
    lines = [b"%s %d\n" % (base64.b64encode(token), id_) for token, id_ in ranks.items()]
    return write_bytes(Path(path), b"".join(lines))


def _last_merge(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, ...]:
    """The parts that tiktoken's rule makes of a token's bytes before it makes the token itself."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        joined = [ranks.get(left + right, NEVER) for left, right in pairwise(parts)]
        at = joined.index(min(joined))
        if joined[at] >= ranks[token]:
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return tuple(parts)
