from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenizers
from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.characters import CharacterBPE, CharacterRules
from stemma.tokenizers.bpe.stretches import WORTH_CUTTING
from stemma.tokenizers.bpe.train import Sequences, merge_sequences
from stemma.tokenizers.bpe.word_symbols import Marks
from stemma.tokenizers.steps import decoders, normalizers
from stemma.tokenizers.steps.pre_tokenizers import BertPreTokenizer
from tokenizers import models, trainers

Pair = tuple[int, int]


def naive_training(words: dict[str, int], n_merges: int, least: int = 2) -> list[tuple[str, str]]:
    """The paper's algorithm: split words, count all pairs, join the commonest, begin again."""
    split = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    characters = {character for word in words for character in word}
    ends = {symbols[-1] for symbols in split.values()}
    order = [*sorted(characters), *sorted(ends)]
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        counts: Counter[tuple[str, str]] = Counter()
        for word, symbols in split.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        frequent = [pair for pair, n in counts.items() if n >= least]
        if not frequent:
            break
        best = min(frequent, key=lambda pair: (-counts[pair], *map(order.index, pair)))
        merges.append(best)
        if "".join(best) not in order:
            order.append("".join(best))
        for symbols in split.values():
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == best:
                    symbols[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def named(tokenizer: CharacterBPE) -> list[tuple[str, str]]:
    return [(tokenizer.tokens[left], tokenizer.tokens[right]) for left, right in tokenizer.merges]


def test_the_papers_example_by_hand() -> None:
    """low 5, lower 2, newest 6, widest 3: es (9), est</w> (9), lo (7), then ew, new, newest (6)."""
    text = " ".join(["low"] * 5 + ["lower"] * 2 + ["newest"] * 6 + ["widest"] * 3)
    tokenizer = CharacterBPE.train([text], 26)
    assert tokenizer.tokens[:10] == tuple("deilnorstw")
    assert tokenizer.tokens[10:13] == ("r</w>", "t</w>", "w</w>")
    assert named(tokenizer)[:3] == [("e", "s"), ("es", "t</w>"), ("l", "o")]
    assert tokenizer.tokens[-2:] == ("<|endoftext|>", "<|unk|>")
    ids = tokenizer.encode("lowest")
    assert [tokenizer.tokens[i] for i in ids] == ["lo", "w", "est</w>"]
    assert tokenizer.decode(ids) == "lowest"
    assert [tokenizer.tokens[i] for i in tokenizer.encode("lox")] == ["lo", "<|unk|>"]


def test_the_end_of_a_word_is_another_token() -> None:
    tokenizer = CharacterBPE.train(["er era er era"], 10, allow_fewer=True)
    spelled = [[tokenizer.tokens[i] for i in tokenizer.encode(word)] for word in ("er", "era")]
    assert spelled == [["er</w>"], ["era</w>"]]
    assert tokenizer.decode(tokenizer.encode("  er\n era er ")) == "er era er"


word_counts = st.dictionaries(
    st.text("abcä", min_size=1, max_size=9), st.integers(1, 6), min_size=1, max_size=12
)


@given(words=word_counts, n_merges=st.integers(0, 30), least=st.integers(1, 4))
def test_merges_equal_a_naive_trainer(words: dict[str, int], n_merges: int, least: int) -> None:
    text = " ".join(word for word, n in words.items() for _ in range(n))
    alphabet = {c for word in words for c in word} | {word[-1] + "</w>" for word in words}
    expected = naive_training(words, 1000, least)
    tokenizer = CharacterBPE.train(
        [text], len(alphabet) + n_merges + 2, min_frequency=least, allow_fewer=True
    )
    merges = named(tokenizer)
    assert merges == expected[: len(merges)]
    joined = dict.fromkeys(a + b for a, b in expected if a + b not in alphabet)
    assert tokenizer.tokens[len(alphabet) : -2] == tuple(joined)[:n_merges]


def test_merges_equal_a_naive_trainer_on_a_real_text(mirror: Callable[[str], Path]) -> None:
    text = mirror("text/tinyshakespeare.txt").read_text()[:15_000]
    tokenizer = CharacterBPE.train([text], 400)
    merges = named(tokenizer)
    assert merges == naive_training(Counter(text.split()), len(merges))


def test_merges_equal_hugging_face_where_its_ids_are_known(mirror: Callable[[str], Path]) -> None:
    """Its trainer numbers the ends of words in the order of a hash table, other at every run.

    That order decides between equally common pairs. So our rule is given its numbers.
    """
    text = mirror("text/tinyshakespeare.txt").read_text()[:80_000]
    theirs = tokenizers.Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, min_frequency=2, end_of_word_suffix="</w>", show_progress=False
    )
    theirs.train_from_iterator([text], trainer)
    model = json.loads(theirs.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    words = Counter(text.split())
    symbols = {word: Marks(suffix="</w>").symbols(word) for word in words}
    n_first = len({*text} - {*" \n"} | {spelled[-1] for spelled in symbols.values()})
    ids = {token: i for i, token in enumerate(tokens[:n_first])}
    learned = merge_sequences(
        Sequences.of({tuple(ids[s] for s in symbols[word]): n for word, n in words.items()}),
        [token.encode() for token in ids],
        len(tokens) - n_first,
        min_frequency=2,
    )
    assert [[tokens[left], tokens[right]] for left, right, _ in learned] == model["merges"]
    ours = CharacterBPE.train([text], n_first + len(learned) + 2)
    assert len({*ours.tokens} & {*tokens}) > 0.98 * len(tokens)


def test_too_little_text_and_too_small_a_vocabulary() -> None:
    with pytest.raises(TokenizerError, match="takes 3 tokens, but there is room for 2"):
        CharacterBPE.train(["ab ab"], 4)
    with pytest.raises(TokenizerError, match="needs 5 merges, but the text gives 1") as caught:
        CharacterBPE.train(["ab ab"], 10)
    assert "at most 6" in str(caught.value)
    assert CharacterBPE.train(["ab ab"], 6).tokens[:4] == ("a", "b", "b</w>", "ab</w>")
    assert CharacterBPE.train(["ab ab"], 10, allow_fewer=True).vocab_size == 6
    with pytest.raises(TokenizerError, match="iterable of texts"):
        CharacterBPE.train("ab ab", 10)
    with pytest.raises(TokenizerError, match="document 1"):
        CharacterBPE.train(["ab", "a\ud800"], 10)


def test_a_limited_alphabet_leaves_rare_characters_unknown() -> None:
    tokenizer = CharacterBPE.train(["ab ab ab x"], 6, limit_alphabet=2)
    assert tokenizer.tokens[:4] == ("a", "b", "b</w>", "ab</w>")
    assert [tokenizer.tokens[i] for i in tokenizer.encode("x ab")] == ["<|unk|>", "ab</w>"]


def test_special_tokens_and_other_steps() -> None:
    tokenizer = CharacterBPE.train(
        ["AB!<|endoftext|>ab ab"],
        8,
        pre_tokenizer=BertPreTokenizer(),
        normalizer=normalizers.Lowercase(),
    )
    assert tokenizer.tokens[:-2] == ("!", "a", "b", "!</w>", "b</w>", "ab</w>")
    ids = tokenizer.encode("AB<|endoftext|>", allowed_special="all").tolist()
    assert ids == [5, tokenizer.special_tokens["<|endoftext|>"]]
    assert tokenizer.special_tokens["<|endoftext|>"] not in tokenizer.encode("<|endoftext|>")


def random_tokenizer(generator: random.Random) -> tuple[str, CharacterBPE]:
    """Tokens and merges at random, from alphabets that look like marks and like bytes."""
    alphabet = generator.choice(["ab", "abc", "aé漢😀b", "ab<>0x6", "a▁b", "ab/w<>"])
    rules = CharacterRules(
        unknown=generator.choice([None, "<unk>", "<unk>"]),
        end_of_word_suffix=generator.choice(["", "", "</w>", "▁", "w"]),
        continuing_subword_prefix=generator.choice(["", "", "", "##", "#"]),
        byte_fallback=generator.random() < 0.4,
        fuse_unknown=generator.random() < 0.5,
        ignore_merges=generator.random() < 0.3,
    )
    prefix, suffix = rules.continuing_subword_prefix, rules.end_of_word_suffix
    tokens = ["<unk>"]
    for character in alphabet:
        for before in {"", prefix}:
            for behind in {"", suffix}:
                if generator.random() < 0.8:
                    tokens.append(before + character + behind)
    tokens = list(dict.fromkeys(tokens))
    pool = len(tokens)
    if rules.byte_fallback:
        share = generator.choice([1, 1, 0.95])
        tokens += [f"<0x{v:02X}>" for v in range(256) if generator.random() < share]
    merges: dict[Pair, None] = {}
    for _ in range(generator.randint(0, 30)):
        ids = [i for i in range(len(tokens)) if i < pool or i >= pool + 256]
        left, right = generator.choices(
            ids if generator.random() < 0.8 else range(len(tokens)), k=2
        )
        if not tokens[right].startswith(prefix) or len(tokens[right]) <= len(prefix):
            continue
        new = tokens[left] + tokens[right][len(prefix) :]
        if new != "<unk>":
            tokens += [] if new in tokens else [new]
            merges[left, right] = None
    order = list(merges)
    if generator.random() < 0.3:
        generator.shuffle(order)
    return alphabet, CharacterBPE(tokens, order, {"<unk>": 0}, rules)


def their_model(ours: CharacterBPE, **options: Any) -> models.BPE:
    model = ours.to_json()["model"]
    names = ("unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    options |= {name: model[name] for name in names if model[name] is not None}
    options |= {name: model[name] for name in ("fuse_unk", "byte_fallback", "ignore_merges")}
    return models.BPE(model["vocab"], [(left, right) for left, right in model["merges"]], **options)


def random_words(alphabet: str, generator: random.Random) -> Iterator[str]:
    for size in (1, 3, 8, 8, 20, 20, 70, 100):
        letters = generator.choices(alphabet + "z", k=size)
        if generator.random() < 0.3:
            letters[generator.randrange(size)] = generator.choice("\tβ😀")
        yield "".join(letters)


@pytest.mark.parametrize("options", [{}, {"dropout": 0.0}])
def test_words_equal_hugging_face_for_any_vocabulary(options: dict[str, float]) -> None:
    generator = random.Random(1)
    n_merged = 0
    for _ in range(500):
        alphabet, ours = random_tokenizer(generator)
        ours._merger._seen = generator.choice([0, WORTH_CUTTING])
        theirs = their_model(ours, **options)
        for word in random_words(alphabet, generator):
            expected = theirs.tokenize(word)
            ids = ours._encode_word(word)
            assert ids == [token.id for token in expected]
            n_merged += len(ids) < len(word)
            rules = ours.rules
            marked = rules.continuing_subword_prefix or rules.end_of_word_suffix
            if rules.unknown and not (rules.byte_fallback and marked):
                ends = [0, *(token.offsets[1] for token in expected)]
                sizes = ours._word_lengths(word, ids)
                assert sizes == [b - a for a, b in pairwise(ends)]
            assert sum(ours._word_lengths(word, ids)) == (len(word.encode()) if ids else 0)
    assert n_merged > 1000


def test_bytes_of_marks_stand_for_nothing() -> None:
    """Where ``é`` is spelled by its bytes, so are the prefix before it and the suffix behind."""
    names = [f"<0x{value:02X}>" for value in range(256)]
    rules = CharacterRules(
        byte_fallback=True, continuing_subword_prefix="#", end_of_word_suffix="$"
    )
    tokenizer = CharacterBPE(names, [], (), rules)
    spelled = b"\xc3\xa9" + b"#a" + b"#\xc3\xa9$"
    sizes = [1, 1, 0, 1, 0, 1, 1, 0]
    assert tokenizer.symbols("éaé") == list(zip(spelled, sizes, strict=True))
    theirs = their_model(tokenizer)
    assert [token.id for token in theirs.tokenize("éaé")] == list(spelled)


def llama(merges: Sequence[tuple[str, str]], characters: Iterable[str]) -> CharacterBPE:
    """The shape of Llama-2's ``tokenizer.json``: no words, ``▁`` for a space, bytes."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{value:02X}>" for value in range(256))]
    tokens = list(dict.fromkeys([*tokens, *characters, *(a + b for a, b in merges)]))
    ids = {token: i for i, token in enumerate(tokens)}
    steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    joining = (
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    )
    return CharacterBPE(
        tokens,
        [(ids[left], ids[right]) for left, right in merges],
        {name: i for i, name in enumerate(tokens[:3])},
        CharacterRules(unknown="<unk>", byte_fallback=True, fuse_unknown=True),
        decoder=decoders.Sequence(joining),
        normalizer=normalizers.Sequence(steps),
    )


RUNS = [("a", "a"), ("aa", "aa"), ("▁", "▁"), ("▁▁", "▁▁"), ("b", "a"), ("▁", "a"), ("▁a", "b")]


@pytest.fixture(scope="module")
def like_llama() -> CharacterBPE:
    return llama(RUNS, "▁abc")


def test_a_text_without_words_equals_hugging_face(
    like_llama: CharacterBPE,
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    theirs = tokenizers.Tokenizer.from_str(json.dumps(like_llama.to_json()))
    generator = random.Random(0)
    near = [
        "".join(generator.choices("ab  c▁é\n", k=generator.randint(1, 300))) for _ in range(500)
    ]
    for text in [*awkward, *random_texts(1000, 3), *near]:
        ids = like_llama.encode(text)
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert like_llama.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
        if text and "▁" not in text:
            assert like_llama.decode(ids) == text


def test_llama_2_equals_hugging_face(
    mirror: Callable[[str], Path],
    awkward: list[str],
    random_texts: Callable[[int, int], Iterator[str]],
) -> None:
    """Its vocabulary, with all splits of a token into two as merges, the likeliest token first."""
    fields = gguf.GGUFReader(mirror("tokenizers/ggml-vocab/ggml-vocab-llama-spm.gguf")).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()
    scores = fields["tokenizer.ggml.scores"].contents()
    known = {*tokens}
    merges = [
        (-scores[i], i, token[:k], token[k:])
        for i, token in enumerate(tokens[259:], 259)
        for k in range(1, len(token))
        if token[:k] in known and token[k:] in known
    ]
    ours = llama([(left, right) for _, _, left, right in sorted(merges)], tokens)
    theirs = tokenizers.Tokenizer.from_str(json.dumps(ours.to_json()))
    book = mirror("text/tinyshakespeare.txt").read_text()[:100_000]
    for text in [*awkward, *random_texts(1000, 4), book]:
        ids = ours.encode(text, allowed_special="all")
        assert ids.tolist() == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=False)
    assert ours.decode(ids) == book


@given(text=st.text(st.one_of(st.sampled_from("ab ▁"), st.characters(exclude_categories=["Cs"]))))
def test_spans_of_a_text_without_words(like_llama: CharacterBPE, text: str) -> None:
    ids, spans = like_llama.encode_with_offsets(text)
    assert ids.tolist() == like_llama.encode(text).tolist()
    if ids.size:
        assert (spans[1:] >= spans[:-1]).all()
        assert spans[0, 0] == 0
        assert spans[-1, 1] == len(text.encode())
        covered = {i for start, end in spans.tolist() for i in range(start, end)}
        assert covered == {*range(len(text.encode()))}


@pytest.mark.parametrize("text", ["a" * 1_000_000, " " * 1_000_000, "ab" * 500_000, "é" * 500_000])
def test_a_megabyte_of_one_letter_takes_seconds(like_llama: CharacterBPE, text: str) -> None:
    start = time.process_time()
    ids = like_llama.encode(text)
    assert time.process_time() - start < 20
    assert like_llama.decode(ids) == text
    short = like_llama.encode(text[:20_000])
    assert ids[: short.size - 8].tolist() == short[:-8].tolist()


def test_what_is_written_opens_elsewhere_and_here(
    like_llama: CharacterBPE, tmp_path: Path, random_texts: Callable[[int, int], Iterator[str]]
) -> None:
    text = "the cat sat on the mat, and the rat sat too: that, the cat said, was that"
    trained = CharacterBPE.train([text], 31)
    for i, tokenizer in enumerate((like_llama, trained)):
        theirs = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
        again = CharacterBPE.from_file(tokenizer.save(tmp_path / str(i)))
        assert again.fingerprint == tokenizer.fingerprint
        for sample in [text, *random_texts(200, 1)]:
            ids = tokenizer.encode(sample, allowed_special="all")
            assert theirs.encode(sample, add_special_tokens=False).ids == ids.tolist()
            assert again.encode(sample, allowed_special="all").tolist() == ids.tolist()
            assert theirs.decode(ids, skip_special_tokens=False) == tokenizer.decode(ids)


def test_a_text_that_comes_in_pieces_is_the_whole(like_llama: CharacterBPE) -> None:
    trained = CharacterBPE.train(["the cat sat on the mat; the cat sat"], 25, allow_fewer=True)
    assert trained._cut("one two three", 9) == 7
    assert trained._cut("one two", 2) == 0
    chunks = ["the ca", "t sat " * 300_000, "on<|endof", "text|>the mat"]
    rows = list(trained.encode_chunks(chunks, allowed_special="all"))
    assert len(rows) > 1
    whole = trained.encode("".join(chunks), allowed_special="all")
    assert [id_ for row in rows for id_ in row] == whole.tolist()


def test_special_tokens_are_never_made_of_text() -> None:
    """Not as a character, not as a word, and not by a merge."""
    tokens = ["a", "b", "ab", "c"]
    plain = CharacterBPE(tokens, [(0, 1)], {"ab": 2, "c": 3}, CharacterRules(ignore_merges=True))
    assert plain.encode("ab").tolist() == [0, 1]
    assert plain.encode("abc", allowed_special="all").tolist() == [2, 3]
    assert plain.encode("acb").tolist() == [0, 1]


@pytest.mark.parametrize(
    ("tokens", "merges", "rules", "message"),
    [
        (["a", "a"], [], {}, "ids 0 and 1 are both 'a'"),
        (["a", "b"], [(0, 1)], {}, "merge 0, of ids 0 and 1, makes no token"),
        (["a", "aa"], [(0, 0), (0, 0)], {}, "merge 1, of ids 0 and 0, is listed twice"),
        (["a", "aa"], [(0, 2)], {}, "of ids 0 and 2, makes no token"),
        (["a", "aa"], [(-2, 0)], {}, "of ids -2 and 0, makes no token"),
        (["a", "#"], [(0, 1)], {"continuing_subword_prefix": "#"}, "makes no token"),
        (["a"], [], {"unknown": "<unk>"}, "unknown characters, '<unk>', is no token"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tokens: list[str], merges: list[Pair], rules: dict[str, str], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        CharacterBPE(tokens, merges, (), CharacterRules(**rules))  # type: ignore[arg-type]


def test_dropout_in_a_file_is_refused_with_a_cure() -> None:
    assert CharacterRules(dropout=0.0) is not None
    with pytest.raises(TokenizerError, match=r"dropout is 0\.1") as caught:
        CharacterRules(dropout=0.1)
    assert "with_dropout" in str(caught.value)
