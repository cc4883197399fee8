"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

DtypeOption = Annotated[
    Literal["float32", "bfloat16"] | None,
    typer.Option(
        help="Precision of the weights: that of the files by default, but bfloat16 for GGUF where "
        "the processor multiplies it."
    ),
]
QuantiseOption = Annotated[
    Literal["int8", "int4"] | None,
    typer.Option(help="Put the weights into few bits: faster, smaller, and a little worse."),
]
