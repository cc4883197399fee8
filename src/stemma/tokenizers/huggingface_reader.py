"""Reading ``tokenizer.json``: what it holds and we do not have is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.alphabet import from_visible
from stemma.tokenizers.tokenizer import check_text

_NOTHING: tuple[Any, ...] = (None, False, "", 0, [], {})
_CURE = "Use the tokenizers library for this file, or a file without it."


@dataclass(frozen=True)
class BPEFile:
    """A byte-level BPE as plain values; see `huggingface.bpe_json`."""

    spellings: list[bytes]
    merges: list[tuple[int, int]]
    special_tokens: dict[str, int]
    use_regex: bool


@dataclass(frozen=True)
class WordLevelFile:
    """A word-level tokenizer as plain values; see `huggingface.word_level_json`."""

    words: list[str]
    special_tokens: dict[str, int]
    unknown: str
    splits: list[Any]


def model_type(document: Mapping[str, Any]) -> str:
    """The family that the file names.

    Raises:
        TokenizerError: if there is no model in it.
    """
    model = document.get("model")
    if not isinstance(model, dict):
        raise TokenizerError("has no model: it is not a tokenizer.json")
    # Old files of the library name no type; those with merges are BPE.
    return str(model.get("type", "BPE" if "merges" in model else None))


def read_bpe(document: Mapping[str, Any]) -> BPEFile:
    """Read a byte-level BPE.

    Raises:
        TokenizerError: if the file is inconsistent, or asks for anything else.
    """
    _refuse_rest(document)
    model = document["model"]
    refused = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    _only(
        model,
        {"type", "vocab", "merges", "unk_token", "fuse_unk"},
        "model",
        (*refused, "ignore_merges"),
    )
    use_regex = _read_byte_level(document)
    special_tokens = _read_special_tokens(document)
    vocabulary = _read_vocabulary(model, special_tokens)
    names = {id_: name for name, id_ in special_tokens.items()}
    spellings: list[bytes] = []
    for id_, token in enumerate(vocabulary):
        spelling = names[id_].encode() if id_ in names else from_visible(token)
        if not spelling:
            raise TokenizerError(f"token {id_}, {token!r}, is not written in GPT-2's alphabet")
        spellings.append(spelling)
    ids = {token: id_ for id_, token in enumerate(vocabulary) if id_ not in names}
    return BPEFile(spellings, _read_merges(model, ids), special_tokens, use_regex)


def read_word_level(document: Mapping[str, Any]) -> WordLevelFile:
    """Read a word-level tokenizer.

    Raises:
        TokenizerError: if the file is inconsistent, or asks for anything else.
    """
    _refuse_rest(document)
    model = document["model"]
    _only(model, {"type", "vocab", "unk_token"}, "model")
    if document.get("decoder") is not None:
        raise _unsupported("decoder", document["decoder"])
    pre_tokenizer = document.get("pre_tokenizer")
    if not isinstance(pre_tokenizer, dict) or pre_tokenizer.get("type") != "Sequence":
        raise _unsupported("pre_tokenizer", pre_tokenizer)
    special_tokens = _read_special_tokens(document)
    words = _read_vocabulary(model, special_tokens)
    unknown = model.get("unk_token")
    if not isinstance(unknown, str):
        raise TokenizerError(f"model.unk_token is {unknown!r}, not a string")
    return WordLevelFile(words, special_tokens, unknown, pre_tokenizer.get("pretokenizers", []))


def _refuse_rest(document: Mapping[str, Any]) -> None:
    known = {"version", "added_tokens", "pre_tokenizer", "decoder", "model"}
    ignored = {"post_processor"} if _is_byte_level(document.get("post_processor")) else set()
    _only(document, known | ignored, "", ("truncation", "padding", "normalizer", "post_processor"))


def _only(
    values: Mapping[str, Any], known: set[str], where: str, empty: Sequence[str] = ()
) -> None:
    """Refuse a key that is not ``known`` and says something."""
    for key, value in values.items():
        if key not in known and (key not in empty or value not in _NOTHING):
            raise _unsupported(f"{where}.{key}" if where else key, value)


def _unsupported(field: str, value: Any) -> TokenizerError:
    kind = value.get("type") if isinstance(value, dict) else None
    shown = kind if isinstance(kind, str) else repr(value)
    shown = shown if len(shown) < 60 else shown[:57] + "..."
    return TokenizerError(f"asks for {field} = {shown}, which stemma does not have", cure=_CURE)


def _is_byte_level(step: Any) -> bool:
    return isinstance(step, dict) and step.get("type") == "ByteLevel"


def _read_byte_level(document: Mapping[str, Any]) -> bool:
    for field in ("pre_tokenizer", "decoder"):
        if not _is_byte_level(document.get(field)):
            raise _unsupported(field, document.get(field))
    step = document["pre_tokenizer"]
    known = {"type", "trim_offsets", "use_regex"}
    _only(step, known, "pre_tokenizer", ("add_prefix_space",))
    return step.get("use_regex", True) is True


def _read_special_tokens(document: Mapping[str, Any]) -> dict[str, int]:
    special: dict[str, int] = {}
    added = document.get("added_tokens") or []
    if not isinstance(added, list):
        raise TokenizerError("added_tokens is not a list")
    for i, token in enumerate(added):
        where = f"added_tokens[{i}]"
        if not isinstance(token, dict):
            raise TokenizerError(f"{where} is not an object")
        name, id_ = token.get("content"), token.get("id")
        if not isinstance(name, str) or type(id_) is not int:
            raise TokenizerError(f"{where} has no content or no id")
        known = {"id", "content", "special", "normalized"}
        _only(token, known, where, ("single_word", "lstrip", "rstrip"))
        if token.get("special") is not True:
            raise _unsupported(f"{where}.special", token.get("special"))
        if name in special:
            raise TokenizerError(f"{where}: {name!r} is listed twice")
        special[name] = id_
    return special


def _read_vocabulary(model: Mapping[str, Any], special: Mapping[str, int]) -> list[str]:
    """The tokens in the order of their ids, which must be 0, 1, 2 ... without a gap."""
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict):
        raise TokenizerError("model.vocab is not an object of token: id")
    for token, id_ in vocabulary.items():
        if type(id_) is not int:
            raise TokenizerError(f"the id of token {token!r} is {id_!r}, not an integer")
        if id_ != special.get(token, id_):
            raise TokenizerError(
                f"{token!r} has id {id_} in model.vocab and {special[token]} besides"
            )
    token_of: dict[int, str] = {}
    for token, id_ in [*vocabulary.items(), *special.items()]:
        if token_of.setdefault(id_, token) != token:
            raise TokenizerError(f"id {id_} stands for {token_of[id_]!r} and for {token!r}")
    missing = next((id_ for id_ in range(len(token_of)) if id_ not in token_of), None)
    if missing is not None:
        raise TokenizerError(f"no token has id {missing}, though there are {len(token_of)}")
    tokens = [token_of[id_] for id_ in range(len(token_of))]
    check_text("".join(tokens))
    return tokens


def _read_merges(model: Mapping[str, Any], ids: Mapping[str, int]) -> list[tuple[int, int]]:
    """Merges as ``"a b"`` or ``["a", "b"]``: the library has written both."""
    merges = model.get("merges")
    if not isinstance(merges, list):
        raise TokenizerError("model.merges is not a list")
    pairs: list[tuple[int, int]] = []
    for rank, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        try:
            left, right = parts
            pairs.append((ids[left], ids[right]))
        except (KeyError, TypeError, ValueError):
            raise TokenizerError(
                f"merge {rank}, {merge!r}, is not a pair of tokens of the vocabulary"
            ) from None
    return pairs
