"""WordPiece, BERT's tokenizer: of every word the longest piece that the vocabulary knows.

A piece that does not begin its word is written with a prefix: ``tokenization`` may be ``token`` and
``##ization``. There are no merges: the vocabulary alone decides (Wu et al. 2016, arXiv:1609.08144,
section 4.1; Devlin et al. 2018, arXiv:1810.04805).
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers import kernels
from stemma.tokenizers.files import read_bytes
from stemma.tokenizers.special import AddedToken, AllowedSpecial
from stemma.tokenizers.steps import decoders
from stemma.tokenizers.steps.normalizers import BertNormalizer
from stemma.tokenizers.steps.pre_tokenizers import BertPreTokenizer
from stemma.tokenizers.steps.template import Special, Template, Text
from stemma.tokenizers.texts import all_utf8
from stemma.tokenizers.vocabulary import ids_of
from stemma.tokenizers.wordwise import Decoder, PreTokenizer, WordwiseTokenizer
from stemma.tokenizers.wordwise_json import wordwise_json

if TYPE_CHECKING:
    from stemma.tokenizers.bpe.train import Progress
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.wordpiece.compiled import CompiledWordPiece
    from stemma.tokenizers.wordpiece.train import Score

UNKNOWN = "[UNK]"
"""Stands for a word that no pieces spell."""

BERT_SPECIAL_TOKENS = ("[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]")
"""What BERT puts around and into texts, in the order of its ids."""


class WordPiece(WordwiseTokenizer):
    """Cuts each word from its left, always taking the longest token that fits.

    If at some place no token fits, or the word is too long, the whole word becomes ``[UNK]``: what
    it was is lost. Decoding puts single spaces between words.

    Args:
        tokens: the vocabulary in the order of its ids, added tokens included.
        added: see `Tokenizer`. A special token is never made from a text's own characters.
        n_pieces: how many of the tokens words are cut into; the rest are added ones; default: all.
        unknown: the token for a word that cannot be spelled; if it is not in the vocabulary, such a
            word is an error.
        continuing_prefix: how tokens begin that continue a word.
        max_characters: a longer word is unknown.
        pre_tokenizer: cuts a text into words; None for BERT's way.
        decoder: joins tokens to a text; None for BERT's way.
        normalizer: see `Tokenizer`.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if a token is empty or listed twice.
    """

    def __init__(
        self,
        tokens: Sequence[str],
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        *,
        n_pieces: int | None = None,
        unknown: str = UNKNOWN,
        continuing_prefix: str = "##",
        max_characters: int = 100,
        pre_tokenizer: PreTokenizer | None = None,
        decoder: Decoder | None = None,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        super().__init__(
            [token.encode() for token in tokens],
            added,
            pre_tokenizer=pre_tokenizer or BertPreTokenizer(),
            decoder=decoder or decoders.WordPiece(continuing_prefix),
            normalizer=normalizer,
            template=template,
        )
        self.tokens = tuple(tokens)
        self.n_pieces = len(tokens) if n_pieces is None else n_pieces
        self.unknown = unknown
        self.continuing_prefix = continuing_prefix
        self.max_characters = max_characters
        ids = ids_of(tokens)
        self._unknown_id = ids.get(unknown)
        for name in {*self.special_tokens, *tokens[self.n_pieces :]}:
            ids.pop(name, None)
        self._ids = ids
        self._first = PieceTable(ids)
        self._next = PieceTable(
            {
                token.removeprefix(continuing_prefix): id_
                for token, id_ in ids.items()
                if token.startswith(continuing_prefix) and token != continuing_prefix
            }
        )

    @classmethod
    def bert(
        cls,
        vocabulary: str | Path | Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
    ) -> Self:
        """BERT's tokenizer around a vocabulary.

        Args:
            vocabulary: the tokens, or a file ``vocab.txt`` with one on each line.
            lowercase: the vocabulary is *uncased*.
            strip_accents: drop accents; None: if ``lowercase``.

        Raises:
            TokenizerError: if the file cannot be read, or lacks one of ``[UNK]``, ``[CLS]`` and
                ``[SEP]``.
        """
        where = None
        if isinstance(vocabulary, str | Path):
            where = str(vocabulary)
            vocabulary = read_vocabulary(Path(vocabulary))
        tokens = list(vocabulary)
        ids = ids_of(tokens, where)
        _check_special_tokens(ids, "the vocabulary", where)
        return cls(
            tokens,
            {name: ids[name] for name in BERT_SPECIAL_TOKENS if name in ids},
            normalizer=BertNormalizer(strip_accents=strip_accents, lowercase=lowercase),
            template=bert_template(ids["[CLS]"], ids["[SEP]"]),
        )

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int,
        *,
        score: Score = "count",
        special_tokens: Sequence[str] = BERT_SPECIAL_TOKENS,
        lowercase: bool = True,
        min_frequency: int = 2,
        limit_alphabet: int | None = None,
        allow_fewer: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn BERT's kind of vocabulary: see `wordpiece.train`.

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: special tokens + characters + tokens to learn.
            score: which pair of tokens becomes a token next, see `wordpiece.train`.
            special_tokens: their names; they have the first ids, so that ``[PAD]`` is 0.
            lowercase: learn from text in lower case and without accents.
            min_frequency: a rarer pair becomes no token.
            limit_alphabet: learn from words of the so many commonest characters alone.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called with the numbers of tokens learned and wanted.

        Raises:
            TokenizerError: if ``[UNK]``, ``[CLS]`` or ``[SEP]`` is missing, or ``vocab_size`` is
                too small or cannot be reached.
        """
        _check_special_tokens(special_tokens, "the list of special tokens")
        from stemma.tokenizers.bpe.word_symbols import count_words
        from stemma.tokenizers.wordpiece.train import learn_vocabulary

        words = count_words(
            documents, special_tokens, BertPreTokenizer(), BertNormalizer(lowercase=lowercase)
        )
        tokens = learn_vocabulary(
            words,
            vocab_size,
            n_special=len(special_tokens),
            score=score,
            min_frequency=min_frequency,
            limit_alphabet=limit_alphabet,
            allow_fewer=allow_fewer,
            progress=progress,
        )
        return cls.bert([*special_tokens, *tokens], lowercase=lowercase)

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        table = self._first
        at = 0
        n = len(word)
        if n > self.max_characters:
            return self._no_pieces(word)
        while at < n:
            found = table.longest(word, at)
            if found is None:
                return self._no_pieces(word)
            id_, at = found
            ids.append(id_)
            table = self._next
        return ids

    def _no_pieces(self, word: str) -> list[int]:
        if self._unknown_id is None:
            raise TokenizerError(
                f"no tokens spell the word {word[:40]!r}, and the vocabulary has no {self.unknown}",
                cure="Use a vocabulary with a token for unknown words, or byte-level BPE.",
            )
        return [self._unknown_id]

    def _word_lengths(self, word: str, ids: Sequence[int]) -> list[int]:
        if len(ids) == 1:
            return [len(word.encode())]
        n_prefix = len(self.continuing_prefix.encode())
        lengths = [len(self._spellings[id_]) - n_prefix for id_ in ids]
        lengths[0] += n_prefix
        return lengths

    def _cut(self, text: str, before: int) -> int:
        """Before a space: no step of BERT's looks over it."""
        if self._as_bert:
            return max(text.rfind(" ", 0, before + 1), 0)
        return super()._cut(text, before)

    @cached_property
    def _as_bert(self) -> bool:
        """Whether a text is normalised and cut in BERT's way: what the kernel knows."""
        return isinstance(self.normalizer, BertNormalizer | None) and isinstance(
            self.pre_tokenizer, BertPreTokenizer
        )

    @cached_property
    def _compiled(self) -> CompiledWordPiece | None:
        """The fast form; None for a vocabulary that is too large for it."""
        from stemma.tokenizers.wordpiece.compiled import CompiledWordPiece, Vocabulary

        vocabulary = Vocabulary(
            self._ids, self.continuing_prefix, self._unknown_id, self.max_characters
        )
        normalizer = self.normalizer if isinstance(self.normalizer, BertNormalizer) else None
        try:
            return CompiledWordPiece(vocabulary, normalizer, self._encode_readably)
        except TokenizerError:
            return None

    def _fast(self, n_characters: int, names: frozenset[str]) -> CompiledWordPiece | None:
        """The fast form, where it pays; it does not look for added tokens in normalised text."""
        if not self._as_bert or self._added.in_normalized(names):
            return None
        return self._compiled if kernels.worth(n_characters) else None

    def _encode_normalized(
        self, text: str, names: frozenset[str], before: str = "", *, at_start: bool
    ) -> NDArray[np.int32]:
        fast = self._fast(len(text), names)
        if fast is None:
            return super()._encode_normalized(text, names, before, at_start=at_start)
        return fast.encode(text.encode())

    def _encode_texts(
        self, texts: Sequence[str], allowed_special: AllowedSpecial
    ) -> list[NDArray[np.int32]]:
        """Texts without added tokens go to the kernel together."""
        names = self._added.allowed(allowed_special)
        fast = self._fast(sum(map(len, texts)), names)
        if fast is None:
            return super()._encode_texts(texts, allowed_special)
        with_added = [self._added.occur_in(text, names) for text in texts]
        plain = [text for text, added in zip(texts, with_added, strict=True) if not added]
        rows = iter(fast.encode_texts(all_utf8(plain)))
        return [
            self._encode_text(text, names) if added else next(rows)
            for text, added in zip(texts, with_added, strict=True)
        ]

    def _encode_readably(self, text: str) -> list[int]:
        normalized = text if self.normalizer is None else self.normalizer(text)
        return self._encode_part(normalized, at_start=True)

    def to_json(self) -> dict[str, Any]:
        """A WordPiece model with what stands around it."""
        model = {
            "type": "WordPiece",
            "unk_token": self.unknown,
            "continuing_subword_prefix": self.continuing_prefix,
            "max_input_chars_per_word": self.max_characters,
            "vocab": {token: id_ for id_, token in enumerate(self.tokens[: self.n_pieces])},
        }
        return wordwise_json(self, model)


