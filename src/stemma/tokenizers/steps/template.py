"""Special tokens around a text or a pair of texts: ``[CLS] A [SEP] B [SEP]``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from stemma.errors import TokenizerError
from stemma.tokenizers.json_fields import Fields, shown
from stemma.tokenizers.texts import check_text

if TYPE_CHECKING:
    from stemma.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True)
class Text:
    """The place of a text.

    Args:
        sequence: ``A``, or ``B`` for the second of a pair.
        type_id: what `Template.type_ids` says of its tokens.
    """

    sequence: Literal["A", "B"] = "A"
    type_id: int = 0


@dataclass(frozen=True)
class Special:
    """A special token (or several under one name).

    Args:
        name: what the template calls it.
        ids: its ids.
        type_id: what `Template.type_ids` says of it.
        tokens: the text of each id; its name alone if empty.
    """

    name: str
    ids: tuple[int, ...]
    type_id: int = 0
    tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.tokens:
            object.__setattr__(self, "tokens", (self.name,))


Part = Text | Special


@dataclass(frozen=True)
class Template:
    """What surrounds a text, and what surrounds two.

    Args:
        single: the parts for one text.
        pair: the parts for two.

    Raises:
        TokenizerError: if a text has no place, or the second of two where there is but one.
    """

    single: tuple[Part, ...]
    pair: tuple[Part, ...] = (Text("A", 0), Text("B", 1))

    def __post_init__(self) -> None:
        for parts, wanted in ((self.single, {"A"}), (self.pair, {"A", "B"})):
            if {part.sequence for part in parts if isinstance(part, Text)} != wanted:
                raise TokenizerError(
                    f"the template of {'one text' if parts is self.single else 'two texts'} "
                    f"must name {' and '.join(sorted(wanted))}"
                )

    def apply(
        self, ids: Sequence[int] | NDArray[np.int32], pair: Sequence[int] | None = None
    ) -> NDArray[np.int32]:
        """The ids of a text, or of two, with the special tokens around them."""
        texts = {"A": ids, "B": pair}
        rows = [
            texts[part.sequence] if isinstance(part, Text) else part.ids
            for part in (self.single if pair is None else self.pair)
        ]
        return np.concatenate([np.asarray(row, np.int32) for row in rows])

    def type_ids(self, n: int, n_pair: int | None = None) -> NDArray[np.int32]:
        """For each id that `apply` gives, the type of its part.

        Args:
            n: number of ids of the first text.
            n_pair: number of ids of the second, if there is one.
        """
        sizes = {"A": n, "B": n_pair or 0}
        parts = self.single if n_pair is None else self.pair
        counts = [
            sizes[part.sequence] if isinstance(part, Text) else len(part.ids) for part in parts
        ]
        return np.repeat(np.array([part.type_id for part in parts], np.int32), counts)

    @property
    def special(self) -> dict[str, Special]:
        """The special tokens by name."""
        return {p.name: p for p in (*self.single, *self.pair) if isinstance(p, Special)}

    def check(self, tokenizer: Tokenizer) -> None:
        """See that the special tokens are those of a tokenizer.

        Raises:
            TokenizerError: naming one that is not.
        """
        for special in self.special.values():
            for id_, token in zip(special.ids, special.tokens, strict=True):
                if id_ >= tokenizer.vocab_size or tokenizer.token_bytes(id_) != token.encode():
                    raise TokenizerError(
                        f"the template's token {token!r} does not stand at its id {id_}"
                    )

    def to_json(self) -> dict[str, Any]:
        """A post-processor of ``tokenizer.json``."""
        return {
            "type": "TemplateProcessing",
            "single": [_part_json(part) for part in self.single],
            "pair": [_part_json(part) for part in self.pair],
            "special_tokens": {
                name: {"id": name, "ids": [*one.ids], "tokens": [*one.tokens]}
                for name, one in sorted(self.special.items())
            },
        }


def surround(
    before: Mapping[str, int], after: Mapping[str, int], pair: tuple[Part, ...] | None = None
) -> Template:
    """A template with tokens before and after a text.

    Two texts have them too, once before the first and once behind each.

    Args:
        before: name -> id.
        after: name -> id.
        pair: the parts for two texts, if they are others.
    """
    first = tuple(Special(name, (id_,)) for name, id_ in before.items())
    last = tuple(Special(name, (id_,)) for name, id_ in after.items())
    second = tuple(Special(name, (id_,), 1) for name, id_ in after.items())
    return Template((*first, Text(), *last), pair or (*first, Text(), *last, Text("B", 1), *second))


def from_json(step: Any, where: str = "post_processor") -> Template | None:
    """Read a post-processor as ``tokenizer.json`` writes it; None if it changes no ids.

    Raises:
        TokenizerError: if there is no such step here, or a value of it makes no sense.
    """
    if step is None:
        return None
    fields = Fields(step, where)
    match fields.type:
        case "TemplateProcessing":
            result: Template | None = _read_template(fields)
        case "BertProcessing":
            cls, sep = _read_token(fields, "cls"), _read_token(fields, "sep")
            result = surround(dict([cls]), dict([sep]))
        case "RobertaProcessing":
            result = _read_roberta(fields)
        case "ByteLevel":
            # It only trims the offsets that the library gives.
            fields.ignore("add_prefix_space", "trim_offsets", "use_regex")
            result = None
        case "Sequence":
            result = _read_sequence(fields)
        case _:
            raise fields.unsupported()
    fields.done()
    return result


def _read_roberta(fields: Fields) -> Template:
    (cls, cls_id), (sep, sep_id) = _read_token(fields, "cls"), _read_token(fields, "sep")
    fields.ignore("trim_offsets", "add_prefix_space")
    end = Special(sep, (sep_id,))
    pair = (Special(cls, (cls_id,)), Text(), end, end, Text("B"), end)
    return surround({cls: cls_id}, {sep: sep_id}, pair)


def _read_sequence(fields: Fields) -> Template | None:
    found = [from_json(step, where) for where, step in fields.items("processors")]
    templates = [template for template in found if template is not None]
    if len(templates) > 1:
        raise TokenizerError(f"{fields.where} puts special tokens around a text twice")
    return templates[0] if templates else None


def _read_template(fields: Fields) -> Template:
    tokens = fields.inner("special_tokens")
    known = {name: _read_special(tokens.inner(name)) for name in tokens.names}
    return Template(
        _read_parts(fields.items("single"), known), _read_parts(fields.items("pair"), known)
    )


def _read_special(fields: Fields) -> Special:
    name = fields.text("id")
    ids = _read_ids(fields.items("ids"))
    tokens = tuple(_checked_text(*item) for item in fields.items("tokens"))
    fields.done()
    if not ids or len(ids) != len(tokens):
        raise TokenizerError(f"{fields.where} has {len(ids)} ids and {len(tokens)} tokens")
    return Special(name, ids, 0, tokens)


def _read_parts(items: Iterable[tuple[str, Any]], known: Mapping[str, Special]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for where, item in items:
        outer = Fields(item, where)
        kind = outer.one_of("Sequence", "SpecialToken")
        fields = outer.inner(kind)
        type_id = fields.number("type_id")
        if kind == "Sequence":
            parts.append(Text(fields.choice("id", ("A", "B")), type_id))
        else:
            name = fields.choice("id", tuple(known))
            parts.append(Special(name, known[name].ids, type_id, known[name].tokens))
        fields.done()
        outer.done()
    return tuple(parts)


def _read_token(fields: Fields, name: str) -> tuple[str, int]:
    items = fields.items(name)
    if len(items) != 2:
        raise TokenizerError(f"{fields.where}.{name} is not a token and its id")
    return _checked_text(*items[0]), _read_ids(items[1:])[0]


def _read_ids(items: Iterable[tuple[str, Any]]) -> tuple[int, ...]:
    for where, item in items:
        if type(item) is not int or not 0 <= item < 1 << 31:
            raise TokenizerError(f"{where} is {shown(item)}, not an id")
    return tuple(item for _, item in items)


def _checked_text(where: str, item: Any) -> str:
    if not isinstance(item, str):
        raise TokenizerError(f"{where} is {shown(item)}, not a string")
    check_text(item)
    return item


def _part_json(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"Sequence": {"id": part.sequence, "type_id": part.type_id}}
    return {"SpecialToken": {"id": part.name, "type_id": part.type_id}}
