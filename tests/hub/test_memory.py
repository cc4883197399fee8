"""Loading takes little more memory than the model: the peak of a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stemma.hub import export_gguf, save_model
from stemma.hub.gguf_export import GGUFType
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig, RotaryConfig
from stemma.tokenizers import ByteLevelBPE, ByteTokenizer

# What is promised is 1.3. Blocks that are copied before they are converted leave gaps in the heap
# for good, in some runs: 1.33 instead of 1.04.
MOST = 1.15
TOKENIZER = ByteLevelBPE.train(["a cat"], 257, special_tokens=["<|endoftext|>"])
MEASURE = """
import gc, sys
import torch
import stemma
from stemma.hub import assembly, gguf_model, llama2c_model

def status(name):
    with open("/proc/self/status") as file:
        return next(int(row.split()[1]) << 10 for row in file if row.startswith(name))

small, path, dtype = sys.argv[1:]
stemma.load(small)  # what is imported and compiled is not the model's
gc.collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the highest mark begins anew
before = status("VmRSS")
alone = {".gguf": gguf_model.load_gguf, ".bin": llama2c_model.load_llama2c}  # no tokenizer
load = alone.get(path[path.rfind("."):], stemma.load)
model = load(path, dtype=getattr(torch, dtype))
model = model[0] if isinstance(model, tuple) else model
peak = status("VmHWM") - before
print(peak / sum(p.nbytes for p in {id(p): p for p in model.parameters()}.values()))
"""

pytestmark = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux's /proc/self/clear_refs"
)


def peak_over_size(small: Path, path: Path | str, dtype: str) -> float:
    command = [sys.executable, "-c", MEASURE, str(small), str(path), dtype]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("memory")


def llama(vocab_size: int, d_model: int, n_layers: int, *, tied: bool = False) -> Transformer:
    norm = RMSNormConfig()
    config = TransformerConfig(
        vocab_size=vocab_size,
        context_length=64,
        d_model=d_model,
        n_layers=n_layers,
        attention=AttentionConfig(n_heads=4, n_kv_heads=2, bias=False),
        feedforward=GatedMLPConfig(d_ff=3 * d_model),
        norm=norm,
        position=RotaryConfig(),
        tie_embeddings=tied,
    )
    return Transformer(config)


@pytest.fixture(scope="module")
def small(folder: Path) -> Path:
    return save_model(llama(260, 16, 1), ByteTokenizer(), folder / "small")


@pytest.fixture(scope="module")
def large(folder: Path) -> Path:
    """190 MB in float32, of which the embedding and the head are two thirds."""
    return save_model(llama(32_000, 512, 6), ByteTokenizer(), folder / "large")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_one_file_of_safetensors(small: Path, large: Path, dtype: str) -> None:
    assert peak_over_size(small, large, dtype) < MOST


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_several_files_of_safetensors(folder: Path, small: Path, large: Path, dtype: str) -> None:
    import transformers

    sharded = folder / f"sharded-{dtype}"
    transformers.AutoModelForCausalLM.from_pretrained(large).save_pretrained(
        sharded, max_shard_size="50MB"
    )
    ByteTokenizer().save(sharded)
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert peak_over_size(small, sharded, dtype) < MOST


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["f32", "f16", "q8_0"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gguf(folder: Path, small: Path, kind: GGUFType, dtype: str) -> None:
    path = folder / f"{kind}.gguf"
    if not path.exists():
        export_gguf(llama(32_000, 512, 6), TOKENIZER, path, dtype=kind)
    assert peak_over_size(small, path, dtype) < MOST


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_llama2c(mirror: Callable[[str], Path], small: Path, dtype: str) -> None:
    path = mirror("weights/stories15M/stories15M.bin")
    assert peak_over_size(small, path, dtype) < MOST
