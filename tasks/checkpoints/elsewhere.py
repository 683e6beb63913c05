"""The tokenizer of a checkpoint in OpenCLIP's layout, which may be in another repository; it is pinned by commit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from artifacts.errors import CheckpointNotFound, CheckpointUnreachable
from tasks.checkpoints.hub_retries import is_transient, patiently
from tasks.clip.processors import TOKENIZER_FILES, vocabularies
from tasks.openclip.document import in_openclip_layout, read_document
from tasks.openclip.tokenizer import TOKENIZER_SOURCE, tokenizer_repository


def with_tokenizer(folder: Path, stored: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration, whose `text_config` gets the tokenizer's repository if the folder has no tokenizer.

    Raises:
        CheckpointNotFound, CheckpointUnreachable: the repository cannot be downloaded.
    """
    if not in_openclip_layout(folder) or vocabularies(folder):
        return stored
    repository = tokenizer_repository(read_document(folder))
    if repository is None:
        return stored
    source = {"repository": repository, "commit": _download(repository, folder).name}
    return stored | {"text_config": stored["text_config"] | {TOKENIZER_SOURCE: source}}


def pinned_elsewhere(stored: dict[str, Any]) -> list[list[str]]:
    """What identifies a checkpoint besides its files: [name, commit] of the tokenizer's repository, if there is one."""
    source = (stored.get("text_config") or {}).get(TOKENIZER_SOURCE)
    return [[source["repository"], source["commit"]]] if source else []


def _download(repository: str, folder: Path) -> Path:
    """Download the tokenizer's files; the cache names the snapshot's folder by its commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        fetch = partial(snapshot_download, repository, allow_patterns=[*TOKENIZER_FILES])
        found = Path(patiently(fetch))
        if not vocabularies(found):
            raise OSError("no tokenizer in it")
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise (CheckpointUnreachable if is_transient(error) else CheckpointNotFound)(
            f"the checkpoint's tokenizer is that of {repository!r}, which cannot be had: {type(error).__name__}",
            where=folder,
            expected="a tokenizer beside the weights, or a repository that this machine can reach or has cached",
            fix=f"copy the tokenizer's files from https://huggingface.co/{repository} into the folder",
        ) from error
    return found
