"""What a finished model does, put down token by token: what it writes, reads and looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from stemma.evaluation import token_losses
from stemma.inference import generate
from stemma.lab.recipe import SamplesRecipe
from stemma.lab.text import Text
from stemma.models import Transformer
from stemma.tokenizers import Tokenizer

_PASSAGE_TOKENS = 320
_LOOKED_AT = 28
_NATS_PER_BIT = 0.6931471805599453


def spell(tokenizer: Tokenizer, token: int) -> str:
    """A token as text; bytes that are no character by themselves as ``<e2 80>``."""
    data = tokenizer.token_bytes(token)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"<{data.hex(' ')}>"


def write_samples(
    model: Transformer, tokenizer: Tokenizer, samples: SamplesRecipe, seed: int
) -> list[dict[str, Any]]:
    """One continuation of the prompt in each style, with the bits that each token took."""
    given = tokenizer.encode(samples.prompt).tolist()
    written = []
    for i, (name, style) in enumerate(samples.styles.items()):
        sampling = style if style.seed is not None else style.replace(seed=seed + i)
        result = generate(
            (model, tokenizer),
            samples.prompt,
            max_new_tokens=samples.max_new_tokens,
            sampling=sampling,
            overflow="slide",
        )
        tokens = [{"id": token, "text": spell(tokenizer, token)} for token in given]
        for token, log_prob in zip(result.ids, result.log_probs, strict=True):
            bits = -float(log_prob) / _NATS_PER_BIT
            tokens.append({"id": int(token), "text": spell(tokenizer, token), "bits": bits})
        written.append({"name": name, "prompt": samples.prompt, "tokens": tokens})
    return written


def read_passage(model: Transformer, text: Text) -> list[dict[str, Any]]:
    """The first tokens of the longest held-out document, with the bits each took to read."""
    start, stop = _longest_document(text)
    # Behind the list of persons and the like, where a document begins to speak.
    start = min(start + (stop - start) // 4, max(start, stop - _PASSAGE_TOKENS))
    ids = text.shards.held_out[start : min(stop, start + _PASSAGE_TOKENS)].astype("int64")
    end_of_text = text.tokenizer.end_of_text
    losses = token_losses(model, ids, start_token=end_of_text)
    return [
        {"id": int(token), "text": spell(text.tokenizer, int(token)), "bits": loss / _NATS_PER_BIT}
        for token, loss in zip(ids, losses.tolist(), strict=True)
    ]


@torch.inference_mode()
def look(model: Transformer, text: Text) -> tuple[np.ndarray[Any, Any], list[dict[str, Any]]]:
    """Attention weights over a few words of held-out text, and these words.

    Returns:
        Weights ``[n_layers, n_heads, query, key]`` in float32, and the tokens.
    """
    start, stop = _longest_document(text)
    start = start + (stop - start) // 2
    ids = text.shards.held_out[start : start + min(_LOOKED_AT, model.context_length)]
    batch = torch.from_numpy(ids.astype("int64"))[None].to(next(model.parameters()).device)
    weights = torch.stack([layer[0] for layer in model.attention_weights(batch)])
    tokens = [{"id": i, "text": spell(text.tokenizer, i), "bits": 0} for i in ids.tolist()]
    return weights.float().cpu().numpy(), tokens


def position_similarity(model: Transformer) -> np.ndarray[Any, Any] | None:
    """Cosine similarity of the learned position embeddings; None if the model has none."""
    embeddings = dict(model.named_parameters()).get("embed.positions.weight")
    if embeddings is None:
        return None
    unit = torch.nn.functional.normalize(embeddings.detach().float(), dim=-1)
    similarity: np.ndarray[Any, Any] = (unit @ unit.T).cpu().numpy()
    return similarity


def _longest_document(text: Text) -> tuple[int, int]:
    offsets = text.shards.held_out.document_offsets
    longest = int((offsets[1:] - offsets[:-1]).argmax())
    return int(offsets[longest]), int(offsets[longest + 1])


def parts_of(model: Transformer) -> list[dict[str, Any]]:
    """Parameters by part, tied ones counted once, in the order of the architecture."""
    sizes = {"embeddings": 0, "attention": 0, "feed-forward": 0, "norms": 0, "output head": 0}
    seen: set[int] = set()
    for name, parameter in model.named_parameters():
        if id(parameter) in seen:
            continue
        seen.add(id(parameter))
        sizes[_part(name)] += parameter.numel()
    total = sum(sizes.values())
    return [
        {"name": name, "parameters": size, "share": size / total}
        for name, size in sizes.items()
        if size
    ]


def _part(name: str) -> str:
    for marker, part in (
        ("norm", "norms"),
        ("attention", "attention"),
        ("feedforward", "feed-forward"),
        ("embed", "embeddings"),
    ):
        if marker in name:
            return part
    return "output head"
