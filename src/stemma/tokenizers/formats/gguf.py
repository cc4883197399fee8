"""The vocabularies of GGUF files, llama.cpp's format: ``tokenizer.ggml.*``.

Four families are in use: ``gpt2`` is byte-level BPE, ``llama`` SentencePiece's BPE, ``bert``
WordPiece and ``t5`` SentencePiece's Unigram.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stemma.errors import TokenizerError
from stemma.tokenizers.formats.gguf_metadata import read_metadata
from stemma.tokenizers.formats.gguf_patterns import pre_tokenizer
from stemma.tokenizers.formats.huggingface_vocabulary import UNUSED, read_merges, spelled
from stemma.tokenizers.sentencepiece.pieces import Kind, Piece, SentencePieceSettings
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.steps.template import Template, surround
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.vocabulary import ids_of

PREFIX = "tokenizer."
_IDS = ["bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "cls", "mask"]
"""Tokens that the metadata names, ``seperator`` being the format's own spelling."""

_BERT_NAMES = {
    "unknown": "[UNK]",
    "bos": "[CLS]",
    "seperator": "[SEP]",
    "padding": "[PAD]",
    "mask": "[MASK]",
}
"""What these tokens are called where a file does not name them."""

_PHANTOM_SPACE = "▁"


def load_gguf(path: str | Path) -> Tokenizer:
    """The tokenizer of a GGUF file; its tensors are not read.

    Raises:
        TokenizerError: if the file is damaged, or its tokenizer is of a kind not known here.
    """
    path = Path(path)
    values = read_metadata(path, lambda name: name.startswith(PREFIX))
    try:
        return read(values)
    except TokenizerError as error:
        raise TokenizerError(error.what, where=str(path), cure=error.cure) from error


def read(values: dict[str, Any]) -> Tokenizer:
    """The tokenizer that a file's metadata describes.

    Args:
        values: name -> value, see `read_metadata`.

    Raises:
        TokenizerError: if the metadata is inconsistent, or asks for what stemma does not have.
    """
    vocabulary = _Vocabulary(values)
    family = vocabulary.text("tokenizer.ggml.model")
    if family not in _FAMILIES:
        raise TokenizerError(
            f"asks for tokenizer.ggml.model = {family!r}, which stemma does not have",
            cure=f"stemma has these: {', '.join(_FAMILIES)}.",
        )
    return _FAMILIES[family](vocabulary)


class _Vocabulary:
    """The metadata, each value with the type that it must have.

    Args:
        values: name -> value.

    Raises:
        TokenizerError: if there are no tokens, or their kinds or scores are not as many.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        tokens = values.get("tokenizer.ggml.tokens")
        if not isinstance(tokens, list) or not tokens:
            raise TokenizerError("holds no vocabulary: there is no tokenizer.ggml.tokens")
        self.tokens: list[str] = tokens
        self.kinds = self._kinds()
        self.special = self._special()

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        found = self._values.get(name, default)
        if not isinstance(found, str):
            raise TokenizerError(f"{name} is missing, or no string")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        found = self._values.get(f"tokenizer.ggml.{name}", default)
        if not isinstance(found, bool):
            raise TokenizerError(f"tokenizer.ggml.{name} is {found!r}, not true or false")
        return found

    def row(self, name: str) -> np.ndarray[Any, Any] | None:
        """A number for each token, or nothing."""
        found = self._values.get(f"tokenizer.ggml.{name}")
        if found is None:
            return None
        if not isinstance(found, np.ndarray) or found.size != len(self.tokens):
            raise TokenizerError(f"tokenizer.ggml.{name} has not a number for each token")
        return found

    def value(self, name: str) -> Any:
        """Whatever a name stands for, or nothing."""
        return self._values.get(f"tokenizer.ggml.{name}")

    def _kinds(self) -> list[Kind]:
        kinds = [Kind.NORMAL] * len(self.tokens)
        row = self.row("token_type")
        if row is None:
            return kinds
        # 0 is "undefined", which files for BPE have had.
        known = {0: Kind.NORMAL, **{kind.value: kind for kind in Kind}}
        if wrong := set(row.tolist()) - known.keys():
            raise TokenizerError(f"tokenizer.ggml.token_type holds {wrong.pop()}, which is no kind")
        for id_ in np.flatnonzero(row != Kind.NORMAL).tolist():
            kinds[id_] = known[row[id_].item()]
        return kinds

    def _special(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in _IDS:
            id_ = self._values.get(f"tokenizer.ggml.{name}_token_id")
            if id_ is None:
                continue
            if type(id_) is not int or not 0 <= id_ < len(self.tokens):
                raise TokenizerError(f"tokenizer.ggml.{name}_token_id is {id_!r}: no token has it")
            found[name] = id_
        return found

    def of_kind(self, *kinds: Kind) -> list[int]:
        """The ids of the tokens of some kinds other than the normal one, rising."""
        row = self.row("token_type")
        return [] if row is None else np.flatnonzero(np.isin(row, kinds)).tolist()

    def added(self) -> list[AddedToken]:
        """The tokens that are found in a text before it is cut: special ones, and user-defined."""
        named = {i for i in self.special.values() if self.kinds[i] == Kind.NORMAL}
        ids = named.union(self.of_kind(Kind.CONTROL, Kind.UNKNOWN, Kind.USER_DEFINED))
        return [
            AddedToken(self.tokens[id_], id_, special=self.kinds[id_] != Kind.USER_DEFINED)
            for id_ in sorted(ids)
        ]

    def template(self, *, add_bos: bool, add_eos: bool) -> Template | None:
        """What surrounds a text; ``add_bos``, ``add_eos``: where the file does not say."""
        before = self._named("bos") if self.flag("add_bos_token", add_bos) else {}
        after = self._named("eos") if self.flag("add_eos_token", add_eos) else {}
        return surround(before, after) if before or after else None

    def _named(self, name: str) -> dict[str, int]:
        id_ = self.special.get(name)
        if id_ is None:
            raise TokenizerError(f"tokenizer.ggml.add_{name}_token is set, but no token is named")
        return {self.tokens[id_]: id_}


def _read_bpe(vocabulary: _Vocabulary) -> Tokenizer:
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

    rule = pre_tokenizer(vocabulary.text("tokenizer.ggml.pre", "default"))
    ids = ids_of(vocabulary.tokens)
    added = vocabulary.added()
    tokens = list(vocabulary.tokens)
    for id_ in vocabulary.of_kind(Kind.UNUSED):
        tokens[id_] = UNUSED
    return ByteLevelBPE(
        spelled(tokens, {token.id: token.content for token in added}),
        read_merges(vocabulary.value("merges"), ids, "tokenizer.ggml.merges"),
        added,
        pattern=rule.patterns,
        whole_words=rule.whole_words,
        drop_unknown=True,
        template=vocabulary.template(add_bos=rule.add_bos, add_eos=False),
    )


def _read_wordpiece(vocabulary: _Vocabulary) -> Tokenizer:
    """``▁word`` begins a word, ``piece`` continues one: for BERT ``word`` and ``##piece``."""
    from stemma.tokenizers.steps.normalizers import BertNormalizer
    from stemma.tokenizers.wordpiece.tokenizer import WordPiece

    tokens = list(map(_as_bert_writes, vocabulary.tokens, vocabulary.kinds))
    ids = ids_of(tokens)
    special = {**_BERT_NAMES, **{name: tokens[id_] for name, id_ in vocabulary.special.items()}}
    for name in ("unknown", "bos", "seperator"):
        if special[name] not in ids:
            raise TokenizerError(f"has no token {special[name]}")
    lowercase = vocabulary.flag("normalizer.lowercase", True)
    return WordPiece(
        tokens,
        {token: ids[token] for token in special.values() if token in ids},
        unknown=special["unknown"],
        normalizer=BertNormalizer(
            strip_accents=vocabulary.flag("normalizer.strip_accents", lowercase),
            lowercase=lowercase,
        ),
        template=surround(
            {special["bos"]: ids[special["bos"]]},
            {special["seperator"]: ids[special["seperator"]]},
        ),
    )


