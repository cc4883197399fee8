"""Models written as GGUF files, which llama.cpp and what is built on it open.

Source: the format's specification, ggml-org/ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from gguf import GGUFWriter
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    GGMLQuantizationType,
    GGUFValueType,
    LlamaFileType,
    RopeScalingType,
)
from gguf.gguf_writer import GGUFValue
from gguf.quants import quantize
from numpy.typing import NDArray
from torch import Tensor

from stemma.errors import ModelError
from stemma.hub.assembly import interleaved
from stemma.hub.gguf_names import ARCHITECTURES, READ_AND_WRITTEN, Architecture
from stemma.hub.manners import Manners
from stemma.models import Transformer, TransformerConfig
from stemma.models.families import family_for
from stemma.models.language_model import check_vocabulary
from stemma.nn import (
    GatedMLPConfig,
    LinearScalingConfig,
    Llama3ScalingConfig,
    RotaryConfig,
    YarnScalingConfig,
)
from stemma.tokenizers import Tokenizer
from stemma.tokenizers.formats.gguf_write import write_vocabulary
from stemma.tokenizers.sentencepiece.pieces import Kind

GGUFType = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]
"""What the matrices are written as."""

_KINDS = {name: GGMLQuantizationType[name.upper()] for name in get_args(GGUFType)}
_FILE_TYPES = {
    "f32": LlamaFileType.ALL_F32,
    "f16": LlamaFileType.MOSTLY_F16,
    "bf16": LlamaFileType.MOSTLY_BF16,
    "q8_0": LlamaFileType.MOSTLY_Q8_0,
    "q4_0": LlamaFileType.MOSTLY_Q4_0,
}
_NAMES = {"mistral": "llama"}
"""Family -> the architecture under which llama.cpp has it, where it is called otherwise."""

_WRITTEN = {
    "architectures", "model_type", "vocab_size", "tie_word_embeddings", "hidden_act",
    "activation_function", "rope_parameters", "rope_scaling", "rope_theta", "mlp_bias",
    "max_window_layers",
}  # fmt: skip
"""Keys of ``config.json`` that are written in another way, or follow."""

_OFF: tuple[Any, ...] = (None, False, 0, 0.0)
_POSITIONS = "position_embd.weight"
_TABLES = ("token_embd.weight", "output.weight")


def export_gguf(
    model: Transformer,
    tokenizer: Tokenizer,
    path: str | Path,
    *,
    dtype: GGUFType = "f16",
    manners: Manners | None = None,
    name: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model, its tokenizer and its chat template into a GGUF file.

    Vectors stay float32, as llama.cpp wants them; in a ``q4_0`` file the embedding and the head,
    which every token goes through, are Q8_0. Rows that do not divide into blocks become float16.
    The file is written beside its place, tensor by tensor, and renamed into it.

    Args:
        model: of a family that llama.cpp has.
        tokenizer: the model's own.
        path: the file to be.
        dtype: of the matrices.
        manners: how texts begin and end, and the chat template.
        name: of the model, for those who open the file.
        licence: as the Hugging Face Hub spells it.
        overwrite: replace a file that is there.

    Raises:
        ModelError: if llama.cpp has no such model, a weight is NaN or too large for its type, a
            file is in the way, or it cannot be written.
        TokenizerError: if llama.cpp has no such tokenizer.
    """
    path = Path(path)
    check_file(path, dtype, overwrite=overwrite)
    check_vocabulary(tokenizer.vocab_size, model.vocab_size)
    family = family_for(model.config)
    named = _NAMES.get(family.model_type, family.model_type)
    if named not in ARCHITECTURES:
        raise ModelError(
            f"a GGUF file cannot hold a {family.model_type}",
            cure=READ_AND_WRITTEN,
        )
    architecture = ARCHITECTURES[named]
    config_json, tensors = family.to_huggingface(model.config, model.state_dict())
    manners = manners or Manners()
    with _beside(path) as partial, closing(GGUFWriter(partial, named)) as writer:
        if name:
            writer.add_name(name)
        if licence:
            writer.add_license(licence)
        writer.add_file_type(_FILE_TYPES[dtype])
        writer.add_quantization_version(GGML_QUANT_VERSION)
        _write_shape(writer, architecture, config_json, model.config)
        write_vocabulary(writer, tokenizer, chat_template=manners.chat_template)
        _complete_vocabulary(writer, model.vocab_size, manners)
        _write_tensors(writer, architecture, tensors, model.config, dtype)
    return path


