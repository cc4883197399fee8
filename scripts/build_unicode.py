"""Build `src/stemma/tokenizers/unicode/properties.txt` from the npm packages @unicode/unicode-*.

    npm install @unicode/unicode-{8,9,14,17}.0.0
    python scripts/build_unicode.py node_modules/@unicode

The packages (MIT) hold the Unicode Consortium's own tables, one list of ranges a property. Which
version is needed where is told in `stemma.tokenizers.unicode.properties`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/stemma/tokenizers/unicode/properties.txt"
BREAKS = {
    name: [f"17.0.0/Grapheme_Cluster_Break/{name}"]
    for name in ("Control", "Extend", "Prepend", "SpacingMark", "L", "V", "T", "LV", "LVT")
}
SOURCES = BREAKS | {
    "Regional_Indicator": ["17.0.0/Grapheme_Cluster_Break/Regional_Indicator"],
    "Extended_Pictographic": ["17.0.0/Binary_Property/Extended_Pictographic"],
    "Conjunct_Consonant": ["17.0.0/Indic_Conjunct_Break/Consonant"],
    "Conjunct_Extend": ["17.0.0/Indic_Conjunct_Break/Extend"],
    "Conjunct_Linker": ["17.0.0/Indic_Conjunct_Break/Linker"],
    "Unassigned_14": ["14.0.0/General_Category/Unassigned"],
    "Unassigned_9": ["9.0.0/General_Category/Unassigned"],
    "Mark_9": [
        f"9.0.0/General_Category/{kind}_Mark" for kind in ("Nonspacing", "Spacing", "Enclosing")
    ],
    "Nonspacing_Mark_8": ["8.0.0/General_Category/Nonspacing_Mark"],
    "Control_8": [
        f"8.0.0/General_Category/{kind}" for kind in ("Control", "Format", "Private_Use")
    ],
}
HEADER = (
    "# Unicode: code points by property (version 17.0 where the name ends with no other), then\n"
    "# the lower-case letters of those capitals that are younger than version 14.0.\n"
)


def main(packages: str) -> None:
    """Write the table from the packages in a folder."""
    code = f"""
    const root = {json.dumps(str(Path(packages).resolve()))} + "/unicode-";
    const load = async (path) => (await import(root + path)).default;
    const ranges = {{}};
    for (const [name, paths] of Object.entries({json.dumps(SOURCES)})) {{
      ranges[name] = [];
      for (const path of paths)
        for (const one of await load(path + "/ranges.mjs"))
          ranges[name].push([one.begin, one.end - 1]);
    }}
    const lower = [...await load("17.0.0/Simple_Case_Mapping/Lowercase/code-points.mjs")];
    console.log(JSON.stringify({{ ranges, lower }}));
    """
    node = ["node", "--input-type=module", "-e", code]
    found = json.loads(subprocess.run(node, check=True, capture_output=True, text=True).stdout)
    lines = [
        " ".join([name, *(_written(first, last) for first, last in _joined(ranges))])
        for name, ranges in found["ranges"].items()
    ]
    young = found["ranges"]["Unassigned_14"]
    pairs = [
        f"{capital:X}-{small:X}"
        for capital, small in sorted(found["lower"])
        if any(first <= capital <= last for first, last in young)
    ]
    lines.append(" ".join(["Lowercase", *pairs]))
    TARGET.write_text(HEADER + "\n".join(lines) + "\n", "ascii")
    print(f"{TARGET}: {len(lines)} properties, {TARGET.stat().st_size:,} bytes")


def _joined(ranges: list[list[int]]) -> list[list[int]]:
    joined: list[list[int]] = []
    for first, last in sorted(ranges):
        if joined and joined[-1][1] + 1 == first:
            joined[-1][1] = last
        else:
            joined.append([first, last])
    return joined


def _written(first: int, last: int) -> str:
    return f"{first:X}" if first == last else f"{first:X}-{last:X}"


if __name__ == "__main__":
    main(sys.argv[1])