def _as_bert_writes(token: str, kind: Kind) -> str:
    if token.startswith(_PHANTOM_SPACE) and len(token) > 1:
        return token[1:]
    bracketed = token.startswith("[") and token.endswith("]")
    return token if bracketed or kind in (Kind.CONTROL, Kind.UNKNOWN) else f"##{token}"


def _read_sentencepiece(vocabulary: _Vocabulary) -> Tokenizer:
    from stemma.tokenizers.sentencepiece.bpe import SentencePieceBPE

    return SentencePieceBPE(
        _pieces(vocabulary),
        _settings(vocabulary, add_dummy_prefix=True),
        template=vocabulary.template(add_bos=True, add_eos=False),
    )


def _read_unigram(vocabulary: _Vocabulary) -> Tokenizer:
    from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

    return UnigramTokenizer(
        _pieces(vocabulary),
        _settings(vocabulary, add_dummy_prefix=False),
        template=vocabulary.template(add_bos=False, add_eos=True),
    )


def _pieces(vocabulary: _Vocabulary) -> list[Piece]:
    scores = vocabulary.row("scores")
    if scores is None:
        raise TokenizerError("its pieces have no scores (tokenizer.ggml.scores)")
    rows = zip(vocabulary.tokens, scores.tolist(), vocabulary.kinds, strict=True)
    return [Piece(text, float(score), kind) for text, score, kind in rows]


def _settings(vocabulary: _Vocabulary, *, add_dummy_prefix: bool) -> SentencePieceSettings:
    charsmap = vocabulary.value("precompiled_charsmap")
    if charsmap is not None and not isinstance(charsmap, np.ndarray):
        raise TokenizerError("tokenizer.ggml.precompiled_charsmap is no row of bytes")
    names = {
        name: vocabulary.tokens[id_]
        for name in ("bos", "eos", "padding")
        if (id_ := vocabulary.special.get(name)) is not None
    }
    return SentencePieceSettings(
        charsmap=b"" if charsmap is None else charsmap.tobytes(),
        add_dummy_prefix=vocabulary.flag("add_space_prefix", add_dummy_prefix),
        remove_extra_whitespaces=vocabulary.flag("remove_extra_whitespaces", False),
        byte_fallback=Kind.BYTE in vocabulary.kinds,
        bos_piece=names.get("bos", "<s>"),
        eos_piece=names.get("eos", "</s>"),
        pad_piece=names.get("padding", "<pad>"),
    )


_FAMILIES: dict[str, Callable[[_Vocabulary], Tokenizer]] = {
    "gpt2": _read_bpe,
    "llama": _read_sentencepiece,
    "bert": _read_wordpiece,
    "t5": _read_unigram,
}
