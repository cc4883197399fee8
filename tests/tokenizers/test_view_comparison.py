from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stemma.errors import TokenizerError
from stemma.tokenizers import ByteTokenizer, WordTokenizer, gpt2
from stemma.tokenizers.bpe.characters import CharacterBPE, CharacterRules
from stemma.tokenizers.steps import decoders
from stemma.tokenizers.view import figures
from stemma.tokenizers.view.comparison import compare, kinds_of, unknown_id
from stemma.tokenizers.view.comparison_page import comparison_page
from stemma.tokenizers.view.languages import (
    LanguageCost,
    ScriptCost,
    Translation,
    language_costs,
    read_translations,
    script_costs,
)
from stemma.tokenizers.view.samples import GROUPS, cut_samples
from stemma.tokenizers.view.scripts import main_script, script_counts
from stemma.tokenizers.view.tables import share, show_measures, show_samples, show_scripts
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

BERT = WordPiece.bert(["[UNK]", "[CLS]", "[SEP]", "a", "b", "##b", "c"])


def test_measures_by_hand() -> None:
    gpt, bytes_ = compare({"gpt2": gpt2(), "bytes": ByteTokenizer()}, "Hello wörld\n\nHello é")
    assert gpt.tokens == len(gpt2().encode("Hello wörld\n\nHello é"))
    assert bytes_.tokens == 22
    assert bytes_.bytes_per_token == 1.0
    assert bytes_.tokens_per_word == 22 / 4
    assert bytes_.bytes == 4 / 22
    assert bytes_.single_characters == 18 / 22
    assert bytes_.used == 12 / bytes_.vocab_size
    assert (bytes_.unknown, bytes_.changed_lines, bytes_.changed_example) == (0, 0, None)
    (bert,) = compare({"bert": BERT}, "ab c\nAB x\n")
    assert bert.tokens == 6
    assert bert.unknown == 1 / 6
    assert bert.changed_lines == 0.5
    assert bert.changed_example == ("AB x", "ab [UNK]")
    assert bert.to_json()["tokenizer"] == "bert"
    with pytest.raises(TokenizerError, match="no text"):
        compare({"gpt2": gpt2()}, " \n")


def test_kinds() -> None:
    single, partial = kinds_of(gpt2(), [0, 262, 124, 30570])
    assert single.tolist() == [True, False, False, False]
    assert partial.tolist() == [False, False, True, False]
    tokens = ["a", *(f"<0x{value:02X}>" for value in range(256))]
    fallback = CharacterBPE(
        tokens,
        [],
        rules=CharacterRules(byte_fallback=True),
        decoder=decoders.Sequence((decoders.ByteFallback(), decoders.Fuse())),
    )
    assert [k.tolist() for k in kinds_of(fallback, [0, 11])] == [[True, False], [False, True]]
    assert [k.tolist() for k in kinds_of(BERT, [0, 3, 5])] == [[False, True, True], [False] * 3]


def test_unknown_ids() -> None:
    assert unknown_id(gpt2()) is None
    assert unknown_id(BERT) == 0
    assert unknown_id(WordTokenizer(["a"])) == 2


def test_samples_are_cut_by_all() -> None:
    without_unknown = WordTokenizer(["hello"], [])
    names = {"gpt2": gpt2(), "bytes": ByteTokenizer(), "words": without_unknown}
    samples = cut_samples(names)
    assert [s.text for s in samples] == [text for group in GROUPS for text in group.texts]
    for sample in samples:
        gpt, bytes_, words = sample.cuts
        assert gpt is not None
        assert bytes_ is not None
        assert "".join(t.spelling.decode("latin-1") for t in gpt.tokens).encode("latin-1") == (
            sample.text.encode()
        )
        assert len(bytes_.tokens) == len(sample.text.encode())
        assert (words is None) == ("hello" not in sample.text)
    assert samples[0].to_json()["cuts"][2] is None


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("Hello, Welt! 123", "Latin"),
        ("Привет, world", "Cyrillic"),
        ("日本語の文章です", "Japanese"),
        ("你好，世界", "Han"),
        ("안녕하세요", "Hangul"),
        ("कि", "Devanagari"),
        ("123 ...", "Common"),
        ("", "Common"),
        ("ᓄᓇᕗᑦ", "Canadian Aboriginal"),
    ],
)
def test_scripts(text: str, script: str) -> None:
    assert main_script(text) == script


