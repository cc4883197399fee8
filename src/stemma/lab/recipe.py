"""A recipe: everything that determines a run, as one typed value <-> one TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from stemma.config import Config, merge, parse_overrides, resolve_extends
from stemma.errors import ConfigError
from stemma.inference import STYLES, SamplingConfig
from stemma.lab.shelf import read_recipe
from stemma.models import TransformerConfig, preset
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer, Tokenizer, gpt2, load_tokenizer
from stemma.training import OptimizerConfig, ScheduleConfig, TrainingConfig


class TrainedBPE(Config):
    """A byte-level BPE tokenizer trained on the run's own training text."""

    kind: Literal["bpe"] = "bpe"
    vocab_size: int = Field(default=2048, ge=257)
    allow_fewer: bool = Field(
        default=False, description="accept a smaller vocabulary where the text has too few pairs"
    )

    def build(self, documents: Iterable[str]) -> Tokenizer:
        """Train on ``documents``."""
        return ByteLevelBPE.train(documents, self.vocab_size, allow_fewer=self.allow_fewer)


class Bytes(Config):
    """One token per byte."""

    kind: Literal["byte"] = "byte"

    def build(self, documents: Iterable[str]) -> Tokenizer:
        """Needs no training."""
        return ByteTokenizer()


class GPT2Vocabulary(Config):
    """GPT-2's own 50,257 tokens, which ship with the package."""

    kind: Literal["gpt2"] = "gpt2"

    def build(self, documents: Iterable[str]) -> Tokenizer:
        """Read the shipped vocabulary."""
        return gpt2()


class SavedTokenizer(Config):
    """A tokenizer from a directory or a ``tokenizer.json``."""

    kind: Literal["saved"] = "saved"
    path: str

    def build(self, documents: Iterable[str]) -> Tokenizer:
        """Read it."""
        return load_tokenizer(Path(self.path))


_FEWEST_ROWS, _FEWEST_STEPS = 4, 50

TokenizerRecipe = Annotated[
    TrainedBPE | Bytes | GPT2Vocabulary | SavedTokenizer, Field(discriminator="kind")
]


class DataRecipe(Config):
    """Which text, how much of it is held out, and how it is cut into windows."""

    source: str = Field(
        default="shakespeare", description="a shipped or catalog name, a path, or -"
    )
    text_field: str = "text"
    held_out: float = Field(default=0.05, gt=0, lt=1)
    windows: Literal["sliding", "packed"] = "sliding"
    max_epochs: float | None = Field(
        default=None,
        gt=0,
        description="shortens training on a text so small that it would be memorised",
    )


class EvaluationRecipe(Config):
    """How the held-out text is scored."""

    stride: int | None = Field(
        default=None, ge=1, description="of the last evaluation; default context/2"
    )
    batch_size: int = Field(default=32, ge=1)
    ngram_order: int = Field(default=9, ge=0, le=9, description="highest ancestor; 0 measures none")


class SamplesRecipe(Config):
    """What is written at the end of a run."""

    prompt: str = ""
    max_new_tokens: int = Field(default=120, ge=1)
    styles: dict[str, SamplingConfig] = Field(default_factory=lambda: dict(STYLES))


class Recipe(Config):
    """A complete run. `load_recipe` makes one from a name, a file or a table."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    description: str = ""
    seed: int = Field(default=0, ge=0, lt=2**62, description="decides everything that is drawn")
    tokenizer: TokenizerRecipe = TrainedBPE()
    data: DataRecipe = DataRecipe()
    model: TransformerConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    training: TrainingConfig
    evaluation: EvaluationRecipe = EvaluationRecipe()
    samples: SamplesRecipe = SamplesRecipe()

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        """What would fail hours later fails at once."""
        self.schedule.build(self.training.steps)
        stride, context_length = self.evaluation.stride, self.model.context_length
        if stride is not None and stride > context_length:
            raise ValueError(
                f"evaluation.stride = {stride} is longer than model.context_length = "
                f"{context_length}, so that some tokens would not be scored"
            )
        return self


def load_recipe(
    source: str | Path | Mapping[str, Any] | Recipe, overrides: Iterable[str] = ()
) -> Recipe:
    """Make a recipe.

    Args:
        source: the name of a shipped recipe, the path of a TOML file, or a table of values.
        overrides: ``"table.key=value"`` assignments, laid over it.

    Raises:
        ConfigError: naming the field, the value and the cure.
    """
    overrides = list(overrides)
    values, file = _read(source)
    where = str(file) if file is not None else "recipe"
    folder = file.parent if file is not None else Path()
    values = resolve_extends(values, lambda name: read_recipe(name, folder)[0], source=where)
    values = merge(values, parse_overrides(overrides))
    values["model"] = _expand_preset(values.get("model", {}), where)
    # One seed decides everything: initial weights, the split, the order, dropout, the samples.
    values["training"] = {**values.get("training", {}), "seed": values.get("seed", 0)}
    return Recipe.parse(values, source=" ".join([where, *(f"--set {text}" for text in overrides)]))


def settle(recipe: Recipe, vocab_size: int, n_tokens: int) -> Recipe:
    """The recipe with what only the text can tell: its vocabulary, and how long to train.

    Args:
        recipe: as it was asked for.
        vocab_size: of the tokenizer.
        n_tokens: of the training text.
    """
    model, training, epochs = recipe.model, recipe.training, recipe.data.max_epochs
    model = model.replace(vocab_size=vocab_size)
    if epochs is not None:
        training = within_tokens(training, int(epochs * n_tokens), model.context_length)
    return recipe.replace(model=model.model_dump(), training=training.model_dump())


def within_tokens(training: TrainingConfig, most: int, context_length: int) -> TrainingConfig:
    """Train on about ``most`` tokens at most: with smaller batches first, then with fewer steps."""
    rows = most // (training.steps * context_length)
    batch_size = min(max(rows, _FEWEST_ROWS), training.batch_size)
    steps = min(max(most // (batch_size * context_length), _FEWEST_STEPS), training.steps)
    micro = training.micro_batch_size
    return training.replace(
        batch_size=batch_size,
        steps=steps,
        micro_batch_size=None if micro is None else min(micro, batch_size),
    )


def _read(source: str | Path | Mapping[str, Any] | Recipe) -> tuple[dict[str, Any], Path | None]:
    if isinstance(source, Recipe):
        return source.model_dump(), None
    if isinstance(source, Mapping):
        return dict(source), None
    return read_recipe(source)


def _expand_preset(model: Mapping[str, Any], where: str) -> dict[str, Any]:
    model = dict(model)
    name = model.pop("preset", None)
    if name is None:
        return model
    if not isinstance(name, str):
        raise ConfigError(f"model.preset = {name!r} is not a name", where=where)
    return merge(preset(name).model_dump(), model)
