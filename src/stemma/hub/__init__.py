"""Names <-> files."""
