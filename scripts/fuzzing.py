"""What the scripts that fuzz have in common: inputs of several files, mutation of JSON, the runs.

One run may take 10 seconds of the processor, and the memory that its script allows. Every new kind
of failure (exception and place) is printed, and its file kept in `--findings`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import atheris

from stemma.errors import StemmaError

Load = Callable[[bytes, Path], None]
"""Reads an input in a folder, and uses what it holds."""

SECONDS_PER_RUN = 10
LARGEST_INPUT = 1 << 18
BOUNDARY = b"\n\0\0\n"
"""Between the files of a directory, each of which begins with a line that names it."""


def packed(files: dict[str, bytes]) -> bytes:
    """A directory as one input."""
    return BOUNDARY.join(name.encode() + b"\n" + data for name, data in files.items())


def read_directory(data: bytes, folder: Path) -> Path:
    """The files that are packed into one input."""
    for part in data.split(BOUNDARY)[:8]:
        name, _, content = part.partition(b"\n")
        plain = name.decode("ascii", "ignore")
        if plain and plain.replace("_", "").replace(".", "").isalnum() and plain.strip("."):
            (folder / plain[:40]).write_bytes(content)
    return folder


class JsonMutator:
    """Changes a value somewhere in a JSON document, where changed bytes rarely leave JSON.

    Args:
        documents: whose values are put in other places.
        odd_values: what else is put there.
    """

    def __init__(self, documents: list[bytes], odd_values: list[Any]) -> None:
        self._parts: list[Any] = list(odd_values)
        for document in documents:
            self._collect(json.loads(document))

    def _collect(self, value: Any) -> None:
        if isinstance(value, dict | list) and len(value) < 40:
            self._parts.append(value)
        for inner in value.values() if isinstance(value, dict) else ():
            self._collect(inner)

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        """`data` with one to four values changed; the library's mutation for an eighth of them."""
        generator = random.Random(seed)
        try:
            document = json.loads(data) if generator.random() > 0.125 else None
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict) or not document:
            return bytes(atheris.Mutate(data, max_size))
        for _ in range(generator.choice([1, 1, 1, 2, 4])):
            self._change(document, generator)
        changed = json.dumps(document).encode()
        return changed if len(changed) <= max_size else data

    def _change(self, value: Any, generator: random.Random) -> None:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = generator.choice(keys) if keys else None
        inner = value[key] if keys else None
        if isinstance(inner, dict | list) and inner and generator.random() < 0.8:
            self._change(inner, generator)
        elif keys and generator.random() < 0.2:
            del value[key]
        else:
            new = self._new(inner, generator)
            if isinstance(value, dict):
                value[key if keys and generator.random() < 0.9 else "type"] = new
            elif keys and generator.random() < 0.7:
                value[key] = new
            else:
                value.append(new)

    def _new(self, old: Any, generator: random.Random) -> Any:
        if type(old) is bool:
            return not old
        if isinstance(old, int) and generator.random() < 0.5:
            return old + generator.choice([-1, 1, 7])
        if isinstance(old, str) and generator.random() < 0.5:
            at = generator.randint(0, len(old))
            return old[:at] + chr(generator.choice([0x20, 0x41, 0xE9, 0x2581])) + old[at + 1 :]
        return json.loads(json.dumps(generator.choice(self._parts)))


class Target:
    """One run after another of one format; counts them, and keeps what fails.

    Args:
        name: the format.
        load: what is done with an input, in a folder of its own.
        folder: where the files under test lie.
        findings: where those that fail are kept.
        seconds: how long to go on.
    """

    def __init__(
        self, name: str, load: Load, *, folder: Path, findings: Path, seconds: int
    ) -> None:
        self._load, self._name = load, name
        self._folder, self._findings = folder, findings
        self._seen: set[tuple[str, ...]] = set()
        self._runs = self._read = 0
        self._began, self._seconds = time.monotonic(), seconds

    def __call__(self, data: bytes) -> None:
        """One input; ends the process when the time is over."""
        took = time.monotonic() - self._began
        if took > self._seconds:
            line = f"{self._name}: {self._runs:,} runs, {self._read:,} read, {took:.0f} s"
            print(f"{line}, {len(self._seen)} kinds of failure", flush=True)
            os._exit(0)
        self._runs += 1
        folder = fresh(self._folder)
        signal.setitimer(signal.ITIMER_PROF, SECONDS_PER_RUN)
        try:
            self._load(data, folder)
            self._read += 1
        except StemmaError:
            pass
        except BaseException as error:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._keep(data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "stemma" in frame.filename] or list(frames)
        place = ours[-1].filename.rpartition("stemma/")[2], str(ours[-1].lineno)
        kind = (type(error).__name__, *place)
        if kind in self._seen:
            return
        self._seen.add(kind)
        path = self._findings / f"{self._name}-{len(self._seen)}-{kind[0]}"
        path.write_bytes(data)
        lines = "".join(traceback.format_exception_only(error)).strip()[:300]
        print(f"FOUND {path}: {':'.join(place)}: {lines}", flush=True)


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _stop(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS_PER_RUN} seconds")


def fuzz(
    name: str,
    load: Load,
    seeds: Callable[[Path], list[bytes]],
    arguments: argparse.Namespace,
    *,
    memory_bytes: int,
    odd_values: list[Any] | None = None,
) -> None:
    """Fuzz one format for the time that is given.

    Args:
        name: of the format.
        load: see `Load`.
        seeds: a folder to write in -> the inputs to begin with.
        arguments: see `run`.
        memory_bytes: what the process may take.
        odd_values: of a format that is JSON, see `JsonMutator`.
    """
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    signal.signal(signal.SIGPROF, _stop)
    work = fresh(arguments.findings / f"{name}-work")
    corpus, written = fresh(work / "corpus"), fresh(work / "written")
    files = seeds(written)
    if arguments.seeds:
        files += [p.read_bytes() for p in sorted(arguments.seeds.glob(f"{name}*")) if p.is_file()]
    for i, data in enumerate(files):
        load(data, fresh(work / "under-test"))  # compiles the kernels, off the clock
        (corpus / f"seed-{i}").write_bytes(data)
    target = Target(
        name,
        load,
        folder=work / "under-test",
        findings=arguments.findings,
        seconds=arguments.seconds,
    )
    mutator = None if odd_values is None else JsonMutator(files, odd_values)
    options = [f"-max_len={LARGEST_INPUT}", "-timeout=100", "-rss_limit_mb=0"]
    options += [f"-seed={arguments.seed}", "-print_final_stats=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target, custom_mutator=mutator)
    atheris.Fuzz()


def run(
    script: str,
    description: str,
    formats: Sequence[str],
    fuzz_one: Callable[[str, argparse.Namespace], None],
) -> None:
    """Fuzz one format, or all of them, each in a process of its own, as the command line asks.

    Args:
        script: the path of the program.
        description: what it does, in a line.
        formats: their names.
        fuzz_one: name and arguments -> never returns.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("format", choices=[*formats, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=Path, help="a folder of files named FORMAT-anything")
    parser.add_argument("--findings", type=Path, default=Path("findings"))
    arguments = parser.parse_args()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    if arguments.format != "all":
        fuzz_one(arguments.format, arguments)
        return
    for name in formats:
        command = [sys.executable, script, name, *sys.argv[2:]]
        code = subprocess.run(command, check=False, timeout=arguments.seconds + 300).returncode
        if code:
            print(f"{name}: ended with {code}, see {arguments.findings}/{name}-work/under-test")
