"""A path or a name -> a model and its tokenizer."""

from __future__ import annotations

from pathlib import Path

import torch

from stemma.errors import ModelError
from stemma.hub.catalog import catalog, resolve, suggestion
from stemma.hub.huggingface import MODEL_FILES, TOKENIZER_FILES, repository, snapshot
from stemma.hub.model_directory import TOKENIZER, is_model_directory, load_model
from stemma.hub.weight_files import PICKLES, refuse_pickle
from stemma.models import Transformer
from stemma.tokenizers import Tokenizer, gpt2
from stemma.tokenizers import load_tokenizer as read_tokenizer

GGUF = ".gguf"


def load(
    path_or_name: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Transformer, Tokenizer]:
    """Open a model and the tokenizer it was trained with.

    | ``path_or_name`` | what is opened |
    |---|---|
    | a model directory | that |
    | a run directory | its ``model/`` |
    | a GGUF file (``.gguf``) | its model and its vocabulary |
    | a name of the catalog (``gpt2``) | its files, fetched if need be |
    | ``owner/repo[@revision]`` | the repository on the Hugging Face Hub |

    What exists as a path is a path.

    Args:
        path_or_name: as above.
        dtype: of the parameters; as in the files by default, float32 from a GGUF file.
        device: where the model is put.

    Raises:
        ModelError: if there is no such model, or it cannot be opened (see `load_model`).
        DataError: if a file of the catalog cannot be had.
        TokenizerError: if its tokenizer is of a kind that is not known here.
    """
    file = Path(path_or_name).expanduser()
    if file.suffix.lower() == GGUF and file.is_file():
        from stemma.hub.gguf_model import load_gguf

        return load_gguf(file, dtype=dtype, device=device), read_tokenizer(file)
    directory = find_model(path_or_name)
    if not (directory / TOKENIZER).is_file():
        raise ModelError(
            f"holds no {TOKENIZER}",
            where=str(directory),
            cure="Save its tokenizer there with tokenizer.save(directory), or open the model alone "
            "with stemma.hub.load_model.",
        )
    return load_model(directory, dtype=dtype, device=device), read_tokenizer(directory)


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
    return read_tokenizer(path)


def find_model(path_or_name: str | Path) -> Path:
    """The model directory that a path or a name leads to.

    Raises:
        ModelError: if it leads to none.
    """
    path = Path(path_or_name).expanduser()
    if path.is_dir():
        return _in_directory(path)
    if path.is_file():
        raise _not_a_directory(path)
    if len(path.parts) > 1 and path.parent.is_dir():
        beside = sorted(place.name for place in path.parent.iterdir() if place.is_dir())
        raise ModelError(
            "there is no such directory",
            where=str(path),
            cure=f"In {path.parent} there is: {', '.join(beside[:20]) or 'none'}.",
        )
    return _by_name(str(path_or_name), MODEL_FILES)


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
    raise ModelError(
        "is neither a model directory (config.json) nor a run (recipe.toml)",
        where=str(path),
        cure="Give a directory that `stemma train` or save_pretrained wrote.",
    )


def _not_a_directory(path: Path) -> ModelError:
    if path.suffix in PICKLES:
        return refuse_pickle(path)
    return ModelError(
        "is a file, and a model is a directory",
        where=str(path),
        cure="Give the directory with config.json, model.safetensors and tokenizer.json, or a "
        "file .gguf.",
    )


def _by_name(name: str, files: tuple[str, ...]) -> Path:
    models = [entry for entry, values in catalog().items() if values.kind == "model"]
    if name in models:
        return _in_catalog(name)
    if named := repository(name):
        return snapshot(*named, files)
    if name in catalog():
        raise ModelError(f"{name!r} is {catalog()[name].description}: not a model")
    raise ModelError(
        f"no path and no model of the catalog is called {name!r}",
        cure=f"{suggestion(name, models)} A repository of the Hugging Face Hub is owner/repo.",
    )


def _in_catalog(name: str) -> Path:
    directory = resolve(name)
    if not is_model_directory(directory):
        raise ModelError(
            f"{name!r} is {catalog()[name].description}, which cannot be opened yet",
            where=str(directory),
            cure="A directory in Hugging Face's layout can be.",
        )
    return directory
