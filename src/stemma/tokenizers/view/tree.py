"""The merges of a word as a tree: what it began with at the bottom, its tokens on top."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape

from rich.cells import cell_len

from stemma.tokenizers.view.glyphs import glyphs
from stemma.tokenizers.view.replay import Merges, Piece

_CHARACTER, _MARGIN, _LEAST = 8.0, 14.0, 24.0
_HEIGHT, _LEVEL = 24.0, 52.0


@dataclass
class Node:
    """A piece in the tree.

    Args:
        piece: the piece.
        children: what it was made of.
        label: the rank or score of the merge that made it.
        level: how far above the bottom it stands.
        left: where its part of the picture begins.
        width: how wide that is.
    """

    piece: Piece
    children: tuple[Node, ...] = ()
    label: str = ""
    level: int = 0
    left: float = 0.0
    width: float = 0.0
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = glyphs(self.piece.spelling)

    @property
    def centre(self) -> float:
        """The middle of its part."""
        return self.left + self.width / 2

    @property
    def box(self) -> float:
        """The width of its box."""
        return max(cell_len(self.text) * _CHARACTER + _MARGIN, _LEAST)


def forest(one: Merges) -> list[Node]:
    """The trees of a word, one for each token, from left to right."""
    row = [Node(piece) for piece in one.symbols]
    for merge in one.merges:
        left, right = row[merge.at : merge.at + 2]
        label = f"{merge.made.score:g}" if merge.rank is None else f"{merge.rank:,}"
        level = max(left.level, right.level) + 1
        row[merge.at : merge.at + 2] = [Node(merge.made, (left, right), label, level)]
    return row


def tree_svg(one: Merges) -> str:
    """The picture, in the colours of the page that it stands in."""
    roots = forest(one)
    at = 0.0
    for root in roots:
        at = _place(root, at) + 10
    height = max((root.level for root in roots), default=0) * _LEVEL + _HEIGHT + 18
    drawn = "".join(_draw(root, height, i) for i, root in enumerate(roots))
    name = escape(f"merges of {glyphs(one.word.encode())}", quote=True)
    return (
        f'<svg width="{at:.0f}" height="{height:.0f}" viewBox="0 0 {at:.0f} {height:.0f}" '
        f'role="img" aria-label="{name}">{drawn}</svg>'
    )


def _place(node: Node, at: float) -> float:
    """Give a node and all below it their places; returns where it ends."""
    node.left = at
    if not node.children:
        node.width = node.box + 6
        return at + node.width
    for child in node.children:
        at = _place(child, at)
    short = node.box + 6 - (at - node.left)
    node.width = at - node.left + max(short, 0)
    return node.left + node.width


def _draw(node: Node, height: float, root: int | None) -> str:
    """The boxes and lines of a node and all below it; ``root``: the place of a finished token."""
    top = height - 4 - _HEIGHT - node.level * _LEVEL
    lines = "".join(_line(node, child, top, height) for child in node.children)
    # Above a box comes the line to the one that it becomes part of: the number stands beside it.
    beside = "" if root is not None else ' style="text-anchor:start"'
    place = node.centre if root is not None else node.centre + 4
    label = f'<text class="rank" x="{place:.1f}" y="{top - 4:.1f}"{beside}>{node.label}</text>'
    kind = "" if root is None else f' class="root c{root % 6}"'
    title = "" if node.piece.id is None else f"<title>id {node.piece.id}</title>"
    return (
        f"{lines}<g{kind}>{title}"
        f'<rect x="{node.centre - node.box / 2:.1f}" y="{top:.1f}" width="{node.box:.1f}" '
        f'height="{_HEIGHT:.0f}" rx="5"/>'
        f'<text x="{node.centre:.1f}" y="{top + 16.5:.1f}">{escape(node.text)}</text></g>'
        f"{label if node.label else ''}"
        + "".join(_draw(child, height, None) for child in node.children)
    )


def _line(node: Node, child: Node, top: float, height: float) -> str:
    below = height - 4 - _HEIGHT - child.level * _LEVEL
    bend = top + _HEIGHT + 7
    return (
        f'<path d="M{node.centre:.1f} {top + _HEIGHT:.1f}V{bend:.1f}'
        f'H{child.centre:.1f}V{below:.1f}"/>'
    )
