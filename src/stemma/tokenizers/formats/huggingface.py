"""Reading ``tokenizer.json``: what it asks for and we do not have is an error that names it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.formats.huggingface_vocabulary import (
    UNUSED,
    read_added_tokens,
    read_scored_pieces,
    read_vocabulary,
)
from stemma.tokenizers.json_fields import Fields, is_nothing
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stemma.tokenizers.steps.decoders import Decoder
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.pre_tokenizers import PreTokenizer
    from stemma.tokenizers.steps.template import Template


@dataclass(frozen=True)
class Around:
    """What a file puts around its model, for every family alike."""

    added: list[AddedToken]
    normalizer: Normalizer | None
    template: Template | None
    pre_tokenizer: Any
    decoder: Any

    def read_pre_tokenizer(self) -> PreTokenizer:
        """The pre-tokeniser; without one the text is a single word."""
        from stemma.tokenizers.steps import pre_tokenizers

        if self.pre_tokenizer is None:
            return pre_tokenizers.Sequence(())
        return pre_tokenizers.from_json(self.pre_tokenizer)

    def read_decoder(self) -> Decoder:
        """The decoder; without one tokens are put together with spaces."""
        from stemma.tokenizers.steps import decoders

        return decoders.from_json(self.decoder)

    def unsupported(self, name: str) -> TokenizerError:
        """The error for a step that stemma does not have around this model."""
        return Fields(vars(self), "").unsupported(name)


def read(document: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that a ``tokenizer.json`` describes.

    Args:
        document: what the file holds.

    Raises:
        TokenizerError: if it is inconsistent, or asks for what stemma does not have.
    """
    try:
        if _model_type(document) == "GraphemeBPE":  # in this form, but no model of the library's
            from stemma.tokenizers.bpe.graphemes import GraphemeBPE

            return GraphemeBPE.from_json(document)
        return _read(Fields(document, ""))
    except RecursionError:
        raise TokenizerError("is damaged: its steps are nested too deeply") from None


def _model_type(document: Mapping[str, Any]) -> Any:
    model = document.get("model")
    return model.get("type") if isinstance(model, dict) else None


def _read(fields: Fields) -> Tokenizer:
    if not isinstance(fields.value("model", None), dict):
        raise TokenizerError("has no model: it is not a tokenizer.json")
    model = fields.inner("model")
    # Old files of the library name no type; those with merges are BPE.
    family = model.text("type", "BPE" if "merges" in model.names else "")
    if family not in _FAMILIES:
        raise TokenizerError(
            f"holds a {family} tokenizer" if family else "does not say of what type its model is",
            cure=f"stemma reads these: {', '.join(_FAMILIES)}.",
        )
    around = _read_around(fields)
    tokenizer = _FAMILIES[family](model, around)
    model.done()
    if around.template is not None:
        around.template.check(tokenizer)
    return tokenizer


def _read_around(fields: Fields) -> Around:
    fields.ignore("version")
    fields.ignore("padding")  # of batches, which models do for themselves
    if not is_nothing(truncation := fields.value("truncation", None)):
        most = truncation.get("max_length") if isinstance(truncation, dict) else None
        warnings.warn(
            f"other tools cut texts to {most or 'fewer'} tokens, as tokenizer.json asks for; here "
            "they stay whole",
            stacklevel=2,
        )
    around = Around(
        read_added_tokens(fields.items("added_tokens", ())),
        _read_normalizer(fields.value("normalizer", None)),
        _read_template(fields.value("post_processor", None)),
        fields.value("pre_tokenizer", None),
        fields.value("decoder", None),
    )
    fields.done()
    for token in around.added:
        if token.normalized and around.normalizer is not None:
            _check_normalized(token, around.normalizer)
    return around


def _read_normalizer(step: Any) -> Normalizer | None:
    if step is None:
        return None
    from stemma.tokenizers.steps import normalizers

    return normalizers.from_json(step)


def _read_template(step: Any) -> Template | None:
    if step is None:
        return None
    from stemma.tokenizers.steps import template

    return template.from_json(step)


def _check_normalized(token: AddedToken, normalizer: Normalizer) -> None:
    """In the library such a token is sought by its own text normalised."""
    sought = normalizer(token.content)
    if sought != token.content:
        raise TokenizerError(
            f"asks for the added token {token.content!r} to be found where the normalised text "
            f"holds {sought!r}, which stemma does not do",
            cure='Set "normalized" to false for this token.',
        )


def _read_bpe(model: Fields, around: Around) -> Tokenizer:
    from stemma.tokenizers.formats import huggingface_bpe

    return huggingface_bpe.read(model, around)


def _read_wordpiece(model: Fields, around: Around) -> Tokenizer:
    from stemma.tokenizers.wordpiece.tokenizer import WordPiece

    tokens = _read_tokens(model, around)
    return WordPiece(
        tokens,
        around.added,
        n_pieces=max(model.value("vocab", None).values(), default=-1) + 1,
        unknown=model.text("unk_token", "[UNK]"),
        continuing_prefix=model.text("continuing_subword_prefix", "##"),
        max_characters=model.number("max_input_chars_per_word", 100),
        pre_tokenizer=around.read_pre_tokenizer(),
        decoder=around.read_decoder(),
        normalizer=around.normalizer,
        template=around.template,
    )


def _read_unigram(model: Fields, around: Around) -> Tokenizer:
    from stemma.tokenizers.unigram.wordwise import WordwiseUnigram

    return WordwiseUnigram(
        read_scored_pieces(model.value("vocab", None), around.added),
        None if model.value("unk_id", None) is None else model.number("unk_id"),
        around.added,
        byte_fallback=model.flag("byte_fallback", default=False),
        pre_tokenizer=around.read_pre_tokenizer(),
        decoder=around.read_decoder(),
        normalizer=around.normalizer,
        template=around.template,
    )


def _read_word_level(model: Fields, around: Around) -> Tokenizer:
    """Our own `WordTokenizer`: other word edges than its own it does not have."""
    from stemma.tokenizers.word import SPLITS, UNKNOWN, WordTokenizer

    if around.decoder is not None:
        raise around.unsupported("decoder")
    if around.normalizer is not None or around.template is not None:
        raise TokenizerError("asks for a normaliser or a template around a word-level model")
    step = around.pre_tokenizer
    if not isinstance(step, dict) or step.get("type") != "Sequence":
        raise around.unsupported("pre_tokenizer")
    if step.get("pretokenizers") != SPLITS:
        raise TokenizerError("asks for other word edges than stemma's word-level tokenizer has")
    tokens = _read_tokens(model, around)
    names = {token.content for token in around.added}
    words = [token for token in tokens if token not in names]
    by_id = [token.content for token in sorted(around.added, key=lambda token: token.id)]
    tokenizer = WordTokenizer(words, by_id)
    if (
        {*tokenizer.added_tokens} != {*around.added}
        or model.text("unk_token") != UNKNOWN
        or tokens != [*words, *by_id]
    ):
        raise TokenizerError("the special tokens of a word-level tokenizer must stand at its end")
    return tokenizer


def _read_tokens(model: Fields, around: Around) -> list[str]:
    tokens, _ = read_vocabulary(model.value("vocab", None), around.added)
    if UNUSED in tokens:
        raise TokenizerError(f"no token has id {tokens.index(UNUSED)}, but some have higher ids")
    return tokens


_FAMILIES: dict[str, Callable[[Fields, Around], Tokenizer]] = {
    "BPE": _read_bpe,
    "Unigram": _read_unigram,
    "WordLevel": _read_word_level,
    "WordPiece": _read_wordpiece,
}
