"""Learning with the kernels: the same merges as the readable way, and as other trainers."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe import train_fast
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER, from_visible
from stemma.tokenizers.bpe.train import Sequences, learn_merges, learn_readably, merge_sequences
from stemma.tokenizers.bpe.train_fast import learn_fast
from stemma.tokenizers.scan.patterns import rule
from stemma.tokenizers.word_counts import WordCounts, count_words

BYTES = [bytes([value]) for value in range(256)]
GPT2_ORDER = [bytes([value]) for value in BYTE_ORDER]
SPELLINGS = [b"a", b"b", b"ab", b"ba", b"aa", b"c", b"abc"]


def say_nothing(n_learned: int) -> None:
    pass


sequences = st.dictionaries(
    st.lists(st.integers(0, 6), max_size=20).map(tuple),
    st.one_of(st.integers(1, 4), st.sampled_from([65534, 65535, 65536, 1 << 40])),
    max_size=12,
).map(Sequences.of)


@given(sequences, st.booleans(), st.integers(0, 40), st.integers(1, 4))
def test_the_readable_way_learns_the_same(
    words: Sequences, spelled: bool, wanted: int, least: int
) -> None:
    spellings = SPELLINGS if spelled else len(SPELLINGS)
    fast = learn_fast(words, spellings, wanted, least, say_nothing)
    assert fast.tolist() == learn_readably(words, spellings, wanted, least, say_nothing).tolist()


@given(sequences, st.booleans(), st.integers(0, 40))
def test_whatever_room_there_is_at_first(words: Sequences, spelled: bool, wanted: int) -> None:
    """Every array grows as it has to, and the kernel goes on after each pause."""
    spellings = SPELLINGS if spelled else len(SPELLINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_fast, "FIRST_ROOM", 2)
        patch.setattr(train_fast, "MERGES_AT_ONCE", 2)
        patch.setattr(train_fast, "PLACES_AT_ONCE", 3)
        patch.setattr(train_fast, "ROOM_A_PLACE", 1)
        fast = learn_fast(words, spellings, wanted, 1, say_nothing)
    assert fast.tolist() == learn_readably(words, spellings, wanted, 1, say_nothing).tolist()


def test_words_that_do_not_occur_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_fast, "FIRST_ROOM", 2)
    monkeypatch.setattr("stemma.tokenizers.kernels.worth", lambda n_bytes: True)
    chance = random.Random(0)
    drawn = [tuple(chance.choices(range(50), k=30)) for _ in range(60)]
    words = Sequences.of({word: i % 3 for i, word in enumerate(drawn)})
    merges = merge_sequences(words, 50, 500, min_frequency=1)
    expected = learn_readably(words.occurring(), 50, 500, 1, say_nothing)
    assert merges.tolist() == expected.tolist()


def test_on_any_unicode(random_texts: Callable[[int, int], Iterator[str]]) -> None:
    for seed in range(30):
        counts = count_words(random_texts(100, seed), pattern="cl100k")
        words = Sequences(counts.data.astype(np.int32), counts.ends, counts.counts)
        fast = learn_fast(words, BYTES, 300, 1 + seed % 3, say_nothing)
        readable = learn_readably(words, BYTES, 300, 1 + seed % 3, say_nothing)
        assert fast.tolist() == readable.tolist()


def test_the_counts_are_right_after_every_pause() -> None:
    """What the table holds is what counting all words anew finds."""
    from stemma.tokenizers.kernels import training_pairs as kernel

    chance = random.Random(0)
    words = Sequences.of(
        {
            tuple(chance.choices(range(7), k=chance.randint(1, 30))): chance.randint(1, 9)
            for _ in range(40)
        }
    )
    corpus = train_fast._corpus(words, SPELLINGS, 7, 60)
    pairs = train_fast._first_pairs(corpus, 7, 60)
    merges = np.empty((1, 3), np.int32)
    from stemma.tokenizers.kernels.bpe_train import DONE, PAUSED, learn

    n_merges = 0
    rows = {(tuple(ids), count) for ids, count in words}
    while (stopped := learn(corpus, pairs, merges, 60, 1, 1 << 20)) != DONE:
        if stopped != PAUSED:
            pairs = train_fast._with_room(pairs, stopped)
            continue
        left, right, new = merges[0].tolist()
        rows = {(tuple(_replaced(ids, left, right, new)), count) for ids, count in rows}
        counted: Counter = Counter()
        for ids, count in rows:
            for pair in pairwise(ids):
                counted[pair] += count
        table = pairs.table[pairs.table[:, kernel.COUNT] > 0]
        assert counted == {
            kernel.pair_of(int(row[kernel.KEY])): int(row[kernel.COUNT]) for row in table
        }
        n_merges += 1
    assert n_merges > 50


def test_a_token_made_again_asks_for_room_for_its_lists() -> None:
    """A merge in n places writes 2n new ones; and where pairs have lists already, these again."""
    from stemma.tokenizers.kernels import bpe_train as kernel
    from stemma.tokenizers.kernels import training_pairs

    words = Sequences.of({(0, 1): 3})
    corpus = train_fast._corpus(words, SPELLINGS, 7, 8)
    pairs = train_fast._first_pairs(corpus, 7, 8)
    slot = training_pairs.find(pairs.table, training_pairs.pair_key(0, 1))
    assert kernel.lacks_room(corpus, pairs, slot, kernel.NOTHING) == 0
    assert kernel.lacks_room(corpus, pairs, slot, 2) == 0
    pairs.listed[2] = 1000
    assert kernel.lacks_room(corpus, pairs, slot, 2) == kernel.MORE_PLACES
    assert pairs.state[training_pairs.NEEDED] == 1 + 4 + 1000


def _replaced(ids: tuple[int, ...], left: int, right: int, new: int) -> Iterator[int]:
    i = 0
    while i < len(ids):
        if ids[i : i + 2] == (left, right):
            yield new
            i += 2
        else:
            yield ids[i]
            i += 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a letter", "a" * 1_000_000),
        ("spaces", " " * 1_000_000),
        ("lines", "\n" * 1_000_000),
        ("two letters", "ab" * 500_000),
        ("words that differ", " ".join(map(str, range(200_000)))),
        ("any two letters", "".join(random.Random(0).choices("ab", k=1_000_000))),
        ("any letters", "".join(random.Random(0).choices("abcdefghijklmnop", k=1_000_000))),
    ],
)
def test_no_text_takes_quadratic_time(name: str, text: str) -> None:
    learn_merges(count_words(["a" * 200_000]), BYTES, 1, min_frequency=1)  # compiles
    start = time.process_time()
    learned, _ = learn_merges(count_words([text]), BYTES, 8000, min_frequency=1)
    assert time.process_time() - start < 3, name  # a tenth of this is usual
    assert max(map(len, learned)) <= len(text)


def test_a_run_of_one_letter_by_hand() -> None:
    """2^20 letters: 20 times two halves are joined, and then there is no pair left."""
    learned, merges = learn_merges({"a" * (1 << 20): 1}, BYTES, 99, min_frequency=1)
    assert [len(token) for token in learned] == [1 << i for i in range(1, 21)]
    assert merges[1:] == [(256 + i, 256 + i) for i in range(19)]


def test_what_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_fast, "MOST_PLACES", 5)
    words = Sequences.of({(0, 1): 1, (1, 1, 1): 1})
    with pytest.raises(TokenizerError, match="8 places, more than 5"):
        learn_fast(words, 2, 1, 1, say_nothing)
    with pytest.raises(TokenizerError, match="token 1 is spelled with no bytes"):
        learn_fast(words, [b"a", b""], 1, 1, say_nothing)


def tokenizers_merges(texts: list[str], vocab_size: int) -> list[tuple[bytes, bytes]]:
    hf = pytest.importorskip("tokenizers")
    tokenizer = hf.Tokenizer(hf.models.BPE())
    tokenizer.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = hf.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [(from_visible(left), from_visible(right)) for left, right in merges]


def our_merges(words: WordCounts, vocab_size: int) -> list[tuple[bytes, bytes]]:
    learned, merges = learn_merges(words, GPT2_ORDER, vocab_size - 256, min_frequency=2)
    spelled = GPT2_ORDER + learned
    return [(spelled[left], spelled[right]) for left, right in merges]


def rustbpe_tokens(texts: list[str], vocab_size: int) -> list[bytes]:
    rustbpe = pytest.importorskip("rustbpe")
    tokenizer = rustbpe.Tokenizer()
    tokenizer.train_from_iterator(iter(texts), vocab_size, pattern=rule("gpt2")[0])
    return [bytes(spelling) for spelling, _ in tokenizer.get_mergeable_ranks()][256:]


def sentences_of_all_languages(mirror: Callable[[str], Path]) -> str:
    import zipfile

    with zipfile.ZipFile(mirror("text/udhr2.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".txt")]
        return "\n".join(archive.read(name).decode("utf-8", "ignore") for name in names[::8])


def unzipped(path: Path, n_bytes: int = -1) -> str:
    with gzip.open(path) as file:
        return file.read(n_bytes).decode("utf-8", "ignore")


TEXTS: dict[str, Callable[[Callable[[str], Path]], str]] = {
    "shakespeare": lambda mirror: mirror("text/tinyshakespeare.txt").read_text("utf-8"),
    "encyclopedia": lambda mirror: unzipped(mirror("text/enwik8/enwik8_first10MB.gz"), 2_000_000),
    "wikitext": lambda mirror: unzipped(mirror("text/wikitext-2/train.raw.gz"), 2_000_000),
    "languages": sentences_of_all_languages,
    "code": lambda _: "\n".join(
        path.read_text("utf-8") for path in sorted(Path(np.__file__).parent.glob("lib/*.py"))
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_other_trainers_learn_the_same(name: str, mirror: Callable[[str], Path]) -> None:
    """Both merge the commonest pair, of equally common ones that with the smallest ids."""
    text = TEXTS[name](mirror)
    words = count_words([text])
    assert our_merges(words, 8000) == tokenizers_merges([text], 8000)
    learned, _ = learn_merges(words, BYTES, 8000 - 256, min_frequency=1)
    assert learned == rustbpe_tokens([text], 8000)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", ["text/enwik8/enwik8_first10MB.gz", "text/wikitext-2/train.raw.gz"]
)
def test_other_trainers_learn_the_same_of_ten_megabytes(
    path: str, mirror: Callable[[str], Path]
) -> None:
    text = unzipped(mirror(path))
    words = count_words([text])
    assert our_merges(words, 32000) == tokenizers_merges([text], 32000)
    learned, _ = learn_merges(words, BYTES, 32000 - 256, min_frequency=1)
    assert learned == rustbpe_tokens([text], 32000)
