"""A path or a name -> a model and its tokenizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path

import torch

from stemma.errors import ModelError, StemmaError
from stemma.hub.assembly import parse_dtype
from stemma.hub.catalog import catalog, resolve, suggestion
from stemma.hub.huggingface import (
    MODEL_FILES,
    TOKENIZER_FILES,
    UnreachableError,
    repository,
    snapshot,
)
from stemma.hub.manners import read_end_ids
from stemma.hub.model_directory import CONFIG, TOKENIZER, is_model_directory, load_model
from stemma.hub.progress import ProgressLine
from stemma.hub.weight_files import PICKLES, read_json, refuse_pickle, weight_paths
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import family_named
from stemma.nn.hardware import multiplies_bfloat16
from stemma.tokenizers import Tokenizer, gpt2
from stemma.tokenizers import load_tokenizer as read_tokenizer

GGUF = ".gguf"
LLAMA2C = ".bin"


def load(
    path_or_name: str | Path,
    *,
    dtype: torch.dtype | str | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Transformer, Tokenizer]:
    """Open a model and the tokenizer it was trained with.

    | ``path_or_name`` | what is opened |
    |---|---|
    | a model directory | that |
    | a run directory | its ``model/`` |
    | a GGUF file (``.gguf``) | its model and its vocabulary |
    | a model of llama2.c (``.bin``) | it, and the ``tokenizer.bin`` beside it |
    | a directory with one such file | that file |
    | a name of the catalog (``gpt2``) | its files, fetched if need be |
    | ``owner/repo[@revision]`` | the repository on the Hugging Face Hub |

    What exists as a path is a path. Beyond the model itself little memory is taken.

    Args:
        path_or_name: as above.
        dtype: of the parameters, as torch's or by name (``"bfloat16"``); as in the files by
            default and by ``"auto"``, which is float32 for GGUF files and llama2.c's. ``"fast"`` is
            the same, but GGUF files, most of which were rounded to few bits, become bfloat16 where
            the device multiplies it.
        device: where the model is put.

    The tokenizer knows the ids that end the model's texts by its files (`Tokenizer.end_ids`).

    Raises:
        ModelError: if there is no such model, or it cannot be opened (see `load_model`).
        DataError: if a file of the catalog cannot be had.
        TokenizerError: if its tokenizer is of a kind that is not known here.
    """
    fast = dtype == "fast"
    chosen = None if fast else parse_dtype(dtype)
    place = find_model(path_or_name)
    if place.suffix.lower() == GGUF and place.is_file():
        from stemma.hub.gguf_model import load_gguf

        if fast and multiplies_bfloat16(device):
            chosen = torch.bfloat16
        model = load_gguf(place, dtype=chosen, device=device)
        return model, _with_ends(read_tokenizer(place), place)
    if place.is_file():
        from stemma.hub.llama2c_model import load_llama2c, tokenizer_beside

        model = load_llama2c(place, dtype=chosen, device=device)
        return model, _with_ends(tokenizer_beside(place), place)
    if not (place / TOKENIZER).is_file():
        family_named(read_json(place / CONFIG).get("model_type"), where=str(place / CONFIG))
        weight_paths(place)  # a pickle is the greater trouble
        raise ModelError(
            f"holds no {TOKENIZER}",
            where=str(place),
            cure="Save its tokenizer there with tokenizer.save(directory), or open the model alone "
            "with stemma.hub.load_model.",
        )
    found = load_model(place, dtype=chosen, device=device)
    if not isinstance(found, Transformer):
        raise _encoder_decoder(place)
    return found, _with_ends(read_tokenizer(place), place)


def _with_ends(tokenizer: Tokenizer, place: Path) -> Tokenizer:
    """A model's tokenizer, which knows all the ids that end the model's texts."""
    return tokenizer.ending_with(read_end_ids(place, tokenizer))


def load_tokenizer(path_or_name: str | Path) -> Tokenizer:
    """Open a tokenizer: a ``tokenizer.json``, a directory, or any name that `load` knows.

    ``"gpt2"`` comes with the package; the network is not asked.

    Raises:
        ModelError: if there is no such model.
        TokenizerError: if it has no tokenizer, or one of a kind that is not known here.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        places = (path, path / "model", path / "tokenizer")
        path = next((place for place in places if (place / TOKENIZER).is_file()), path)
    elif not path.exists():
        if str(path_or_name) == "gpt2":
            return gpt2()
        path = _by_name(str(path_or_name), TOKENIZER_FILES)
    if path.is_dir() and not (path / TOKENIZER).is_file() and (file := _only_file(path)):
        path = file
    if path.suffix == LLAMA2C and _is_llama2c(path):
        from stemma.hub.llama2c_model import tokenizer_beside

        return tokenizer_beside(path)
    return read_tokenizer(path)


def find_model(path_or_name: str | Path) -> Path:
    """Where a path or a name leads: a model directory, a GGUF file, or a ``.bin`` of llama2.c.

    What the catalog or the Hub has by this name is fetched first.

    Raises:
        ModelError: if it leads to no model.
        DataError: if a file of the catalog cannot be had.
    """
    path = Path(path_or_name).expanduser()
    if path.exists():
        return _at(path)
    if is_meant_as_path(path):
        raise _nothing_there(path)
    return _at(_by_name(str(path_or_name), MODEL_FILES))


def is_meant_as_path(path: Path) -> bool:
    """Whether what does not exist was meant as a file or a directory, not as a name."""
    several = len(path.parts) > 1
    return (several and path.parent.is_dir()) or path.is_absolute() or path.suffix == GGUF


