"""Names <-> files."""

from stemma.hub.catalog import resolve

__all__ = ["resolve"]
