"""Which parameter is updated how: optimizer configs, and their groups by name pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from stemma.config import Config
from stemma.errors import ConfigError
from stemma.training.optimizers.adamw import AdamW
from stemma.training.optimizers.muon import Muon, Scale
from stemma.training.optimizers.named import OptimizerSet
from stemma.training.precision import choose_dtype

# Pulling these towards zero regularises nothing: a norm's gain, a bias, the row of a rare token,
# the share of a stream.
NO_DECAY = ("*norm*", "*.bias", "*embed*", "*.mix.*")

Named = Mapping[str, nn.Parameter]
Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamWConfig(Config):
    """`AdamW` for all parameters."""

    kind: Literal["adamw"] = "adamw"
    lr: float = Field(default=1e-3, gt=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    no_decay: tuple[str, ...] = Field(default=NO_DECAY, description="name patterns; never decayed")
    lr_factors: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="name pattern -> factor on lr; the first that matches counts",
    )
    fused: bool = Field(default=True, description="torch's kernel instead of the readable update")

    def build(self, model: nn.Module, *, device: torch.device | str = "cpu") -> OptimizerSet:
        """An optimizer of the model's trainable parameters, which are on ``device`` already.

        Raises:
            ConfigError: if there are none, or a pattern of ``lr_factors`` matches none.
        """
        return OptimizerSet([self.build_for(trainable(model))])

    def build_for(self, parameters: Named) -> AdamW:
        """An optimizer of some of a model's parameters; groups of equal settings."""
        _refuse_idle_patterns(self.lr_factors, parameters)
        groups: dict[tuple[float, bool], dict[str, Any]] = {}
        for name, parameter in parameters.items():
            factor = next((f for p, f in self.lr_factors.items() if fnmatchcase(name, p)), 1.0)
            decayed = not matches(name, self.no_decay)
            group = groups.setdefault(
                (factor, decayed),
                {
                    "params": [],
                    "name": "adamw" if decayed else "adamw without decay",
                    "lr": self.lr * factor,
                    "weight_decay": self.weight_decay if decayed else 0.0,
                },
            )
            group["params"].append(parameter)
        return AdamW(groups.values(), lr=self.lr, betas=self.betas, eps=self.eps, fused=self.fused)


class MuonConfig(Config):
    """`Muon` for the matrices inside the blocks, AdamW for embeddings, head and vectors."""

    kind: Literal["muon"] = "muon"
    lr: float = Field(default=0.02, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: Beta = 0.95
    momentum_start: Beta = 0.85
    momentum_warmup_steps: int = Field(default=300, ge=0)
    nesterov: bool = True
    scale: Scale = "original"
    newton_schulz_steps: int = Field(default=5, ge=1, le=20)
    hidden: tuple[str, ...] = Field(
        default=("*blocks.*",), description="name patterns of its matrices"
    )
    adamw: AdamWConfig = AdamWConfig(lr=3e-3, weight_decay=0.0)

    def build(self, model: nn.Module, *, device: torch.device | str = "cpu") -> OptimizerSet:
        """An optimizer of the model's trainable parameters, which are on ``device`` already.

        Raises:
            ConfigError: if no matrix matches ``hidden``.
        """
        parameters = trainable(model)
        hidden = {
            n: p for n, p in parameters.items() if p.ndim in (2, 3) and matches(n, self.hidden)
        }
        if not hidden:
            raise ConfigError(
                f"no matrix of the model has a name like {' or '.join(self.hidden)}",
                where="optimizer.hidden",
                cure="Set it to the names of the hidden layers, or take kind = 'adamw'.",
            )
        rest = {name: p for name, p in parameters.items() if name not in hidden}
        muon = Muon(
            [{"params": list(hidden.values()), "name": "muon"}],
            lr=self.lr,
            momentum=self.momentum,
            momentum_start=self.momentum_start,
            warmup_steps=self.momentum_warmup_steps,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            scale=self.scale,
            newton_schulz_steps=self.newton_schulz_steps,
            dtype=choose_dtype(device),
        )
        return OptimizerSet([muon, self.adamw.build_for(rest)] if rest else [muon])


OptimizerConfig = Annotated[AdamWConfig | MuonConfig, Field(discriminator="kind")]


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that training changes; tied ones once, under their first name.

    Raises:
        ConfigError: if there are none.
    """
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise ConfigError(f"{type(model).__name__} has no parameter to train")
    return found


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a parameter's name fits one of the shell-style patterns."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _refuse_idle_patterns(factors: Mapping[str, float], parameters: Named) -> None:
    for pattern in factors:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ConfigError(
                f"the pattern {pattern!r} matches no parameter",
                where="lr_factors",
                cure=f"There are: {', '.join(parameters)}.",
            )
