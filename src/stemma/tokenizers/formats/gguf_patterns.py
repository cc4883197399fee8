r"""How llama.cpp cuts text into words: the names that GGUF files give to the rules of models.

A file names its rule (``tokenizer.ggml.pre``) and does not say what it is: this table does, after
``llama-vocab.cpp`` of ggml-org/llama.cpp (MIT). Where that library writes a rule differently from
the model's own tokenizer (``[^a-z]`` for capitals), the model's is here.
"""

from __future__ import annotations

from dataclasses import dataclass

from stemma.errors import TokenizerError
from stemma.tokenizers.scan.patterns import RULES, Rule

_DIGIT_BY_DIGIT = (r"\p{N}",)
_GPT2, _LLAMA3, _O200K = RULES["gpt2"], RULES["llama3"], RULES["o200k"]
_CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
_HAN_AND_HANGUL = "[一-龥ࠀ-一가-퟿]+"


@dataclass(frozen=True)
class PreTokenizer:
    """A rule and what comes with it.

    Args:
        patterns: see `scan.patterns`.
        whole_words: a word that is a token as it stands is not merged.
        add_bos: whether a text begins with a special token where the file does not say.
    """

    patterns: Rule
    whole_words: bool = False
    add_bos: bool = False


def _named(names: str, patterns: Rule, **options: bool) -> dict[str, PreTokenizer]:
    return {name: PreTokenizer(patterns, **options) for name in names.split()}


PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **_named(
        "gpt-2 phi-2 mpt olmo jais trillion granite-docling gigachat jina-es jina-de jina-v2-es "
        "jina-v2-de jina-v1-en jina-v2-code roberta-bpe a.x-4.0 mellum modern-bert exaone4",
        _GPT2,
    ),
    **_named(
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
        _DIGIT_BY_DIGIT + _GPT2,
    ),
    **_named(
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        _LLAMA3,
        whole_words=True,
        add_bos=True,
    ),
    **_named("dbrx smaug-bpe glm4 chatglm-bpe", _LLAMA3),
    **_named(
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
        RULES["qwen2"],
    ),
    **_named(
        "qwen35",
        (
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
        ),
    ),
    **_named("gpt-4o llama4 kanana2 talkie minimax-m2", _O200K),
    **_named(
        "tekken",
        (
            rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+"
            rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
            rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
        ),
        whole_words=True,
        add_bos=True,
    ),
    **_named("deepseek-v3 hunyuan-dense joyai-llm hy_v4", RULES["deepseek-v3"]),
    **_named(
        "deepseek-coder",
        ("[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _HAN_AND_HANGUL, r"\p{N}"),
    ),
    **_named(
        "falcon",
        (r"[\p{P}\$\+<=>\^~\|`]+", *_GPT2, "[0-9][0-9][0-9]"),
    ),
    **_named("bloom poro-chat gpt3-finnish", (_BLOOM,)),
    **_named("viking", (_BLOOM, r"\p{N}")),
    **_named(
        "bailingmoe bailingmoe2 llada-moe",
        (
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}"
            r"| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ),
    ),
    **_named(
        "seed-coder",
        (
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",
        ),
    ),
    **_named(
        "chameleon",
        (
            "<sentinel:[0-9]+>",
            "(?:IMGIMG)(?:(?:A|B|C|D|E|F|G|H|I){1,4})Z",
            "(?:[\t\n]|    |  )",
            r"\p{N}",
            r"[\p{P}!-/:-@\[-`{-~]",
            *_GPT2,
        ),
        add_bos=True,
    ),
    **_named(
        "minicpm5",
        (
            r"\p{N}{1,3}",
            rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}+"
            rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}",
        ),
        whole_words=True,
    ),
    **_named("laguna", (r"[^\n]+|[\n]+", *RULES["qwen2"])),
    **_named(
        "default",
        (r"[\p{P}\$\+<=>\^~\|]+", *_GPT2, r"\p{N}+", "[0-9][0-9][0-9]"),
    ),
}
"""The names of llama.cpp's rules -> what they are."""


def pre_tokenizer(name: str) -> PreTokenizer:
    """The rule of a name.

    Raises:
        TokenizerError: if it is not known here; the message lists those that are.
    """
    if name not in PRE_TOKENIZERS:
        raise TokenizerError(
            f"asks for tokenizer.ggml.pre = {name!r}, which stemma does not have",
            cure=f"stemma has these: {', '.join(PRE_TOKENIZERS)}.",
        )
    return PRE_TOKENIZERS[name]


def name_of(patterns: Rule, *, whole_words: bool) -> str | None:
    """llama.cpp's name for a rule, if it has one: the first with the same ``whole_words``, or else
    with the other."""
    names = [name for name, found in PRE_TOKENIZERS.items() if found.patterns == patterns]
    exact = [name for name in names if PRE_TOKENIZERS[name].whole_words == whole_words]
    return next(iter([*exact, *names]), None)
