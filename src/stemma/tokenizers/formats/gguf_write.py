"""Writing a vocabulary into a GGUF file, so that llama.cpp cuts text into the same ids."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import to_visible
from stemma.tokenizers.bpe.byte_level import ByteLevelBPE
from stemma.tokenizers.formats.gguf_patterns import name_of, pre_tokenizer
from stemma.tokenizers.scan.patterns import rule
from stemma.tokenizers.sentencepiece.base import SentencePieceTokenizer
from stemma.tokenizers.sentencepiece.pieces import Kind
from stemma.tokenizers.special import AddedToken
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

if TYPE_CHECKING:
    from gguf import GGUFWriter


def write_vocabulary(
    writer: GGUFWriter, tokenizer: Tokenizer, *, chat_template: str | None = None
) -> None:
    """Add a tokenizer to a GGUF file that is being written.

    Args:
        writer: the file.
        tokenizer: byte-level BPE, WordPiece, or one of SentencePiece's.
        chat_template: the model's, if it has one.

    Raises:
        TokenizerError: if llama.cpp has no such tokenizer, or would cut text otherwise.
    """
    for family, write in _FAMILIES.items():
        if isinstance(tokenizer, family):
            write(writer, tokenizer)
            break
    else:
        raise TokenizerError(
            f"a {type(tokenizer).__name__} cannot be written into a GGUF file",
            cure=f"It can hold these: {', '.join(family.__name__ for family in _FAMILIES)}.",
        )
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def _write_bpe(writer: GGUFWriter, tokenizer: ByteLevelBPE) -> None:
    if tokenizer.normalizer is not None:
        raise TokenizerError("llama.cpp does not normalise text before byte-level BPE")
    pattern = tokenizer.pattern
    patterns = rule(pattern) if isinstance(pattern, str) else pattern
    name = name_of(patterns, whole_words=tokenizer.whole_words)
    if name is None:
        raise TokenizerError(f"llama.cpp has no name for the pattern {pattern!r}")
    added = {token.id: token for token in tokenizer.added_tokens}
    spellings = tokenizer._spellings
    n_learned = sum(bool(s) and id_ not in added for id_, s in enumerate(spellings))
    n_bytes = sum(len(s) == 1 and id_ not in added for id_, s in enumerate(spellings))
    if (
        pre_tokenizer(name).whole_words != tokenizer.whole_words
        and len(tokenizer.merges) != n_learned - n_bytes
    ):
        raise TokenizerError(f"llama.cpp's rule {name} would merge words that are tokens")
    written = [
        added[id_].content if id_ in added else to_visible(s) or f"[UNUSED{id_}]"
        for id_, s in enumerate(spellings)
    ]
    kinds = [
        _kind(added[id_]) if id_ in added else Kind.NORMAL if s else Kind.UNUSED
        for id_, s in enumerate(spellings)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    _write_tokens(writer, written, kinds)
    writer.add_token_merges(
        [f"{written[left]} {written[right]}" for left, right in tokenizer.merges]
    )
    _write_ends(writer, tokenizer, tokenizer.end_of_text)


def _write_wordpiece(writer: GGUFWriter, tokenizer: WordPiece) -> None:
    prefix = tokenizer.continuing_prefix
    special = {token.id for token in tokenizer.added_tokens}
    written = [
        token
        if id_ in special or (token.startswith("[") and token.endswith("]"))
        else token.removeprefix(prefix)
        if token.startswith(prefix) and token != prefix
        else f"▁{token}"
        for id_, token in enumerate(tokenizer.tokens)
    ]
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    _write_tokens(
        writer,
        written,
        [Kind.CONTROL if i in special else Kind.NORMAL for i in range(len(written))],
    )
    ids = tokenizer.special_tokens
    names = {
        "[UNK]": writer.add_unk_token_id,
        "[CLS]": writer.add_bos_token_id,
        "[SEP]": writer.add_sep_token_id,
        "[PAD]": writer.add_pad_token_id,
        "[MASK]": writer.add_mask_token_id,
    }
    for name, add in names.items():
        if name in ids:
            add(ids[name])


def _write_sentencepiece(writer: GGUFWriter, tokenizer: SentencePieceTokenizer) -> None:
    from stemma.tokenizers.unigram.tokenizer import UnigramTokenizer

    settings = tokenizer.settings
    unigram = isinstance(tokenizer, UnigramTokenizer)
    if (settings.charsmap and not unigram) or settings.denormalizer_charsmap:
        raise TokenizerError("llama.cpp does not normalise text before SentencePiece's BPE")
    beyond = [token for token in tokenizer.added_tokens if token.id >= len(tokenizer.pieces)]
    writer.add_tokenizer_model("t5" if unigram else "llama")
    writer.add_tokenizer_pre("default")
    _write_tokens(
        writer,
        [piece.text for piece in tokenizer.pieces] + [token.content for token in beyond],
        [piece.kind for piece in tokenizer.pieces] + [_kind(token) for token in beyond],
    )
    scores = [float(piece.score) for piece in tokenizer.pieces] + [0.0] * len(beyond)
    writer.add_token_scores(scores)
    writer.add_add_space_prefix(settings.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(settings.remove_extra_whitespaces)
    if settings.charsmap:
        writer.add_precompiled_charsmap(settings.charsmap)
    writer.add_unk_token_id(tokenizer.unknown_id)
    ids = {piece.text: id_ for id_, piece in enumerate(tokenizer.pieces)}
    _write_ends(writer, tokenizer, ids.get(settings.eos_piece), ids.get(settings.bos_piece))
    if settings.pad_piece in ids:
        writer.add_pad_token_id(ids[settings.pad_piece])


def _write_tokens(writer: GGUFWriter, tokens: list[str], kinds: list[Kind]) -> None:
    writer.add_token_list(tokens)
    writer.add_token_types([kind.value for kind in kinds])


def _write_ends(
    writer: GGUFWriter, tokenizer: Tokenizer, eos: int | None, bos: int | None = None
) -> None:
    """The tokens that begin and end a text, and whether they surround it."""
    bos = eos if bos is None else bos
    before, after = _surrounding(tokenizer)
    for ids, named, add_id, add_flag in (
        (before, bos, writer.add_bos_token_id, writer.add_add_bos_token),
        (after, eos, writer.add_eos_token_id, writer.add_add_eos_token),
    ):
        if len(ids) > 1:
            raise TokenizerError("llama.cpp puts at most one token before a text and one after it")
        id_ = ids[0] if ids else named
        if id_ is not None:
            add_id(id_)
        add_flag(bool(ids))


def _surrounding(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that the template puts before a text and after it."""
    if tokenizer.template is None:
        return [], []
    mark = -1
    ids = tokenizer.template.apply([mark]).tolist()
    at = ids.index(mark)
    return ids[:at], ids[at + 1 :]


def _kind(token: AddedToken) -> Kind:
    return Kind.CONTROL if token.special else Kind.USER_DEFINED


_FAMILIES: Mapping[type[Any], Callable[[GGUFWriter, Any], None]] = {
    ByteLevelBPE: _write_bpe,
    WordPiece: _write_wordpiece,
    SentencePieceTokenizer: _write_sentencepiece,
}
