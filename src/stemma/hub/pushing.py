"""A model directory -> a repository of the Hugging Face Hub, through `huggingface_hub`."""

from __future__ import annotations

import re
from pathlib import Path

from stemma.errors import ModelError, reason
from stemma.hub.checksums import verify_all
from stemma.hub.download import is_offline
from stemma.hub.huggingface import repository, transport_errors
from stemma.hub.model_directory import is_model_directory
from stemma.hub.weight_files import PICKLES, refuse_pickle

_PARTS_OF_A_MODEL = re.compile(
    r"(config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab)"
    r"\.json|tokenizer\.json\.sha256|merges\.txt|vocab\.txt|tokenizer\.model|chat_template\.jinja"
    r"|model(-\d+-of-\d+)?\.safetensors|model\.safetensors\.index\.json|[\w.-]+\.gguf"
    r"|README\.md|LICEN[CS]E(\.\w+)?|NOTICE(\.\w+)?|SHA256SUMS|\.gitattributes"
)


def push(directory: str | Path, repo: str, *, private: bool = False) -> str:
    """Upload a model directory, as one commit; the repository is made if need be.

    Args:
        directory: what `save_model` or ``stemma export`` wrote; its checksums are compared first.
        repo: ``owner/repo``.
        private: make a new repository that others do not see.

    Returns:
        The address of the repository.

    Raises:
        ModelError: if it is no model directory, holds files that belong to none, is damaged, or the
            Hub does not take it.
    """
    directory = Path(directory)
    named = repository(repo)
    if named is None or named[1] is not None:
        raise ModelError(f"{repo!r} names no repository", cure="Write owner/repo.")
    _check(directory)
    if is_offline():
        raise ModelError(
            "the network is switched off",
            where=repo,
            cure="Unset STEMMA_OFFLINE and HF_HUB_OFFLINE.",
        )
    return _upload(directory, repo, private=private)


def _check(directory: Path) -> None:
    if not directory.is_dir() or not is_model_directory(directory):
        raise ModelError(
            "is not a model directory: it holds no config.json",
            where=str(directory),
            cure="Give the directory that `stemma export --to hf` or save_model wrote.",
        )
    for path in sorted(directory.iterdir()):
        if path.suffix in PICKLES:
            raise refuse_pickle(path)
        if not path.is_file() or not _PARTS_OF_A_MODEL.fullmatch(path.name):
            raise ModelError(
                f"holds {path.name!r}, which is no part of a model",
                where=str(directory),
                cure="Move it elsewhere: everything in the directory would become public.",
            )
    verify_all(directory)


def _upload(directory: Path, repo: str, *, private: bool) -> str:
    from huggingface_hub import HfApi, get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        if get_token() is None:
            raise LocalTokenNotFoundError
        api = HfApi()
        url = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo, folder_path=directory, commit_message=f"Upload {directory.name}"
        )
    except LocalTokenNotFoundError:
        what, cure = "asks who you are", "Run `hf auth login`, or set HF_TOKEN."
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status in (401, 403):
            what = f"does not let you write there ({status})"
            cure = "Run `hf auth login` with a token that may write, or check the owner's name."
        else:
            what, cure = f"cannot be written: {error}", "Try again: nothing is there by halves."
    except transport_errors() as error:
        what = f"the Hub cannot be reached: {reason(error)}"
        cure = "Check the connection, and try again."
    else:
        return str(url)
    raise ModelError(what, where=repo, cure=cure)