def _write_shape(
    writer: GGUFWriter,
    architecture: Architecture,
    config_json: Mapping[str, Any],
    config: TransformerConfig,
) -> None:
    """What the metadata say of the model: the keys of ``config.json`` in llama.cpp's words."""
    feedforward = config.feedforward
    needed = "silu" if isinstance(feedforward, GatedMLPConfig) else "gelu_tanh"
    if feedforward.activation != needed:
        raise ModelError(f"llama.cpp has {needed} there, not {feedforward.activation}")
    prefix, words = f"{writer.arch}.", {**architecture.needed, **architecture.optional}
    known = {*words.values(), *_WRITTEN, *(["attention_bias"] if architecture.pairs else [])}
    for key, value in config_json.items():
        if key not in known and value not in _OFF:
            raise ModelError(f"a GGUF file of a {writer.arch} cannot say {key} = {value!r}")
    for name, theirs in words.items():
        value = config_json.get(theirs)
        if theirs == "n_inner" and value is None:
            value = 4 * config.d_model
        if isinstance(value, float):
            writer.add_float32(prefix + name, value)
        elif value is not None:
            writer.add_uint32(prefix + name, value)
    writer.add_vocab_size(config.vocab_size)
    if isinstance(config.position, RotaryConfig):
        d_head = config.attention.head_size(config.d_model)
        writer.add_rope_dimension_count(d_head)
        writer.add_value_length(d_head)
        _write_scaling(writer, config.position)


