"""What every tokenizer can do, whatever its family."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.special import END_OF_TEXT, AllowedSpecial, SpecialTokens


class Tokenizer(ABC):
    """Text <-> ids ``0 .. vocab_size - 1``.

    Args:
        spellings: the bytes of each id, none empty; a special token's are its name in UTF-8.
        special_tokens: name -> id of those ids that stand for no text.

    Raises:
        TokenizerError: if a spelling is empty or a special token does not fit its id.
    """

    def __init__(self, spellings: Sequence[bytes], special_tokens: Mapping[str, int]) -> None:
        self._spellings = list(spellings)
        self._special = SpecialTokens(special_tokens)
        if b"" in self._spellings:
            raise TokenizerError(f"token {self._spellings.index(b'')} is spelled with no bytes")
        for name, id_ in special_tokens.items():
            if not 0 <= id_ < len(spellings) or spellings[id_] != name.encode():
                raise TokenizerError(f"special token {name!r} does not stand at its id {id_}")

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._spellings)

    @property
    def special_tokens(self) -> dict[str, int]:
        """Name -> id of the special tokens."""
        return dict(self._special.ids)

    @property
    def end_of_text(self) -> int | None:
        """Id of ``<|endoftext|>``, if there is one."""
        return self._special.ids.get(END_OF_TEXT)

    def encode(self, text: str, *, allowed_special: AllowedSpecial = ()) -> NDArray[np.int32]:
        """Ids of ``text``.

        Args:
            text: any text; the name of a special token in it is plain text ...
            allowed_special: ... unless it is named here; ``"all"`` names them all.

        Raises:
            TokenizerError: if ``text`` holds half a surrogate pair (which no UTF-8 file can hold),
                if ``allowed_special`` names an unknown token, or if the family cannot spell it.
        """
        check_text(text)
        parts = self._special.split(text, allowed_special)
        ids = ([part] if isinstance(part, int) else self._encode_part(part) for part in parts)
        return np.fromiter(chain.from_iterable(ids), dtype=np.int32)

    @abstractmethod
    def _encode_part(self, text: str) -> Iterable[int]:
        """Ids of a text in which nothing is special."""

    def decode(
        self, ids: Iterable[int], *, errors: Literal["replace", "strict"] = "replace"
    ) -> str:
        """The text of ``ids``; bytes that are not UTF-8 become U+FFFD, or an error if ``strict``.

        Raises:
            TokenizerError: if an id is outside the vocabulary; if ``strict``, also if the bytes
                are not UTF-8.
        """
        if errors not in ("replace", "strict"):
            raise TokenizerError(f"errors={errors!r}", cure="Use 'replace' or 'strict'.")
        try:
            return self.decode_bytes(ids).decode(errors=errors)
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
        return b"".join(map(self._spellings.__getitem__, self._checked(ids)))

    def token_bytes(self, id_: int) -> bytes:
        """The bytes of one id: never empty; those of a special token are its name.

        Raises:
            TokenizerError: if the id is outside the vocabulary.
        """
        return self._spellings[self._checked([id_])[0]]

    def piece(self, id_: int, *, first: bool) -> bytes:
        """The bytes that ``id_`` adds to a decoded text, at its beginning or further on."""
        return self.token_bytes(id_)

    def _checked(self, ids: Iterable[int]) -> list[int]:
        row = np.asarray(ids if isinstance(ids, Sequence | np.ndarray) else list(ids))
        if row.ndim != 1 or (row.size and row.dtype.kind not in "iu"):
            raise TokenizerError(f"ids must be one row of integers, got {row.dtype} {row.shape}")
        outside = np.flatnonzero((row < 0) | (row >= self.vocab_size))
        if outside.size:
            raise TokenizerError(
                f"id {row[outside[0]]} at position {outside[0]} is outside the vocabulary, "
                f"0 to {self.vocab_size - 1}",
                cure="Decode with the tokenizer that made the ids.",
            )
        result: list[int] = row.tolist()
        return result

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``, Hugging Face's format."""

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of everything that decides the ids: equal fingerprints encode equally."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

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
            raise TokenizerError(
                f"holds a {type(tokenizer).__name__}, not a {cls.__name__}", where=str(path)
            )
        return tokenizer


def check_text(text: str) -> None:
    """Refuse lone surrogates: they are half a character, and no UTF-8 bytes stand for them.

    Raises:
        TokenizerError: naming the position of the first.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"the text holds a lone surrogate, U+{ord(text[error.start]):04X}, "
            f"at position {error.start}",
            cure="Read the text with errors='replace', or remove that character.",
        ) from None
    except AttributeError:
        raise TokenizerError(f"a text must be a str, got {type(text).__name__}") from None


def check_documents(documents: Iterable[str]) -> Iterable[str]:
    """Refuse one string where several texts are meant: it would be read letter by letter."""
    if isinstance(documents, str | bytes):
        raise TokenizerError("documents must be an iterable of texts", cure="Give [text].")
    return documents