class PieceTable:
    """Finds the longest piece at a place of a word.

    Only lengths are tried that some piece with that first character has: a place costs as many
    looks as there are such lengths, however long the word is.

    Args:
        ids: piece -> id.
    """

    def __init__(self, ids: Mapping[str, int]) -> None:
        self._ids = ids
        lengths: dict[str, set[int]] = {}
        for piece in ids:
            lengths.setdefault(piece[0], set()).add(len(piece))
        self._lengths = {first: sorted(found, reverse=True) for first, found in lengths.items()}

    def longest(self, word: str, at: int) -> tuple[int, int] | None:
        """The id of the longest piece at a place, and where it ends; None if there is none."""
        ids = self._ids
        for length in self._lengths.get(word[at], ()):
            id_ = ids.get(word[at : at + length])
            if id_ is not None:
                return id_, min(at + length, len(word))  # near its end a word has no more
        return None


def bert_template(cls: int, sep: int) -> Template:
    """``[CLS] A [SEP]`` and ``[CLS] A [SEP] B [SEP]``.

    Args:
        cls: the id of ``[CLS]``.
        sep: the id of ``[SEP]``.
    """
    begin, end = Special("[CLS]", (cls,)), Special("[SEP]", (sep,))
    second = (Text("B", 1), Special("[SEP]", (sep,), 1))
    return Template((begin, Text(), end), (begin, Text(), end, *second))


def read_vocabulary(path: Path) -> list[str]:
    """The lines of a file ``vocab.txt``; white space at the end of a line does not count.

    Raises:
        TokenizerError: if it cannot be read, is not UTF-8, or has an empty line.
    """
    try:
        lines = read_bytes(path).decode().split("\n")
    except UnicodeDecodeError as error:
        raise TokenizerError(
            f"is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}",
            where=str(path),
        ) from None
    tokens = [line.rstrip() for line in (lines if lines[-1] else lines[:-1])]
    if "" in tokens:
        raise TokenizerError("is empty", where=f"{path}, line {tokens.index('') + 1}")
    return tokens


def _check_special_tokens(tokens: Container[str], what: str, where: str | None = None) -> None:
    missing = [name for name in (UNKNOWN, "[CLS]", "[SEP]") if name not in tokens]
    if missing:
        raise TokenizerError(
            f"{what} has no token {' and no '.join(missing)}",
            where=where,
            cure="BERT's tokenizer needs [UNK], [CLS] and [SEP].",
        )
