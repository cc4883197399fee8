"""An inspection as lines of text, in any width."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stemma.models.inspection import Inspection, Part


def tree_lines(part: Part, width: int, depth: int = 0) -> Iterator[str]:
    """Part by part: name, kind and shapes, and at the right the number of parameters.

    Of several parts alike the numbers are those of one, as are those of what it consists of.
    """
    shapes = ", ".join(
        f"{name} {'x'.join(map(str, shape)) or 'scalar'}" for name, shape in part.shapes.items()
    )
    number = "tied" if part.tied else f"{part.n_parameters:,}"
    if part.count > 1:
        number = f"{part.count} x {number}"
    head = "  " * depth + part.name
    for detail in (f"  {part.kind}  {shapes}".rstrip(), f"  {shapes}".rstrip(), ""):
        if len(head) + len(detail) + len(number) + 2 <= width:
            head += detail
            break
    yield f"{head} {f' {number}':.>{max(width - len(head) - 1, len(number) + 1)}}"
    for inner in part.parts:
        yield from tree_lines(inner, width, depth + 1)


def summary_lines(inspection: Inspection) -> Iterator[str]:
    """What the whole costs."""
    config, n = inspection.config, inspection.n_parameters
    context = config.context_length
    yield f"parameters   {n:,} ({short(n)})"
    yield f"  embeddings {inspection.n_embedding:,}, others {n - inspection.n_embedding:,}"
    if inspection.n_active != n:
        yield f"  active     {inspection.n_active:,} for each token"
    yield "memory"
    for dtype, name in (
        ("float32", "f32"),
        ("bfloat16", "bf16"),
        ("int8", "int8"),
        ("int4", "int4"),
    ):
        yield f"  {name:<10} {in_bytes(inspection.memory(dtype))}"
    first, last = (inspection.flops_per_token(at) for at in (1, context))
    yield "FLOPs of a token"
    yield f"  at the 1st {short(first)}"
    yield f"  at {f'{context:,}':<7} {short(last)}"
    yield "  = 2 x matrices it meets"
    yield "  + 2 x heads x (query + value) x positions seen, in each layer"
    if inspection.kv_numbers:
        yield "KV cache, bf16"
        yield f"  a token    {in_bytes(inspection.cache_bytes(1))}"
        yield f"  {f'{context:,}':<10} {in_bytes(inspection.cache_bytes(context))}"
    else:
        yield "KV cache     none: it sees the whole text at once"


def short(n: float) -> str:
    """Three digits and a unit: 134.5 M."""
    for unit in ("", " K", " M", " G", " T"):
        if n < 999.95:
            return f"{n:.0f}" if unit == "" else f"{n:.4g}{unit}"
        n /= 1000
    return f"{n:,.4g} P"


def in_bytes(n: float) -> str:
    """Three digits and a unit of 1,024: 256.6 MiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n < 1023.95:
            return f"{n:.4g} {unit}"
        n /= 1024
    return f"{n:,.4g} TiB"
