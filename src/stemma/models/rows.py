"""Rows of a family's table of names: tensors of theirs, and the parameters here that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stemma.errors import ModelError


class Row(Protocol):
    """Some tensors of theirs and some parameters here, and the two ways between them."""

    @property
    def theirs(self) -> tuple[str, ...]:
        """Their names in their file."""

    def write(self, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor for their file, from ours by name."""

    def read(
        self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, copy: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """Name and tensor of our parameters, from theirs by name.

        Args:
            tensors: theirs.
            shapes: of ours.
            copy: give what comes out memory of its own even where theirs would do as it is.

        Raises:
            ModelError: if a tensor has another shape than the parameters of ``shapes`` want.
        """


@dataclass(frozen=True)
class Weight:
    """One tensor of theirs and what it is here.

    Attributes:
        name: its name in their file.
        ours: the parameters it holds, stacked along the rows where there are several.
        transposed: whether theirs is input x output, where a linear layer here is output x input.
    """

    name: str
    ours: tuple[str, ...]
    transposed: bool = False

    @property
    def theirs(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def write(self, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        parts = [state[name].detach() for name in self.ours]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        yield self.name, (whole.T if self.transposed else whole).contiguous()

    def read(
        self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, copy: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        whole = tensors[self.name]
        expected = [shapes[name] for name in self.ours]
        stacked = torch.Size([sum(shape[0] for shape in expected), *expected[0][1:]])
        _check_shape(self.name, whole, stacked[::-1] if self.transposed else stacked)
        rows = whole.T if self.transposed else whole
        parts = torch.split(rows, [shape[0] for shape in expected])
        for name, part in zip(self.ours, parts, strict=True):
            fits = part.numel() == whole.numel() and part.is_contiguous() and not copy
            yield name, part if fits else part.clone(memory_format=torch.contiguous_format)


@dataclass(frozen=True)
class Stack:
    """Several tensors of theirs that are one parameter here, stacked along a first dimension.

    Attributes:
        theirs: their names in their file, in order.
        ours: the parameter.
    """

    theirs: tuple[str, ...]
    ours: str

    def write(self, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        for name, part in zip(self.theirs, state[self.ours].detach(), strict=True):
            yield name, part.contiguous()

    def read(
        self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, copy: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        shape = shapes[self.ours]
        stack: Tensor | None = None
        for i, name in enumerate(self.theirs):
            part = tensors[name]
            _check_shape(name, part, shape[1:])
            if stack is None:
                stack = part.new_empty(shape)
            stack[i] = part
        assert stack is not None
        yield self.ours, stack


@dataclass(frozen=True)
class OneRow:
    """A vector here that is a matrix of one row in their file.

    Attributes:
        name: its name in their file.
        ours: the parameter.
    """

    name: str
    ours: str

    @property
    def theirs(self) -> tuple[str, ...]:
        """Its name."""
        return (self.name,)

    def write(self, state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        yield self.name, state[self.ours].detach().unsqueeze(0).contiguous()

    def read(
        self, tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], *, copy: bool
    ) -> Iterator[tuple[str, Tensor]]:
        """See `Row`."""
        row = tensors[self.name]
        _check_shape(self.name, row, (1, *shapes[self.ours]))
        yield self.ours, row.squeeze(0).clone() if copy else row.squeeze(0)


def _check_shape(name: str, tensor: Tensor, expected: Sequence[int]) -> None:
    if tuple(tensor.shape) != tuple(expected):
        raise ModelError(
            f"{name} has the shape {tuple(tensor.shape)}, config.json announces {tuple(expected)}",
            cure="The weights and config.json are of different models.",
        )
