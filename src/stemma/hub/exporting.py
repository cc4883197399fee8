"""A model that can be opened here -> a directory or a file that others open."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from gguf import LlamaFileType

from stemma import __version__
from stemma.errors import ModelError
from stemma.hub.card import ModelCard
from stemma.hub.catalog import catalog
from stemma.hub.fetching import licence_of
from stemma.hub.gguf_export import GGUFType, check_file, export_gguf
from stemma.hub.manners import read_manners
from stemma.hub.model_directory import CONFIG, README, check_place, save_model
from stemma.hub.opening import GGUF, find_model, load
from stemma.hub.weight_files import read_json
from stemma.tokenizers.formats.gguf_metadata import read_head

Format = Literal["hf", "gguf"]
_IN_SHORT = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
_OF_HF = tuple(_IN_SHORT.values())
_FILE_TYPE = "general.file_type"


def export(
    source: str | Path,
    out: str | Path,
    *,
    to: Format | None = None,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model in another format, with its tokenizer, its manners and its card.

    Args:
        source: whatever `load` opens.
        out: the directory (``hf``) or the file (``gguf``) to write.
        to: ``hf`` for a directory in Hugging Face's layout, ``gguf`` for a file of llama.cpp's; by
            default what the name of ``out`` says: ``gguf`` if it ends so.
        dtype: ``f32``, ``f16`` or ``bf16``, in GGUF files also ``q8_0`` and ``q4_0``; by default as
            it is in the source, but ``f16`` for a GGUF file of a float32 model.
        overwrite: replace what is there.

    Raises:
        ModelError: if the source cannot be opened, the format cannot express it, something is in
            the way, or it cannot be written.
        TokenizerError: if the format has no such tokenizer.
    """
    out = Path(out).expanduser()
    to = to or ("gguf" if out.suffix.lower() == GGUF else "hf")
    _check(out, to, dtype, overwrite=overwrite)
    place = find_model(source)
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


def written_as(path: Path) -> str:
    """The type of the matrices in what `export` wrote, in the words of its ``dtype``.

    Raises:
        ModelError: if its ``config.json`` cannot be read.
        TokenizerError: if the file cannot be read.
    """
    if path.is_file():
        entries, _ = read_head(path, lambda name: name == _FILE_TYPE)
        return LlamaFileType(entries[_FILE_TYPE]).name.partition("_")[2].lower()
    dtype: str = read_json(path / CONFIG)["dtype"]
    return _IN_SHORT.get(dtype, dtype)


def _check(out: Path, to: Format, dtype: str | None, *, overwrite: bool) -> None:
    """Refuse, before anything is read, what cannot be written."""
    if to == "gguf":
        check_file(out, dtype or "f16", overwrite=overwrite)
        return
    if dtype not in (None, *_OF_HF):
        raise ModelError(
            f"dtype = {dtype!r} in a directory of Hugging Face's layout",
            cure=f"There is {', '.join(_OF_HF)}; blocks of 8 and 4 bits are for GGUF files.",
        )
    check_place(out, overwrite=overwrite)


def _card(place: Path, source: str, licence: str | None, dtype: str) -> str | ModelCard:
    """The source's own card, if it has one, and where this copy comes from."""
    own = place / README
    entry = catalog().get(source)
    name = source if entry or not Path(source).exists() else Path(source).name
    note = f"Written by stemma {__version__} from `{name}`, as {dtype}"
    note += f". The source is {entry.description}." if entry else "."
    if place.suffix.lower() == GGUF:
        note += " Where its numbers were rounded to few bits, they stay rounded."
    if place.is_dir() and own.is_file():
        text = own.read_text(encoding="utf-8", errors="replace")
        return f"{text.rstrip()}\n\n## This copy\n\n{note}\n"
    base = (entry.stands_for or entry.repo) if entry else None
    title = base.rpartition("/")[2] if base else Path(source).stem
    return ModelCard(title, note, licence=licence, base=base)