def _write_scaling(writer: GGUFWriter, position: RotaryConfig) -> None:
    scaling = position.scaling
    match scaling:
        case LinearScalingConfig():
            writer.add_rope_scaling_type(RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(scaling.factor)
        case YarnScalingConfig(sharpness=None, whole_pairs=True):
            writer.add_rope_scaling_type(RopeScalingType.YARN)
            writer.add_rope_scaling_factor(scaling.factor)
            writer.add_rope_scaling_orig_ctx_len(scaling.original_context)
            writer.add_rope_scaling_yarn_beta_fast(scaling.fast)
            writer.add_rope_scaling_yarn_beta_slow(scaling.slow)
        case YarnScalingConfig():
            raise ModelError("llama.cpp has YaRN with its own sharpness and whole pairs alone")


def _divisors(config: TransformerConfig) -> NDArray[np.float32] | None:
    """What Llama 3's scaling divides each pair's angle by: a tensor of llama.cpp's files."""
    position = config.position
    if not isinstance(position, RotaryConfig):
        return None
    scaling = position.scaling
    if not isinstance(scaling, Llama3ScalingConfig):
        return None
    d_head = config.attention.head_size(config.d_model)
    plain = position.theta ** -(torch.arange(0, d_head, 2) / d_head)
    found: NDArray[np.float32] = (plain / scaling.scale(plain, position.theta)).float().numpy()
    return found


def _complete_vocabulary(writer: GGUFWriter, vocab_size: int, manners: Manners) -> None:
    """Tokens for the rows of the embedding that have none, and those that begin and end a text."""
    prefix, entries = "tokenizer.ggml.", writer.kv_data[0]
    rows = {"tokens": None, "token_type": Kind.UNUSED.value, "scores": 0.0}
    have = len(entries[f"{prefix}tokens"].value)
    for name, filler in rows.items():
        if f"{prefix}{name}" in entries:
            more = [f"[PAD{i}]" if filler is None else filler for i in range(have, vocab_size)]
            entries[f"{prefix}{name}"].value.extend(more)
    eos = manners.eos[0] if manners.eos else None
    for name, id_ in {"bos": manners.bos, "eos": eos, "padding": manners.pad}.items():
        if id_ is not None:
            entries[f"{prefix}{name}_token_id"] = GGUFValue(id_, GGUFValueType.UINT32)


def _write_tensors(
    writer: GGUFWriter,
    architecture: Architecture,
    tensors: Mapping[str, Tensor],
    config: TransformerConfig,
    dtype: GGUFType,
) -> None:
    """First where each tensor stands, then one after the other."""
    names = {architecture.name(theirs): theirs for theirs in tensors}
    kinds = {}
    for name, theirs in names.items():
        shape = tuple(tensors[theirs].shape)
        ordered = shape[::-1] if architecture.is_transposed(name) else shape
        kinds[name] = _kind(name, ordered, dtype)
        block, block_bytes = GGML_QUANT_SIZES[kinds[name]]
        in_bytes = (*ordered[:-1], ordered[-1] // block * block_bytes)
        n_bytes = int(np.prod(in_bytes))
        writer.add_tensor_info(name, in_bytes, np.dtype(np.uint8), n_bytes, kinds[name])
    divisors = _divisors(config)
    if divisors is not None:
        n_bytes = divisors.nbytes
        writer.add_tensor_info("rope_freqs.weight", divisors.shape, divisors.dtype, n_bytes)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    heads = {"attn_q": config.attention.n_heads}
    heads["attn_k"] = config.attention.n_kv_heads or config.attention.n_heads
    for name, theirs in names.items():
        tensor = tensors[theirs].T if architecture.is_transposed(name) else tensors[theirs]
        part = name.split(".")[-2]
        if architecture.pairs and part in heads:
            tensor = interleaved(tensor, heads[part])
        writer.write_tensor_data(_encoded(name, tensor, kinds[name]))
    if divisors is not None:
        writer.write_tensor_data(divisors)


def _kind(name: str, shape: tuple[int, ...], dtype: GGUFType) -> GGMLQuantizationType:
    if len(shape) == 1 or name == _POSITIONS:
        return GGMLQuantizationType.F32
    kind = _KINDS["q8_0"] if dtype == "q4_0" and name in _TABLES else _KINDS[dtype]
    whole_blocks = shape[-1] % GGML_QUANT_SIZES[kind][0] == 0
    return kind if whole_blocks else GGMLQuantizationType.F16


def _encoded(name: str, tensor: Tensor, kind: GGMLQuantizationType) -> NDArray[np.uint8]:
    """The bytes of a tensor in the file.

    Raises:
        ModelError: if a number is none, or too large for the kind.
    """
    tensor = tensor.detach().cpu()
    if not bool(tensor.isfinite().all()):
        raise ModelError(
            f"{name} holds NaN or infinity",
            cure="The weights are damaged or training diverged: export an earlier checkpoint.",
        )
    array: NDArray[np.float32] = tensor.float().contiguous().numpy()
    with np.errstate(over="ignore", invalid="ignore"):  # what becomes infinite is looked for
        if kind == GGMLQuantizationType.BF16:
            held = tensor.bfloat16().contiguous()
            data, scales = held.view(torch.uint8).numpy(), held.float().numpy()
        elif kind == GGMLQuantizationType.F32:
            data, scales = array.view(np.uint8), array
        elif kind == GGMLQuantizationType.F16:
            scales = array.astype(np.float16)
            data = scales.view(np.uint8)
        else:
            data = quantize(array, kind)
            # The blocks of Q8_0 and Q4_0 begin with their scale, in float16.
            blocks = data.reshape(-1, GGML_QUANT_SIZES[kind][1])
            scales = blocks[:, :2].copy().view(np.float16)
    if not np.isfinite(scales).all():
        raise ModelError(
            f"{name} has numbers up to {np.abs(array).max():.3g}, too large for {kind.name}",
            cure="Export it as f32, or as bf16, whose numbers reach nearly as far.",
        )
    return data


def check_file(path: Path, dtype: str, *, overwrite: bool) -> None:
    """Refuse a type that a file cannot have, and a place that may not be replaced."""
    if dtype not in _KINDS:
        raise ModelError(f"dtype = {dtype!r}", cure=f"There is {', '.join(_KINDS)}.")
    if path.is_dir():
        raise ModelError("is a directory", where=str(path), cure="Name a file in it.")
    if path.exists() and not overwrite:
        raise ModelError(
            "is there already, and nothing is overwritten silently",
            where=str(path),
            cure="Choose another name, or have it replaced: --overwrite, or overwrite=True.",
        )


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A file beside ``path``, which takes its place if the block succeeds."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise ModelError(
            f"cannot be written: {error.strerror or error}",
            where=str(path),
            cure="Free some space or choose another place; nothing that was there is lost.",
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()