def _nothing_there(path: Path) -> ModelError:
    if not path.parent.is_dir():
        return ModelError("there is no such directory", where=str(path.parent))
    beside = sorted(p.name for p in path.parent.iterdir() if p.is_dir() or p.suffix == GGUF)
    return ModelError(
        "there is no such file or directory",
        where=str(path),
        cure=f"In {path.parent} there is: {', '.join(beside[:20]) or 'no model'}.",
    )


def can_generate(path: Path) -> bool:
    """Whether a path leads to a model that continues text; no weights are opened."""
    try:
        place = _at(path)
    except (ModelError, OSError):
        return False
    try:
        refuse_encoder(place)
    except StemmaError:
        return False
    return place.is_file() or (place / TOKENIZER).is_file()


def refuse_encoder(place: Path) -> None:
    """Refuse a model that continues no text, before its weights are read.

    Raises:
        ModelError: if it is one, or its config cannot be read.
        ConfigError: if its config is not valid.
    """
    if place.is_file():
        return
    values = read_json(place / CONFIG)
    config = family_named(values.get("model_type"), where=str(place / CONFIG)).read_config(values)
    if not isinstance(config, TransformerConfig):
        raise _encoder_decoder(place)
    if not config.causal:
        raise ModelError(
            "is an encoder: it sees a whole text at once, and continues none",
            where=str(place),
            cure="In Python, stemma.inference.embed_texts makes vectors of texts with it.",
        )


def _encoder_decoder(place: Path) -> ModelError:
    return ModelError(
        "is an encoder-decoder, which writes a target for a source and continues no text",
        where=str(place),
        cure="Open it with stemma.hub.load_model and give it sources: "
        "stemma.inference.translate_ids.",
    )


def _at(path: Path) -> Path:
    if path.is_dir():
        return _in_directory(path)
    if path.suffix.lower() == GGUF:
        return path
    if path.suffix == LLAMA2C:
        from stemma.hub.llama2c_model import read_header

        read_header(path)
        return path
    raise _no_model_file(path)


def _in_directory(path: Path) -> Path:
    for place in (path, path / "model"):
        if is_model_directory(place):
            return place
    if (path / "recipe.toml").is_file():
        raise ModelError(
            "this run has no model yet: it was not trained to its end",
            where=str(path),
            cure=f"Continue it with `stemma resume {path}`.",
        )
    if file := _only_file(path):
        return file
    if several := _model_files(path):
        raise ModelError(
            f"holds several models: {', '.join(file.name for file in several)}",
            where=str(path),
            cure="Give the path of one.",
        )
    raise ModelError(
        "is neither a model directory (config.json) nor a run (recipe.toml)",
        where=str(path),
        cure="Give a directory that `stemma train` or save_pretrained wrote, or one with a single "
        "file .gguf or llama2.c's .bin.",
    )


def _only_file(directory: Path) -> Path | None:
    """The one model file of a directory; None if there is none or a choice."""
    found = _model_files(directory)
    return found[0] if len(found) == 1 else None


def _model_files(directory: Path) -> list[Path]:
    """The GGUF files of a directory; where there are none, those of llama2.c."""
    files = sorted(directory.iterdir())
    return [path for path in files if path.suffix.lower() == GGUF] or [*filter(_is_llama2c, files)]


def _is_llama2c(path: Path) -> bool:
    """Whether the header of a file announces its length: a tokenizer.bin is a .bin too."""
    from stemma.hub.llama2c_model import read_header

    try:
        return path.suffix == LLAMA2C and path.is_file() and bool(read_header(path))
    except ModelError:
        return False


def _no_model_file(path: Path) -> ModelError:
    if path.suffix in PICKLES:
        return refuse_pickle(path)
    with path.open("rb") as file:
        if file.read(4) == b"GGUF":
            return ModelError(
                "is a GGUF file under another name", where=str(path), cure="Rename it to *.gguf."
            )
    return ModelError(
        "is a file, and a model is a directory",
        where=str(path),
        cure="Give the directory with config.json, model.safetensors and tokenizer.json, a file "
        ".gguf, or llama2.c's .bin.",
    )


def _by_name(name: str, files: tuple[str, ...]) -> Path:
    if name in catalog() and catalog()[name].kind == "model":
        return _in_catalog(name)
    if named := repository(name):
        return of_the_hub(*named, files)
    if name in catalog():
        raise ModelError(f"{name!r} is {catalog()[name].description}: not a model")
    raise unknown_model(name)


def unknown_model(name: str, others: Iterable[str] = ()) -> ModelError:
    """The error for a name that is nothing; what it offers are models, and other names."""
    choices = [entry for entry, values in catalog().items() if values.opens]
    near = suggestion(name, [*choices, *others])
    return ModelError(
        f"no path and no model of the catalog is called {name!r}",
        cure=f"{near} A repository of the Hugging Face Hub is owner/repo.",
    )


def of_the_hub(repo: str, revision: str | None, files: tuple[str, ...]) -> Path:
    """A repository; where the Hub cannot be reached, what the catalog has in its place."""
    try:
        return snapshot(repo, revision, files)
    except UnreachableError:
        stands_in = [name for name, entry in catalog().items() if entry.stands_for == repo]
        if not stands_in or revision is not None:
            raise
        entry = catalog()[stands_in[0]]
        warnings.warn(f"the Hub cannot be reached: {entry.description} is used", stacklevel=4)
        return _in_catalog(stands_in[0])


def _in_catalog(name: str) -> Path:
    place = resolve(name, progress=ProgressLine())
    if place.is_file() or is_model_directory(place) or _only_file(place):
        return place
    raise ModelError(
        f"{name!r} is {catalog()[name].description}: its files have a layout of their own, which "
        "load does not read",
        where=str(place),
        cure="`stemma pull --list` says which models it opens.",
    )
