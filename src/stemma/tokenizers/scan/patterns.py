r"""How well-known models cut text into words: the patterns that came with their tokenizers.

A rule is one pattern, or several that are applied one within another: SmolLM takes every digit by
itself first and then cuts what lies between like GPT-2. ``\s+(?!\S)`` leaves the last of several
spaces to the word that follows.
"""

from __future__ import annotations

from stemma.errors import TokenizerError

Rule = tuple[str, ...]

_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTION}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTION}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _llama3(numbers: str) -> str:
    return (
        rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


RULES: dict[str, Rule] = {
    "gpt2": (_GPT2,),
    "cl100k": (_CL100K,),
    "o200k": (_O200K,),
    "llama3": (_llama3(r"\p{N}{1,3}"),),
    "qwen2": (_llama3(r"\p{N}"),),
    "smollm": (r"\p{N}", _GPT2),
    "deepseek-v3": (
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
        r"""| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
    ),
}
"""Name -> rule. The words it finds and what lies between them, joined, are the text again."""

SYNONYMS = {
    "r50k": "gpt2",
    "p50k": "gpt2",
    "gpt-2": "gpt2",
    "cl100k_base": "cl100k",
    "o200k_base": "o200k",
    "llama-3": "llama3",
    "llama-bpe": "llama3",
    "qwen2.5": "qwen2",
    "qwen3": "qwen2",
    "smollm2": "smollm",
    "smollm3": "llama3",
}


def rule(name: str) -> Rule:
    """The patterns of a rule that has a name.

    Raises:
        TokenizerError: if it has none; the message lists those that have.
    """
    found = RULES.get(SYNONYMS.get(name, name))
    if found is None:
        raise TokenizerError(
            f"there is no pattern named {name!r}",
            cure=f"Use one of {', '.join([*RULES, *SYNONYMS])}, or the patterns themselves.",
        )
    return found


def name_of(patterns: Rule) -> str | None:
    """The name of a rule, if it has one."""
    return next((name for name, known in RULES.items() if known == patterns), None)
