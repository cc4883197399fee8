"""How each family of tokenizers cuts one word, as steps (`replay`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from stemma.tokenizers.view.replay import (
    LONGEST,
    Match,
    Matches,
    Merges,
    Path,
    Paths,
    Piece,
    Replay,
    ReplayWord,
    Whole,
    WordsOf,
    merge_pieces,
)

N_PATHS = 4
_IS_TOKEN = "is a token as it stands: nothing is merged"
_BY_CHARACTER = "each character is looked up by itself: there are no merges"

LOOKED_UP = {
    "ByteTokenizer": "each byte is a token by itself: there are no merges",
    "CharacterTokenizer": _BY_CHARACTER,
    "WordTokenizer": "each word is looked up as it stands: there are no merges, and a word that is "
    "not in the vocabulary becomes the unknown token",
}
"""Families that decide nothing -> what they do."""


def _byte_level(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    def one(word: str) -> Replay:
        data = word.encode()
        if tokenizer.whole_words and data in tokenizer._ids:
            return Whole(word, (tokenizer._ids[data],), _IS_TOKEN)
        symbols = [tokenizer._ids[data[i : i + 1]] for i in range(len(data))]
        return _merged(tokenizer, word, symbols)

    return (lambda part, _: tokenizer._splitter.split(part)), _short(tokenizer, one)


def _basic(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    def one(word: str) -> Replay:
        return _merged(tokenizer, word, list(word.encode()), tokenizer.merges)

    return (lambda part, _: [part]), _short(tokenizer, one)


def _characters(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    def one(word: str) -> Replay:
        if tokenizer.rules.ignore_merges and word in tokenizer._ids:
            return Whole(word, (tokenizer._ids[word],), _IS_TOKEN)
        ids = [id_ for id_, _ in tokenizer.symbols(word)]
        if not tokenizer.merges:
            return Whole(word, tuple(ids), _BY_CHARACTER)
        return _merged(tokenizer, word, ids)

    words_of, replay_word = _words(tokenizer, one)

    def pieces_of(part: str, at_start: bool) -> list[str]:
        words = words_of(part, at_start)
        return [piece for word in words for piece in _at_spaces(word, tokenizer._encode_word)]

    return pieces_of, replay_word


def _graphemes(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    from stemma.tokenizers.bpe.grapheme_words import whole_words

    def one(word: str) -> Replay:
        symbols: list[int] = []
        fixed: set[int] = set()
        for run, mergeable in tokenizer._speller.runs(word):
            fixed |= set() if mergeable else {*range(len(symbols), len(symbols) + len(run))}
            symbols += run
        return _merged(tokenizer, word, symbols, fixed=fixed)

    return (lambda part, _: whole_words(part, tokenizer._splitter)), _short(tokenizer, one)


def _merged(
    tokenizer: Any,
    word: str,
    symbols: Sequence[int],
    made_ids: Mapping[tuple[int, int], int] | None = None,
    fixed: Iterable[int] = (),
) -> Merges:
    """Merges of ids: by the tokenizer's ranks, or (``made_ids``) in the order of what they make."""
    spell = tokenizer.token_bytes
    ranks: Any = getattr(tokenizer, "ranks", None) or getattr(tokenizer, "_ranks", {})
    results: Any = getattr(tokenizer, "results", None) or getattr(tokenizer, "_results", ())
    row = [Piece(id_, spell(id_), fixed=at in fixed) for at, id_ in enumerate(symbols)]

    def rank_of(left: Piece, right: Piece) -> tuple[int, int | None, Piece] | None:
        pair = left.id, right.id
        if made_ids is not None:
            id_ = made_ids.get(pair)  # type: ignore[arg-type]
            rank = None if id_ is None else id_ - 256
        else:
            rank = ranks.get(pair)
            id_ = None if rank is None else results[rank]
        return None if id_ is None or rank is None else (rank, rank, Piece(id_, spell(id_)))

    merges = merge_pieces(row, rank_of)
    last = merges[-1].row if merges else row
    ids = tuple(piece.id for piece in last if piece.id is not None)
    return Merges(word, tuple(row), merges, ids)


