"""Small random models of every family, with a tokenizer that fits; a server of files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from stemma.hub import save_model
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, GatedMLPConfig, RMSNormConfig, RotaryConfig
from stemma.tokenizers import ByteTokenizer, Tokenizer

NORM = RMSNormConfig(eps=1e-5)
SIZE: dict[str, Any] = {"vocab_size": 260, "context_length": 48, "d_model": 24, "n_layers": 2}
LLAMA_SHAPE: dict[str, Any] = {
    **SIZE,
    "feedforward": GatedMLPConfig(d_ff=40),
    "norm": NORM,
    "position": RotaryConfig(theta=20_000.0),
}
GROUPED = AttentionConfig(n_heads=4, n_kv_heads=2, d_head=6, bias=False)
CONFIGS = {
    "gpt2": TransformerConfig(**SIZE, attention=AttentionConfig(n_heads=4)),
    "gpt2-untied": TransformerConfig(
        **SIZE, attention=AttentionConfig(n_heads=3), tie_embeddings=False
    ),
    "llama": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED, tie_embeddings=False),
    "llama-tied": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED),
    "qwen3": TransformerConfig(
        **LLAMA_SHAPE, attention=GROUPED.replace(qk_norm=NORM), tie_embeddings=False
    ),
    "qwen3-tied": TransformerConfig(**LLAMA_SHAPE, attention=GROUPED.replace(qk_norm=NORM)),
}


def build(name: str) -> Transformer:
    """Every parameter random, large enough that greedy choices are clear."""
    generator = torch.Generator().manual_seed(7)
    model = Transformer(CONFIGS[name])
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.3 * noise if "norm" in key else 0.3 * noise)
    return model.eval()


@pytest.fixture(params=sorted(CONFIGS))
def model(request: pytest.FixtureRequest) -> Transformer:
    return build(request.param)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return ByteTokenizer()


@pytest.fixture
def saved(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A directory with a small GPT-2."""
    return save_model(build("gpt2"), tokenizer, tmp_path / "model")


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(260, (2, 48), generator=torch.Generator().manual_seed(2))


Serve = Callable[[Callable[..., BaseHTTPRequestHandler]], AbstractContextManager[str]]


@pytest.fixture
def serve() -> Serve:
    """Gives a server's address, while a block runs, for what handles its requests."""

    @contextmanager
    def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()
            thread.join()

    return serving


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def served(tmp_path: Path, serve: Serve) -> Iterator[tuple[Path, str]]:
    """A folder, and the address where a server shows it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with serve(partial(_Quiet, directory=str(folder))) as url:
        yield folder, url
