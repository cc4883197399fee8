r"""BPE on what readers take for characters: Grapheme Pair Encoding.

Byte-level BPE spells a Tamil syllable with six to nine bytes and has to learn each syllable before
it can learn a word; where its merges run out, it cuts inside a letter. Velayuthan & Sarveswaran
2024 ("Egalitarian Language Representation in Language Models: It All Begins with Tokenizers",
arXiv:2409.11501) begin with extended grapheme clusters (`graphemes`) instead of bytes. They also
show how much the cut into words matters: GPT-2's pattern takes vowel signs for punctuation and cuts
before each, so that no token can be longer than a syllable. Here no word ends inside a cluster,
whatever the pattern. On a page of Tamil it is this that leaves less than half of the tokens; bytes
need about as many where they are cut into the same words, but may be cut inside a letter.

Ids are laid out so that every text can be spelled:

- ``0 .. 255``: the bytes, in GPT-2's order. An ASCII character is its byte.
- then the commonest clusters of the text learned from, and the characters of the others.
- then one for each merge, and the special tokens.

A cluster that has no id is spelled by those of its characters that have one, and by bytes; no merge
reaches into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Self

from stemma.errors import TokenizerError
from stemma.tokenizers.bpe.alphabet import BYTE_ORDER
from stemma.tokenizers.bpe.grapheme_words import (
    BYTE_IDS,
    Speller,
    commonest_graphemes,
    count_whole_words,
    whole_words,
)
from stemma.tokenizers.bpe.merge import Pair, merge_long_word, merge_word
from stemma.tokenizers.bpe.train import (
    Progress,
    check_vocab_size,
    merge_sequences,
    too_little_text,
)
from stemma.tokenizers.json_fields import Fields, shown
from stemma.tokenizers.scan.patterns import Rule
from stemma.tokenizers.scan.words import splitter
from stemma.tokenizers.special import END_OF_TEXT
from stemma.tokenizers.steps.unicode_normalizers import NFC, NFD, NFKC, NFKD
from stemma.tokenizers.texts import check_text
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.unicode.graphemes import clusters

if TYPE_CHECKING:
    from stemma.tokenizers.steps.normalizer import Normalizer
    from stemma.tokenizers.steps.template import Template

WORDS = r" ?[\p{L}\p{M}]+| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's pattern, but for its English contractions; and marks belong to words as letters do."""

COVERAGE = 0.999
LONG_WORD = 64
CACHED_WORDS = 1 << 17


