"""Reading the BPE models of ``tokenizer.json``: on bytes, and on characters."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.merge_list import as_pairs
from stemma.tokenizers.formats.huggingface_json import digits_steps, patterns_written, split_step
from stemma.tokenizers.formats.huggingface_vocabulary import (
    UNUSED,
    read_merges,
    read_vocabulary,
    spelled,
)
from stemma.tokenizers.json_fields import Fields
from stemma.tokenizers.scan.patterns import RULES
from stemma.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stemma.tokenizers.formats.huggingface import Around
    from stemma.tokenizers.special import AddedToken

_BYTES_OF_UTF8 = {bytes([value]) for value in (*range(0xC0), *range(0xC2, 0xF5))}


def read(model: Fields, around: Around) -> Tokenizer:
    """The tokenizer of a BPE model.

    Raises:
        TokenizerError: if the file is inconsistent, or asks for what stemma does not have.
    """
    model.ignore("type")
    steps = _flat(around.pre_tokenizer)
    byte_level = [isinstance(step, dict) and step.get("type") == "ByteLevel" for step in steps]
    if not any(byte_level) and not _is_byte_level(around.decoder):
        return _read_characters(model, around)
    return _read_byte_level(model, around, steps)


def _read_byte_level(model: Fields, around: Around, steps: list[Any]) -> Tokenizer:
    from stemma.tokenizers.bpe.byte_level import ByteLevelBPE

    if not _is_byte_level(around.decoder):
        raise around.unsupported("decoder")
    model.ignore("fuse_unk")
    ignore_merges = model.flag("ignore_merges", default=False)
    patterns = tuple(_patterns(steps, around))
    tokens, ids = read_vocabulary(model.value("vocab", None), around.added)
    names = {token.id: token.content for token in around.added}
    spellings = spelled(tokens, names)
    if model.value("unk_token", None) is not None and not {*spellings} >= _BYTES_OF_UTF8:
        raise model.unsupported("unk_token")  # for a byte that has no token of its own
    merges = read_merges(model.value("merges", None), ids)
    model.done()
    plain = not (patterns or ignore_merges or around.normalizer or around.template)
    if plain and (simple := _basic(spellings, as_pairs(merges), around.added)):
        return simple
    return ByteLevelBPE(
        spellings,
        merges,
        around.added,
        pattern=patterns,
        whole_words=ignore_merges,
        drop_unknown=True,
        normalizer=around.normalizer,
        template=around.template,
    )


def _basic(
    spellings: list[bytes], merges: list[tuple[int, int]], added: list[AddedToken]
) -> Tokenizer | None:
    """The byte tokenizer, or BPE without words, where ids are laid out as they lay them out."""
    from stemma.tokenizers.bpe.basic import BasicBPE
    from stemma.tokenizers.byte import BYTES, ByteTokenizer

    names = [token.content for token in sorted(added, key=lambda token: token.id)]
    first = 256 + len(merges)
    if (
        tuple(spellings[:256]) != tuple(BYTES)
        or len(spellings) != first + len(names)
        or any(max(pair) >= 256 + rank for rank, pair in enumerate(merges))
    ):
        return None
    tokenizer = BasicBPE(merges, names) if merges else ByteTokenizer(names)
    same = spellings == [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)]
    return tokenizer if same and tokenizer.added_tokens == tuple(added) else None


def _flat(step: Any) -> list[Any]:
    """The steps of a pre-tokeniser, sequences opened, none left out."""
    if isinstance(step, dict) and step.get("type") == "Sequence":
        fields = Fields(step, "pre_tokenizer")
        inner = [one for _, one in fields.items("pretokenizers")]
        fields.ignore("type")
        fields.done()
        return [flat for one in inner for flat in _flat(one)]
    return [] if step is None else [step]


def _is_byte_level(step: Any) -> bool:
    return isinstance(step, dict) and step.get("type") == "ByteLevel"


def _patterns(steps: list[Any], around: Around) -> Iterator[str]:
    """The rule by which a byte-level BPE's steps cut a text.

    Raises:
        TokenizerError: if a step changes or drops part of the text, or is none of bytes at the end.
    """
    if not steps or not _is_byte_level(steps[-1]):
        raise around.unsupported("pre_tokenizer")
    for step in steps[:-1]:
        yield _pattern(step)
    last = Fields(steps[-1], "pre_tokenizer")
    last.ignore("type", "trim_offsets")
    if last.flag("use_regex", default=True):
        yield from RULES["gpt2"]
    last.done()


def _pattern(step: Any) -> str:
    if _is_byte_level(step):
        raise TokenizerError("spells the text as bytes before it has been cut into words")
    if well_known := _well_known(step):
        return well_known
    from stemma.tokenizers.steps import pre_tokenizers
    from stemma.tokenizers.steps.oniguruma import portable

    known = pre_tokenizers.from_json(step)
    for pattern, digits in digits_steps().items():
        if known == digits:
            return pattern
    if isinstance(known, pre_tokenizers.Split):
        text = known.pattern if known.is_regex else re.sub(r"([^\w\s])", r"\\\1", known.pattern)
        pattern = patterns_written().get(text) or portable(text)
        # What matches are the words and the rest is dropped, but there is no rest.
        keeps_matches = known.behavior == "Removed" and known.invert and text in patterns_written()
        if known.behavior == "Isolated" or keeps_matches:
            return pattern
    raise Fields({"pre_tokenizer": step}, "").unsupported("pre_tokenizer")


def _well_known(step: Any) -> str | None:
    """The pattern of a step that is written as the library does; none needs to be compiled."""
    pattern = step.get("pattern") if isinstance(step, dict) else None
    text = pattern.get("Regex") if isinstance(pattern, dict) else None
    if not isinstance(text, str) or step != split_step(text, "Isolated"):
        return None
    return patterns_written().get(text)


def _read_characters(model: Fields, around: Around) -> Tokenizer:
    from stemma.tokenizers.bpe.characters import CharacterBPE, CharacterRules

    tokens, ids = read_vocabulary(model.value("vocab", None), around.added)
    if UNUSED in tokens:
        raise TokenizerError(f"no token has id {tokens.index(UNUSED)}, but some have higher ids")
    merges = read_merges(model.value("merges", None), ids)
    unknown = model.value("unk_token", None)
    rules = CharacterRules(
        unknown=None if unknown is None else model.text("unk_token"),
        end_of_word_suffix=_text_or_none(model, "end_of_word_suffix"),
        continuing_subword_prefix=_text_or_none(model, "continuing_subword_prefix"),
        byte_fallback=model.flag("byte_fallback", default=False),
        fuse_unknown=model.flag("fuse_unk", default=False),
        ignore_merges=model.flag("ignore_merges", default=False),
        dropout=model.value("dropout", None),
    )
    model.done()
    return CharacterBPE(
        tokens,
        as_pairs(merges),
        around.added,
        rules,
        pre_tokenizer=around.read_pre_tokenizer(),
        decoder=around.read_decoder(),
        normalizer=around.normalizer,
        template=around.template,
    )


def _text_or_none(model: Fields, name: str) -> str:
    return "" if model.value(name, None) is None else model.text(name)
