from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.data import split
from stemma.data.sources import Document
from stemma.data.split import split_documents, train_and_held_out
from stemma.errors import DataError


def documents(sizes: list[int]) -> list[Document]:
    return [Document(f"{i:06d}" + "x" * (size - 6), f"d{i}") for i, size in enumerate(sizes)]


def n_bytes(side: list[Document]) -> int:
    return sum(document.n_bytes for document in side)


@given(
    st.lists(st.integers(100, 3000), min_size=3, max_size=60),
    st.sampled_from([0.05, 0.1, 0.3, 0.5]),
    st.integers(0, 1000),
)
def test_every_character_lands_on_one_side_and_both_sides_have_text(
    sizes: list[int], fraction: float, seed: int
) -> None:
    corpus = documents([size + 2000 for size in sizes])
    parts = list(split_documents(corpus, fraction, seed))
    assert "".join(p.document.text for p in parts) == "".join(d.text for d in corpus)
    assert {part.held_out for part in parts} == {True, False}
    held = sum(part.document.n_bytes for part in parts if part.held_out)
    largest = max(document.n_bytes for document in corpus) / n_bytes(corpus)  # it may be a whole
    assert fraction / 2 * 0.9 <= held / n_bytes(corpus) <= max(0.5, fraction * 1.5, largest)


def test_the_share_is_close_where_documents_are_many() -> None:
    corpus = documents([1000] * 200)
    for seed in range(20):
        _, held = train_and_held_out(corpus, 0.1, seed)
        assert len(held) == pytest.approx(20, abs=2)


def test_the_seed_decides_and_the_order_of_the_documents_does_not() -> None:
    corpus = documents([1000] * 50)

    def held(seed: int, texts: list[Document]) -> set[str]:
        return {document.text for document in train_and_held_out(texts, 0.2, seed)[1]}

    assert held(1, corpus) == held(1, corpus[::-1])
    assert held(1, corpus) != held(2, corpus)


def test_each_document_is_held_out_under_some_seed_about_as_often_as_any_other() -> None:
    corpus = documents([1000] * 10)
    counts = dict.fromkeys([document.origin for document in corpus], 0)
    for seed in range(500):
        for document in train_and_held_out(corpus, 0.2, seed)[1]:
            counts[document.origin] += 1
    assert sum(counts.values()) == 1000
    assert all(60 < count < 145 for count in counts.values())  # 100 +- 5 standard deviations


def test_equal_texts_are_never_on_both_sides() -> None:
    corpus = documents([1000] * 20) * 3
    train, held = train_and_held_out(corpus, 0.2, 5)
    assert not {document.text for document in train} & {document.text for document in held}
    assert len(train) + len(held) == 60


def test_a_corpus_beyond_the_first_documents_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "FIRST_DOCUMENTS", 50)
    read = 0

    def stream() -> Iterator[Document]:
        nonlocal read
        for document in corpus:
            read += 1
            yield document

    corpus = documents([200] * 5000)
    corpus[4000] = corpus[3]  # a repetition long after the first documents
    parts = split_documents(stream(), 0.1, 0)
    first = next(parts)
    assert read == 50
    rest = [first, *parts]
    assert sum(part.held_out for part in rest) == pytest.approx(500, abs=100)
    assert rest[3].held_out == rest[4000].held_out


def test_two_large_first_documents_give_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split, "FIRST_BYTES", 1000)
    for seed in range(20):
        train, held = train_and_held_out(documents([5000, 5000]), 0.1, seed)
        assert (len(train), len(held)) == (1, 1)


@pytest.mark.parametrize("mark", ["\n\n", "\n", " "])
def test_one_document_is_cut_once_at_the_best_boundary(mark: str) -> None:
    unit = {"\n\n": "some words\nof a verse\n\n", "\n": "some words\n", " ": "word "}[mark]
    text = unit * 200
    (train,), (held,) = train_and_held_out([Document(text, "x")], 0.1)
    assert train.text + held.text == text
    assert train.text.endswith(mark)
    assert held.text.startswith(unit[:4])
    assert n_bytes([held]) / len(text) == pytest.approx(0.1, abs=0.01)


def test_a_text_without_any_boundary_is_cut_between_characters() -> None:
    text = "語" * 1000
    (train,), (held,) = train_and_held_out([Document(text, "x")], 0.1)
    assert (len(train.text), len(held.text)) == (900, 100)


@settings(max_examples=50)
@given(st.text("ab \n", min_size=1500, max_size=2000), st.sampled_from([0.1, 0.5, 0.9]))
def test_the_cut_stays_near_the_wanted_place(text: str, fraction: float) -> None:
    (train,), (held,) = train_and_held_out([Document(text, "x")], fraction)
    assert train.text + held.text == text
    assert abs(len(held.text) / len(text) - fraction) <= min(fraction, 1 - fraction) / 2 + 0.01


def test_a_document_that_outweighs_the_others_is_cut_and_so_are_its_copies() -> None:
    novel = Document("A line of the novel.\n" * 5000, "novel")
    corpus = [Document("README " * 10, "readme"), novel, novel]
    train, held = train_and_held_out(corpus, 0.1)
    assert [document.origin for document in train] == ["readme", "novel", "novel"]
    assert [document.origin for document in held] == ["novel", "novel"]
    assert n_bytes(held) / n_bytes(corpus) == pytest.approx(0.1, abs=0.01)


def test_too_little_text_says_how_much_is_needed() -> None:
    with pytest.raises(DataError, match=r"12 bytes of text are too few.*at least 640 \(64 on each"):
        train_and_held_out([Document("twelve bytes", "x")], 0.1)
    train_and_held_out([Document("x" * 640, "x")], 0.1)
    with pytest.raises(DataError, match="at least 640"):
        train_and_held_out([Document("x" * 639, "x")], 0.1)
    with pytest.raises(DataError, match=r"0 bytes of text"):
        train_and_held_out([], 0.1)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_an_impossible_fraction(fraction: float) -> None:
    with pytest.raises(DataError, match="is not between 0 and 1"):
        train_and_held_out(documents([1000] * 10), fraction)
