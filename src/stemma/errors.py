"""The errors stemma raises on purpose: what was wrong, where, and what to do about it."""

from __future__ import annotations


class StemmaError(Exception):
    """Base of every error that a user can cause and cure.

    Args:
        what: what is wrong, with the offending value.
        where: the file, field or position it was found at.
        cure: what to do about it, as an instruction.
    """

    def __init__(self, what: str, *, where: str | None = None, cure: str | None = None) -> None:
        self.what = what
        self.where = where
        self.cure = cure
        super().__init__(what, where, cure)

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n{self.cure}" if self.cure else located


def reason(error: Exception) -> str:
    """What went wrong, in words: without the system's number, and the path that is named anyway."""
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8: byte {error.object[error.start]:#04x} at offset {error.start}"
    inner = getattr(error, "reason", None)  # why urllib cannot open an address
    if isinstance(inner, Exception):
        return reason(inner)
    return str(getattr(error, "strerror", None) or error)


class ConfigError(StemmaError):
    """A recipe, an override or a part's configuration is not valid."""


class DataError(StemmaError):
    """A text, a shard or a split cannot be used."""


class TokenizerError(StemmaError):
    """A tokenizer cannot be trained, read or applied."""


class ModelError(StemmaError):
    """A model cannot be built, read or run as asked."""


class CheckpointError(StemmaError):
    """A training state is missing, damaged or belongs to another run."""


class TrainingError(StemmaError):
    """Training cannot go on."""