def _sentencepiece_bpe(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    from stemma.tokenizers.sentencepiece.bpe import _characters as characters

    scores = {piece.text: piece.score for piece in tokenizer.pieces}

    def piece_of(text: str, fixed: bool = False) -> Piece:
        return Piece(tokenizer._ids.get(text), text.encode(), scores.get(text), fixed)

    def one(word: str) -> Replay:
        parts, fixed = characters(word, tokenizer.rewrite.user_defined_in(word))

        def rank_of(left: Piece, right: Piece) -> tuple[int, None, Piece] | None:
            joined = (left.spelling + right.spelling).decode()
            if joined not in tokenizer._ranks:
                return None
            return -tokenizer._ranks[joined], None, piece_of(joined)

        symbols = tuple(piece_of(part, at in fixed) for at, part in enumerate(parts))
        merges = merge_pieces(symbols, rank_of)
        found = [id_ for id_, _, _ in tokenizer._joined(word, tokenizer._segment(word))]
        row = merges[-1].row if merges else symbols
        note = "" if [piece.id for piece in row] == found else _AFTER
        return Merges(word, symbols, merges, tuple(found), note)

    return _sentencepiece_words(tokenizer), _short(tokenizer, one)


_AFTER = "unknown characters then become bytes or the unknown token, unused pieces are taken apart"


def _unigram(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    def one(word: str) -> Replay:
        found = [id_ for id_, _, _ in tokenizer._joined(word, tokenizer._segment(word))]
        return _paths(tokenizer, tokenizer.model, word, found)

    return _sentencepiece_words(tokenizer), _short(tokenizer, one)


def _wordwise_unigram(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    return _words(
        tokenizer,
        lambda word: _paths(tokenizer, tokenizer._model, word, tokenizer._encode_word(word)),
    )


def _paths(tokenizer: Any, model: Any, word: str, ids: Sequence[int]) -> Replay:
    def path_of(edges: Any, score: float) -> Path:
        pieces = (
            Piece(
                edge.id if edge.id >= 0 else tokenizer.unknown_id,
                word[edge.start : edge.end].encode(),
                float(edge.score),
            )
            for edge in edges
        )
        return Path(tuple(pieces), float(score))

    best = model.best_path(word)
    first = path_of(best, sum(edge.score for edge in best))
    spelled = [piece.spelling for piece in first.pieces]
    others = [path_of(*found) for found in model.n_best(word, N_PATHS)]
    others = [path for path in others if [piece.spelling for piece in path.pieces] != spelled]
    n_edges = sum(map(len, model.edges(word)))
    note = "" if [piece.id for piece in first.pieces] == [*ids] else _AFTER
    return Paths(word, (first, *others[: N_PATHS - 1]), n_edges, tuple(ids), note)


def _word_piece(tokenizer: Any) -> tuple[WordsOf, ReplayWord]:
    def one(word: str) -> Replay:
        ids = tuple(tokenizer._encode_word(word))
        if len(word) > tokenizer.max_characters:
            note = f"has more than {tokenizer.max_characters} characters: it is unknown as a whole"
            return Whole(word, ids, note)
        matches: list[Match] = []
        at, table = 0, tokenizer._first
        while at < len(word):
            found = table.longest(word, at)
            if found is None:
                matches.append(Match(None, "", word[at:]))
                break
            id_, end = found
            piece = Piece(id_, tokenizer.token_bytes(id_))
            matches.append(Match(piece, word[at:end], word[end:]))
            at, table = end, tokenizer._next
        lost = bool(matches) and matches[-1].piece is None
        note = "no token fits what is left: the whole word is unknown" if lost else ""
        return Matches(word, tuple(matches), ids, note)

    return _words(tokenizer, one)


def _words(tokenizer: Any, one: ReplayWord) -> tuple[WordsOf, ReplayWord]:
    """The words of a `WordwiseTokenizer`."""

    def words_of(part: str, at_start: bool) -> list[str]:
        return [word.text for word in tokenizer.pre_tokenizer.split(part, at_start=at_start)]

    return words_of, _short(tokenizer, one)


def _sentencepiece_words(tokenizer: Any) -> WordsOf:
    def ids_of(text: str) -> list[int]:
        return [id_ for id_, _, _ in tokenizer._joined(text, tokenizer._segment(text))]

    return lambda part, _: _at_spaces(tokenizer.rewrite(part), ids_of)


def _at_spaces(text: str, ids_of: Callable[[str], list[int]]) -> list[str]:
    """A text that is merged as a whole, cut before each ``▁`` if no token reaches over one."""
    words = [word for word in text.replace("▁", "\0▁").split("\0") if word]
    if len(words) < 2 or [id_ for word in words for id_ in ids_of(word)] != ids_of(text):
        return [text] if text else []
    return words


def _short(tokenizer: Any, one: ReplayWord) -> ReplayWord:
    """Words too long to be looked at are not replayed."""

    def replay_word(word: str) -> Replay:
        if len(word) <= LONGEST:
            return one(word)
        note = f"has {len(word):,} characters: too many to show each step"
        ids: Sequence[int] = tokenizer.encode(word).tolist()
        return Whole(word, tuple(ids), note)

    return replay_word


REPLAYERS: dict[str, Callable[[Any], tuple[WordsOf, ReplayWord]]] = {
    "BasicBPE": _basic,
    "ByteLevelBPE": _byte_level,
    "CharacterBPE": _characters,
    "GraphemeBPE": _graphemes,
    "SentencePieceBPE": _sentencepiece_bpe,
    "UnigramTokenizer": _unigram,
    "WordPiece": _word_piece,
    "WordwiseUnigram": _wordwise_unigram,
}
"""Name of a class -> how its words are found, and how one of them is replayed."""
