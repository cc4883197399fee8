"""What the same text costs in different languages, in tokens.

The text is the Universal Declaration of Human Rights, which all of them have. Ahia et al. 2023
(arXiv:2305.13707) and Petrov et al. 2023 (arXiv:2305.15425) found in this way that users of
some languages pay many times more for the same content.
"""

from __future__ import annotations

import statistics
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.view.comparison import unknown_id
from stemma.tokenizers.view.scripts import main_script

ENGLISH = "eng"
MUCH_UNKNOWN = 0.1
"""Share of unknown tokens from which on a text counts as lost."""

_LEAST_LINES = 0.7
_WORDS_OF_A_SENTENCE = 5
_LARGEST = 4 << 20


@dataclass(frozen=True)
class Translation:
    """The declaration in one language.

    Args:
        code: the language, as the file names it (``deu_1901``).
        script: the script of most of its letters.
        text: the declaration.
    """

    code: str
    script: str
    text: str


@dataclass(frozen=True)
class LanguageCost:
    """What a translation costs.

    Args:
        tokenizer: the tokenizer's name.
        code: the language.
        script: its script.
        tokens: tokens of the whole declaration.
        tokens_per_sentence: the same, over the number of sentences in English.
        tokens_per_character: tokens over characters.
        relative: tokens over those of the English declaration.
        unknown: which share of the tokens is the unknown token: what has many is cheap, and lost.
    """

    tokenizer: str
    code: str
    script: str
    tokens: int
    tokens_per_sentence: float
    tokens_per_character: float
    relative: float
    unknown: float


@dataclass(frozen=True)
class ScriptCost:
    """What the languages of one script cost: the median of each number.

    Args:
        tokenizer: the tokenizer's name.
        script: the script.
        codes: its languages.
        tokens_per_sentence: see `LanguageCost`.
        tokens_per_character: see `LanguageCost`.
        relative: see `LanguageCost`.
        unknown: see `LanguageCost`.
        cheapest: tokens per sentence of the cheapest language.
        dearest: tokens per sentence of the dearest.
    """

    tokenizer: str
    script: str
    codes: tuple[str, ...]
    tokens_per_sentence: float
    tokens_per_character: float
    relative: float
    unknown: float
    cheapest: float
    dearest: float

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def read_translations(path: Path) -> tuple[Translation, ...]:
    """The complete translations in an archive of text files, in the order of their names.

    A file with less than 70 % of the lines of the English one is a fragment and is left out; so is
    one without letters.

    Raises:
        TokenizerError: if the archive cannot be read, or has no ``eng.txt``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                info.filename
                for info in archive.infolist()
                if info.filename.endswith(".txt") and info.file_size <= _LARGEST
            ]
            texts = {
                PurePosixPath(name).stem: archive.read(name).decode("utf-8-sig", "replace")
                for name in sorted(names)
            }
    except (OSError, zipfile.BadZipFile, RuntimeError) as error:
        raise TokenizerError(f"cannot be read: {error}", where=str(path)) from None
    lines = {code: [line.strip() for line in text.split("\n")] for code, text in texts.items()}
    lines = {code: [line for line in found if line] for code, found in lines.items()}
    if not lines.get(ENGLISH):
        raise TokenizerError(
            f"has no {ENGLISH}.txt to compare with",
            where=str(path),
            cure="Give an archive of text files that are named by language, as NLTK's udhr2.zip.",
        )
    least = _LEAST_LINES * len(lines[ENGLISH])
    complete = {code: "\n".join(found) for code, found in lines.items() if len(found) >= least}
    scripts = {code: main_script(text) for code, text in complete.items()}
    return tuple(
        Translation(code, scripts[code], text)
        for code, text in complete.items()
        if scripts[code] != "Common"
    )


def language_costs(
    tokenizers: Mapping[str, Tokenizer], translations: Sequence[Translation]
) -> tuple[LanguageCost, ...]:
    """What each translation costs each tokenizer.

    Raises:
        TokenizerError: if a tokenizer cannot spell one.
    """
    english = next(i for i, one in enumerate(translations) if one.code == ENGLISH)
    n_sentences = sum(
        len(line.split()) >= _WORDS_OF_A_SENTENCE for line in translations[english].text.split("\n")
    )
    costs = []
    for name, tokenizer in tokenizers.items():
        rows = tokenizer.encode_batch([one.text for one in translations])
        unknown = unknown_id(tokenizer)
        costs += [
            LanguageCost(
                name,
                one.code,
                one.script,
                len(ids),
                len(ids) / max(n_sentences, 1),
                len(ids) / len(one.text),
                len(ids) / max(len(rows[english]), 1),
                0.0 if unknown is None else float((ids == unknown).sum() / max(len(ids), 1)),
            )
            for one, ids in zip(translations, rows, strict=True)
        ]
    return tuple(costs)


def script_costs(costs: Sequence[LanguageCost]) -> tuple[ScriptCost, ...]:
    """The costs by script: English first, then the scripts from the cheapest on.

    The order is that of the first tokenizer. English stands as a script of its own.
    """
    groups: dict[tuple[str, str], list[LanguageCost]] = defaultdict(list)
    for cost in costs:
        groups[cost.tokenizer, "English" if cost.code == ENGLISH else cost.script].append(cost)
    rows = [_of_script(*key, group) for key, group in groups.items()]
    names = list(dict.fromkeys(row.tokenizer for row in rows))
    first = {row.script: row.relative for row in rows if row.tokenizer == names[0]}

    def place(row: ScriptCost) -> tuple[bool, float, str, int]:
        is_english = row.script == "English"
        return not is_english, first[row.script], row.script, names.index(row.tokenizer)

    return tuple(sorted(rows, key=place))


def _of_script(tokenizer: str, script: str, group: Sequence[LanguageCost]) -> ScriptCost:
    sentence = [cost.tokens_per_sentence for cost in group]
    return ScriptCost(
        tokenizer,
        script,
        tuple(cost.code for cost in group),
        statistics.median(sentence),
        statistics.median(cost.tokens_per_character for cost in group),
        statistics.median(cost.relative for cost in group),
        statistics.median(cost.unknown for cost in group),
        min(sentence),
        max(sentence),
    )
