"""What every tokenizer can do, whatever its family."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.rows import Spans, concatenate, known_row, original_spans, with_spans
from stemma.tokenizers.special import (
    END_OF_TEXT,
    AddedToken,
    AddedTokens,
    AllowedSpecial,
    special_tokens,
)
from stemma.tokenizers.texts import check_text

if TYPE_CHECKING:
    from stemma.tokenizers.cutting import InTurn, Stretch
    from stemma.tokenizers.steps.normalizers import Normalizer
    from stemma.tokenizers.steps.template import Template


class Tokenizer(ABC):
    """Text <-> ids ``0 .. vocab_size - 1``.

    Encoding takes these steps: added tokens are found in the text; what lies between them is
    normalised; what is left is cut by the family's own rule (`_encode_part`); the template puts
    special tokens around the whole, if asked to.

    Args:
        spellings: the bytes of each id, an added token's are its text in UTF-8; none for an id that
            is not used.
        added: the special tokens as name -> id, or all added tokens.
        normalizer: what is done to a text first; nothing if None.
        template: which special tokens surround a text; none if None.

    Raises:
        TokenizerError: if an added token does not fit its id.
    """

    def __init__(
        self,
        spellings: Sequence[bytes],
        added: Mapping[str, int] | Sequence[AddedToken] = (),
        *,
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        self._spellings = list(spellings)
        self._added = AddedTokens(special_tokens(added) if isinstance(added, Mapping) else added)
        self.normalizer = normalizer
        self.template = template
        self._lengths = np.fromiter(map(len, spellings), np.int64, len(spellings))
        self._unused = np.flatnonzero(self._lengths == 0)
        self._ends: frozenset[int] = frozenset()
        for token in self._added.tokens:
            if not 0 <= token.id < len(spellings) or spellings[token.id] != token.content.encode():
                raise TokenizerError(
                    f"special token {token.content!r} does not stand at its id {token.id}"
                )

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._spellings)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Name -> id of the special tokens."""
        return dict(self._added.special)

    @property
    def added_tokens(self) -> tuple[AddedToken, ...]:
        """All added tokens, the special ones among them."""
        return self._added.tokens

    @property
    def unused_ids(self) -> NDArray[np.int64]:
        """The ids below `vocab_size` that stand for nothing."""
        return self._unused

    @property
    def end_of_text(self) -> int | None:
        """Id of ``<|endoftext|>``, if there is one."""
        return self._added.special.get(END_OF_TEXT)

    @property
    def end_ids(self) -> frozenset[int]:
        """Ids that end what a model writes: `end_of_text`, and those told to `ending_with`."""
        own = self.end_of_text
        return self._ends if own is None else self._ends | {own}

    def ending_with(self, ids: Iterable[int]) -> Self:
        """The same tokenizer, of a model whose texts end with these ids too."""
        like = copy(self)
        like._ends = self._ends | frozenset(ids)
        return like

    def encode(
        self,
        text: str,
        *,
        allowed_special: AllowedSpecial = (),
        add_special_tokens: bool = False,
    ) -> NDArray[np.int32]:
        """Ids of ``text``.

        Args:
            text: any text; the name of a special token in it is plain text ...
            allowed_special: ... unless it is named here; ``"all"`` names them all.
            add_special_tokens: put the template's special tokens around the ids.

        Raises:
            TokenizerError: if ``text`` holds half a surrogate pair, if ``allowed_special`` names an
                unknown token, or if the family cannot spell it.
        """
        try:
            ids = self._encode_texts([text], allowed_special)[0]
        except TypeError:
            check_text(text)
            raise
        return self.template.apply(ids) if add_special_tokens and self.template else ids

    def _encode_texts(
        self, texts: Sequence[str], allowed_special: AllowedSpecial
    ) -> list[NDArray[np.int32]]:
        """Ids of each text; families that can do better with several at once override it."""
        names = self._added.allowed(allowed_special)
        return [self._encode_text(text, names) for text in texts]

    def _encode_text(self, text: str, names: frozenset[str], before: str = "") -> NDArray[np.int32]:
        """Ids of a text, or of what follows the character ``before`` in a longer one."""
        check_text(text)
        return concatenate(
            self._encode_normalized(
                part, names, "" if start else before, at_start=not (start or before)
            )
            if isinstance(part, str)
            else [part]
            for part, start, _ in self._added.split(text, names)
        )

    def _encode_normalized(
        self, text: str, names: frozenset[str], before: str = "", *, at_start: bool
    ) -> NDArray[np.int32]:
        if self.normalizer is not None:
            at_start = at_start and self._keeps_beginning(text)
            text = self.normalizer.after(before, text)
        return concatenate(
            self._encode_part(part, at_start=at_start and start == 0)
            if isinstance(part, str)
            else [part]
            for part, start, _ in self._added.split(text, names, normalized=True)
        )

    def encode_batch(
        self,
        texts: Iterable[str],
        *,
        allowed_special: AllowedSpecial = (),
        add_special_tokens: bool = False,
        threads: int | None = None,
    ) -> list[NDArray[np.int32]]:
        """Ids of each of several texts, as `encode` gives them.

        Args:
            texts: the texts.
            allowed_special: see `encode`.
            add_special_tokens: see `encode`.
            threads: how many to use; as many as there are processors if None. They gain time where
                the family's kernels, which do not hold Python's lock, do the work.

        Raises:
            TokenizerError: see `encode`; naming the text by its place.
        """
        from stemma.tokenizers.parallel import encode_batch

        ids = encode_batch(self, texts, allowed_special, threads)
        if add_special_tokens and self.template:
            ids = [self.template.apply(row) for row in ids]
        return ids

    def encode_chunks(
        self,
        chunks: Iterable[str],
        *,
        allowed_special: AllowedSpecial = (),
        threads: int | None = 1,
    ) -> Iterator[NDArray[np.int32]]:
        """The ids of a text that comes in pieces and may be larger than memory.

        Joined, they are ``encode("".join(chunks))``. Text that can be cut nowhere is held whole.

        Args:
            chunks: the text.
            allowed_special: see `encode`.
            threads: how many work on it; see `encode_batch`.

        Raises:
            TokenizerError: see `encode`; only when the generator comes to the place.
        """
        from stemma.tokenizers.parallel import encode_chunks

        return encode_chunks(self, chunks, allowed_special, threads)

    def _cut(self, text: str, before: int) -> int:
        """The last place up to ``before`` where a text without added tokens may be cut.

        The ids of both stretches, joined, must be those of the whole. 0 if no place is known.
        """
        return 0

    def _encode_stretches(
        self, batches: Iterable[Sequence[Stretch]], names: frozenset[str], in_turn: InTurn
    ) -> Iterator[NDArray[np.int32]]:
        """Ids of the stretches of one text, in batches that ``in_turn`` encodes at once."""
        encode = partial(self._encode_stretch, names=names)
        for batch in batches:
            yield concatenate(in_turn(encode, batch))

    def _encode_stretch(self, stretch: Stretch, names: frozenset[str]) -> NDArray[np.int32]:
        """Ids of a part of a longer text: of any text, if it does not matter what it is part of."""
        return self._encode_texts([stretch.text], names)[0]

    def _keeps_beginning(self, text: str) -> bool:
        """Whether a text's beginning is still its beginning once it is normalised."""
        return True

    @abstractmethod
    def _encode_part(self, text: str, *, at_start: bool) -> Sequence[int] | NDArray[np.int32]:
        """Ids of a normalised text without added tokens; ``at_start``: nothing precedes it."""

    def encode_with_offsets(
        self, text: str, *, allowed_special: AllowedSpecial = ()
    ) -> tuple[NDArray[np.int32], Spans]:
        """Ids of ``text``, and the bytes ``start:end`` of ``text.encode()`` that each stands for.

        The spans rise; where a normaliser made one token out of several characters, its span holds
        them all. A token that stands for no byte of the text has an empty span.

        Raises:
            TokenizerError: see `encode`.
        """
        check_text(text)
        names = self._added.allowed(allowed_special)
        return with_spans(
            text,
            self._added.split(text, names),
            lambda part, start: self._encode_aligned(part, names, at_start=start == 0),
        )

    def _encode_aligned(
        self, text: str, names: frozenset[str], *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        """Ids and spans of a text not yet normalised."""
        normalized, alignment = text, None
        if self.normalizer is not None:
            at_start = at_start and self._keeps_beginning(text)
            normalized, alignment = self.normalizer.align(text)
        ids, spans = with_spans(
            normalized,
            self._added.split(normalized, names, normalized=True),
            lambda part, start: self._encode_part_with_spans(
                part, at_start=at_start and start == 0
            ),
        )
        if alignment is not None:
            spans = original_spans(spans, normalized, text, alignment)
        return ids, spans

    def _encode_part_with_spans(
        self, text: str, *, at_start: bool
    ) -> tuple[NDArray[np.int32], Spans]:
        """`_encode_part`, and each token's bytes in ``text``.

        Right as it stands for families whose tokens, joined, are the text; others override it.
        """
        ids = np.asarray(self._encode_part(text, at_start=at_start), np.int32)
        ends = np.cumsum(self._lengths[ids])
        starts = np.concatenate([np.zeros(1, np.int64), ends[:-1]])[: ends.size]
        return ids, np.stack([starts, ends], axis=1)

    def decode(
        self,
        ids: Iterable[int],
        *,
        errors: Literal["replace", "strict"] = "replace",
        skip_special_tokens: bool = False,
    ) -> str:
        """The text of ``ids``; bytes that are not UTF-8 become U+FFFD, or an error if ``strict``.

        Args:
            ids: one row of ids.
            errors: what to do with bytes that are not UTF-8.
            skip_special_tokens: leave the names of special tokens out.

        Raises:
            TokenizerError: if an id is outside the vocabulary; if ``strict``, also if the bytes
                are not UTF-8.
        """
        if errors not in ("replace", "strict"):
            raise TokenizerError(f"errors={errors!r}", cure="Use 'replace' or 'strict'.")
        if skip_special_tokens:
            row = self._checked(ids)
            ids = row[~np.isin(row, list(self._added.special.values()))]
        try:
            return str(self._decoded(ids), "utf-8", errors)
        except UnicodeDecodeError as error:
            raise TokenizerError(
                f"the ids do not spell UTF-8: byte 0x{error.object[error.start]:02x} "
                f"at offset {error.start}",
                cure="decode(ids, errors='replace') puts U+FFFD there.",
            ) from None

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of ``ids``, one after another.

        Raises:
            TokenizerError: if ``ids`` is not a row of integers or one is outside the vocabulary.
        """
        row: list[int] = self._checked(ids).tolist()
        return b"".join(map(self._spellings.__getitem__, row))

    def _decoded(self, ids: Iterable[int]) -> bytes | memoryview:
        """`decode_bytes`, in whatever memory it is at hand."""
        return self.decode_bytes(ids)

    def token_bytes(self, id_: int) -> bytes:
        """The bytes of one id: never empty; those of a special token are its name.

        Raises:
            TokenizerError: if the id is outside the vocabulary.
        """
        return self._spellings[int(self._checked([id_])[0])]

    def piece(self, id_: int, *, first: bool) -> bytes:
        """The bytes that ``id_`` adds to a decoded text, at its beginning or further on."""
        return self.token_bytes(id_)

    def ends_beginning(self, id_: int) -> bool:
        """Whether the `piece` of what comes after ``id_`` is no longer a text's first."""
        return True

    def _checked(self, ids: Iterable[int]) -> NDArray[np.integer[Any]]:
        """The ids as one row, all of them of the vocabulary."""
        return known_row(ids, self.vocab_size, self._unused)

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``, Hugging Face's format."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the ids: equal fingerprints encode equally."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def agrees_with(self, other: Tokenizer) -> bool:
        """Whether every id of ``other`` stands for the same bytes here; here there may be more."""
        return self._spellings[: other.vocab_size] == other._spellings

    def save(self, directory: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``tokenizer.json``, its sha256, and ``tokenizer_config.json`` for ``transformers``.

        Raises:
            TokenizerError: if another tokenizer is there already (unless ``overwrite``), or the
                files cannot be written.
        """
        from stemma.tokenizers.files import write_directory

        return write_directory(
            Path(directory), self.to_json(), self.special_tokens, overwrite=overwrite
        )

    @classmethod
    def from_file(cls, path: str | Path) -> Self:
        """Read a directory or ``tokenizer.json`` that holds a tokenizer of this class.

        Raises:
            TokenizerError: see `load_tokenizer`; and if the file holds another family.
        """
        from stemma.tokenizers.load import load_tokenizer

        tokenizer = load_tokenizer(path)
        if not isinstance(tokenizer, cls):
            what = f"holds a {type(tokenizer).__name__}, not a {cls.__name__}"
            raise TokenizerError(what, where=str(path))
        return tokenizer
