"""The same weights here and in `transformers`, and how far apart their outputs are."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from stemma.models import EncoderDecoder, EncoderDecoderConfig, Transformer, TransformerConfig
from stemma.models.families import FAMILIES
from stemma.nn import PoolerConfig

TOLERANCE = 1e-4

# Families that are opened from files, and how: the modules of experts bear other names there (and
# their grouped products refuse odd sizes), and only a file says whether T5's head is its own.
_EAGER = {"experts_implementation": "eager"}
BY_FILES: dict[str, dict[str, str]] = {"mixtral": _EAGER, "qwen3_moe": _EAGER, "t5": {}}


def build_random(config: Any, seed: int = 0) -> Any:
    """Every parameter is random: gains and biases too, which start as ones and zeros."""
    generator = torch.Generator().manual_seed(seed)
    is_pair = isinstance(config, EncoderDecoderConfig)
    model = EncoderDecoder(config) if is_pair else Transformer(config)
    middle = 0 if not is_pair and getattr(config.norm, "from_one", False) else 1
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = 0.3 * torch.randn(parameter.shape, generator=generator)
            parameter.copy_(middle + noise if "norm" in name else noise)
    return model.eval()


def theirs(name: str, model: Any) -> Any:
    """The model of `transformers` with the weights of ours; every one must find its place."""
    config_json, tensors = FAMILIES[name].to_huggingface(model.config, model.state_dict())
    if name in BY_FILES:
        return _by_files(name, config_json, tensors)
    config = transformers.AutoConfig.for_model(**config_json, bos_token_id=None, eos_token_id=None)
    other = getattr(transformers, config_json["architectures"][0])(config).eval()
    missing, unexpected = other.load_state_dict(tensors, strict=False)
    assert not unexpected
    other.tie_weights()
    state = other.state_dict()
    loaded = {state[key].data_ptr() for key in tensors}
    tables = "embed_positions"  # Marian's, which are sines
    assert all(tables in key or state[key].data_ptr() in loaded for key in missing)
    return other


def _by_files(name: str, config_json: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    with TemporaryDirectory() as directory:
        save_file(tensors, Path(directory, "model.safetensors"), metadata={"format": "pt"})
        ends = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        Path(directory, "config.json").write_text(json.dumps({**config_json, **ends}))
        other, found = getattr(transformers, FAMILIES[name].architecture).from_pretrained(
            directory, output_loading_info=True, **BY_FILES[name]
        )
    assert not any(found.values()), found
    return other.eval()


def _ids(config: TransformerConfig, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(config.vocab_size, (2, config.context_length), generator=generator)


def source_and_target(config: EncoderDecoderConfig, seed: int) -> dict[str, Tensor]:
    """Two sources of different lengths with their mask, and their targets."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 8, (2,), generator=generator)
    longest = int(lengths.max())
    return {
        "source": torch.randint(config.encoder.vocab_size, (2, longest), generator=generator),
        "target": torch.randint(config.decoder.vocab_size, (2, 5), generator=generator),
        "mask": torch.arange(longest) < lengths[:, None],
    }


def _of_encoder_decoder(model: EncoderDecoder, other: Any, seed: int) -> list[tuple[Tensor, ...]]:
    ids = source_and_target(model.config, seed)
    found = other(
        input_ids=ids["source"],
        attention_mask=ids["mask"].long(),
        decoder_input_ids=ids["target"],
    )
    return [(model(ids["source"], ids["target"], source_mask=ids["mask"]), found.logits)]


def _of_encoder(model: Transformer, other: Any, seed: int) -> list[tuple[Tensor, ...]]:
    """With segments and padding: of the second row, by one place at least."""
    config, ids = model.config, _ids(model.config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    segments = torch.randint(config.n_segments or 1, ids.shape, generator=generator)
    text = torch.ones_like(ids)
    text[1, max(1, config.context_length // 2) :] = 0
    found = other(ids, token_type_ids=segments, attention_mask=text, output_hidden_states=True)
    hidden = model.hidden_states(ids, document_ids=text, segment_ids=segments)
    apart = [(hidden[text.bool()], found.hidden_states[-1][text.bool()])]
    if isinstance(config.head, PoolerConfig):
        return [*apart, (model.head(hidden)[:, 0], found.pooler_output)]
    return [*apart, (model.head(hidden)[text.bool()], found.logits[text.bool()])]


@torch.no_grad()
def drift(model: Any, other: Any, seed: int = 1) -> tuple[float, float]:
    """Largest difference of an output, and mean KL divergence (nats) of the predictions.

    Of an encoder, the hidden states are an output too.
    """
    if isinstance(model, EncoderDecoder):
        pairs = _of_encoder_decoder(model, other, seed)
    elif not model.config.causal:
        pairs = _of_encoder(model, other, seed)
    else:
        ids = _ids(model.config, seed)
        pairs = [(model(ids), other(ids).logits)]
    difference = max(float((ours - others).abs().max()) for ours, others in pairs)
    p, q = (logits.double().log_softmax(-1) for logits in pairs[-1])
    return difference, float((p.exp() * (p - q)).sum(-1).mean())


def assert_equal_logits(name: str, config: Any, seed: int) -> None:
    """Equal weights give equal outputs."""
    model = build_random(config, seed)
    difference, kl = drift(model, theirs(name, model), seed)
    assert difference < TOLERANCE
    assert kl < 1e-7
