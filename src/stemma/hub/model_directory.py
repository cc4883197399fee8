"""Model directories in Hugging Face's layout: written whole or not at all, read by the tensor."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from stemma.errors import ModelError
from stemma.hub.card import ModelCard
from stemma.hub.checksums import verify_checksums, write_checksums
from stemma.hub.manners import Manners, without_template
from stemma.hub.weight_files import SINGLE, WeightFiles, read_json
from stemma.models import EncoderDecoder, EncoderDecoderConfig, Transformer, TransformerConfig
from stemma.models.config_facts import ModelConfig, is_base
from stemma.models.families import family_for, family_named
from stemma.models.language_model import check_vocabulary
from stemma.models.memoryless import without_memory
from stemma.models.own import FAMILY as OWN
from stemma.tokenizers import ChatTemplate, Tokenizer

CONFIG = "config.json"
GENERATION = "generation_config.json"
README = "README.md"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MODELING = "modeling_stemma.py"
AUTO_MAP = {
    "AutoConfig": "modeling_stemma.StemmaConfig",
    "AutoModel": "modeling_stemma.StemmaModel",
    "AutoModelForCausalLM": "modeling_stemma.StemmaForCausalLM",
}
_WRITES = ("text-generation", "text2text-generation")
_STARTS = ("decoder_start_token_id", "pad_token_id")
_MODELING = '''\
"""For transformers, with trust_remote_code=True: this model is of a shape that stemma knows."""

from stemma.hub.auto_model import StemmaConfig, StemmaForCausalLM, StemmaModel

__all__ = ["StemmaConfig", "StemmaForCausalLM", "StemmaModel"]
'''


def save_model(
    model: Transformer | EncoderDecoder,
    tokenizer: Tokenizer,
    directory: str | Path,
    *,
    card: str | ModelCard | None = None,
    manners: Manners | None = None,
    generation: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a directory that `transformers`, `stemma.load` and the Hugging Face Hub open as it is.

    It holds ``config.json``, ``model.safetensors``, the tokenizer, a model card, ``SHA256SUMS``
    and, of a model that writes, ``generation_config.json``. It is written beside its place and
    renamed into it. Dropout is a setting of training, not of the model, and is not kept.

    Args:
        model: of a family that Hugging Face knows (`models.families`), or of a shape of our own,
            which needs stemma there too (`hub.auto_model`).
        tokenizer: the model's own.
        directory: where to; must not exist, or be empty.
        card: the README, as Markdown or as values.
        manners: what begins and ends a text, and the chat template; by default the tokenizer's
            end-of-text token does both, and there is no template.
        generation: defaults of `transformers`' ``generate``, in its names (``temperature``).
        overwrite: replace a model directory that is there.

    Returns:
        The directory.

    Raises:
        ModelError: if the tokenizer has more ids than the model, the directory exists, or it cannot
            be written.
    """
    directory = Path(directory)
    family = family_for(model.config)
    check_vocabulary(tokenizer.vocab_size, model.vocab_size)
    config_json, tensors = family.to_huggingface(model.config, model.state_dict())
    # What an encoder-decoder's targets begin with, and pads its sources.
    starts = {name: config_json[name] for name in _STARTS if name in config_json}
    manners = manners or without_template(tokenizer)
    ends = manners.ids()
    dtype = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    card = ModelCard(directory.name) if card is None else card
    pipeline, own_shape = _pipeline(model.config), family is OWN
    if own_shape:
        config_json["auto_map"] = AUTO_MAP
    with _whole(directory, overwrite=overwrite) as partial:
        _write_json(partial / CONFIG, {**config_json, **ends, "dtype": dtype})
        if pipeline in _WRITES:
            says = {**ends, **starts, **manners.generation, **(generation or {})}
            _write_json(partial / GENERATION, says)
        save_file(
            {name: tensor.cpu() for name, tensor in tensors.items()},
            partial / SINGLE,
            metadata={"format": "pt"},
        )
        # safetensors lets nobody else read what it writes.
        (partial / SINGLE).chmod((partial / CONFIG).stat().st_mode)
        tokenizer.save(partial)
        _write_manners(partial, manners, tokenizer, model.context_length)
        if isinstance(card, ModelCard):
            chats = manners.chat_template is not None
            use = {"pipeline": pipeline, "chats": chats, "own_shape": own_shape}
            card = replace(card, **use).markdown()  # type: ignore[arg-type]
        (partial / README).write_text(card, encoding="utf-8")
        if own_shape:
            (partial / MODELING).write_text(_MODELING, encoding="utf-8")
        write_checksums(partial, (CONFIG, SINGLE, TOKENIZER))
    return directory


