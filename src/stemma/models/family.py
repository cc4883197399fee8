"""Checkpoint families: one table of names is the way out to Hugging Face's files and the way in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from stemma.errors import ModelError
from stemma.models.config_facts import ModelConfig, head_of, is_base, resolved, shapes_of, tied
from stemma.models.rows import Row, Weight
from stemma.models.transformer_config import TransformerConfig

# Files of the first years spell the parameters of norms in another way.
_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

C = TypeVar("C", bound=ModelConfig)
T = TypeVar("T")


def need(holds: bool, field: str, value: Any) -> None:
    """Insist on what a family can express.

    Raises:
        ModelError: naming ``field`` and ``value`` unless ``holds``.
    """
    if not holds:
        raise ModelError(f"{field} = {value!r}")


def expect(value: Any, kind: type[T], field: str) -> T:
    """Insist on the kind of part that a family is built of.

    Raises:
        ModelError: naming ``field`` and its kind unless ``value`` is such a part.
    """
    need(isinstance(value, kind), f"{field}.kind", getattr(value, "kind", None))
    part: T = value
    return part


def need_heads_that_fill(config: TransformerConfig) -> None:
    """Insist on heads whose size follows from d_model.

    Raises:
        ModelError: naming ``attention.d_head`` if it does not.
    """
    attention = config.attention
    fills = attention.head_size(config.d_model) * attention.n_heads == config.d_model
    need(fills, "attention.d_head", attention.d_head)


@dataclass(frozen=True)
class Family(Generic[C]):
    """A model of Hugging Face's that one of this kind can be, and the two ways between them.

    Attributes:
        model_type: what ``config.json`` calls it.
        architecture: the class of `transformers` that opens it.
        base_architecture: the same without the head.
        prefix: what stands before most names; files of the base model lack it.
        head: their name of the untied output matrix.
        buffers: matches names in their files that hold no weights of a model of that config.
        to_config_json: config -> ``config.json`` as far as it goes: `write_config` compares.
        read_config: ``config.json`` -> config; raises ModelError naming the key in the way, and
            ConfigError if the numbers do not fit one another.
        weights: config -> the table of names, the head apart.
        copies: config -> their names of further copies of a matrix that may be in their files, and
            the parameter here that each must equal.
        config_type: what it is a config of.
    """

    model_type: str
    architecture: str
    base_architecture: str
    prefix: str
    head: str
    buffers: Callable[[C], re.Pattern[str]]
    to_config_json: Callable[[C], dict[str, Any]]
    read_config: Callable[[Mapping[str, Any]], C]
    weights: Callable[[C], Iterable[Row]]
    copies: Callable[[C], Mapping[str, str]] = lambda config: {}
    config_type: type[ModelConfig] = TransformerConfig

    def write_config(self, config: C) -> dict[str, Any]:
        """``config.json``, from which `read_config` makes the same model again.

        Raises:
            ModelError: naming the field of ``config`` that the family cannot express.
        """
        kind = type(config)
        need(issubclass(kind, self.config_type), "the kind of model", kind.__name__)
        architecture = self.base_architecture if is_base(config) else self.architecture
        config_json = {
            "architectures": [architecture],
            "model_type": self.model_type,
            **self.to_config_json(config),
        }
        known = resolved(self.read_config(config_json))
        for field, value in resolved(config).items():
            need(field in known and known[field] == value, field, value)
        return config_json

    def table(self, config: C) -> list[Row]:
        """Every tensor of a model's file."""
        head = head_of(config)
        own_head = head not in tied(config) and not is_base(config)
        return [*self.weights(config), *([Weight(self.head, (head,))] if own_head else [])]

    def to_huggingface(
        self, config: C, state: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """``config.json`` and the tensors of ``model.safetensors``.

        Args:
            config: of the model.
            state: its state dict.

        Raises:
            ModelError: if the family cannot express the config, the state is not the config's, or
                its matrices are in few bits.
        """
        config_json = self.write_config(config)
        if whole := [name for name, tensor in state.items() if not tensor.is_floating_point()]:
            raise ModelError(
                f"{whole[0]} holds numbers of few bits, which the layout has no place for",
                cure="Save the model as it was before it was quantised; a GGUF file can hold few "
                "bits: stemma export MODEL FILE.gguf --dtype q8_0.",
            )
        _check_names(set(state) - set(tied(config)), set(shapes_of(config)), "state")
        prefix = self.prefix if is_base(config) else ""
        tensors = {
            name.removeprefix(prefix): tensor
            for row in self.table(config)
            for name, tensor in row.write(state)
        }
        return config_json, tensors

    def from_huggingface(
        self, config_json: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[C, dict[str, Tensor]]:
        """The inverse of `to_huggingface`.

        Raises:
            ModelError: if something in ``config_json`` cannot be done here, or the tensors are not
                the ones it announces.
        """
        config = self.read_config(config_json)
        return config, dict(self.translate(config, tensors))

    def translate(
        self, config: C, tensors: Mapping[str, Tensor], *, copy: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of one parameter after the other; names are checked before the first.

        Each of ``tensors`` is asked for once, so that a lazy mapping holds one at a time.

        Args:
            config: of the model.
            tensors: theirs by name.
            copy: give what comes out memory of its own; a mapping that makes each tensor anew
                needs none.

        Raises:
            ModelError: if tensors are missing or left over, a shape does not fit, or a tied head
                differs from the embedding.
        """
        if config.n_layers > len(tensors):  # before a model of so many layers is built
            raise ModelError(
                f"config.json announces {config.n_layers:,} layers, and there are "
                f"{len(tensors):,} tensors",
                cure="The weights and config.json are of different models, or one is damaged.",
            )
        return self._translated(config, tensors, copy=copy)

    def _translated(
        self, config: C, tensors: Mapping[str, Tensor], *, copy: bool
    ) -> Iterator[tuple[str, Tensor]]:
        table = self.table(config)
        expected = {name for row in table for name in row.theirs}
        ties = tied(config)
        copies = dict(self.copies(config))
        if head_of(config) in ties:
            copies[self.head] = ties[head_of(config)]
        known = expected | {self.head, *copies}
        buffers = self.buffers(config)
        names = {self._canonical(name, known, buffers): name for name in tensors}
        weightless = {name for name in names if name not in known and buffers.search(name)}
        _check_names(set(names) - weightless - set(copies), expected, "file")
        shapes = shapes_of(config)
        spelt = _Spelt(tensors, names)
        for row in table:
            for name, tensor in row.read(spelt, shapes, copy=copy):
                for copy_, original in copies.items():
                    if original == name and copy_ in names:
                        _check_equal(copy_, spelt[copy_], tensor)
                yield name, tensor

    def _canonical(self, name: str, known: set[str], buffers: re.Pattern[str]) -> str:
        for old, new in _OLD_NAMES.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        if name in known or name.startswith(self.prefix) or buffers.search(name):
            return name
        return self.prefix + name


def _check_equal(name: str, copy: Tensor, original: Tensor) -> None:
    if not torch.equal(copy, original):
        raise ModelError(
            f"config.json ties the embedding to other matrices, but {name} differs from it",
            cure="Set tie_word_embeddings to false in config.json if the matrix is its own.",
        )


class _Spelt(Mapping[str, Tensor]):
    """The tensors of a file under the names of the table; each access asks the file once."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Mapping[str, str]) -> None:
        self._tensors = tensors
        self._names = names

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[self._names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _check_names(found: set[str], expected: set[str], where: str) -> None:
    missing, extra = sorted(expected - found), sorted(found - expected)
    if missing or extra:
        said = [
            f"{kind}: {_some(names)}"
            for kind, names in (("missing", missing), ("not part of this model", extra))
            if names
        ]
        raise ModelError(
            f"the tensors in the {where} are not those of the model; {'; '.join(said)}",
            cure="The weights and config.json are of different models, or the file is incomplete.",
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
