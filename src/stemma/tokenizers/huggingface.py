"""Writing ``tokenizer.json``, the format of Hugging Face's ``tokenizers`` library.

Special tokens are matched in every text there; here only where `encode` allows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.alphabet import to_visible
from stemma.tokenizers.special import END_OF_TEXT

Pair = tuple[int, int]


def bpe_json(
    spellings: Sequence[bytes],
    merges: Sequence[Pair],
    special_tokens: Mapping[str, int],
    *,
    use_regex: bool,
) -> dict[str, Any]:
    """A byte-level BPE tokenizer.

    Args:
        spellings: the bytes of each id.
        merges: pairs of ids in the order learned.
        special_tokens: name -> id.
        use_regex: whether the text is cut into words by GPT-2's pattern first.

    Raises:
        TokenizerError: if a special token is written like an ordinary one in GPT-2's alphabet.
    """
    names = {id_: name for name, id_ in special_tokens.items()}
    written = [names.get(i) or to_visible(token) for i, token in enumerate(spellings)]
    vocabulary = {token: i for i, token in enumerate(written)}
    if len(vocabulary) != len(written):
        double = next(token for i, token in enumerate(written) if vocabulary[token] != i)
        raise TokenizerError(f"two tokens are both written {double!r} in tokenizer.json")
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": use_regex,
    }
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": [f"{written[left]} {written[right]}" for left, right in merges],
    }
    return _document(model, special_tokens, pre_tokenizer=byte_level, decoder=byte_level)


def word_level_json(
    words: Sequence[str], special_tokens: Mapping[str, int], unknown: str, splits: Sequence[Any]
) -> dict[str, Any]:
    """A word-level tokenizer.

    Args:
        words: the words and names of each id.
        special_tokens: name -> id.
        unknown: the token that stands for a word outside the vocabulary.
        splits: the pre-tokeniser's steps.
    """
    model = {
        "type": "WordLevel",
        "vocab": {word: i for i, word in enumerate(words)},
        "unk_token": unknown,
    }
    pre_tokenizer = {"type": "Sequence", "pretokenizers": list(splits)}
    return _document(model, special_tokens, pre_tokenizer=pre_tokenizer, decoder=None)


def config_json(special_tokens: Mapping[str, int], unknown: str | None) -> dict[str, Any]:
    """``tokenizer_config.json``: what ``transformers.AutoTokenizer`` needs beside the other."""
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    if END_OF_TEXT in special_tokens:
        config |= {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT}
    if unknown in special_tokens:
        config["unk_token"] = unknown
    return config


def split_step(pattern: str, behavior: str) -> dict[str, Any]:
    """One step of a pre-tokeniser that cuts at a pattern."""
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def _document(
    model: dict[str, Any],
    special_tokens: Mapping[str, int],
    *,
    pre_tokenizer: dict[str, Any],
    decoder: dict[str, Any] | None,
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id_,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, id_ in sorted(special_tokens.items(), key=lambda item: item[1])
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