def load_model(
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> Transformer | EncoderDecoder:
    """Read the model of a directory that stemma, `transformers` or anybody else wrote.

    The model is built without memory and filled tensor by tensor, so that no more than one tensor
    exists twice. It is in evaluation mode.

    Args:
        directory: with ``config.json`` and safetensors, single or sharded.
        dtype: of the parameters; as in the file by default.
        device: where they are put.

    Raises:
        ModelError: if the directory is not a model, is of a family or has a feature that is not
            known here, is damaged (sha256, where it was recorded), or holds other tensors than its
            config announces.
    """
    directory = Path(directory)
    if not (directory / CONFIG).is_file():
        raise ModelError(
            f"is not a model directory: it holds no {CONFIG}",
            where=str(directory),
            cure="Give a directory that save_model or `transformers`' save_pretrained wrote.",
        )
    verify_checksums(directory, (CONFIG, SINGLE))
    config_json = read_json(directory / CONFIG)
    family = family_named(config_json.get("model_type"), where=str(directory / CONFIG))
    config: ModelConfig = family.read_config(config_json)
    weights = WeightFiles(directory, device, dtype)
    try:
        return filled(config, family.translate(config, weights, copy=False), dtype)
    except ModelError as error:
        raise ModelError(error.what, where=str(directory), cure=error.cure) from None


@overload
def filled(
    config: TransformerConfig,
    parameters: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype | None,
) -> Transformer: ...


@overload
def filled(
    config: EncoderDecoderConfig,
    parameters: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype | None,
) -> EncoderDecoder: ...


def filled(
    config: ModelConfig,
    parameters: Iterable[tuple[str, Tensor]],
    dtype: torch.dtype | None,
) -> Transformer | EncoderDecoder:
    """A model built without memory and filled one parameter after another, for evaluation.

    Args:
        config: of the model.
        parameters: all of them by name, but tied ones.
        dtype: what they are turned into; None: they stay as they are.

    Raises:
        ModelError: if they are no floating-point numbers.
    """
    with without_memory():
        model = config.build()
    for name, tensor in parameters:
        if not tensor.is_floating_point():
            raise ModelError(
                f"{name} holds {tensor.dtype} numbers, quantised in a way that is not known here",
                cure="Get the weights as float32, bfloat16 or float16, or in a GGUF file.",
            )
        part, _, last = name.rpartition(".")
        model.get_submodule(part).register_parameter(last, nn.Parameter(tensor.to(dtype)))
    return model.tie_weights().eval()


def _pipeline(config: ModelConfig) -> str:
    """What the Hub calls the use of such a model."""
    if isinstance(config, EncoderDecoderConfig):
        return "text2text-generation"
    if is_base(config):
        return "feature-extraction"
    return "text-generation" if config.causal else "fill-mask"


def is_model_directory(directory: Path) -> bool:
    """Whether a directory has what makes it a model: its configuration."""
    return (directory / CONFIG).is_file()


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_manners(
    directory: Path, manners: Manners, tokenizer: Tokenizer, longest: int | None
) -> None:
    """The chat template, the special tokens by the names that templates use, the longest text."""
    if manners.chat_template is not None:
        ChatTemplate(manners.chat_template).save(directory)
    path = directory / TOKENIZER_CONFIG
    named = {"bos_token": manners.bos, "pad_token": manners.pad}
    named["eos_token"] = manners.eos[0] if manners.eos else None
    texts = {
        name: tokenizer.token_bytes(id_).decode(errors="replace")
        for name, id_ in named.items()
        if id_ is not None
    }
    limit = {} if longest is None else {"model_max_length": longest}
    _write_json(path, {**read_json(path), **texts, **limit})


@contextmanager
def _whole(directory: Path, *, overwrite: bool) -> Iterator[Path]:
    """An empty directory beside ``directory``, which takes its place if the block succeeds."""
    check_place(directory, overwrite=overwrite)
    partial = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _flush(partial)
        _put_in_place(partial, directory)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot be written: {getattr(error, 'strerror', None) or error}",
            where=str(directory),
            cure="Free some space or choose another place; nothing that was there is lost.",
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_place(directory: Path, *, overwrite: bool) -> None:
    """Refuse a directory that may not be replaced."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return
    if not is_model_directory(directory):
        raise ModelError(
            "exists and is not a model directory", where=str(directory), cure="Choose another."
        )
    if not overwrite:
        raise ModelError(
            "a model is there already, and nothing is overwritten silently",
            where=str(directory),
            cure="Choose another directory, or have it replaced: --overwrite, or overwrite=True.",
        )


def _put_in_place(partial: Path, directory: Path) -> None:
    """Rename; what was there stays under another name until the new one has its place."""
    if not directory.exists():
        partial.rename(directory)
        return
    old = partial.with_suffix(".old")
    directory.rename(old)
    try:
        partial.rename(directory)
    except OSError:
        old.rename(directory)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _flush(directory: Path) -> None:
    """Have the files on the disk before the name that promises them."""
    for path in directory.iterdir():
        with path.open("r+b") as file:
            os.fsync(file.fileno())
