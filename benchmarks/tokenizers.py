"""Tokenizers: stemma, tiktoken, tokenizers, rustbpe and sentencepiece on the same text, in turn.

    pip install 'stemma-llm[bench]'
    python benchmarks/tokenizers.py encode --text prose=prose.txt --text code=code.py
    python benchmarks/tokenizers.py threads --text prose=prose.txt --text code=code.py
    python benchmarks/tokenizers.py train --text prose=prose.txt
    python benchmarks/tokenizers.py unigram --text prose=prose.txt --model spiece.model
    python benchmarks/tokenizers.py wordpiece --text prose=prose.txt --model bert/tokenizer.json
    python benchmarks/tokenizers.py memory --text prose=prose.txt
    python benchmarks/tokenizers.py start

Contenders take turns in every round, so that a busy machine hurts all of them alike; a ratio is
that of one round, and the table shows its median and, in brackets, the lowest and the highest.
*cold*: nothing of the text has been seen (a new object, or its cache emptied; compiled code and
tables are ready). *warm*: the same text once more; of two threads, each has seen all of it. A text
is cut at line ends into documents of about 10 kB for those who take batches.
"""

from __future__ import annotations

import argparse
import base64
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

# This file is named like a library that it measures.
sys.path[:] = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).parent]

WHAT = ["encode", "threads", "train", "unigram", "wordpiece", "memory", "start"]
RULES = {"r50k_base": "gpt2", "cl100k_base": "cl100k", "o200k_base": "o200k"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--text", action="append", default=[], help="NAME=FILE, several times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--ranks", type=Path, help="folder of .tiktoken files (encode, threads, start)"
    )
    parser.add_argument("--vocabularies", nargs="+", default=list(RULES), choices=RULES)
    parser.add_argument(
        "--model", type=Path, help="a .model (unigram), a tokenizer.json (wordpiece)"
    )
    parser.add_argument("--vocab-size", type=int, default=32_768)
    arguments = parser.parse_args()
    texts = {
        name: Path(path).read_bytes().decode("utf-8", "replace")
        for name, path in (text.split("=", 1) for text in arguments.text)
    }
    print(_versions(), flush=True)
    work: dict[str, Callable[[argparse.Namespace, dict[str, str]], None]] = {
        "encode": encode,
        "threads": threads,
        "train": train,
        "unigram": unigram,
        "wordpiece": wordpiece,
        "memory": memory,
        "start": start,
    }
    work[arguments.what](arguments, texts)


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


def _versions() -> str:
    from importlib.metadata import version

    peers = ["tiktoken", "tokenizers", "rustbpe", "sentencepiece", "numba", "numpy"]
    return "  ".join(f"{name} {version(name)}" for name in peers)