def test_script_counts() -> None:
    counts = script_counts("aé1 я\u0301\U0010ffff\u0378")
    assert counts == {"Latin": 2, "Common": 2, "Cyrillic": 1, "Inherited": 1, "Unknown": 2}
    import unicodedata

    for code in range(0x250):
        name = unicodedata.name(chr(code), "")
        if name.startswith("LATIN ") and chr(code).isalpha():
            assert script_counts(chr(code)) == {"Latin": 1}


def archive(folder: Path, **texts: str) -> Path:
    path = folder / "texts.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, text in texts.items():
            file.writestr(f"udhr2/{name}.txt", "\ufeff" + text)
    return path


ENGLISH = "Title\n\n  One two three four five.\n  Six seven eight nine ten.\n"


def test_languages_by_hand(tmp_path: Path) -> None:
    path = archive(
        tmp_path,
        eng=ENGLISH,
        deu="Titel\nEins zwei drei\nvier fünf\n",
        rus="Титул\nодин два\nтри\n",
        half="Title\n",
        none="1\n2\n3\n",
    )
    translations = read_translations(path)
    assert [(one.code, one.script) for one in translations] == [
        ("deu", "Latin"),
        ("eng", "Latin"),
        ("rus", "Cyrillic"),
    ]
    costs = language_costs({"bytes": ByteTokenizer(), "gpt2": gpt2()}, translations)
    german = costs[0]
    n_german, n_english = (
        len("Titel\nEins zwei drei\nvier fünf".encode()),
        len("Title\nOne two three four five.\nSix seven eight nine ten."),
    )
    assert german == LanguageCost(
        "bytes",
        "deu",
        "Latin",
        n_german,
        n_german / 2,
        n_german / (n_german - 1),
        n_german / n_english,
        0.0,
    )
    rows = script_costs(costs)
    assert [(row.script, row.tokenizer) for row in rows] == [
        ("English", "bytes"),
        ("English", "gpt2"),
        ("Latin", "bytes"),
        ("Latin", "gpt2"),
        ("Cyrillic", "bytes"),
        ("Cyrillic", "gpt2"),
    ]
    assert rows[0].relative == 1.0
    assert rows[2].codes == ("deu",)


def test_a_script_is_the_median_of_its_languages() -> None:
    costs = [
        LanguageCost("t", code, "Latin", n, n / 10, n / 100, n / 20, 0.0)
        for code, n in [("eng", 20), ("a", 10), ("b", 30), ("c", 80)]
    ]
    english, latin = script_costs(costs)
    assert (english.relative, english.codes) == (1.0, ("eng",))
    assert (latin.relative, latin.tokens_per_sentence) == (1.5, 3.0)
    assert (latin.cheapest, latin.dearest) == (1.0, 8.0)


def test_archives_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"has no eng\.txt"):
        read_translations(archive(tmp_path, deu="Eins\n"))
    (tmp_path / "x.zip").write_bytes(b"PK nothing")
    for name in ("x.zip", "missing.zip"):
        with pytest.raises(TokenizerError, match="cannot be read"):
            read_translations(tmp_path / name)


def test_unknown_tokens_are_told() -> None:
    translations = [Translation("eng", "Latin", "a b\na b a b c"), Translation("x", "Han", "你 a")]
    costs = language_costs({"bert": BERT}, translations)
    assert [cost.unknown for cost in costs] == [0.0, 0.5]
    file = StringIO()
    show_scripts(Console(file=file, width=80), script_costs(costs))
    assert "0.29x?" in file.getvalue()
    assert "lost, not cheap" in " ".join(file.getvalue().split())


