"""Unigram vocabularies trained by stemma and by sentencepiece, on the same text, judged alike.

Both learn as many pieces (the unknown piece not counted) from the same text without normalisation.
Then one scorer, which belongs to neither, reads both: a dictionary of pieces whose probabilities
are made to sum to one, and for each distinct word of held-out text the likeliest segmentation and
the sum over all. A character that is no piece costs the same everywhere. The third row of each size
gives sentencepiece's pieces new probabilities, by EM on the training text: what it then lacks is
owed to the choice of pieces alone.

Seconds are those of all threads of the processor, from text to vocabulary, in turn; compilation of
our kernels, which is kept on disk, is done before.

    STEMMA_MIRROR=... python benchmarks/unigram_training.py --text wikitext-2
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import sentencepiece

from stemma.tokenizers.kernels.unigram_train import expected_counts
from stemma.tokenizers.unigram.em import m_step
from stemma.tokenizers.unigram.lattice import Lattice
from stemma.tokenizers.unigram.train import train_unigram
from stemma.tokenizers.unigram.words import count_unigram_words

UNKNOWN = -20.0
"""Nats for a character that is no piece."""

TEXTS = ("wikitext-2", "books", "enwik8", "multi30k")

Pieces = Mapping[str, float]


def read_text(name: str) -> tuple[str, str]:
    """Text to train on, and held-out text."""
    folder = Path(os.environ["STEMMA_MIRROR"]) / "text"

    def unzipped(relative: str) -> str:
        return gzip.decompress((folder / relative).read_bytes()).decode(errors="replace")

    if name == "wikitext-2":
        return unzipped("wikitext-2/train.raw.gz"), unzipped("wikitext-2/test.raw.gz")
    if name == "multi30k":
        return unzipped("multi30k/train.de.gz"), unzipped("multi30k/test_2016_flickr.de.gz")
    if name == "enwik8":
        text = unzipped("enwik8/enwik8_first10MB.gz")
        return text[:9_000_000], text[9_000_000:]
    books = sorted(folder.glob("gutenberg/*/*.txt"))
    held_out = [book for book in books if book.stem in ("emma", "10004")]
    texts = ["\n".join(b.read_text("utf-8", "replace") for b in part) for part in (
        [book for book in books if book not in held_out], held_out,
    )]  # fmt: skip
    return texts[0], texts[1]


def train_ours(text: str, size: int, options: argparse.Namespace) -> Pieces:
    words = count_unigram_words([text], split_scripts=options.scripts)
    return dict(train_unigram(words, size, character_coverage=options.coverage))


def train_sentencepiece(path: Path, size: int, options: argparse.Namespace) -> Pieces:
    sentencepiece.SentencePieceTrainer.train(
        input=str(path),
        model_prefix=str(path.with_suffix("")),
        vocab_size=size + 1,
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        character_coverage=options.coverage,
        normalization_rule_name="identity",
        split_by_unicode_script=options.scripts,
        max_sentence_length=1 << 20,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_file=str(path.with_suffix(".model")))
    return {model.id_to_piece(i): model.get_score(i) for i in range(1, model.get_piece_size())}


def normalized(pieces: Pieces) -> Pieces:
    """Scores whose exponentials sum to one."""
    total = math.log(math.fsum(map(math.exp, pieces.values())))
    return {piece: score - total for piece, score in pieces.items()}


def estimated_anew(pieces: Pieces, words: Mapping[str, int], steps: int = 4) -> Pieces:
    """The same pieces with the probabilities that EM gives them on the words they can spell."""
    spelled = {word: n for word, n in words.items() if all(c in pieces for c in word)}
    names = sorted(pieces)
    lattice = Lattice.of(spelled, names)
    log_p = np.array([pieces[name] for name in names])
    arrays = (lattice.starts, lattice.weights, lattice.first, lattice.edges, lattice.lengths)
    for _ in range(steps):
        counts, _ = expected_counts(*arrays, log_p, np.exp(log_p))
        log_p = m_step(counts, digamma=False)
    return dict(zip(names, log_p.tolist(), strict=True))


def score(pieces: Pieces, words: Mapping[str, int]) -> tuple[float, float, int]:
    """Nats of the best segmentations, nats of all together, and tokens of the best."""
    longest = max(map(len, pieces))
    likeliest = together = 0.0
    tokens = 0
    for word, n in words.items():
        best = [(0.0, 0)]
        log_sum = [0.0]
        for j in range(1, len(word) + 1):
            ways = []
            for i in range(max(0, j - longest), j):
                p = pieces.get(word[i:j], UNKNOWN if j - i == 1 else None)
                if p is not None:
                    ways.append((i, p))
            best.append(max((best[i][0] + p, best[i][1] + 1) for i, p in ways))
            sums = [log_sum[i] + p for i, p in ways]
            top = max(sums)
            log_sum.append(top + math.log(math.fsum(math.exp(s - top) for s in sums)))
        likeliest += n * best[-1][0]
        together += n * log_sum[-1]
        tokens += n * best[-1][1]
    return likeliest, together, tokens


def show(size: int, name: str, pieces: Pieces, held_out: Counter[str], seconds: float) -> None:
    n_bytes = sum(n * len(word.replace("▁", " ").encode()) for word, n in held_out.items())
    likeliest, together, tokens = score(normalized(pieces), held_out)
    print(
        f"{size:6} {name:28} {len(pieces):6} {likeliest / n_bytes:9.4f} {together / n_bytes:9.4f} "
        f"{n_bytes / tokens:7.3f}" + (f" {seconds:8.1f}" if seconds else ""),
        flush=True,
    )


def compare(
    size: int, text: str, path: Path, held_out: Counter[str], options: argparse.Namespace
) -> None:
    began = time.process_time()
    ours = train_ours(text, size, options)
    show(size, "stemma", ours, held_out, time.process_time() - began)
    began = time.process_time()
    try:
        theirs = train_sentencepiece(path, size, options)
    except RuntimeError as error:
        print(f"{size:6} sentencepiece: {error}")
        return
    show(size, "sentencepiece", theirs, held_out, time.process_time() - began)
    words = count_unigram_words([text], split_scripts=options.scripts)
    show(size, "sentencepiece, EM by stemma", estimated_anew(theirs, words), held_out, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", choices=TEXTS, default=TEXTS[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 8_000, 32_000])
    parser.add_argument("--coverage", type=float, default=0.9995)
    parser.add_argument("--scripts", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    text, held_out_text = read_text(options.text)
    held_out = count_unigram_words([held_out_text], split_scripts=False)
    train_unigram(count_unigram_words([text[:300_000]]), 500, allow_fewer=True)  # compiles
    print(f"{options.text}: {len(text.encode()):,} bytes, coverage {options.coverage}, "
          f"pieces {'within' if options.scripts else 'across'} scripts")  # fmt: skip
    print("  size trainer                      pieces  best/byte  sum/byte  B/token  seconds")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text, "utf-8")
        for size in options.sizes:
            compare(size, text, path, held_out, options)


if __name__ == "__main__":
    main()
