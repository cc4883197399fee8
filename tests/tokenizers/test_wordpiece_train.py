from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.train import Sequences, merge_sequences
from stemma.tokenizers.wordpiece.tokenizer import WordPiece
from stemma.tokenizers.wordpiece.train import Score, learn_vocabulary, merge_likeliest
from tokenizers import models, trainers

HUGS = {"hug": 10, "pug": 5, "pun": 12, "bun": 4, "hugs": 5}


def alphabet_of(words: dict[str, int]) -> list[str]:
    inner = {"##" + c for word in words for c in word[1:]}
    return sorted({c for word in words for c in word}) + sorted(inner)


def naive(words: dict[str, int], n_learned: int, score: str, least: int) -> list[str]:
    """Count everything again after each merge, in exact fractions."""
    split = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    tokens = alphabet_of(words)
    n_first = len(tokens)
    while len(tokens) < n_first + n_learned:
        single: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in split.items():
            for symbol in symbols:
                single[symbol] += words[word]
            for pair in pairwise(symbols):
                pairs[pair] += words[word]
        scores = {
            (a, b): Fraction(n) if score == "count" else Fraction(n, single[a] * single[b])
            for (a, b), n in pairs.items()
            if n >= least
        }
        if not scores:
            break
        best = min(scores, key=lambda pair: (-scores[pair], *map(tokens.index, pair)))
        new = best[0] + best[1].removeprefix("##")
        if new not in tokens:
            tokens.append(new)
        for symbols in split.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = [new]
                i += 1
    return tokens


def test_the_commonest_pair_by_hand() -> None:
    """u-g 20 times, u-n 16, h-ug 15, p-un 12 ..."""
    tokens = learn_vocabulary(HUGS, 11 + 4)
    assert tokens[:7] == list("bghnpsu")
    assert tokens[7:11] == ["##g", "##n", "##s", "##u"]
    assert tokens[11:] == ["##ug", "##un", "hug", "pun"]


def test_the_likeliest_pair_by_hand() -> None:
    """g-s scores 5/(20 * 5), all pairs with u 1/36: so gs comes first. Then they are level, and b-u
    has the smallest ids; then bu-n scores 4/(4 * 16)."""
    tokens = learn_vocabulary(HUGS, 11 + 3, score="likelihood")
    assert tokens[11:] == ["##gs", "bu", "bun"]


def test_min_frequency_keeps_chance_out() -> None:
    words = {"the": 1000, "then": 300, "qx": 1}
    assert learn_vocabulary(words, 10 + 1, score="likelihood", min_frequency=1)[-1] == "qx"
    assert learn_vocabulary(words, 10 + 1, score="likelihood")[-1] != "qx"


