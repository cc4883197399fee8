"""From the characters of a word to the ids that byte-pair encoding begins with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.word_symbols import Marks


@dataclass(frozen=True)
class CharacterRules:
    """How a word becomes the symbols that are merged.

    Args:
        unknown: the token for a character that no token spells; if None, it is left out.
        end_of_word_suffix: how tokens end that end a word.
        continuing_subword_prefix: how tokens begin that do not begin a word.
        byte_fallback: spell unknown characters by tokens like ``<0x0A>`` for each of their bytes
            (and of the marks at them), if the vocabulary has all that are needed.
        fuse_unknown: several unknown characters in a row become one token.
        ignore_merges: a word that is a token as it stands is not cut at all.
        dropout: None or 0; `bpe.dropout.with_dropout` encodes at random.

    Raises:
        TokenizerError: if ``dropout`` is something else.
    """

    unknown: str | None = None
    end_of_word_suffix: str = ""
    continuing_subword_prefix: str = ""
    byte_fallback: bool = False
    fuse_unknown: bool = False
    ignore_merges: bool = False
    dropout: float | None = None

    def __post_init__(self) -> None:
        if self.dropout:
            raise TokenizerError(
                f"dropout is {self.dropout}: the ids of a text would change from call to call",
                cure="Set it to null, and use bpe_dropout.with_dropout(tokenizer, p, generator) "
                "where random ids are wanted.",
            )

    @property
    def marks(self) -> Marks:
        """How symbols are written."""
        return Marks(self.continuing_subword_prefix, self.end_of_word_suffix)


class SymbolTable:
    """The symbols of a vocabulary.

    Args:
        ids: token -> id, without special tokens.
        rules: how a word becomes symbols.
        unknown_id: the id of the token for unknown characters.
    """

    def __init__(self, ids: Mapping[str, int], rules: CharacterRules, unknown_id: int | None):
        self._ids = ids
        self._marks = rules.marks
        self._fuse = rules.fuse_unknown
        self._unknown_id = unknown_id
        self._byte_ids = {
            value: ids[name]
            for value in range(256)
            if rules.byte_fallback and (name := f"<0x{value:02X}>") in ids
        }

    def of(self, word: str) -> list[int]:
        """The ids of a word's symbols."""
        symbols = self._marks.symbols(word)
        try:
            return [self._ids[symbol] for symbol in symbols]
        except KeyError:
            pass
        spelled: dict[str, list[int]] = {}
        for symbol in {*symbols}:
            ids = self.alone(symbol)
            if ids is None:
                return [id_ for id_, _ in self.sized(word)]
            spelled[symbol] = ids
        return [*chain.from_iterable(map(spelled.__getitem__, symbols))]

    def alone(self, symbol: str) -> list[int] | None:
        """The ids of a symbol, whatever stands beside it; None if it is unknown."""
        if symbol in self._ids:
            return [self._ids[symbol]]
        ids = [self._byte_ids.get(value, -1) for value in symbol.encode()]
        return None if -1 in ids else ids

    def sized(self, word: str) -> list[tuple[int, int]]:
        """The ids of a word's symbols, and how many bytes of the word each stands for.

        Characters that are left out are counted with the symbol behind them, or with the last.
        """
        found: list[tuple[int, int]] = []
        unknown = lost = 0
        for at, symbol in enumerate(self._marks.symbols(word)):
            size = len(word[at].encode()) + lost
            lost = 0
            if (id_ := self._ids.get(symbol)) is not None:
                found += self._unknown(unknown)
                found.append((id_, size))
                unknown = 0
            elif (spelled := self._bytes_of(symbol, size, first=at == 0)) is not None:
                # Unknown characters before these come behind them: so Hugging Face has it.
                found += spelled
            elif self._unknown_id is None:
                lost = size
            elif self._fuse:
                unknown += size
            else:
                found += self._unknown(unknown)
                unknown = size
        found += self._unknown(unknown)
        if lost and found:
            found[-1] = found[-1][0], found[-1][1] + lost
        return found

    def _unknown(self, size: int) -> list[tuple[int, int]]:
        return [(self._unknown_id, size)] if size and self._unknown_id is not None else []

    def _bytes_of(self, symbol: str, size: int, *, first: bool) -> list[tuple[int, int]] | None:
        """A symbol spelled by its bytes; those of marks stand for nothing."""
        ids = self.alone(symbol)
        if ids is None:
            return None
        n_before = 0 if first else len(self._marks.prefix.encode())
        sizes = [int(n_before <= i < n_before + size) for i in range(len(ids))]
        sizes[n_before] += size - sum(sizes)
        return list(zip(ids, sizes, strict=True))

    def is_symbol(self, token: str, id_: int) -> bool:
        """Whether a word may begin with this token as a symbol: a character, byte, or unknown."""
        if id_ == self._unknown_id or id_ in self._byte_ids.values():
            return True
        bare = token.removeprefix(self._marks.prefix)
        suffix = self._marks.suffix
        forms = (token, bare, token.removesuffix(suffix), bare.removesuffix(suffix))
        return any(len(form) == 1 for form in forms)
