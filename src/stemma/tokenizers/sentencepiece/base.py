"""What SentencePiece's two families have in common: their way from text to pieces, and back."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.cutting import Stretch
from stemma.tokenizers.kernels import worth
from stemma.tokenizers.rows import Spans, concatenate
from stemma.tokenizers.sentencepiece.edges import Edges
from stemma.tokenizers.sentencepiece.normalizer import SPACE, SentencePieceNormalizer, Spaces
from stemma.tokenizers.sentencepiece.pieces import (
    FOUND_IN_TEXT,
    Kind,
    Piece,
    SentencePieceSettings,
    check_kinds,
    check_pieces,
    of_kind,
    piece_byte,
)
from stemma.tokenizers.special import AddedToken, AllowedSpecial
from stemma.tokenizers.steps.charsmap import CharsMap
from stemma.tokenizers.steps.template import Template
from stemma.tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from stemma.tokenizers.sentencepiece.compiled import TextEncoder

_SPACE = SPACE.encode()


class SentencePieceTokenizer(Tokenizer):
    """A vocabulary of SentencePiece: white space is part of the pieces, nothing is cut beforehand.

    A special token that is allowed in a text cuts it into two texts. Decoding gives the text after
    normalisation; a control piece decodes to its name, which `skip_special_tokens` leaves out.

    Args:
        pieces: the vocabulary in the order of its ids.
        settings: see there.
        added: further tokens; the control pieces are special tokens anyway.
        template: see `Tokenizer`.

    Raises:
        TokenizerError: if the pieces contradict each other or the settings.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        settings: SentencePieceSettings | None = None,
        added: Sequence[AddedToken] = (),
        *,
        template: Template | None = None,
    ) -> None:
        self.pieces = tuple(pieces)
        self.settings = settings or SentencePieceSettings()
        columns: list[Any] = [*zip(*self.pieces, strict=True)] or [(), (), ()]
        texts, scores, kinds = columns[0], columns[1], np.frombuffer(bytes(columns[2]), np.uint8)
        check_pieces(self.pieces, texts, scores)
        check_kinds(kinds, self.settings)
        given = {token.id for token in added}
        control = [i for i in of_kind(kinds, Kind.CONTROL) if i not in given]
        beyond = sorted((token for token in added if token.id >= len(pieces)), key=lambda t: t.id)
        super().__init__(
            [*map(str.encode, texts), *(token.content.encode() for token in beyond)],
            [*(AddedToken(texts[i], i) for i in control), *added],
            template=template,
        )
        self._added_ids = {token.id for token in self._added.tokens}
        (self.unknown_id,) = of_kind(kinds, Kind.UNKNOWN)
        by_byte = {piece_byte(texts[i]): i for i in of_kind(kinds, Kind.BYTE)}
        self.byte_ids = [by_byte[byte] for byte in range(256)] if by_byte else []
        user_defined = [texts[i] for i in of_kind(kinds, Kind.USER_DEFINED)]
        self.rewrite = _normalizer(user_defined, self.settings)

    # Encoding

    @abstractmethod
    def _segment(self, text: str) -> list[tuple[int, int]]:
        """A normalised text as ids, each with the number of characters it stands for.

        A character that no piece spells is the unknown id.
        """

    @abstractmethod
    def _text_encoder(self) -> TextEncoder:
        """The fast path; raises a `TokenizerError` if the vocabulary is too large for it."""

    @cached_property
    def _fast(self) -> TextEncoder | None:
        try:
            return self._text_encoder()
        except TokenizerError:
            return None

    def _encode_texts(
        self, texts: Sequence[str], allowed_special: AllowedSpecial
    ) -> list[NDArray[np.int32]]:
        plain = not self._added.allowed(allowed_special)
        if plain and worth(sum(map(len, texts))) and self._fast is not None:
            return self._fast(texts)
        return super()._encode_texts(texts, allowed_special)

    def _encode_part(
        self,
        text: str,
        *,
        at_start: bool,
    ) -> list[int] | NDArray[np.int32]:
        if worth(len(text)) and self._fast is not None:
            return self._fast([text])[0]
        normalized = self.rewrite(text)
        return [id_ for id_, _, _ in self._joined(normalized, self._segment(normalized))]

    # A text that is larger than memory

    def _cut(self, text: str, before: int) -> int:
        """Over which nothing reaches; see `sentencepiece.edges`."""
        return self._edges.last(text, before) if self._fast is not None else 0

    @cached_property
    def _edges(self) -> Edges:
        texts = [piece.text for piece in self.pieces if piece.kind in FOUND_IN_TEXT]
        spelled = {p.text for p in self.pieces if p.kind in (Kind.NORMAL, Kind.USER_DEFINED)}
        return Edges(self.rewrite, texts, None if self.settings.byte_fallback else spelled)

    def _encode_stretch(self, stretch: Stretch, names: frozenset[str]) -> NDArray[np.int32]:
        return self._encode_from(0.0, stretch, names)[0]

    def _encode_from(
        self, total: float, stretch: Stretch, names: frozenset[str]
    ) -> tuple[NDArray[np.int32], float]:
        """Ids of a stretch after scores with the sum ``total``; and the sum up to its end."""
        ids: list[NDArray[np.int32]] = []
        for part, start, end in self._added.split_twice(stretch.text, names):
            first = start > 0 or not stretch.before
            last = end < len(stretch.text) or stretch.last
            if isinstance(part, int):
                ids.append(np.array([part], np.int32))
            elif (first and last) or self._fast is None:
                ids.append(np.asarray(self._encode_part(part, at_start=first), np.int32))
            else:
                found, total = self._fast.stretch(
                    part, 0.0 if first else total, first=first, last=last
                )
                ids.append(found)
        return concatenate(ids), total

    def _joined(self, text: str, parts: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
        """Ids of ``parts``, each with the characters ``start:end`` of the text that it stands for.

        Unknown characters become bytes, the last of which stands for the character; without bytes,
        unknown characters that follow each other become one.
        """
        tokens: list[tuple[int, int, int]] = []
        at = 0
        for id_, size in parts:
            start, at = at, at + size
            if id_ != self.unknown_id:
                tokens.append((id_, start, at))
            elif self.settings.byte_fallback:
                data = text[start:at].encode()
                tokens += [(self.byte_ids[byte], start, start) for byte in data[:-1]]
                tokens.append((self.byte_ids[data[-1]], start, at))
            elif tokens and tokens[-1][0] == id_:
                tokens[-1] = (id_, tokens[-1][1], at)
            else:
                tokens.append((id_, start, at))
        return tokens

    def _encode_part_with_spans(
        self,
        text: str,
        *,
        at_start: bool,
    ) -> tuple[NDArray[np.int32], Spans]:
        normalized, places = self.rewrite.align(text)
        byte_of = [0, *accumulate(len(character.encode()) for character in text)]
        tokens = self._joined(normalized, self._segment(normalized))
        spans = [(byte_of[places[start]], byte_of[places[end]]) for _, start, end in tokens]
        ids = np.array([id_ for id_, _, _ in tokens], np.int32)
        return ids, np.array(spans, np.int64).reshape(-1, 2)

    # Decoding

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The text of ``ids``; the dummy prefix that normalisation put in front is taken away."""
        row = self._checked(ids).tolist()
        parts = []
        for id_ in row:
            parts.append(self._at_beginning(id_))
            if self.ends_beginning(id_):
                break
        data = b"".join([*parts, *map(self._further_on.__getitem__, row[len(parts) :])])
        if not self.settings.denormalizer_charsmap:
            return data
        rules = CharsMap(self.settings.denormalizer_charsmap)
        return rules.normalize(data.decode(errors="replace")).encode()

    def piece(self, id_: int, *, first: bool) -> bytes:
        """The bytes that ``id_`` adds to a text: at its beginning one space fewer than further on.

        `ends_beginning` says whether the next id is still at the beginning.
        """
        (id_,) = self._checked([id_]).tolist()
        return self._at_beginning(id_) if first else self._further_on[id_]

    def ends_beginning(self, id_: int) -> bool:
        """Whether a token that comes after ``id_``, at a text's beginning, keeps its space.

        A control piece is no text; and where extra white space is removed, a lone space is none.
        """
        (id_,) = self._checked([id_]).tolist()
        if id_ in self._added.special.values():
            return False
        if self._at_beginning(id_):
            return True
        return self._kind(id_) in FOUND_IN_TEXT and not self.settings.remove_extra_whitespaces

    def _at_beginning(self, id_: int) -> bytes:
        spelled = self._spellings[id_]
        if self._kind(id_) not in FOUND_IN_TEXT or not (
            self.settings.add_dummy_prefix or self.settings.remove_extra_whitespaces
        ):
            return self._further_on[id_]
        return spelled.removeprefix(_SPACE).replace(_SPACE, b" ")

    @cached_property
    def _further_on(self) -> list[bytes]:
        """What each id adds to a text that has begun."""
        surfaces = [spelled.replace(_SPACE, b" ") for spelled in self._spellings]
        for i, (text, _, kind) in enumerate(self.pieces):
            if kind == Kind.BYTE:
                surfaces[i] = bytes([piece_byte(text)])
            elif kind == Kind.UNKNOWN:
                surfaces[i] = self.settings.unknown_surface.encode()
        for token in self._added.tokens:
            surfaces[token.id] = token.content.encode()
        return surfaces

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the ids: equal fingerprints encode equally."""
        decisive = type(self).__name__, self.pieces, self.settings, self._added.tokens
        return hashlib.sha256(repr(decisive).encode()).hexdigest()

    def _kind(self, id_: int) -> Kind | None:
        """None for an added token."""
        return self.pieces[id_].kind if id_ not in self._added_ids else None


def _normalizer(
    user_defined: Sequence[str], settings: SentencePieceSettings
) -> SentencePieceNormalizer:
    spaces = Spaces(
        add_dummy_prefix=settings.add_dummy_prefix,
        remove_extra=settings.remove_extra_whitespaces,
        escape=settings.escape_whitespaces,
        suffix=settings.treat_whitespace_as_suffix,
    )
    return SentencePieceNormalizer(settings.charsmap, spaces, user_defined)