word_counts = st.dictionaries(
    st.text("abcä", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=12
)


@given(
    words=word_counts,
    n_learned=st.integers(0, 30),
    score=st.sampled_from(["count", "likelihood"]),
    least=st.integers(1, 4),
)
def test_tokens_equal_a_naive_trainer(
    words: dict[str, int], n_learned: int, score: Score, least: int
) -> None:
    size = len(alphabet_of(words)) + n_learned
    found = learn_vocabulary(words, size, score=score, min_frequency=least, allow_fewer=True)
    assert found == naive(words, n_learned, score, least)


@pytest.mark.parametrize("score", ["count", "likelihood"])
def test_tokens_equal_a_naive_trainer_on_a_real_text(
    score: Score, mirror: Callable[[str], Path]
) -> None:
    words = Counter(mirror("text/tinyshakespeare.txt").read_text()[:8_000].split())
    n_first = len(alphabet_of(words))
    found = learn_vocabulary(words, n_first + 200, score=score)
    assert found == naive(words, 200, score, 2)


def test_tokens_equal_hugging_face_where_its_ids_are_known(mirror: Callable[[str], Path]) -> None:
    """Its trainer numbers ``##a``, ``##b`` ... in the order of a hash table, other at every run.

    That order decides between equally common pairs. So our rule is given its numbers.
    """
    text = mirror("text/tinyshakespeare.txt").read_text()[:80_000].lower()
    theirs = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=1000, min_frequency=2, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    vocabulary = theirs.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    cut = theirs.pre_tokenizer.pre_tokenize_str(text)
    words = Counter(word for word, _ in cut)
    n_first = len(alphabet_of(words))
    ids = {token: i for i, token in enumerate(tokens[:n_first])}
    symbols = {word: [word[0], *("##" + c for c in word[1:])] for word in words}
    learned = merge_sequences(
        Sequences.of({tuple(ids[s] for s in symbols[word]): n for word, n in words.items()}),
        [t[2:].encode() if len(t) == 3 else b"\xff" + t.encode() for t in ids],
        len(tokens) - n_first,
        min_frequency=2,
    )
    names = tokens[:n_first]
    for left, right, new in learned.tolist():
        if new == len(names):
            names.append(names[left] + names[right].removeprefix("##"))
    assert names == tokens
    ours = WordPiece.train([text], len(tokens) + 5)
    assert len({*ours.tokens} & {*tokens}) > 0.98 * len(tokens)


def test_a_trained_vocabulary_spells_its_text(mirror: Callable[[str], Path]) -> None:
    text = mirror("text/tinyshakespeare.txt").read_text()[:60_000]
    seen: list[tuple[int, int]] = []
    sizes = {}
    for score in ("count", "likelihood"):
        tokenizer = WordPiece.train(
            [text], 600, score=score, progress=lambda *n: seen.append(n), min_frequency=5
        )
        assert tokenizer.vocab_size == 600
        assert tokenizer.tokens[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
        ids = tokenizer.encode(text)
        assert 1 not in ids
        assert tokenizer.decode(ids).replace(" ", "") == "".join(text.lower().split())
        theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
        assert theirs.encode(text, add_special_tokens=False).ids == ids.tolist()
        sizes[score] = ids.size
    assert sizes["count"] < sizes["likelihood"]
    assert seen[-1][0] == seen[-1][1]


def test_names_that_two_tokens_would_share_are_one_token() -> None:
    """A word that begins with ``##`` can spell what continues a word."""
    words = {"##a": 9, "xa": 5, "xab": 5}
    tokens = learn_vocabulary(words, 20, allow_fewer=True)
    assert len({*tokens}) == len(tokens)
    assert {"###", "##", "xa", "xab"} <= {*tokens}
    n_all = len(tokens)
    assert learn_vocabulary(words, n_all) == tokens
    with pytest.raises(TokenizerError, match=f"ask for at most {n_all}"):
        learn_vocabulary(words, n_all + 1)


def test_a_limited_alphabet() -> None:
    tokens = learn_vocabulary({"aab": 9, "ab": 3, "xab": 4}, 10, limit_alphabet=2, allow_fewer=True)
    assert tokens[:4] == ["a", "b", "##a", "##b"]
    assert not any("x" in token for token in tokens)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(TokenizerError, match="score='pmi'"):
        learn_vocabulary(HUGS, 20, score="pmi")  # type: ignore[arg-type]
    with pytest.raises(TokenizerError, match="takes 11 tokens, but there is room for 10"):
        learn_vocabulary(HUGS, 10)
    with pytest.raises(TokenizerError, match="vocabulary of 100 needs 84 merges") as caught:
        learn_vocabulary(HUGS, 100, n_special=5)
    assert "at most 23" in str(caught.value)
    with pytest.raises(TokenizerError, match=r"no token \[CLS\] and no \[SEP\]"):
        WordPiece.train(["hug hug hugs"], 20, special_tokens=("[UNK]",), allow_fewer=True)


def test_scores_follow_counts_through_repeated_letters() -> None:
    """In ``aaaa`` a pair stands beside itself: counts of pairs and letters have to stay right."""
    sequences = Sequences.of({(0, 0, 0, 0, 0): 3, (0, 1, 0, 1, 0): 2, (1, 1, 1): 4})
    merges = merge_likeliest(sequences, [b"a", b"b"], 6, min_frequency=1)
    words = {"aaaaa": 3, "ababa": 2, "bbb": 4}
    split = {word: list(word) for word in words}
    tokens = ["a", "b"]
    for left, right, new in merges.tolist():
        single: Counter[str] = Counter()
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in split.items():
            single.update({s: n * words[word] for s, n in Counter(symbols).items()})
            pairs.update({p: n * words[word] for p, n in Counter(pairwise(symbols)).items()})
        scores = {p: Fraction(n, single[p[0]] * single[p[1]]) for p, n in pairs.items()}
        assert scores[tokens[left], tokens[right]] == max(scores.values())
        joined = tokens[left] + tokens[right]
        tokens += [joined] if new == len(tokens) else []
        for symbols in split.values():
            for i in range(len(symbols) - 1):
                if symbols[i : i + 2] == [tokens[left], tokens[right]]:
                    symbols[i : i + 2] = [joined]
