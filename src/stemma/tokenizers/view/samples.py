"""Short texts that show what irritates about tokenizers, cut by several of them side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stemma.errors import TokenizerError
from stemma.tokenizers.tokenizer import Tokenizer
from stemma.tokenizers.view.cuts import Cut, cut


@dataclass(frozen=True)
class Group:
    """Texts of one kind.

    Args:
        name: the kind.
        why: what to look at in them.
        texts: the texts.
    """

    name: str
    why: str
    texts: tuple[str, ...]


GROUPS = (
    Group(
        "numbers",
        "Digits in groups from the left say nothing about tens and thousands.",
        ("1234567.89", "3.14159", "1,000,000", "99 + 1 = 100"),
    ),
    Group(
        "leading space",
        "The same word is another token at the beginning, after a space, and after two.",
        ("hello", " hello", "  hello"),
    ),
    Group(
        "indentation",
        "Code pays for every step inwards where runs of spaces are no tokens.",
        ("    return x", "        return x", "\treturn x", "\t\treturn x"),
    ),
    Group(
        "rare words",
        "A word that was rare in training falls apart into pieces without meaning.",
        ("antidisestablishmentarianism", "Llanfairpwllgwyngyll", "otorhinolaryngologist"),
    ),
    Group(
        "capitals",
        "A word in capitals is a stranger.",
        ("the quick brown fox", "The Quick Brown Fox", "THE QUICK BROWN FOX"),
    ),
    Group("typos", "One wrong letter changes all.", ("accommodate", "acommodate", "accomodate")),
    Group("emoji", "One picture may be many tokens.", ("🙂", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈")),
    Group("dates", "A date is rarely three parts.", ("2024-02-29", "29/02/2024 13:37", "Feb 29th")),
    Group(
        "code",
        "Brackets, operators and names in camel or snake case.",
        (
            "for (int i = 0; i < n; ++i) {",
            "self.assertEqual(a, b)",
            "getUserNameByID",
            "if x != None:",
        ),
    ),
    Group(
        "languages",
        "The same sentence, the first of the Universal Declaration of Human Rights.",
        (
            "All human beings are born free and equal in dignity and rights.",
            "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
            "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
            "Все люди рождаются свободными и равными в своем достоинстве и правах.",
            "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
            "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق.",
            "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
            "人人生而自由，在尊严和权利上一律平等。",
            "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
            "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다.",
            "மனிதப் பிறிவியினர் சகலரும் சுதந்திரமாகவே பிறக்கின்றனர்.",
        ),
    ),
)


@dataclass(frozen=True)
class Sample:
    """A text as several tokenizers cut it.

    Args:
        group: the name of its kind.
        text: the text.
        cuts: how each tokenizer cuts it; None where it cannot spell it.
    """

    group: str
    text: str
    cuts: tuple[Cut | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        cuts = [None if cut_ is None else cut_.to_json() for cut_ in self.cuts]
        return {"group": self.group, "text": self.text, "cuts": cuts}


def cut_samples(tokenizers: Mapping[str, Tokenizer]) -> tuple[Sample, ...]:
    """All texts of `GROUPS`, cut by each tokenizer."""
    return tuple(
        Sample(group.name, text, tuple(_cut(t, text, name) for name, t in tokenizers.items()))
        for group in GROUPS
        for text in group.texts
    )


def _cut(tokenizer: Tokenizer, text: str, name: str) -> Cut | None:
    try:
        return cut(tokenizer, text, name=name)
    except TokenizerError:
        return None
