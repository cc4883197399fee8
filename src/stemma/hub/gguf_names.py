"""What GGUF files call the parts of a model: one table, for reading and for writing.

Source: the format's specification, ggml-org/ggml, ``docs/gguf.md``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_LAYER = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_OTHER = re.compile(r"(\w+)\.(weight|bias)")


@dataclass(frozen=True)
class Architecture:
    """An architecture of llama.cpp's, and what it is here.

    Attributes:
        family: the family in Hugging Face's files (`models.families`).
        layer: how their names of a layer's tensors begin.
        whole: name of a tensor in a GGUF file -> theirs, for what there is once.
        of_a_layer: the same for what each layer has.
        needed: name of an entry of the metadata -> key of ``config.json``.
        optional: the same, for what a file may leave out.
        pairs: whether the rows of queries and keys are in llama.cpp's order, in which the two that
            turn together are neighbours.
        transposed: the tensors that Hugging Face has input x output.
    """

    family: str
    layer: str
    whole: Mapping[str, str]
    of_a_layer: Mapping[str, str]
    needed: Mapping[str, str]
    optional: Mapping[str, str]
    pairs: bool = False
    transposed: frozenset[str] = frozenset()

    def theirs(self, name: str) -> str | None:
        """Hugging Face's name of a tensor of a GGUF file; None if no such model has it."""
        if match := _LAYER.fullmatch(name):
            layer, part, kind = match.groups()
            if part in self.of_a_layer:
                return f"{self.layer.format(layer)}{self.of_a_layer[part]}.{kind}"
        elif (match := _OTHER.fullmatch(name)) and match[1] in self.whole:
            return f"{self.whole[match[1]]}.{match[2]}"
        return None

    def name(self, theirs: str) -> str:
        """The inverse of `theirs`."""
        part, _, kind = theirs.rpartition(".")
        for ours, name in self.whole.items():
            if name == part:
                return f"{ours}.{kind}"
        beginning, _, end = self.layer.partition("{}")
        layer, _, rest = part.removeprefix(beginning).partition(end)
        ours = next(ours for ours, name in self.of_a_layer.items() if name == rest)
        return f"blk.{layer}.{ours}.{kind}"

    def is_transposed(self, name: str) -> bool:
        """Whether Hugging Face has a tensor of a GGUF file input x output."""
        match = _LAYER.fullmatch(name)
        return match is not None and match[2] in self.transposed and match[3] == "weight"


def _llama_shaped(family: str, *, pairs: bool = False) -> Architecture:
    return Architecture(
        family=family,
        layer="model.layers.{}.",
        whole={
            "token_embd": "model.embed_tokens",
            "output_norm": "model.norm",
            "output": "lm_head",
        },
        of_a_layer={
            "attn_norm": "input_layernorm",
            "attn_q": "self_attn.q_proj",
            "attn_k": "self_attn.k_proj",
            "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj",
            "attn_q_norm": "self_attn.q_norm",
            "attn_k_norm": "self_attn.k_norm",
            "ffn_norm": "post_attention_layernorm",
            "ffn_gate": "mlp.gate_proj",
            "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj",
        },
        needed={
            "context_length": "max_position_embeddings",
            "embedding_length": "hidden_size",
            "block_count": "num_hidden_layers",
            "feed_forward_length": "intermediate_size",
            "attention.head_count": "num_attention_heads",
        },
        optional={
            "attention.head_count_kv": "num_key_value_heads",
            "attention.layer_norm_rms_epsilon": "rms_norm_eps",
            "attention.key_length": "head_dim",
            "rope.freq_base": "rope_theta",
        },
        pairs=pairs,
    )


_GPT2 = Architecture(
    family="gpt2",
    layer="transformer.h.{}.",
    whole={
        "token_embd": "transformer.wte",
        "position_embd": "transformer.wpe",
        "output_norm": "transformer.ln_f",
        "output": "lm_head",
    },
    of_a_layer={
        "attn_norm": "ln_1",
        "attn_qkv": "attn.c_attn",
        "attn_output": "attn.c_proj",
        "ffn_norm": "ln_2",
        "ffn_up": "mlp.c_fc",
        "ffn_down": "mlp.c_proj",
    },
    needed={
        "context_length": "n_positions",
        "embedding_length": "n_embd",
        "block_count": "n_layer",
        "feed_forward_length": "n_inner",
        "attention.head_count": "n_head",
    },
    optional={"attention.layer_norm_epsilon": "layer_norm_epsilon"},
    transposed=frozenset(("attn_qkv", "attn_output", "ffn_up", "ffn_down")),
)

ARCHITECTURES: dict[str, Architecture] = {
    "llama": _llama_shaped("llama", pairs=True),
    "qwen2": _llama_shaped("qwen2"),
    "qwen3": _llama_shaped("qwen3"),
    "gpt2": _GPT2,
}
"""What a file calls the architecture -> what it is."""

READ_AND_WRITTEN = "There is llama (a Mistral without a window too), qwen2, qwen3 and gpt2."
