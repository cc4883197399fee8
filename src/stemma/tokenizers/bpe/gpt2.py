"""GPT-2's tokenizer: 256 bytes, OpenAI's 50,000 merges, and ``<|endoftext|>``."""

from __future__ import annotations

import hashlib
import lzma
from functools import cache
from pathlib import Path

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER, to_visible
from stemma.tokenizers.bpe.byte_level import ByteLevelBPE
from stemma.tokenizers.bpe.merge import Pair
from stemma.tokenizers.special import END_OF_TEXT

VOCABULARY = "gpt2_vocabulary/vocab.bpe.xz"
SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


@cache
def load_gpt2() -> ByteLevelBPE:
    """Read the merges that ship with the package (``gpt2_vocabulary/README.md`` has the source).

    The file lists merges only: ids follow from their order, after the bytes in GPT-2's own order.

    Raises:
        TokenizerError: if the shipped file is missing or damaged.
    """
    spellings = [bytes([value]) for value in BYTE_ORDER]
    ids = {to_visible(spelling): i for i, spelling in enumerate(spellings)}
    merges: list[Pair] = []
    for line in _read_vocabulary().splitlines()[1:]:
        left, right = line.split(" ")
        pair = ids[left], ids[right]
        merges.append(pair)
        ids[left + right] = len(spellings)
        spellings.append(spellings[pair[0]] + spellings[pair[1]])
    return ByteLevelBPE([*spellings, END_OF_TEXT.encode()], merges, {END_OF_TEXT: len(spellings)})


def _read_vocabulary() -> str:
    path = Path(__file__).parent.parent / VOCABULARY
    try:
        data = lzma.decompress(path.read_bytes())
    except (OSError, lzma.LZMAError) as error:
        raise _damaged(str(path)) from error
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise _damaged(str(path))
    return data.decode()


def _damaged(path: str) -> TokenizerError:
    return TokenizerError(
        "GPT-2's merges are missing or damaged", where=path, cure="Install stemma-llm again."
    )
