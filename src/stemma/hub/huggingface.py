"""Repositories of the Hugging Face Hub -> a local folder, through `huggingface_hub`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from stemma.errors import ModelError, reason
from stemma.hub.download import is_offline

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
MODEL_FILES = (
    "README.md",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    *TOKENIZER_FILES,
)


class UnreachableError(ModelError):
    """The Hub cannot be reached, and the repository is not in the local cache."""


def repository(name: str) -> tuple[str, str | None] | None:
    """``owner/repo[@revision]`` cut in two; None if ``name`` does not look like that."""
    match = _REPOSITORY.fullmatch(name)
    return (match["repo"], match["revision"]) if match else None


def transport_errors() -> tuple[type[Exception], ...]:
    """What a broken connection raises: `huggingface_hub` lets its HTTP library's errors through.

    That library has been ``requests``, whose errors are OSErrors, then ``httpx`` and ``httpx2``.
    """
    libraries = (sys.modules.get(name) for name in ("httpx", "httpx2"))
    return (OSError, *(library.HTTPError for library in libraries if library is not None))


def snapshot(repo: str, revision: str | None, files: Sequence[str]) -> Path:
    """The files of a repository that match, in the cache that `huggingface_hub` keeps.

    Args:
        repo: ``owner/repo``.
        revision: branch, tag or commit; the default branch if None.
        files: patterns of names.

    Raises:
        UnreachableError: if it cannot be reached and is not in the cache.
        ModelError: if there is no such repository or revision, or access to it is restricted.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    where = f"{repo}@{revision}" if revision else repo
    offline = is_offline()
    try:
        path = snapshot_download(
            repo, revision=revision, allow_patterns=list(files), local_files_only=offline
        )
    except GatedRepoError:
        what, cure = "asks for consent first", "Give it on its page, then `hf auth login`."
    except RepositoryNotFoundError:
        what, cure = "there is no such repository on the Hub, or it is private", "Check the name."
    except RevisionNotFoundError:
        what, cure = "the repository has no such revision", "Name a branch, a tag or a commit."
    except HFValidationError as error:
        what, cure = f"is not the name of a repository: {error}", "Write owner/repo[@revision]."
    except LocalEntryNotFoundError:
        away = "the network is switched off" if offline else "the Hub cannot be reached"
        what = f"is not in the local cache, and {away}"
        cure = (
            "Unset STEMMA_OFFLINE and HF_HUB_OFFLINE, or give the path of a directory."
            if offline
            else "Check the connection, or give the path of a directory."
        )
        raise UnreachableError(what, where=where, cure=cure) from None
    except transport_errors() as error:  # HfHubHTTPError is one of them
        what = f"cannot be downloaded: {reason(error)}"
        cure = "Try again: what is there already is kept."
    else:
        return Path(path)
    raise ModelError(what, where=where, cure=cure)
