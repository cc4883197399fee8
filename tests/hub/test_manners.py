"""How a GGUF file says that a text, a turn or a message ends."""

from __future__ import annotations

from pathlib import Path

import gguf
import pytest

from stemma.hub import read_manners
from stemma.tokenizers import ByteTokenizer

TOKENIZER = ByteTokenizer()


def manners_of(path: Path, **ids: int) -> tuple[int | None, tuple[int, ...], int | None]:
    writer = gguf.GGUFWriter(path, "llama")
    for name, id_ in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", id_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    found = read_manners(path, TOKENIZER)
    return found.bos, found.eos, found.pad


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ({"eos": 3}, (3,)),
        ({"eot": 4}, (4,)),
        ({"eom": 5}, (5,)),
        ({"eos": 3, "eot": 4, "eom": 5}, (3, 4, 5)),
        ({"eos": 3, "eom": 5}, (3, 5)),
        ({"eos": 3, "eot": 3, "eom": 5}, (3, 5)),  # each once
        ({"eos": 3, "eom": 70_000}, (3,)),  # no token
    ],
)
def test_the_end_of_a_text_of_a_turn_and_of_a_message(
    tmp_path: Path, ids: dict[str, int], expected: tuple[int, ...]
) -> None:
    bos, eos, pad = manners_of(tmp_path / "m.gguf", **ids)
    assert eos == expected
    assert pad == expected[0]
    assert bos == TOKENIZER.end_of_text


def test_what_begins_and_what_pads(tmp_path: Path) -> None:
    assert manners_of(tmp_path / "m.gguf", bos=1, eos=2, padding=7, eom=9) == (1, (2, 9), 7)
