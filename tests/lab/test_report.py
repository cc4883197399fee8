"""The report: what it computes, and that it needs nothing but itself."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from stemma.lab import RunResult
from stemma.lab.figures import loss_curve
from stemma.lab.report import coloured, passing_times, surprise_colour


def test_passing_means_staying_below() -> None:
    curve = [
        {"seconds": 1.0, "bits_per_byte": 4.0},
        {"seconds": 2.0, "bits_per_byte": 2.9},
        {"seconds": 3.0, "bits_per_byte": 3.1},
        {"seconds": 4.0, "bits_per_byte": 2.5},
    ]
    rungs = [{"bits_per_byte": bits} for bits in (8.0, 3.0, 2.5, 1.0)]
    assert passing_times(curve, rungs) == [1.0, 4.0, None, None]


def test_colours_run_from_one_end_of_the_scale_to_the_other() -> None:
    assert surprise_colour(0) == surprise_colour(-1) == "#e3f6f5"
    assert surprise_colour(12) == surprise_colour(99) == "#f98f6f"
    assert surprise_colour(3) == "#d5f0c1"
    assert surprise_colour(1.5) == "#dcf3db"


def test_text_cannot_break_out_of_its_token() -> None:
    page = coloured([{"id": 1, "text": "</i><script>", "bits": 1.0}, {"id": 2, "text": "<b>&"}])
    assert "<script>" not in page
    assert "&lt;b&gt;&amp;" in page
    assert page.count("<i ") == 2


def test_the_loss_curve_stays_inside_its_axes_when_every_ancestor_is_better() -> None:
    held_out = [{"seconds": 0.0, "bits_per_byte": 5.1}, {"seconds": 2.0, "bits_per_byte": 4.6}]
    ancestors = [{"name": "a", "bits_per_byte": 4.4}, {"name": "b", "bits_per_byte": 2.6}]
    training = [{"seconds": 1.0, "loss": 9.0}, {"seconds": 2.0, "loss": 8.0}]
    figure = loss_curve(training, held_out, ancestors, bits_per_nat_per_token=0.5)
    (axes,) = figure.axes
    bottom, top = axes.get_ylim()
    heights = [text.get_position()[1] for text in axes.texts]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
    assert all(bottom < height < top for height in heights)
    assert bottom < 2.6
    assert top > 4.4


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.depth: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "data"} and not (value or "").startswith("#")
        ]


def test_the_page_is_self_contained_and_shows_every_part(small_run: RunResult) -> None:
    page = (small_run.directory / "report.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(page)
    assert [link for link in links.found if not link.startswith("data:")] == []
    assert "@import" not in page
    assert not re.search(r"url\((?!['\"]?(#|data:))", page)
    for part in ("Learning", "The ladder", "What it writes", "Where it looks", "Environment"):
        assert f"<h2>{part}</h2>" in page
    assert page.count("<svg") >= 3
    for style in ("greedy", "temperature 0.8", "top-k 40", "top-p 0.9", "min-p 0.1"):
        assert f"<h3>{style}</h3>" in page


@pytest.mark.parametrize("key", ["bits_per_byte"])
def test_its_numbers_are_the_records(small_run: RunResult, key: str) -> None:
    page = (small_run.directory / "report.html").read_text(encoding="utf-8")
    assert f"{small_run.record['evaluation'][key]:.3f}" in page
