"""Training of the Unigram language model: pieces and their probabilities from the words of a text.

The model makes a word of pieces drawn one by one, each with its own probability; the pieces are not
seen, only the word. So training is that of a model with hidden variables (Kudo 2018, "Subword
regularization", section 3.2):

1. begin with far too many pieces: all characters, and the substrings that could be useful;
2. EM (Dempster et al. 1977): count each piece over all segmentations, weighed by how likely they
   are (E), and take these counts for the probabilities (M);
3. remove the pieces whose loss costs the least likelihood, some at a time, and go on with 2 until
   there are as many as wanted. Characters stay: every word must remain possible.

The outline and the M-step are those of ``sentencepiece``. What differs: a whole word may be a piece
even where nothing but a space ever follows it; losses come from expected counts; they decide to the
very last piece, where it takes the most probable of 1.1 times as many; and the last EM steps are
maximum likelihood, so that the probabilities sum to one.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from stemma.errors import TokenizerError
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.unigram.em import UnigramTraining

Progress = Callable[[int, int], object]
"""Called with the number of rounds done and the number there will be at most."""

_LAST_STEPS = 2


def train_unigram(
    words: Mapping[str, int],
    vocab_size: int,
    *,
    max_piece_length: int = 16,
    min_count: int = 3,
    seed_size: int = 1_000_000,
    shrink: float = 0.9,
    em_steps: int = 2,
    character_coverage: float = 1.0,
    digamma: bool = True,
    required: Sequence[str] = (),
    besides: int = 0,
    allow_fewer: bool = False,
    progress: Progress | None = None,
) -> list[tuple[str, float]]:
    """Learn the pieces of a Unigram tokenizer, with their log-probabilities.

    The same words give the same pieces, in whatever order they come. Of pieces whose loss or count
    is equal, those that are first in the order of code points stay.

    Args:
        words: word -> count, as `count_unigram_words` gives them: ``▁`` included. No piece reaches
            beyond a word.
        vocab_size: the number of pieces, without unknown, control and other tokens that are not
            learned: take their number off before.
        max_piece_length: in characters.
        min_count: how often a piece of several characters must occur. With 2, twice as many can be
            learned, but where there is room for them they fit this text better and others worse.
        seed_size: with how many pieces training begins at most, besides characters.
        shrink: the part of the pieces that stays in each round. ``sentencepiece``'s 0.75 takes half
            the time and costs about 0.2 % of the likelihood.
        em_steps: in each round.
        character_coverage: leave out the rarest characters, as far as the others make up this part
            of the text; each then ends a word. 0.9995 serves scripts with thousands of characters.
        digamma: see `m_step`.
        required: pieces that must be there, characters or longer, whether they occur or not.
        besides: how many tokens the vocabulary has that are not learned; messages count them.
        allow_fewer: give as many pieces as there are where the text has too few.
        progress: see `Progress`.

    Returns:
        Pieces and log-probabilities (natural logarithm; the probabilities sum to 1), the most
        probable first, of equals in the order of code points.

    Raises:
        TokenizerError: if there are no words; if ``vocab_size`` has no room for all characters, or
            the text too few pieces to fill it; if an option is out of its range.
    """
    _check_options(
        max_piece_length=(max_piece_length, max_piece_length >= 1, "at least 1"),
        min_count=(min_count, min_count >= 1, "at least 1"),
        seed_size=(seed_size, seed_size >= 0, "at least 0"),
        shrink=(shrink, 0 < shrink < 1, "between 0 and 1"),
        em_steps=(em_steps, em_steps >= 1, "at least 1"),
        character_coverage=(character_coverage, 0 < character_coverage <= 1, "above 0, at most 1"),
    )
    for piece in required:
        check_text(piece)
        if not piece:
            raise TokenizerError("a required piece is empty", where="required")
    training = UnigramTraining(
        cover(_checked(words), character_coverage, required),
        required,
        max_piece_length=max_piece_length,
        min_count=min_count,
        seed_size=seed_size,
    )
    wanted = training.reachable(vocab_size, besides=besides, allow_fewer=allow_fewer)
    rounds = math.ceil(math.log(wanted / len(training)) / math.log(shrink)) + 1
    done = 0
    while True:
        for _ in range(em_steps):
            training.em_step(digamma=digamma)
            training.drop_rare(wanted)
        done += 1
        if progress is not None:
            progress(rounds if len(training) == wanted else min(done, rounds - 1), rounds)
        if len(training) == wanted:
            break
        training.prune(max(wanted, int(len(training) * shrink)))
    for _ in range(_LAST_STEPS):
        training.em_step(digamma=False)
    return training.pieces()


def cover(
    words: Mapping[str, int], coverage: float, required: Sequence[str] = ()
) -> Mapping[str, int]:
    """The words cut at their rarest characters, which are left out.

    The commonest characters stay (of equally common ones those with the lowest code points), as few
    as make up the part ``coverage`` of the text, and the required ones.
    """
    if coverage == 1:
        return words
    codes = np.frombuffer("".join(words).encode("utf-32-le"), np.uint32)
    weights = np.repeat([*words.values()], [*map(len, words)])
    counts = np.bincount(codes, weights)
    commonest = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    before = np.cumsum(counts[commonest]) - counts[commonest]
    rare = {*map(chr, commonest[before >= coverage * counts.sum()].tolist())} - {*required}
    if not rare:
        return words
    ends = re.compile(f"[{re.escape(''.join(sorted(rare)))}]")
    cut: Counter[str] = Counter()
    for word, n in words.items():
        for part in ends.split(word):
            cut[part] += n
    del cut[""]
    return cut


def _checked(words: Mapping[str, int]) -> Mapping[str, int]:
    """The words that occur, in the order of their code points.

    Raises:
        TokenizerError: if there are none, or one is no word.
    """
    if not isinstance(words, Mapping):
        raise TokenizerError(
            f"words must be a mapping of words to counts, got {type(words).__name__}",
            cure="Count the words of documents with count_unigram_words.",
        )
    for word, n in words.items():
        check_text(word)
        if not word or n < 0:
            raise TokenizerError(f"the word {word!r} with count {n}", where="words")
    found = {word: int(n) for word, n in sorted(words.items()) if n > 0}
    if not found:
        raise TokenizerError("there are no words to learn from", cure="Give more text.")
    return found


def _check_options(**options: tuple[float, bool, str]) -> None:
    """Refuse an option that does not fit; of each its value, whether it does, and what would."""
    for name, (value, fits, needed) in options.items():
        if not fits:
            raise TokenizerError(f"{value} does not fit", where=name, cure=f"It must be {needed}.")