def test_tables(tmp_path: Path) -> None:
    tokenizers = {"gpt2": gpt2(), "a name that is long": BERT}
    for width in (80, 120):
        file = StringIO()
        console = Console(file=file, width=width, highlight=False)
        show_measures(console, compare(tokenizers, "ab c x\n" * 3))
        show_samples(console, cut_samples(tokenizers), list(tokenizers))
        lines = file.getvalue().splitlines()
        assert "…" not in file.getvalue()
        assert any(line.startswith("a name that is long") for line in lines)
        assert "   gpt2                   5  123|45|67|.|89" in lines


def test_shares() -> None:
    assert [share(x) for x in (0, 0.0001, 0.0005, 0.123, 1)] == [
        "0.0 %",
        "<0.1 %",
        "0.1 %",
        "12.3 %",
        "100.0 %",
    ]


def test_the_page_of_a_comparison(tmp_path: Path) -> None:
    path = archive(tmp_path, eng=ENGLISH, rus="Титул\nодин два\nтри\n")
    tokenizers = {"gpt2": gpt2(), "<bert>": BERT}
    costs = script_costs(language_costs(tokenizers, read_translations(path)))
    html = comparison_page(
        tokenizers,
        cut_samples(tokenizers),
        measures=compare(tokenizers, "ab <i> c\n"),
        text_name="a&b.txt",
        costs=costs,
    )
    assert "&lt;bert&gt;" in html
    assert "a&amp;b.txt" in html
    assert "<bert>" not in html
    assert "<svg" in html
    addresses = set(re.findall(r"https?://[^/\"]+", html))
    assert addresses == {"http://www.w3.org"}  # the names of SVG and its links
    bare = comparison_page({"gpt2": gpt2()}, cut_samples({"gpt2": gpt2()}))
    assert "<svg" not in bare
    assert "On a text" not in bare


def test_figures(tmp_path: Path) -> None:
    path = archive(tmp_path, eng=ENGLISH, rus="Титул\nодин два\nтри\n")
    costs = script_costs(language_costs({"gpt2": gpt2()}, read_translations(path)))
    figure = figures.tokens_per_sentence(costs)
    for name in ("a.png", "a.svg", "new/a.pdf"):
        figures.save(figure, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000
    again = figures.tokens_per_sentence(costs)
    figures.save(again, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    with pytest.raises(TokenizerError, match=r"(?s)cannot be drawn.*\.png"):
        figures.save(figure, tmp_path / "a.xyz")


def test_the_declaration(mirror: Callable[[str], Path]) -> None:
    translations = read_translations(mirror("text/udhr2.zip"))
    assert len(translations) > 370
    assert {"mya", "jpn", "cmn_hans", "deu_1901"} <= {one.code for one in translations}
    few = [one for one in translations if one.code in ("eng", "deu_1901", "mya", "jpn")]
    rows = {row.script: row.relative for row in script_costs(language_costs({"g": gpt2()}, few))}
    assert rows["English"] == 1.0
    assert 1.5 < rows["Latin"] < 2.5
    assert rows["Myanmar"] > 20
    assert os.environ["STEMMA_MIRROR"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_narrow_table_is_divided_and_not_cut_off(width: int) -> None:
    names = [f"a-rather-long-name-of-a-tokenizer-{i}" for i in range(4)]
    measures = compare({name: gpt2() for name in names}, "Some text in plain words.")
    costs = [
        ScriptCost(name, script, ("eng",), 31.0, 1.0, 1.0, 0.0, 31.0, 31.0)
        for script in ("Latin", "Canadian_Aboriginal")
        for name in names
    ]
    file = StringIO()
    console = Console(file=file, width=width)
    show_measures(console, measures)
    show_scripts(console, costs)
    shown = file.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= width
    assert "…" not in shown
    assert shown.count("50,257") == 4
    assert shown.count(f"{measures[0].bytes_per_token:.3f}") == 4
    assert shown.count("changed") == 1
    assert shown.count("31") == 8
    for i in range(4):
        assert f"-{i}" in shown
