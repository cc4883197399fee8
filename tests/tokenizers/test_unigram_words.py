"""Counting words by sentencepiece's rule, against sentencepiece itself."""

from __future__ import annotations

import io
import math
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.unigram.words import count_unigram_words, cut_word


def count(text: str, **options) -> dict[str, int]:
    return dict(count_unigram_words([text], **{"split_scripts": False, **options}))


def test_words_begin_with_the_space_before_them() -> None:
    assert count("New York, New\nYork") == {"▁New": 2, "▁York,": 1, "▁York": 1}


def test_without_a_space_before_the_sentence() -> None:
    assert count("a b\na", dummy_prefix=False) == {"a": 2, "▁b": 1}


def test_spaces_collapse_or_are_words() -> None:
    assert count("  a  b ") == {"▁a": 1, "▁b": 1}
    # One before the sentence, two at its beginning: the last of them belongs to a.
    assert count("  a  b ", collapse_spaces=False) == {"▁": 4, "▁a": 1, "▁b": 1}
    found = count("  a", collapse_spaces=False, dummy_prefix=False)
    assert found == {"▁": 1, "▁a": 1}


@given(st.lists(st.text("ab ▁\r\n\t<s>é", max_size=20), max_size=5))
def test_the_fast_way_counts_the_same(documents: list[str]) -> None:
    options = {"special_tokens": ["<s>"], "split_scripts": False}
    fast = count_unigram_words(documents, **options)
    assert fast == count_unigram_words(documents, normalizer=str, **options)


def test_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("ä b\nb", "utf-8")
    assert count_unigram_words([tmp_path / "text"]) == {"▁ä": 1, "▁b": 2}


def test_lines_end_words_and_are_none() -> None:
    assert count("a\r\nb\rc\n\n") == {"▁a": 1, "▁b": 1, "▁c": 1}


def test_a_tab_is_no_space_unless_it_is_made_one() -> None:
    assert count("a\tb") == {"▁a\tb": 1}
    assert count("a\tb", normalizer=lambda line: line.replace("\t", " ")) == {"▁a": 1, "▁b": 1}


def test_the_mark_for_a_space_is_a_space() -> None:
    assert count("a▁b▁ c") == {"▁a": 1, "▁b": 1, "▁c": 1}


def test_special_tokens_are_no_words() -> None:
    found = count("a<s>b <s>", special_tokens=["<s>"])
    assert found == {"▁a": 1, "▁b": 1}


def test_documents_are_read_one_by_one() -> None:
    read = []

    def documents() -> Iterator[str]:
        for i in range(3):
            read.append(i)
            yield "a"
        raise OSError

    with pytest.raises(OSError):
        count_unigram_words(documents())
    assert read == [0, 1, 2]
    read.clear()
    with pytest.raises(OSError):
        count_unigram_words(documents(), dummy_prefix=False)
    assert read == [0, 1, 2]


def test_half_a_character_is_refused() -> None:
    with pytest.raises(TokenizerError, match=r"document 1: .*U\+D800"):
        count_unigram_words(["a", "b\ud800"])


def test_one_string_is_refused() -> None:
    with pytest.raises(TokenizerError, match="iterable of texts"):
        count_unigram_words("text")


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("▁don't", ["▁don", "'", "t"]),
        ("▁1,000km", ["▁1,000", "km"]),
        ("▁カタカナーと漢字", ["▁カタカナーと漢字"]),
        ("▁e\u0301te\u0301", ["▁e\u0301te\u0301"]),
        ("▁e\u0301мир", ["▁e\u0301", "мир"]),
        ("\u0301a", ["\u0301a"]),
        ("▁", ["▁"]),
        ("▁мирworld", ["▁мир", "world"]),
        ("▁\u0378a", ["▁\u0378", "a"]),  # not assigned
    ],
)
def test_scripts(word: str, parts: list[str]) -> None:
    assert cut_word(word, by_script=True, digits=False) == parts


@pytest.mark.parametrize(
    ("word", "parts"),
    [("▁12a", ["▁", "1", "2", "a"]), ("a1b2", ["a", "1", "b", "2"]), ("▁٣٤", ["▁٣٤"])],
)
def test_digits(word: str, parts: list[str]) -> None:
    assert cut_word(word, by_script=False, digits=True) == parts


@given(st.text(max_size=30), st.booleans(), st.booleans())
def test_the_parts_are_the_word(word: str, by_script: bool, digits: bool) -> None:
    parts = cut_word(word, by_script=by_script, digits=digits)
    assert "".join(parts) == word
    assert all(parts)


def train(sentences: list[str], **options) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        character_coverage=1.0,
        max_sentence_length=1 << 20,
        minloglevel=2,
        **options,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def vocabulary(model: sentencepiece.SentencePieceProcessor) -> dict[str, float]:
    return {model.id_to_piece(i): model.get_score(i) for i in range(3, model.get_piece_size())}


@pytest.mark.parametrize("collapse", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_counts_are_those_of_sentencepiece(prefix: bool, collapse: bool) -> None:
    # Its word model scores each word by log(count / total).
    generator = random.Random(3)
    characters = "abé \t" if collapse else "abé \t▁"
    sentences = ["".join(generator.choices(characters, k=30)) for _ in range(200)]
    model = train(
        sentences,
        model_type="word",
        vocab_size=100_000,
        add_dummy_prefix=prefix,
        remove_extra_whitespaces=collapse,
    )
    options = {"dummy_prefix": prefix, "collapse_spaces": collapse, "split_scripts": False}
    found = count_unigram_words(sentences, **options)
    total = sum(found.values())
    expected = {word: round(total * math.exp(s)) for word, s in vocabulary(model).items()}
    assert dict(found) == expected


@pytest.mark.parametrize("digits", [True, False])
def test_no_piece_of_sentencepiece_reaches_beyond_a_part(random_texts, digits: bool) -> None:
    # Latin, Cyrillic, Japanese, marks and digits, in any order.
    generator = random.Random(4)
    parts = ["don", "мир", "カタ", "ーと", "漢字", "12", "3,", "'", "e\u0301", "(", "ünï", "٣"]
    words = ["".join(generator.choices(parts, k=4)) for _ in range(300)]
    sentences = [" ".join(generator.choices(words, k=20)) for _ in range(100)]
    model = train(sentences, model_type="unigram", vocab_size=600, split_digits=digits)
    pieces = [piece for piece in vocabulary(model) if len(piece) > 1]
    assert len(pieces) > 30
    for piece in pieces:
        assert len(cut_word(piece, by_script=True, digits=digits)) == 1, piece
    # And the parts are not smaller than they must be: the common ones are among its pieces.
    found = Counter(count_unigram_words(sentences, split_digits=digits))
    common = [word for word, _ in found.most_common(20)]
    assert sum(word in vocabulary(model) for word in common) >= 15
