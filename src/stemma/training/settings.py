"""How long, in what pieces and in what precision a model is trained."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stemma.config import Config


class TrainingConfig(Config):
    """The loop's settings; the optimizer and the schedule have configs of their own."""

    steps: int = Field(ge=1, description="updates of the weights")
    batch_size: int = Field(ge=1, description="rows of an update, over all micro-batches and ranks")
    micro_batch_size: int | None = Field(
        None, ge=1, description="rows in memory at once; the whole batch by default"
    )
    clip_norm: float | None = Field(
        1.0, gt=0, description="largest norm of the gradient; a longer one is scaled down to it"
    )
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    evaluate_every: int | None = Field(
        None, ge=1, description="steps; at the start and at the end in any case"
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="steps; at the end and when interrupted in any case"
    )
    keep_checkpoints: int = Field(2, ge=1)
    log_every: int = Field(10, ge=1, description="steps from one line of metrics to the next")
    seed: int = Field(0, description="of dropout")

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> Self:
        if self.micro_batch_size is not None and self.micro_batch_size > self.batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} is more than "
                f"batch_size {self.batch_size}"
            )
        return self