class GraphemeBPE(Tokenizer):
    """BPE on the grapheme clusters of words.

    ``decode(encode(text)) == text`` for every text, unless a normaliser changes it.

    Args:
        graphemes: the clusters that have ids, in the order of their ids, from 256 on.
        merges: pairs of ids in the order learned; each makes the next id, unless a token is spelled
            like the pair already.
        special_tokens: their names; they have the last ids.
        pattern: how text is cut into words: the name of a rule of `scan.patterns`, or patterns.
        normalizer: what is done to a text first.
        template: which special tokens surround a text.

    Raises:
        TokenizerError: if a grapheme is no cluster, is a byte or is listed twice, or if
            a merge is listed twice or names an id that is no text.
    """

    def __init__(
        self,
        graphemes: Sequence[str],
        merges: Sequence[Pair],
        special_tokens: Sequence[str] = (),
        *,
        pattern: str | Rule = (WORDS,),
        normalizer: Normalizer | None = None,
        template: Template | None = None,
    ) -> None:
        for text in (*graphemes, *special_tokens):
            check_text(text)
        self.graphemes = tuple(graphemes)
        self.merges = tuple(merges)
        self._texts, self._results = _texts_of_ids(self.graphemes, self.merges)
        spellings = [bytes([value]) for value in BYTE_ORDER]
        spellings += [text.encode() for text in self._texts[256:]]
        added = {name: len(spellings) + i for i, name in enumerate(special_tokens)}
        if len(added) != len(special_tokens):
            raise TokenizerError(f"two special tokens share one name: {list(special_tokens)}")
        spellings += [name.encode() for name in added]
        super().__init__(spellings, added, normalizer=normalizer, template=template)
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._speller = Speller(self.graphemes)
        self._splitter = splitter(pattern)
        self._cache: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        documents: Iterable[str],
        vocab_size: int,
        *,
        special_tokens: Sequence[str] = (END_OF_TEXT,),
        coverage: float = COVERAGE,
        min_frequency: int = 2,
        pattern: str | Rule = (WORDS,),
        normalizer: Normalizer | None = None,
        allow_fewer: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Choose the graphemes that get an id, then learn merges of them.

        Equally common graphemes come in the order of their text, equally common pairs in that of
        their ids: the result depends on the text alone.

        Args:
            documents: the texts; a special token's name in them is not learned from.
            vocab_size: 256 + graphemes + merges + number of special tokens.
            special_tokens: their names, in the order of their ids.
            coverage: what share of the clusters longer than a byte, each taken as often as it
                occurs, has an id: the commonest. Less of it leaves more ids for merges.
            min_frequency: a rarer grapheme gets no id, a rarer pair is not merged.
            pattern: see the class.
            normalizer: what is done to a text first, here and when encoding.
            allow_fewer: accept a smaller vocabulary where the text has too few pairs.
            progress: called with the numbers of tokens learned and wanted.

        Raises:
            TokenizerError: if ``vocab_size`` is too small, or cannot be reached.
        """
        check_vocab_size(vocab_size, special_tokens)
        if not 0 <= coverage <= 1:
            raise TokenizerError(f"coverage={coverage}", cure="Choose a share between 0 and 1.")
        wanted = vocab_size - 256 - len(special_tokens)
        words = count_whole_words(documents, special_tokens, splitter(pattern), normalizer)
        graphemes = commonest_graphemes(words, coverage, min_frequency)[:wanted]

        def tell(learned: int, _: int) -> None:
            if progress is not None:
                progress(len(graphemes) + learned, wanted)

        found = merge_sequences(
            Speller(graphemes).sequences(words),
            [bytes([value]) for value in BYTE_ORDER] + [g.encode() for g in graphemes],
            wanted - len(graphemes),
            min_frequency=min_frequency,
            progress=tell,
        )
        reached = int(found[:, 2].max(initial=255 + len(graphemes))) - 255
        if reached < wanted and not allow_fewer:
            raise too_little_text(reached, wanted, vocab_size, min_frequency)
        merges = [(left, right) for left, right, _ in found.tolist()]
        return cls(graphemes, merges, special_tokens, pattern=pattern, normalizer=normalizer)

    @property
    def pattern(self) -> str | Rule:
        """The name of the rule by which text is cut into words, or its patterns."""
        return self._splitter.name or self._splitter.patterns

    def _encode_part(self, text: str, *, at_start: bool) -> list[int]:
        ids: list[int] = []
        for word in whole_words(text, self._splitter):
            ids += self._cache.get(word) or self._encode_word(word)
        return ids

    def _cut(self, text: str, before: int) -> int:
        """Between words within ASCII: no cluster reaches over, but for one, and no normal form."""
        if not isinstance(self.normalizer, NFC | NFD | NFKC | NFKD | None):
            return 0
        place = self._splitter.last_edge(text, before, ascii_only=True)
        while place and text[place - 1] == "\r":
            place = self._splitter.last_edge(text, place - 1, ascii_only=True)
        return place

    def _encode_word(self, word: str) -> list[int]:
        ids: list[int] = []
        for run, mergeable in self._speller.runs(word):
            if mergeable:
                merge = merge_word if len(run) <= LONG_WORD else merge_long_word
                ids += merge(run, self._ranks, self._results)
            else:
                ids += run
        if len(word) <= LONG_WORD:
            if len(self._cache) >= CACHED_WORDS:
                self._cache.clear()
            self._cache[word] = ids
        return ids

    def to_json(self) -> dict[str, Any]:
        """A ``tokenizer.json`` that stemma reads; other programs refuse it.

        Hugging Face's BPE begins with the bytes or the characters of a word, and none of its steps
        knows grapheme clusters: their file cannot say what this tokenizer does. So the model has a
        type of its own, ``GraphemeBPE``, which their library does not know.
        """
        added = [asdict(token) for token in self.added_tokens]
        merges = [[self._texts[left], self._texts[right]] for left, right in self.merges]
        return {
            "version": "1.0",
            "added_tokens": added,
            "normalizer": self.normalizer.to_json() if self.normalizer else None,
            "pre_tokenizer": {"type": "GraphemeWords", "patterns": [*self._splitter.patterns]},
            "post_processor": self.template.to_json() if self.template else None,
            "decoder": None,
            "model": {"type": "GraphemeBPE", "graphemes": [*self.graphemes], "merges": merges},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """The tokenizer of a file that `to_json` wrote.

        Raises:
            TokenizerError: if the file is inconsistent, or holds something else.
        """
        from stemma.tokenizers.steps import normalizers, template

        fields = Fields(document, "")
        model, words = fields.inner("model"), fields.inner("pre_tokenizer")
        model.choice("type", ["GraphemeBPE"])
        words.choice("type", ["GraphemeWords"])
        graphemes = [_text(*item) for item in model.items("graphemes")]
        normalizer = fields.value("normalizer", None)
        fields.ignore("version")
        tokenizer = cls(
            graphemes,
            _read_merges(graphemes, model.items("merges")),
            _read_special_tokens(fields),
            pattern=tuple(_text(*item) for item in words.items("patterns")),
            normalizer=None if normalizer is None else normalizers.from_json(normalizer),
            template=template.from_json(fields.value("post_processor", None)),
        )
        for part in (model, words, fields):
            part.done()
        for token, (where, item) in zip(
            tokenizer.added_tokens, fields.items("added_tokens"), strict=True
        ):
            if Fields(item, where).number("id") != token.id:
                raise TokenizerError(f"{where}.id is not {token.id}, the next id")
        return tokenizer


def _texts_of_ids(graphemes: Sequence[str], merges: Sequence[Pair]) -> tuple[list[str], list[int]]:
    """The text of each id, empty for the bytes beyond ASCII; and the id that each merge makes."""
    texts = [chr(value) if value < 128 else "" for value in BYTE_ORDER]
    for grapheme in graphemes:
        if clusters(grapheme) != [grapheme] or len(grapheme.encode()) < 2:
            raise TokenizerError(f"{grapheme!r} is no grapheme cluster longer than a byte")
    texts += graphemes
    ids = {text: id_ for id_, text in enumerate(texts)}
    if len(set(texts[256:])) != len(graphemes):
        raise TokenizerError("a grapheme is listed twice")
    results: list[int] = []
    for pair in merges:
        if not all(0 <= id_ < len(texts) and texts[id_] for id_ in pair):
            raise TokenizerError(f"the merge of ids {pair} names one that is no text")
        joined = texts[pair[0]] + texts[pair[1]]
        results.append(ids.setdefault(joined, len(texts)))
        texts += [joined] if results[-1] == len(texts) else []
    if len(set(merges)) != len(merges):
        raise TokenizerError("a merge is listed twice")
    return texts, results


def _read_merges(graphemes: Sequence[str], items: Sequence[tuple[str, Any]]) -> list[Pair]:
    ids = {chr(value): BYTE_IDS[value] for value in range(128)}
    ids |= {grapheme: 256 + i for i, grapheme in enumerate(graphemes)}
    following = 256 + len(graphemes)
    merges: list[Pair] = []
    for where, item in items:
        if (
            not isinstance(item, list)
            or len(item) != 2
            or not all(isinstance(text, str) and text in ids for text in item)
        ):
            raise TokenizerError(f"{where} is {shown(item)}, not two tokens that come before it")
        left, right = item
        merges.append((ids[left], ids[right]))
        if ids.setdefault(left + right, following) == following:
            following += 1
    return merges


def _read_special_tokens(fields: Fields) -> list[str]:
    names = []
    for where, item in fields.items("added_tokens", []):
        token = Fields(item, where)
        names.append(token.text("content"))
        if not token.flag("special", True):
            raise token.unsupported()
        token.ignore("id")
        token.done()
    return names


def _text(where: str, item: Any) -> str:
    if not isinstance(item, str):
        raise TokenizerError(f"{where} is {shown(item)}, not a string")
    return item
