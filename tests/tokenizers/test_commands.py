from __future__ import annotations

import gzip
import json
import warnings
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE, Tokenizer, gpt2, load_tokenizer
from stemma.tokenizers.commands import _given_text, app
from stemma.tokenizers.named import find_tokenizer, find_tokenizers
from stemma.tokenizers.training import FAMILIES, Bars, Lines, text_files, train_family

TEXT = "the cat sat on the mat\n\n  the dog sat on the log, and the frog sat too\n" * 9


def invoke(*arguments: str, stdin: bytes | str | None = None, mirror: Path | None = None) -> Result:
    runner = CliRunner(env={"STEMMA_MIRROR": None if mirror is None else str(mirror)})
    return runner.invoke(app, arguments, input=stdin, catch_exceptions=False)


def run(*arguments: str, stdin: bytes | str | None = None, mirror: Path | None = None) -> str:
    result = invoke(*arguments, stdin=stdin, mirror=mirror)
    assert result.exit_code == 0, result.output
    return result.stdout


# train


def test_train_writes_what_the_library_would(tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text(TEXT)
    output = tmp_path / "tokenizer"
    inputs = [part for file in files for part in ("--input", str(file))]
    shown = run("train", *inputs, "--vocab-size", "280", "--output", str(output))
    size, ratio, following = shown.splitlines()
    assert size == f"{output}: 280 tokens, 23 merges"
    expected = ByteLevelBPE.train([TEXT] * 2, 280)
    assert load_tokenizer(output).fingerprint == expected.fingerprint
    n_bytes = 2 * len(TEXT)
    found = f"{n_bytes / (2 * len(expected.encode(TEXT))):.3f} bytes per token"
    assert ratio == f"{found} on the first {n_bytes / 1e6:.2f} MB of the input"
    assert following.endswith(f"--tokenizer {output}")
    with pytest.raises(TokenizerError, match="there is a tokenizer already"):
        run("train", *inputs, "--vocab-size", "290", "--output", str(output))


def test_train_on_too_little_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab ab")
    arguments = ["train", "--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "t")]
    with pytest.raises(TokenizerError, match="the text gives 1"):
        run(*arguments, "--vocab-size", "500")
    assert not (tmp_path / "t").exists()
    assert "258 tokens" in run(*arguments, "--vocab-size", "500", "--allow-fewer")


def test_train_says_what_is_lost(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a b c d")
    arguments = ["--vocab-size", "4", "-o", str(tmp_path / "t"), "--family", "word"]
    shown = run("train", "-i", str(tmp_path / "a.txt"), *arguments)
    assert "1.750 bytes per token on the first 0.00 MB of the input; 50.0 % of them" in shown


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_trained_and_shown(family: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    size = "50" if family in ("wordpiece", "characters", "character", "word") else "300"
    fewer = ["--allow-fewer"] * (family not in ("character", "word"))
    output = str(tmp_path / "t")
    source = str(tmp_path / "a.txt")
    run("train", "-i", source, "--vocab-size", size, "-o", output, "--family", family, *fewer)
    read = load_tokenizer(output)
    assert 10 < read.vocab_size <= int(size)
    shown = run("show", "the cat sat", "-t", output, "--merges")
    assert shown.splitlines()[-1].endswith("(t)")
    assert read.decode(read.encode("the cat sat")).strip() == "the cat sat"


def test_train_with_other_special_tokens(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    options = ["--special-token", "<a>", "--special-token", "<b>", "--vocab-size", "270"]
    run("train", "-i", str(tmp_path / "a.txt"), *options, "-o", str(tmp_path / "t"))
    assert load_tokenizer(tmp_path / "t").special_tokens == {"<a>": 268, "<b>": 269}


def test_train_says_what_it_cannot_do(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    arguments = ["train", "-o", str(tmp_path / "t"), "--vocab-size", "60"]
    source = ["-i", str(tmp_path / "a.txt")]
    with pytest.raises(TokenizerError, match=r"(?s)no family 'bep'.*Choose one of bpe, unigram"):
        run(*arguments, *source, "--family", "bep")
    with pytest.raises(TokenizerError, match="family word has no option --allow-fewer"):
        run(*arguments, *source, "--family", "word", "--allow-fewer")
    with pytest.raises(TokenizerError, match="no such file"):
        run(*arguments, "-i", str(tmp_path / "b.txt"))
    with pytest.raises(TokenizerError, match=r"special tokens has no token \[CLS\] and no \[SEP\]"):
        run(*arguments, *source, "--family", "wordpiece", "--special-token", "[UNK]")


def test_folders(tmp_path: Path) -> None:
    for name in ("b.txt", "a/c.md", "a/d.bin", ".hidden/e.txt", "a/.f.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    for name in ("a/g.TXT.gz", "a/h.bin.gz", "a/i.gz"):
        (tmp_path / name).write_bytes(b"x")
    found = [str(path.relative_to(tmp_path)) for path in text_files([tmp_path])]
    assert found == ["a/c.md", "a/g.TXT.gz", "b.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(TokenizerError, match=r"(?s)no text files.*\.txt"):
        text_files([tmp_path / "empty"])


def test_training_reads_packed_files_and_standard_input(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT, newline="")
    (tmp_path / "b.txt.gz").write_bytes(gzip.compress(TEXT.encode()))

    def trained(name: str, *sources: str, stdin: bytes | str = "") -> tuple[bytes, str]:
        given = [part for source in sources for part in ("-i", source)]
        said = run("train", *given, "--vocab-size", "280", "-o", str(tmp_path / name), stdin=stdin)
        return (tmp_path / name / "tokenizer.json").read_bytes(), said.splitlines()[1]

    plain = trained("plain", str(tmp_path / "a.txt"))
    assert f"on the first {len(TEXT) / 1e6:.2f} MB of the input" in plain[1]
    assert trained("packed", str(tmp_path / "b.txt.gz")) == plain
    assert trained("piped", "-", stdin=TEXT) == plain
    both = trained("both", str(tmp_path / "a.txt"), str(tmp_path / "b.txt.gz"))
    assert trained("folder", str(tmp_path)) == both
    assert both == trained("two", str(tmp_path / "a.txt"), "-", stdin=TEXT)
    with pytest.raises(TokenizerError, match="standard input: is not UTF-8: byte 0xff at offset 1"):
        trained("no", "-", stdin=b"a\xff")
    with pytest.raises(TokenizerError, match=r"standard input \(-\) is named twice"):
        trained("no", "-", "-")
    packed = (tmp_path / "b.txt.gz").read_bytes()
    for damaged in (b"text", packed[:-9], packed[:30] + b"xxxx" + packed[34:]):
        (tmp_path / "c.gz").write_bytes(damaged)
        with pytest.raises(TokenizerError, match=r"c\.gz: cannot be read"):
            trained("no", str(tmp_path / "c.gz"))


def test_progress_in_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 3))
    monkeypatch.setattr("stemma.tokenizers.training.time.monotonic", lambda: float(next(now)))
    file = StringIO()
    with Lines(Console(file=file, width=200), 100) as progress:
        assert list(progress.reading(["x" * 10] * 10)) == ["x" * 10] * 10
        for done in range(0, 2001, 100):
            progress.learning(done, 2000)
    lines = file.getvalue().splitlines()
    assert lines[0].startswith("reading text: 0 MB, ")
    assert lines[-1] == "learning: 2,000 of 2,000 tokens, 0 s left"
    assert 4 <= len(lines) <= 16


def test_progress_where_the_size_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 3))
    monkeypatch.setattr("stemma.tokenizers.training.time.monotonic", lambda: float(next(now)))
    file = StringIO()
    with Lines(Console(file=file, width=200), 0) as progress:
        assert len(list(progress.reading(["x" * 1_000_000] * 10))) == 10
    lines = file.getvalue().splitlines()
    assert lines == [f"reading text: {n} MB" for n in (2, 4, 6, 8, 10)]
    file = StringIO()
    with Bars(Console(file=file, force_terminal=True, width=120), 0) as bars:
        assert list(bars.reading(["x"] * 5)) == ["x"] * 5
        bars.learning(20, 20)
    assert "20 of 20 tokens" in file.getvalue()


def test_training_on_bytes_says_how_far_it_is() -> None:
    said: list[tuple[int, int]] = []
    BasicBPE.train([TEXT], 262, progress=lambda *counts: said.append(counts))
    assert said == [(n, 5) for n in range(1, 6)]


def test_progress_on_a_terminal() -> None:
    file = StringIO()
    console = Console(file=file, force_terminal=True, width=120)
    with Bars(console, 100) as progress:
        assert list(progress.reading(["é"] * 50)) == ["é"] * 50
        progress.learning(10, 20)
        progress.learning(20, 20)
    shown = file.getvalue()
    assert "reading text" in shown
    assert "learning" in shown
    assert "20 of 20 tokens" in shown


def test_a_library_call_shows_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    console = Console(file=StringIO(), force_terminal=True, width=120)
    tokenizer, head = train_family("bpe", [tmp_path], 280, console)
    assert isinstance(tokenizer, Tokenizer)
    assert "".join(head) == TEXT
    monkeypatch.setattr("stemma.tokenizers.training.HEAD_BYTES", 100)
    assert "".join(train_family("bpe", [tmp_path], 280, console).head) == TEXT[:100]
    assert "of 23 tokens" in console.file.getvalue()  # type: ignore[attr-defined]


# show


def test_show_cuts_and_numbers() -> None:
    lines = run("show", "Hello wörld\n[bold]€").splitlines()
    assert lines[:2] == ["Hello│·w │ör   │ld │⏎", "15496│266│30570│335│198"]
    assert lines[-1] == "9 tokens, 22 bytes, 2.44 bytes per token (gpt2)"
    assert run("show", "").splitlines() == ["0 tokens, 0 bytes (gpt2)"]
    assert run("show", "a b", "--no-ids").splitlines()[0] == "a│·b"


def test_show_reads_a_directory_and_standard_input(tmp_path: Path) -> None:
    ByteLevelBPE.train([TEXT], 280).save(tmp_path / "mine")
    assert "·the" in run("show", "on the", "--tokenizer", str(tmp_path / "mine"))
    assert "<e2>" in run("show", "--tokenizer", str(tmp_path / "mine"), stdin="€")
    (tmp_path / "a.txt").write_text("on the")
    assert "2 tokens" in run("show", "--file", str(tmp_path / "a.txt"))
    with pytest.raises(TokenizerError, match="a text and a --file"):
        run("show", "x", "--file", str(tmp_path / "a.txt"))
    with pytest.raises(TokenizerError, match="standard input: is not UTF-8: byte 0xff at offset 1"):
        run("show", stdin=b"a\xff")
    with pytest.raises(TokenizerError, match="the text given: is not UTF-8: byte 0xff at offset 1"):
        run("show", "a\udcff")


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("character", "each character is looked up by itself: there are no merges"),
        ("word", "each word is looked up as it stands: there are no merges, and a word"),
    ],
)
def test_show_says_where_nothing_is_merged(family: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    made = str(tmp_path / family)
    unknown = ("--special-token", "<|unk|>")
    run(
        "train", "-i", str(tmp_path), "--vocab-size", "40", "--family", family, "-o", made, *unknown
    )
    assert said in " ".join(run("show", "--merges", "-t", made, "the mat").split())


def test_whoever_sits_at_the_keyboard_is_told_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Keyboard(StringIO):
        buffer = BytesIO(b"typed")

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Keyboard())
    assert _given_text(None, None) == "typed"
    assert "Type the text; end with Ctrl-D" in capsys.readouterr().err


def test_show_special_tokens() -> None:
    plain = run("show", "a<|endoftext|>")
    assert "--special reads it as the token" in plain
    assert "50256" not in plain
    special = run("show", "a<|endoftext|>", "--special")
    assert "50256" in special
    assert "--special" not in special


def test_show_merges() -> None:
    shown = run("show", "the wörld", "--merges")
    assert "30,314  ö + r" in shown
    assert shown.splitlines()[-1].startswith("4 tokens")


def test_show_json_and_html(tmp_path: Path) -> None:
    page = tmp_path / "new" / "a.html"
    shown = run("show", "wörld", "--json", "--html", str(page))
    assert '"text": "wörld"' in shown
    found = json.loads(shown)
    assert [token["id"] for token in found["tokens"]] == gpt2().encode("wörld").tolist()
    assert found["tokens"][1] == {
        "id": 30570,
        "token": "ör",
        "bytes": "c3b672",
        "start": 1,
        "end": 4,
        "special": False,
    }
    assert page.read_text().startswith("<!doctype html>")
    with pytest.raises(TokenizerError, match="there is a file already"):
        run("show", "x", "--html", str(page))
    run("show", "other", "--html", str(page), "--overwrite")
    assert "other" in page.read_text()


# compare and stats


def test_compare(tmp_path: Path) -> None:
    ByteLevelBPE.train([TEXT], 280).save(tmp_path / "mine")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfthe cat\r\nsat\r\n")
    arguments = ["compare", "gpt2", str(tmp_path / "mine"), "--text", str(tmp_path / "a.txt")]
    shown = run(*arguments)
    assert "gpt2 50,257" in " ".join(shown.split())
    assert "mine 280" in " ".join(shown.split())
    assert "1234567.89" in shown
    assert "1234567.89" not in run(*arguments, "--no-samples")
    found = json.loads(run(*arguments, "--json", "--no-samples"))
    n_bytes = len("the cat\nsat\n")
    assert [row["tokens"] * row["bytes_per_token"] for row in found["measures"]] == [n_bytes] * 2
    assert found["samples"] == found["scripts"] == []
    run(*arguments, "--html", str(tmp_path / "a.html"), "--no-samples")
    assert "What irritates" in (tmp_path / "a.html").read_text()


def test_compare_needs_texts_in_many_languages_for_a_figure(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"(?s)many languages.*--udhr"):
        run("compare", "gpt2", "--figure", str(tmp_path / "a.png"))


def test_compare_by_language(tmp_path: Path, mirror: Callable[[str], Path]) -> None:
    figure = tmp_path / "a.svg"
    arguments = ["compare", "gpt2", "--no-samples", "--figure", str(figure)]
    folder = mirror("text/udhr2.zip").parent.parent
    shown = run(*arguments, mirror=folder)
    assert any(line.startswith("Myanmar") for line in shown.splitlines())
    assert "<svg" in figure.read_text()
    with pytest.raises(TokenizerError, match="there is a file already"):
        run(*arguments, mirror=folder)


def test_stats(tmp_path: Path) -> None:
    ByteLevelBPE.train([TEXT], 280).save(tmp_path / "mine")
    shown = run("stats", str(tmp_path / "mine"))
    assert "mine (ByteLevelBPE)" in shown
    assert "13 tokens that no text was found to give" in shown
    (tmp_path / "a.txt").write_text(TEXT)
    found = json.loads(
        run("stats", str(tmp_path / "mine"), "--json", "--text", str(tmp_path / "a.txt"))
    )
    assert found["merges"] == 23
    assert found["measure"]["tokenizer"] == "mine"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("columns", ["30", "80"])
def test_any_terminal_can_show_all(encoding: str, columns: str, tmp_path: Path) -> None:
    ByteLevelBPE.train([TEXT + "é€"], 280).save(tmp_path / "mine")
    mine = str(tmp_path / "mine")
    runner = CliRunner(charset=encoding, env={"STEMMA_MIRROR": None, "COLUMNS": columns})
    text = "é 日本\u200d\n\t" + "x" * 100 + " שלום " + "=" * 64
    for arguments in (
        ["show", text, "--merges"],
        ["show", text, "--no-ids"],
        ["compare", mine],
        ["stats", mine],
    ):
        result = runner.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        assert result.stdout_bytes.decode(encoding)


# encode and decode


@pytest.mark.parametrize("text", ["Hello wörld\n\n 🙂", "", "\n", "<|endoftext|>\n", "a\r\nb"])
def test_encode_and_decode_are_inverse(text: str) -> None:
    ids = run("encode", stdin=text)
    assert list(map(int, ids.split())) == gpt2().encode(text).tolist()
    assert invoke("decode", stdin=ids).stdout_bytes.decode() == text
    assert run("encode", text) == ids


def test_encode_lines() -> None:
    assert run("encode", "--lines", stdin="Hello\n\n wörld\n") == "15496\n\n266 30570 335\n"
    assert run("encode", "--lines", stdin="Hello") == "15496\n"
    assert run("encode", "<|endoftext|>", "--special") == "50256\n"


def test_decode() -> None:
    assert run("decode", "15496", "50256", "995") == "Hello<|endoftext|> world"
    assert run("decode", "15496", "50256", "995", "--skip-special") == "Hello world"
    assert invoke("decode", "447", "120").stdout_bytes == b"\xe2\x80" + gpt2().token_bytes(120)
    with pytest.raises(TokenizerError, match=r"(?s)'x' is not an id.*whole numbers"):
        run("decode", stdin="1 x 2")
    with pytest.raises(TokenizerError, match="50257 at position 1"):
        run("decode", stdin="1 50257")


# names


def test_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tokenizer("gpt2") == ("gpt2", gpt2())
    base = ByteLevelBPE.train([TEXT], 280)
    base.save(tmp_path / "run" / "tokenizer")
    (tmp_path / "run" / "recipe.toml").write_text("")
    for path in ("run", "run/tokenizer", "run/tokenizer/tokenizer.json"):
        label, found = find_tokenizer(str(tmp_path / path))
        assert (label, found.fingerprint) == ("run", base.fingerprint)
    base.save(tmp_path / "other" / "run")
    names = [str(tmp_path / "run"), str(tmp_path / "other" / "run"), "gpt2"]
    assert list(find_tokenizers(names)) == names
    monkeypatch.delenv("STEMMA_MIRROR", raising=False)
    with pytest.raises(TokenizerError, match=r"(?s)no tokenizer 'gpt3'.*STEMMA_MIRROR"):
        find_tokenizer("gpt3")
    monkeypatch.setenv("STEMMA_MIRROR", str(tmp_path))
    with pytest.raises(TokenizerError, match="or gpt2"):
        find_tokenizer("cl100k_base")


@pytest.mark.parametrize(
    ("name", "size"),
    [("cl100k_base", 100277), ("r50k_base", 50257), ("bert", 30522), ("t5", 32100)],
)
def test_names_of_the_mirror(
    name: str, size: int, mirror: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemma.tokenizers.named import IN_MIRROR

    folder = mirror(IN_MIRROR[name]).parents[2]
    monkeypatch.setenv("STEMMA_MIRROR", str(folder))
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        label, found = find_tokenizer(name, notes.append)
    assert (label, found.vocab_size) == (name, size)
    assert len(notes) == len(set(notes))
    assert bool(notes) == (name in ("bert", "t5"))
