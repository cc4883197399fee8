"""Every kind of block of a GGUF file, against llama.cpp's own code for them."""

from __future__ import annotations

import ctypes
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.constants import GGML_QUANT_SIZES
from numpy.typing import NDArray

from stemma.errors import ModelError
from stemma.hub.gguf_names import ARCHITECTURES
from stemma.hub.gguf_weights import QUANTISED, GGUFWeights
from stemma.tokenizers.formats.gguf_metadata import TensorPlace, read_head

PLAIN = ["F32", "F16", "BF16"]
ROWS, ROW = 37, 512
STEPS = {"Q8_0": 128, "Q6_K": 32, "Q5_0": 16, "Q5_1": 16, "Q5_K": 16}
STEPS |= {"Q4_0": 8, "Q4_1": 8, "Q4_K": 8, "Q3_K": 4, "Q2_K": 2}
"""How many steps there are, about, on one side of zero."""


@pytest.fixture(scope="module")
def ggml() -> ctypes.CDLL:
    """llama.cpp's arithmetic, which the package llama-cpp-python brings."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="needs llama-cpp-python (extra: oracles)")
    folder = Path(llama_cpp.__file__).parent / "lib"
    found = sorted(folder.glob("*ggml-base*"))
    if not found:
        pytest.skip(f"needs llama.cpp's libggml-base, which is not in {folder}")
    return ctypes.CDLL(str(found[0]))


def pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def quantised(ggml: ctypes.CDLL, kind: GGMLQuantizationType, rows: NDArray[np.float32]) -> bytes:
    """What llama.cpp's quantiser makes of a matrix."""
    block, block_bytes = GGML_QUANT_SIZES[kind]
    out = np.zeros(rows.size // block * block_bytes, np.uint8)
    sizes = [ctypes.c_int64(n) for n in (0, *rows.shape)]
    ggml.ggml_quantize_chunk(ctypes.c_int(kind), pointer(rows), pointer(out), *sizes, None)
    return out.tobytes()


def dequantised(ggml: ctypes.CDLL, kind: str, data: bytes, n: int) -> NDArray[np.float32]:
    """What llama.cpp reads in blocks."""
    out, raw = np.zeros(n, np.float32), np.frombuffer(data, np.uint8).copy()
    getattr(ggml, f"dequantize_row_{kind[0].lower()}{kind[1:]}")(
        pointer(raw), pointer(out), ctypes.c_int64(n)
    )
    return out


def written(path: Path, kind: GGMLQuantizationType, data: bytes) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    raw = np.frombuffer(data, np.uint8).reshape(ROWS, -1).copy()
    writer.add_tensor("token_embd.weight", raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def read(path: Path) -> torch.Tensor:
    return GGUFWeights(path, read_head(path)[1], ARCHITECTURES["llama"], {})[
        "model.embed_tokens.weight"
    ]


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_that_llama_cpp_made(tmp_path: Path, ggml: ctypes.CDLL, kind: str) -> None:
    matrix = np.random.default_rng(1).standard_normal((ROWS, ROW)).astype(np.float32)
    data = quantised(ggml, GGMLQuantizationType[kind], matrix)
    found = read(written(tmp_path / "m.gguf", GGMLQuantizationType[kind], data)).numpy()
    expected = dequantised(ggml, kind, data, matrix.size).reshape(ROWS, ROW)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    largest = np.abs(matrix).max()
    assert np.abs(found - matrix).max() <= 1.3 * largest / STEPS[kind]
    assert np.abs(found - matrix).max() > 0.05 * largest / STEPS[kind]


@pytest.mark.parametrize("kind", QUANTISED)
def test_blocks_of_any_bytes(tmp_path: Path, ggml: ctypes.CDLL, kind: str) -> None:
    block, block_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    noise = np.random.default_rng(2).integers(0, 256, ROWS * ROW // block * block_bytes, np.uint8)
    data = noise.tobytes()
    found = read(written(tmp_path / "m.gguf", GGMLQuantizationType[kind], data)).numpy()
    expected = dequantised(ggml, kind, data, ROWS * ROW).reshape(ROWS, ROW)
    finite = np.isfinite(expected)  # a scale of noise may be infinite
    assert finite.mean() > 0.8
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-5, atol=1e-5)
    assert not np.isfinite(found[~finite]).any()


@pytest.mark.parametrize("kind", [*PLAIN, *QUANTISED])
def test_blocks_are_read_alike_in_pieces_and_whole(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = GGMLQuantizationType[kind]
    block, block_bytes = GGML_QUANT_SIZES[number]
    n_bytes = ROWS * ROW // block * block_bytes
    data = np.random.default_rng(3).integers(0, 64, n_bytes, np.uint8).tobytes()
    path = written(tmp_path / "m.gguf", number, data)
    whole = read(path)
    monkeypatch.setattr("stemma.hub.assembly.BLOCK", 5 * ROW)
    assert torch.equal(read(path), whole)
    assert torch.isfinite(whole).all()


def two_places(start: int) -> dict[str, TensorPlace]:
    """Two tensors of 16 bytes each, at byte 0 and at ``start``."""
    names = ("token_embd.weight", "output.weight")
    kind = int(GGMLQuantizationType.F32)
    return {name: TensorPlace((2, 2), kind, at) for name, at in zip(names, (0, start), strict=True)}


def test_one_byte_that_tensors_share_is_one_too_many(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(range(32)))
    assert len(GGUFWeights(path, two_places(16), ARCHITECTURES["llama"], {})) == 2
    message = "token_embd.weight ends at byte 16, and output.weight begins at 15"
    with pytest.raises(ModelError, match=message):
        GGUFWeights(path, two_places(15), ARCHITECTURES["llama"], {})


@pytest.mark.parametrize("left", [31, 16, 3])
def test_a_file_that_becomes_shorter_meanwhile_is_an_error(tmp_path: Path, left: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(32))
    weights = GGUFWeights(path, two_places(16), ARCHITECTURES["llama"], {})
    assert torch.equal(weights["lm_head.weight"], torch.zeros(2, 2))
    path.write_bytes(bytes(left))
    with pytest.raises(ModelError, match="became shorter while it was read"):
        weights["lm_head.weight"]