def documents(text: str, size: int = 10_000) -> list[str]:
    found, held, n = [], [], 0
    for line in text.splitlines(keepends=True):
        held.append(line)
        n += len(line)
        if n >= size:
            found.append("".join(held))
            held, n = [], 0
    return [*found, "".join(held)] if held else found


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def rounds(
    contenders: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]], n: int
) -> dict[str, list[float]]:
    """Seconds of each contender in each round; what prepares it stands outside the clock."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(n):
        for name, (prepare, work) in contenders.items():
            ready = prepare()
            found[name].append(seconds(lambda w=work, r=ready: w(r)))
    return found


def table(title: str, times: dict[str, list[float]], amount: float, unit: str, ours: str) -> None:
    print(f"\n{title}", flush=True)
    for name, values in times.items():
        rates = [amount / value for value in values]
        ratios = [theirs / mine for theirs, mine in zip(values, times[ours], strict=True)]
        print(
            f"  {name:34} {statistics.median(rates):8.1f} {unit}"
            f" ({min(rates):.1f}-{max(rates):.1f})"
            f"   {statistics.median(ratios):6.2f}x ({min(ratios):.2f}-{max(ratios):.2f})",
            flush=True,
        )


def _load_ranks(folder: Path, name: str) -> dict[bytes, int]:
    lines = (folder / f"{name}.tiktoken").read_bytes().splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}


def encode(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    for vocabulary in arguments.vocabularies:
        contenders = _contenders(arguments, vocabulary)
        for name, text in texts.items():
            _encode_one(arguments.rounds, f"{vocabulary}, {name}", text, contenders)


def _contenders(arguments: argparse.Namespace, vocabulary: str) -> tuple[Any, Any, Any]:
    import tiktoken

    import tokenizers
    from stemma.tokenizers import ByteLevelBPE
    from stemma.tokenizers.scan.patterns import rule

    ranks = _load_ranks(arguments.ranks, vocabulary)
    ours = ByteLevelBPE.from_ranks(ranks, {}, pattern=RULES[vocabulary])
    pattern = rule(RULES[vocabulary])[0]
    openai = tiktoken.Encoding(
        vocabulary, pat_str=pattern, mergeable_ranks=ranks, special_tokens={}
    )
    with tempfile.TemporaryDirectory() as folder:
        ours.save(folder)
        face = tokenizers.Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    ours.encode("warm up " * 20_000)
    return ours, openai, face


def _encode_one(n_rounds: int, title: str, text: str, contenders: tuple[Any, Any, Any]) -> None:
    ours, openai, face = contenders
    docs = documents(text)
    megabytes = len(text.encode()) / 1e6
    compiled = ours._compiled

    def forget() -> None:
        compiled._desks.clear()

    def nothing() -> None:
        return None

    def face_with(parallel: bool) -> Callable[[Any], Any]:
        def work(_: Any) -> Any:
            os.environ["TOKENIZERS_PARALLELISM"] = str(parallel).lower()
            return face.encode_batch(docs, add_special_tokens=False)

        return work

    same = ours.encode(text).tolist() == openai.encode_ordinary(text)
    print(f"\n=== {title}: {megabytes:.1f} MB, ids equal to tiktoken's: {same}")
    one = rounds(
        {
            "stemma cold": (forget, lambda _: ours.encode(text)),
            "stemma warm": (nothing, lambda _: ours.encode(text)),
            "tiktoken": (nothing, lambda _: openai.encode_ordinary(text)),
            "tiktoken to numpy": (nothing, lambda _: openai.encode_to_numpy(text)),
            "stemma batch cold": (forget, lambda _: ours.encode_batch(docs, threads=1)),
            "stemma batch warm": (nothing, lambda _: ours.encode_batch(docs, threads=1)),
            "tokenizers batch": (nothing, face_with(parallel=False)),
        },
        n_rounds,
    )
    table("one thread (ratio to stemma cold)", one, megabytes, "MB/s", "stemma cold")
    table("one thread (ratio to stemma warm)", one, megabytes, "MB/s", "stemma warm")
    ids = ours.encode(text)
    listed = ids.tolist()
    back = rounds(
        {
            "stemma decode": (nothing, lambda _: ours.decode(ids)),
            "stemma decode (list)": (nothing, lambda _: ours.decode(listed)),
            "tiktoken decode": (nothing, lambda _: openai.decode(listed)),
            "tokenizers decode": (nothing, lambda _: face.decode(listed)),
        },
        n_rounds,
    )
    table("decode", back, megabytes, "MB/s", "stemma decode")


def threads(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    for vocabulary in arguments.vocabularies:
        ours, openai, face = _contenders(arguments, vocabulary)
        for name, text in texts.items():
            print(f"\n=== {vocabulary}, {name}: {len(text.encode()) / 1e6:.1f} MB")
            _threads_one(arguments.rounds, text, (ours, openai, face))


def _threads_one(n_rounds: int, text: str, contenders: tuple[Any, Any, Any]) -> None:
    ours, openai, face = contenders
    docs = documents(text)
    compiled = ours._compiled

    def forget() -> None:
        compiled._desks.clear()

    def face_with_cores(_: Any) -> Any:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        return face.encode_batch(docs, add_special_tokens=False)

    forget()
    with ThreadPoolExecutor(2) as pool:  # a cache for each of two threads, and all words in both
        list(pool.map(lambda _: ours.encode_batch(docs, threads=1), range(2)))
    warm = list(compiled._desks)

    def remember() -> None:
        compiled._desks[:] = warm

    two = rounds(
        {
            "stemma batch, 2 threads": (remember, lambda _: ours.encode_batch(docs, threads=2)),
            "stemma batch, 1 thread": (remember, lambda _: ours.encode_batch(docs, threads=1)),
            "stemma cold, 2 threads": (forget, lambda _: ours.encode_batch(docs, threads=2)),
            "stemma cold, 1 thread": (forget, lambda _: ours.encode_batch(docs, threads=1)),
            "tiktoken batch, 2 threads": (
                lambda: None,
                lambda _: openai.encode_ordinary_batch(docs, num_threads=2),
            ),
            "tokenizers batch, all cores": (lambda: None, face_with_cores),
        },
        n_rounds,
    )
    table(
        "threads (ratio to two)", two, len(text.encode()) / 1e6, "MB/s", "stemma batch, 2 threads"
    )


def train(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        _train_one(arguments.rounds, arguments.vocab_size, name, text)


def _train_one(n_rounds: int, size: int, name: str, text: str) -> None:
    import rustbpe

    import tokenizers
    from stemma.tokenizers import ByteLevelBPE
    from stemma.tokenizers.scan.patterns import rule

    docs = documents(text)
    megabytes = len(text.encode()) / 1e6

    def ours(_: Any) -> Any:
        return ByteLevelBPE.train(docs, size, special_tokens=())

    def rust(_: Any) -> Any:
        trained = rustbpe.Tokenizer()
        trained.train_from_iterator(iter(docs), size, pattern=rule("gpt2")[0])
        return trained

    def face(_: Any) -> Any:
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        trained = tokenizers.Tokenizer(tokenizers.models.BPE())
        trained.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            show_progress=False,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        )
        trained.train_from_iterator(iter(docs), trainer, length=len(docs))
        return trained

    ByteLevelBPE.train(docs[:20], 300, special_tokens=())
    times = rounds(
        {
            "stemma": (lambda: None, ours),
            "rustbpe": (lambda: None, rust),
            "tokenizers": (lambda: None, face),
        },
        n_rounds,
    )
    title = f"training {size:,} tokens on {name}, {megabytes:.1f} MB"
    table(title, times, megabytes, "MB/s", "stemma")


def unigram(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    import sentencepiece

    from stemma.tokenizers import load_tokenizer

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(arguments.model))
    ours = load_tokenizer(arguments.model)
    for name, text in texts.items():
        _unigram_one(arguments.rounds, f"{arguments.model.name}, {name}", text, (ours, theirs))


def _unigram_one(n_rounds: int, title: str, text: str, contenders: tuple[Any, Any]) -> None:
    ours, theirs = contenders
    lines = text.splitlines()
    megabytes = len(text.encode()) / 1e6
    found = [ids.tolist() for ids in ours.encode_batch(lines, threads=1)]
    same = found == theirs.encode(lines)
    print(f"\n=== {title}: {len(lines)} lines, ids equal: {same}")
    times = rounds(
        {
            "stemma": (lambda: None, lambda _: ours.encode_batch(lines, threads=1)),
            "sentencepiece": (lambda: None, lambda _: theirs.encode(lines, num_threads=1)),
            "stemma whole": (lambda: None, lambda _: ours.encode(text)),
            "sentencepiece whole": (lambda: None, lambda _: theirs.encode(text)),
            "stemma, 2 threads": (lambda: None, lambda _: ours.encode_batch(lines, threads=2)),
            "sentencepiece, 2 threads": (
                lambda: None,
                lambda _: theirs.encode(lines, num_threads=2),
            ),
        },
        n_rounds,
    )
    table("lines and whole", times, megabytes, "MB/s", "stemma")


def wordpiece(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    import tokenizers
    from stemma.tokenizers import load_tokenizer

    ours = load_tokenizer(arguments.model)
    face = tokenizers.Tokenizer.from_file(str(arguments.model))
    face.no_truncation()
    face.no_padding()
    for name, text in texts.items():
        _wordpiece_one(arguments.rounds, f"{arguments.model.name}, {name}", text, (ours, face))


def _wordpiece_one(n_rounds: int, title: str, text: str, contenders: tuple[Any, Any]) -> None:
    ours, face = contenders
    docs = documents(text)

    def face_with(parallel: bool) -> Callable[[Any], Any]:
        def work(_: Any) -> Any:
            os.environ["TOKENIZERS_PARALLELISM"] = str(parallel).lower()
            return face.encode_batch(docs, add_special_tokens=False)

        return work

    theirs = [found.ids for found in face_with(parallel=False)(None)]
    same = [ids.tolist() for ids in ours.encode_batch(docs, threads=1)] == theirs
    print(f"\n=== {title}: {len(docs)} documents, ids equal: {same}")
    times = rounds(
        {
            "stemma batch": (lambda: None, lambda _: ours.encode_batch(docs, threads=1)),
            "tokenizers batch": (lambda: None, face_with(parallel=False)),
            "stemma batch, 2 threads": (lambda: None, lambda _: ours.encode_batch(docs, threads=2)),
            "tokenizers batch, all cores": (lambda: None, face_with(parallel=True)),
        },
        n_rounds,
    )
    table("documents of 10 kB", times, len(text.encode()) / 1e6, "MB/s", "stemma batch")


_MEMORY = """
import resource, sys
from pathlib import Path
from stemma.data import encode_file
from stemma.tokenizers import gpt2
shards = encode_file(sys.argv[1], gpt2(), sys.argv[2])
print(len(shards), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def memory(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        for times in (1, 10, 100):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "text.txt"
                with path.open("w", encoding="utf-8") as file:
                    for _ in range(times):
                        file.write(text)
                size = path.stat().st_size / 1e6
                started = time.perf_counter()
                found = subprocess.run(
                    [sys.executable, "-c", _MEMORY, str(path), str(Path(folder) / "out")],
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout.split()
                taken = time.perf_counter() - started
                print(
                    f"encode_file {name} x{times}: {size:,.0f} MB, {int(found[0]):,} tokens, "
                    f"peak {found[1]} MiB, {taken:.1f} s ({size / taken:.0f} MB/s)",
                    flush=True,
                )


def start(arguments: argparse.Namespace, texts: dict[str, str]) -> None:
    """Seconds of whole processes: importing, loading, the first ids."""
    snippets = {
        "import stemma.tokenizers": "import stemma.tokenizers",
        "gpt2(), a short text": "from stemma.tokenizers import gpt2; gpt2().encode('Hello')",
        "gpt2(), 200 kB by cached kernels": (
            "from stemma.tokenizers import gpt2; gpt2().encode('Hello world. ' * 16000)"
        ),
        "tiktoken r50k, a short text": textwrap.dedent(
            f"""
            import tiktoken
            from tiktoken.load import load_tiktoken_bpe
            ranks = load_tiktoken_bpe({str(arguments.ranks / "r50k_base.tiktoken")!r})
            import tiktoken
            tiktoken.Encoding("x", pat_str="[a-z]+|[^a-z]+", mergeable_ranks=ranks,
                special_tokens={{}}).encode("hello")
            """
        ),
    }
    for name in RULES:
        snippets[f"load {name}"] = (
            "from stemma.tokenizers import load_tokenizer; "
            f"load_tokenizer({str(arguments.ranks / f'{name}.tiktoken')!r}).encode('Hello')"
        )
    environment = {**os.environ, "TIKTOKEN_CACHE_DIR": ""}
    base = ""
    for name, code in {"python itself": base, **snippets}.items():
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        values = [
            seconds(
                lambda c=code: subprocess.run(
                    [sys.executable, "-c", c], check=True, env=environment
                )
            )
            for _ in range(arguments.rounds)
        ]
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(values)
        print(f"{name:36} {statistics.median(values):.3f} s (CPU {used:.3f} s)", flush=True)


if __name__ == "__main__":
    main()
