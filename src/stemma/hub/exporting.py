"""A model that can be opened here -> a directory or a file that others open."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from stemma import __version__
from stemma.errors import ModelError
from stemma.hub.card import ModelCard
from stemma.hub.catalog import catalog
from stemma.hub.fetching import licence_of
from stemma.hub.gguf_export import GGUFType, export_gguf
from stemma.hub.manners import read_manners
from stemma.hub.model_directory import README, save_model
from stemma.hub.opening import find_model, load

Format = Literal["hf", "gguf"]
_OF_HF = ("f32", "f16", "bf16")


def export(
    source: str | Path,
    out: str | Path,
    *,
    to: Format,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model in another format, with its tokenizer, its manners and its card.

    Args:
        source: whatever `load` opens.
        out: the directory (``hf``) or the file (``gguf``) to write.
        to: ``hf`` for a directory in Hugging Face's layout, ``gguf`` for a file of llama.cpp's.
        dtype: ``f32``, ``f16`` or ``bf16``, in GGUF files also ``q8_0`` and ``q4_0``; by default as
            it is in the source, but ``f16`` for a GGUF file of a float32 model.
        overwrite: replace what is there.

    Raises:
        ModelError: if the source cannot be opened, the format cannot express it, something is in
            the way, or it cannot be written.
        TokenizerError: if the format has no such tokenizer.
    """
    place = find_model(source)
    if to == "hf" and dtype not in (None, *_OF_HF):
        raise ModelError(
            f"dtype = {dtype!r} in a directory of Hugging Face's layout",
            cure=f"There is {', '.join(_OF_HF)}; blocks of 8 and 4 bits are for GGUF files.",
        )
    model, tokenizer = load(place, dtype=dtype if dtype in _OF_HF else None)
    manners = read_manners(place, tokenizer)
    entry = catalog().get(str(source))
    licence = entry.licence.lower() if entry else licence_of(place)
    written = dtype or str(next(model.parameters()).dtype).removeprefix("torch.")
    if to == "gguf":
        kind = written if dtype else {"bfloat16": "bf16"}.get(written, "f16")
        return export_gguf(
            model,
            tokenizer,
            out,
            dtype=cast(GGUFType, kind),
            manners=manners,
            name=Path(str(source)).stem,
            licence=licence,
            overwrite=overwrite,
        )
    card = _card(place, str(source), licence, written)
    return save_model(model, tokenizer, out, card=card, manners=manners, overwrite=overwrite)


def _card(place: Path, source: str, licence: str | None, dtype: str) -> str:
    """The source's own card, if it has one, and where this copy comes from."""
    own = place / README
    entry = catalog().get(source)
    if place.is_dir() and own.is_file():
        text = own.read_text(encoding="utf-8", errors="replace")
    else:
        description = f"This is {entry.description}." if entry else ""
        text = ModelCard(Path(source).stem, description, licence=licence).markdown()
    name = source if entry or not Path(source).exists() else Path(source).name
    note = f"Written by stemma {__version__} from `{name}`, as {dtype}."
    return f"{text.rstrip()}\n\n## This copy\n\n{note}\n"
