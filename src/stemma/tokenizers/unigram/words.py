"""Counting words by SentencePiece's rule, for the trainers of its tokenizers.

A line is a sentence. Spaces become ``▁`` (U+2581), one is put before the line, and a word begins at
each: ``"New York"`` is ``▁New`` and ``▁York``, so that the words joined give the text back. Nothing
but the space ends a word: a tab does only where the normaliser makes a space of it. A ``▁`` in the
text is a space like any other (``sentencepiece`` does not collapse it).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

from stemma.errors import TokenizerError
from stemma.tokenizers.special import AddedToken, AddedTokens
from stemma.tokenizers.texts import check_documents, check_text
from stemma.tokenizers.unicode.classes import ranges, scripts
from stemma.tokenizers.word_counts import count_words

SPACE = "▁"
"""Stands for a space (U+2581)."""

_BREAKS = f" \r\n{SPACE}"
_WORDS = (f"[^{_BREAKS}]+|[{_BREAKS}]+",)
_KANA = ("Hiragana", "Katakana")
_LONG_VOWEL = 0x30FC  # common to both kana, and so to the rest of a Japanese word


def count_unigram_words(
    documents: Path | Iterable[str | Path],
    *,
    special_tokens: Iterable[str] = (),
    normalizer: Callable[[str], str] | None = None,
    dummy_prefix: bool = True,
    collapse_spaces: bool = True,
    split_scripts: bool = True,
    split_digits: bool = False,
) -> Counter[str]:
    """How often each word occurs, ``▁`` included; of the texts little more than one is in memory.

    The options are those of ``sentencepiece``, with its defaults. What it forbids within a piece
    (two scripts, two digits) ends a word here: a segmentation into pieces is the same either way.

    Args:
        documents: texts, or paths of UTF-8 files.
        special_tokens: their names; these end a sentence, and are no words.
        normalizer: applied to each line.
        dummy_prefix: put a space before each sentence.
        collapse_spaces: take several spaces for one, and none at the ends of a sentence.
        split_scripts: also end a word where the script changes (``▁don ' t``). Kana count as Han;
            what belongs to no script (digits, marks, most symbols) is a script of its own.
        split_digits: make each digit 0-9 a word.

    Raises:
        TokenizerError: if a file cannot be read or is not UTF-8; if a text holds a lone surrogate
            (the message names the document).
    """
    if normalizer is None and dummy_prefix and collapse_spaces:
        found = count_words(documents, special_tokens, _WORDS).to_dict()
        words = Counter({SPACE + word: n for word, n in found.items() if word[0] not in _BREAKS})
    else:
        words = Counter()
        for sentence in _sentences(documents, special_tokens):
            spaced = sentence if normalizer is None else normalizer(sentence)
            words.update(_words(spaced, dummy_prefix, collapse_spaces))
    if not split_scripts and not split_digits:
        return words
    cut: Counter[str] = Counter()
    for word, n in words.items():
        for part in cut_word(word, by_script=split_scripts, digits=split_digits):
            cut[part] += n
    return cut


def _sentences(
    documents: Path | Iterable[str | Path], special_tokens: Iterable[str]
) -> Iterator[str]:
    """The lines of all documents, cut at special tokens."""
    tokens = AddedTokens([AddedToken(name, i) for i, name in enumerate(special_tokens)])
    names = tokens.allowed("all")
    for number, text in enumerate(check_documents(documents)):
        try:
            check_text(text)
        except TokenizerError as error:
            raise TokenizerError(error.what, where=f"document {number}", cure=error.cure) from None
        for part, _, _ in tokens.split(text, names):
            if isinstance(part, str):
                unix = part.replace("\r\n", "\n").replace("\r", "\n") if "\r" in part else part
                yield from filter(None, unix.split("\n"))


def _words(sentence: str, dummy_prefix: bool, collapse_spaces: bool) -> list[str]:
    words = sentence.replace(SPACE, " ").split(" ")  # the first stands before any space
    if collapse_spaces:
        words = [word for word in words if word]
    spaced = [SPACE + word for word in words]
    if words and not dummy_prefix:
        spaced[:1] = [words[0]] if words[0] else []
    return spaced


def cut_word(word: str, *, by_script: bool, digits: bool) -> list[str]:
    """A word cut where the script changes, and around each digit: ``▁a1`` gives ``▁a``, ``1``.

    ``▁`` stays with what follows it, except before a digit that is a word by itself.
    """
    parts: list[str] = []
    before: int | None = None  # script of the last character; None: any may follow
    for character in word:
        digit = digits and "0" <= character <= "9"
        script = _script(character) if by_script and character != SPACE else None
        changes = before is not None and script is not None and script != before
        if not parts or digit or _is_digit(parts[-1], digits) or changes:
            parts.append(character)
        else:
            parts[-1] += character
        before = before if script is None else script
    return parts


def _is_digit(part: str, digits: bool) -> bool:
    return digits and len(part) == 1 and "0" <= part <= "9"


@cache
def _script(character: str) -> int | None:
    """A number for the script of a character; None where it takes that of the one before it."""
    code = ord(character)
    starts, numbers = _script_table()
    return numbers[bisect_right(starts, code) - 1] if code != _LONG_VOWEL else _number("Han")


@cache
def _script_table() -> tuple[list[int], list[int | None]]:
    """Where runs of one script begin, and its number; what has no script is Common."""
    common = _number("Common")
    table: dict[int, int | None] = {0: common}
    for name in scripts():
        number = None if name == "Inherited" else _number("Han" if name in _KANA else name)
        for first, last in ranges(name):
            table[first] = number
            table.setdefault(last + 1, common)
    starts = sorted(table)
    return starts, [table[start] for start in starts]


@cache
def _number(script: str) -> int:
    return scripts().index(script)
