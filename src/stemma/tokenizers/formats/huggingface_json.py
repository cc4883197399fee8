"""Writing ``tokenizer.json``, the format of Hugging Face's ``tokenizers`` library.

Special tokens are matched in every text there; here only where `encode` allows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import to_visible
from stemma.tokenizers.scan.patterns import RULES, Rule
from stemma.tokenizers.special import END_OF_TEXT, AddedToken, special_tokens

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.pre_tokenizers import Digits
    from stemma.tokenizers.steps.template import Template

Pair = tuple[int, int]

DIGIT = r"[\p{N}\x{11DE0}-\x{11DE9}\x{16FF4}-\x{16FF6}]"
"""What the step ``Digits`` takes for one: the library follows a later version of Unicode there."""


def byte_level_json(
    spellings: Sequence[bytes],
    merges: Sequence[Pair],
    added: Sequence[AddedToken],
    *,
    patterns: Rule,
    ignore_merges: bool = False,
    normalizer: Normalizer | None = None,
    template: Template | None = None,
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.

    Args:
        spellings: the bytes of each id; none for an id that is not used.
        merges: pairs of ids in the order learned.
        added: the added tokens.
        patterns: how text is cut into words, see `scan.patterns`.
        ignore_merges: whether a word that is a token as it stands is not merged.
        normalizer: what is done to a text first.
        template: which special tokens surround a text.

    Raises:
        TokenizerError: if a special token is written like an ordinary one in GPT-2's alphabet.
    """
    names = {token.id: token.content for token in added}
    written = [names.get(i) or to_visible(token) for i, token in enumerate(spellings)]
    # A word that is found in the vocabulary as it stands would become even an added token.
    n = _first_of_added(names, len(written)) if ignore_merges else len(written)
    vocabulary = {token: i for i, token in enumerate(written[:n]) if token}
    if len({*vocabulary, *names.values()}) != sum(map(bool, written)):
        ids = {token: i for i, token in enumerate(written)}
        double = next(token for i, token in enumerate(written) if token and ids[token] != i)
        raise TokenizerError(f"two tokens are both written {double!r} in tokenizer.json")
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary,
        "merges": [f"{written[left]} {written[right]}" for left, right in merges],
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [asdict(token) for token in sorted(added, key=lambda token: token.id)],
        "normalizer": normalizer and normalizer.to_json(),
        "pre_tokenizer": _cutting_json(patterns),
        "post_processor": template and template.to_json(),
        "decoder": _byte_level(use_regex=True),
        "model": model,
    }


def _first_of_added(names: Mapping[int, str], n: int) -> int:
    """From which id on there are but added tokens: a file need not give their ids."""
    return next(i for i in range(n, -1, -1) if i - 1 not in names)


def bpe_json(
    spellings: Sequence[bytes],
    merges: Sequence[Pair],
    special: Mapping[str, int],
    *,
    use_regex: bool = False,
) -> dict[str, Any]:
    """A byte-level BPE tokenizer that cuts text like GPT-2, or (without ``use_regex``) not at all.

    Raises:
        TokenizerError: see `byte_level_json`.
    """
    patterns = RULES["gpt2"] if use_regex else ()
    return byte_level_json(spellings, merges, special_tokens(special), patterns=patterns)


def word_level_json(
    words: Sequence[str], special: Mapping[str, int], unknown: str, splits: Sequence[Any]
) -> dict[str, Any]:
    """A word-level tokenizer.

    Args:
        words: the words and names of each id.
        special: name -> id of the special tokens.
        unknown: the token that stands for a word outside the vocabulary.
        splits: the pre-tokeniser's steps.
    """
    by_id = sorted(special_tokens(special), key=lambda token: token.id)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [asdict(token) for token in by_id],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": list(splits)},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(words)},
            "unk_token": unknown,
        },
    }


def config_json(special: Mapping[str, int], unknown: str | None) -> dict[str, Any]:
    """``tokenizer_config.json``: what ``transformers.AutoTokenizer`` needs beside the other."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in special:
        config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    if unknown in special:
        config["unk_token"] = unknown
    return config


def split_step(pattern: str, behavior: str) -> dict[str, Any]:
    """One step of a pre-tokeniser that cuts at a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def _cutting_json(patterns: Rule) -> dict[str, Any]:
    """The pre-tokeniser of a byte-level BPE: the last step spells words in GPT-2's alphabet."""
    like_gpt2 = patterns[-1:] == RULES["gpt2"]
    last = _byte_level(use_regex=like_gpt2)
    before = patterns[:-1] if like_gpt2 else patterns
    if not before:
        return last
    return {"type": "Sequence", "pretokenizers": [*map(_step_of, before), last]}


def _step_of(pattern: str) -> dict[str, Any]:
    from stemma.tokenizers.steps.oniguruma import oniguruma_pattern
    from stemma.tokenizers.steps.pre_tokenizers import Split

    if pattern in digits_steps():
        return digits_steps()[pattern].to_json()
    return Split(oniguruma_pattern(pattern), True, "Isolated").to_json()


@cache
def digits_steps() -> dict[str, Digits]:
    """Patterns that have a step of their own."""
    from stemma.tokenizers.steps.pre_tokenizers import Digits

    return {DIGIT: Digits(individual_digits=True), DIGIT + "+": Digits()}


@cache
def patterns_written() -> dict[str, str]:
    """The patterns of well-known rules as a file writes them -> as `scan.patterns` has them."""
    from stemma.tokenizers.steps.oniguruma import oniguruma_pattern

    known: Iterable[str] = (pattern for rule in RULES.values() for pattern in rule)
    return {oniguruma_pattern(pattern): pattern for pattern in known}


def _byte_level(*, use_regex: bool) -> dict[str, Any]:
    return {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }
