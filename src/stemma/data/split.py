"""Training and held-out text: divided by document, so that no window ever lies in both."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from stemma.data.sources import Document
from stemma.errors import DataError

FIRST_DOCUMENTS = 1024
FIRST_BYTES = 64 << 20
MINIMUM_BYTES = 64

_BOUNDARIES = ("\n\n", "\n", " ")


@dataclass(frozen=True, slots=True)
class Assigned:
    """A document and the side it falls on."""

    document: Document
    held_out: bool


def split_documents(
    documents: Iterable[Document],
    held_out_fraction: float = 0.1,
    seed: int = 0,
    *,
    minimum_bytes: int = MINIMUM_BYTES,
) -> Iterator[Assigned]:
    """Assign each document to training or held-out text, streaming.

    Each document has a key in [0, 1): a hash of its text under ``seed``. The first documents (up
    to 1,024 or 64 MiB, mostly the whole of a small corpus) are divided in the order of their keys
    so that the held-out share of the bytes comes near ``held_out_fraction``, with a whole document
    on both sides; later ones are held out when their key is below ``held_out_fraction``. Equal
    texts have equal keys, so a repeated document is never on both sides.

    Where whole documents cannot do it (there is one document, or one that outweighs the others),
    the longest is cut once into a head for training and a tail to hold out, between paragraphs,
    else lines, else words; copies of it are cut at the same place.

    Args:
        documents: the corpus.
        held_out_fraction: share of the bytes to hold out, between 0 and 1.
        seed: chooses the documents.
        minimum_bytes: what each side must hold.

    Raises:
        DataError: if the fraction is not between 0 and 1, or the text is too small; the message
            says how many bytes are needed.
    """
    if not 0 < held_out_fraction < 1:
        raise DataError(
            f"held-out fraction {held_out_fraction} is not between 0 and 1", cure="Try 0.1."
        )
    stream = iter(documents)
    first = list(_take_first(stream))
    kept = _divide(first, held_out_fraction, seed, minimum_bytes)
    for document in itertools.chain(first, stream):
        key = _key(document.text, seed)
        default = 0 if key < held_out_fraction else len(document.text)
        yield from _cut(document, kept.get(key, default))


def train_and_held_out(
    documents: Iterable[Document],
    held_out_fraction: float = 0.1,
    seed: int = 0,
    *,
    minimum_bytes: int = MINIMUM_BYTES,
) -> tuple[list[Document], list[Document]]:
    """`split_documents` as two lists, for a corpus that fits in memory."""
    sides: tuple[list[Document], list[Document]] = ([], [])
    for part in split_documents(documents, held_out_fraction, seed, minimum_bytes=minimum_bytes):
        sides[part.held_out].append(part.document)
    return sides


def _take_first(stream: Iterator[Document]) -> Iterator[Document]:
    n_bytes = 0
    for count, document in enumerate(stream, start=1):
        yield document
        n_bytes += document.n_bytes
        if count >= 2 and (count >= FIRST_DOCUMENTS or n_bytes >= FIRST_BYTES):
            return


def _key(text: str, seed: int) -> float:
    digest = hashlib.blake2b(
        text.encode(), digest_size=8, key=str(seed).encode()[:64], person=b"stemma split"
    ).digest()
    # 53 bits, so that the key is exact as a float and below 1.
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def _cut(document: Document, n_kept: int) -> Iterator[Assigned]:
    """Head (the first ``n_kept`` characters) to training, tail to held-out text."""
    head, tail = document.text[:n_kept], document.text[n_kept:]
    if head:
        yield Assigned(Document(head, document.origin), held_out=False)
    if tail:
        yield Assigned(Document(tail, document.origin), held_out=True)


def _divide(
    documents: list[Document], fraction: float, seed: int, minimum_bytes: int
) -> dict[float, int]:
    """For each key, how many characters of its text go to training: none, all, or up to a cut."""
    texts = {_key(document.text, seed): document.text for document in documents}
    sizes = dict.fromkeys(texts, 0)
    for document in documents:
        sizes[_key(document.text, seed)] += document.n_bytes
    total = sum(sizes.values())
    needed = math.ceil(minimum_bytes / min(fraction, 1 - fraction))
    if total < needed:
        raise _too_small(total, needed, fraction, minimum_bytes)

    held = _choose(sizes, fraction)
    kept = {key: 0 if key in held else len(text) for key, text in texts.items()}
    if not held:
        longest = max(sizes, key=lambda key: (sizes[key], key))
        tail = min(fraction * total / sizes[longest], max(0.5, fraction))
        kept[longest] = _boundary(texts[longest], tail)
    held_bytes = sum(
        _bytes_after(texts[key], n) * sizes[key] // len(texts[key].encode())
        for key, n in kept.items()
    )
    if min(held_bytes, total - held_bytes) < minimum_bytes:
        raise _too_small(total, 2 * needed, fraction, minimum_bytes)
    return kept


def _choose(sizes: dict[float, int], fraction: float) -> set[float]:
    """Keys of the documents to hold out; none if whole documents cannot give a useful share."""
    total = sum(sizes.values())
    target = fraction * total
    held: set[float] = set()
    held_bytes = 0
    for key in sorted(sizes):
        if held_bytes >= 0.9 * target:  # filling the last gap would favour short documents
            break
        if abs(held_bytes + sizes[key] - target) < abs(held_bytes - target):
            held.add(key)
            held_bytes += sizes[key]
    if held_bytes < target / 2:  # a few large documents: rather one too many than too little text
        limit = max(0.5, fraction) * total
        useful = (
            key
            for key in sorted(set(sizes) - held)
            if target / 2 <= held_bytes + sizes[key] <= limit
        )
        extra = set(itertools.islice(useful, 1))
        held = held | extra if extra else set()
    return held if len(held) < len(sizes) else set()


def _boundary(text: str, tail_fraction: float) -> int:
    """The paragraph, line or word boundary nearest to the wanted cut, as an index of ``text``."""
    wanted = round(len(text) * (1 - tail_fraction))
    reach = max(1, round(len(text) * min(tail_fraction, 1 - tail_fraction) / 2))
    low, high = max(1, wanted - reach), min(len(text) - 1, wanted + reach)
    for mark in _BOUNDARIES:
        after = text.find(mark, wanted - len(mark), high)
        before = text.rfind(mark, low - len(mark) if low > len(mark) else 0, wanted)
        cuts = [found + len(mark) for found in (before, after) if found >= 0]
        if cuts:
            return min(cuts, key=lambda cut: abs(cut - wanted))
    return wanted


def _bytes_after(text: str, index: int) -> int:
    return len(text[index:].encode())


def _too_small(total: int, needed: int, fraction: float, minimum_bytes: int) -> DataError:
    return DataError(
        f"{total} bytes of text are too few: holding out {fraction:g} of it needs "
        f"at least {needed} ({minimum_bytes} on each side)",
        cure="Give more text, or hold out a larger share.",
    )
