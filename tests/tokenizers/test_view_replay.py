"""What the steps end with is what encoding gives, for every family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from stemma.tokenizers import BasicBPE, ByteLevelBPE, ByteTokenizer, Tokenizer, gpt2, load_tokenizer
from stemma.tokenizers.bpe.characters import CharacterBPE
from stemma.tokenizers.bpe.graphemes import GraphemeBPE
from stemma.tokenizers.formats import sentencepiece_model
from stemma.tokenizers.view.replay import Matches, Merges, Paths, Piece, Whole, replay
from stemma.tokenizers.view.steps import show_replays
from stemma.tokenizers.wordpiece.tokenizer import WordPiece

TEXT = (
    "the cat sat on the mat\n\n  the dög sat on the lög, and the frög sat too: 你好你好 क्षि\n" * 9
)


def tiktoken_like() -> ByteLevelBPE:
    base = ByteLevelBPE.train([TEXT], 300)
    ranks = {base.token_bytes(i): i for i in range(299)}
    return ByteLevelBPE.from_ranks(ranks, {"<|endoftext|>": 299}, pattern="cl100k")


TRAINED: dict[str, Callable[[], Tokenizer]] = {
    "gpt2": gpt2,
    "bytes": ByteTokenizer,
    "basic": lambda: BasicBPE.train([TEXT], 300),
    "tiktoken": tiktoken_like,
    "characters": lambda: CharacterBPE.train([TEXT], 58),
    "graphemes": lambda: GraphemeBPE.train([TEXT], 290),
    "wordpiece": lambda: WordPiece.train([TEXT], 54),
}
READ: dict[str, tuple[str, Callable[[Path], Tokenizer]]] = {
    "bert": ("tokenizers/bert/tokenizer.json", load_tokenizer),
    "t5": ("tokenizers/t5/flan-t5-tokenizer.json", load_tokenizer),
    "sentencepiece-bpe": (
        "tokenizers/sentencepiece/botchan_en_bpe_1000.model",
        sentencepiece_model.read,
    ),
    "sentencepiece-unigram": (
        "tokenizers/sentencepiece/botchan_en_unigram_1000.model",
        sentencepiece_model.read,
    ),
}


def assert_replayed(tokenizer: Tokenizer, texts: list[str]) -> None:
    for text in texts:
        if any(name in text for name in tokenizer._added.always):
            continue
        found = [id_ for one in replay(tokenizer, text) for id_ in one.ids]
        assert found == tokenizer.encode(text).tolist(), text


@pytest.mark.parametrize("name", TRAINED)
def test_the_steps_end_with_the_ids(
    name: str, awkward: list[str], random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    assert_replayed(TRAINED[name](), [*awkward, TEXT[:200], *random_texts(60, 7)])


@pytest.mark.filterwarnings("ignore:the file asks for")
@pytest.mark.parametrize("name", READ)
def test_the_steps_end_with_the_ids_of_known_models(
    name: str,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
    mirror: Callable[[str], Path],
) -> None:
    path, read = READ[name]
    assert_replayed(read(mirror(path)), [*awkward, TEXT[:200], *random_texts(40, 8)])


def test_merges_by_hand() -> None:
    (one,) = replay(gpt2(), "wörld")
    assert isinstance(one, Merges)
    assert [piece.spelling for piece in one.symbols] == [b"w", b"\xc3", b"\xb6", b"r", b"l", b"d"]
    steps = [(m.at, m.left.spelling, m.right.spelling, m.rank, m.made.id) for m in one.merges]
    assert steps == [
        (4, b"l", b"d", 79, 335),
        (1, b"\xc3", b"\xb6", 8845, 9101),
        (1, "ö".encode(), b"r", 30314, 30570),
    ]
    assert [piece.id for piece in one.merges[-1].row] == [86, 30570, 335]
    assert one.ids == (86, 30570, 335)


def test_a_whole_word_needs_no_merges() -> None:
    tokenizer = tiktoken_like()
    (one, *_) = replay(tokenizer, "the cat")
    assert isinstance(one, Whole)
    assert "as it stands" in one.note


def test_word_piece_by_hand() -> None:
    tokens = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "##a"]
    tokenizer = WordPiece.bert(tokens)
    (one, lost) = replay(tokenizer, "unaffable unaffx")
    assert isinstance(one, Matches)
    assert [(m.piece, m.text, m.rest) for m in one.matches] == [
        (Piece(3, b"un"), "un", "affable"),
        (Piece(4, b"##aff"), "aff", "able"),
        (Piece(5, b"##able"), "able", ""),
    ]
    assert isinstance(lost, Matches)
    assert lost.matches[-1].piece is None
    assert lost.matches[-1].rest == "x"
    assert lost.ids == (0,)


def test_paths_are_ranked(mirror: Callable[[str], Path]) -> None:
    tokenizer = sentencepiece_model.read(
        mirror("tokenizers/sentencepiece/botchan_en_unigram_1000.model")
    )
    words = replay(tokenizer, "the unaffable teacher")
    for one in words:
        assert isinstance(one, Paths)
        scores = [path.score for path in one.paths]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(p.spelling for p in path.pieces) for path in one.paths}) == len(scores)
        for path in one.paths:
            assert sum(p.score or 0.0 for p in path.pieces) == pytest.approx(path.score, rel=1e-5)
            assert b"".join(p.spelling for p in path.pieces).decode() == one.word
        assert one.n_edges >= len(one.word)


def test_a_long_word_is_not_replayed() -> None:
    (one,) = replay(gpt2(), "x" * 100_000)
    assert isinstance(one, Whole)
    assert "100,000 characters" in one.note
    assert list(one.ids) == gpt2().encode("x" * 100_000).tolist()


def printed(tokenizer: Tokenizer, text: str, width: int = 80) -> str:
    file = StringIO()
    show_replays(Console(file=file, width=width, highlight=False), replay(tokenizer, text))
    return file.getvalue()


def test_steps_on_a_terminal() -> None:
    lines = printed(gpt2(), " wörld! wörld").splitlines()
    assert lines[1] == "·wörld  3 tokens: 266 30570 335  (2 times)"
    assert lines[2].split() == ["rank", "pair", "makes", "id"]
    assert lines[3].strip() == "·|w|<c3>|<b6>|r|l|d"
    assert lines[7].split() == ["30,314", "ö", "+", "r", "30570", "·w|ör|ld"]
    assert lines[-1] == "tokens from the start: ! 0  "


def test_matches_and_paths_on_a_terminal(mirror: Callable[[str], Path]) -> None:
    tokens = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able"]
    shown = printed(WordPiece.bert(tokens), "unaffable unx")
    assert "##aff           4  able" in shown
    assert "none" in shown
    assert "the whole word is unknown" in shown
    model = mirror("tokenizers/sentencepiece/botchan_en_unigram_1000.model")
    shown = printed(sentencepiece_model.read(model), "teacher")
    assert "best" in shown
    assert "pieces found in the word" in shown
    model = mirror("tokenizers/sentencepiece/botchan_en_bpe_1000.model")
    shown = printed(sentencepiece_model.read(model), "teacher")
    assert shown.splitlines()[2].split()[0] == "score"
