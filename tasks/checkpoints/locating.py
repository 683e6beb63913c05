"""Locating a checkpoint: the demo, a folder, or the Hugging Face hub, from which only the needed files are fetched."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any

from artifacts.errors import CheckpointNotFound, CheckpointUnreachable
from tasks.checkpoints.hub_retries import is_transient, patiently
from tasks.checkpoints.snapshot import AMAX_FILE, STATE_FILE
from tasks.clip.processors import TOKENIZER_FILES
from tasks.openclip.document import CONFIG_FILE, WEIGHTS_FILES, in_openclip_layout

DEMO = Path(__file__).parents[1] / "demo" / "snapshot"
"""The same as `tasks.demo.SNAPSHOT`, which cannot be imported here, as `tasks.demo` comes later in the import order."""
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGS = ("config.json", CONFIG_FILE, "preprocessor_config.json", "processor_config.json")
BESIDES_WEIGHTS = (*CONFIGS, *TOKENIZER_FILES, AMAX_FILE, STATE_FILE, INDEX)
"""Patterns of the files that model, tokenizer and image processor read; other files are ignored."""
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")


def locate(model: str, revision: str | None, *, weights: bool = True) -> tuple[Path, Any, str | None]:
    """The folder, the kind of source, and the hub commit (or None); `weights` False downloads no weights.

    Raises:
        CheckpointNotFound, CheckpointUnreachable.
    """
    folder = locate_here(model, revision)
    if folder is not None:
        return folder, "demo" if model == "demo" else "folder", None
    return _download(model, revision, weights=weights)


def locate_here(model: str, revision: str | None) -> Path | None:
    """The folder of a local model; None for a name that may be on the hub.

    Raises:
        CheckpointNotFound: it can be neither, or it is a folder and a revision is given.
    """
    folder = DEMO if model == "demo" else _folder(model)
    if folder is not None:
        if revision is not None:
            raise CheckpointNotFound(
                "a local model has no revisions",
                where=folder,
                expected="a revision for Hugging Face ids only",
                fix="leave --revision out",
            )
        return folder
    if not _HUB_ID.fullmatch(model) or Path(model).exists():
        raise CheckpointNotFound(
            f"no model {model!r}",
            where=Path.cwd(),
            expected="a folder, a Hugging Face id such as openai/clip-vit-base-patch32, or demo",
            fix="check the spelling; a relative folder starts here",
        )
    return None


def _folder(model: str) -> Path | None:
    """The folder that `model` names, or None; a text that cannot be a path (too long, no such user) names nothing."""
    try:
        path = Path(model).expanduser()
        return path.resolve() if path.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None


def _download(model: str, revision: str | None, *, weights: bool) -> tuple[Path, Any, str]:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    small = [*(name for name in BESIDES_WEIGHTS if name != STATE_FILE), *ADAPTERS[:1]]
    wanted = ["model*.safetensors", *small] if weights else small
    try:
        folder = Path(patiently(partial(snapshot_download, model, revision=revision, allow_patterns=wanted)))
        # Many repositories hold the same weights in both layouts; one is enough.
        if weights and in_openclip_layout(folder):
            patterns = [*wanted, *WEIGHTS_FILES]
            folder = Path(patiently(partial(snapshot_download, model, revision=folder.name, allow_patterns=patterns)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise (CheckpointUnreachable if is_transient(error) else CheckpointNotFound)(
            f"model {model!r} cannot be had: {type(error).__name__}",
            where=f"revision {revision or 'main'}",
            expected="a local folder, or a Hugging Face id that this machine can reach or has cached",
            fix="check the name and revision; set HF_TOKEN for gated models; or give a local folder",
        ) from error
    return folder, "hub", folder.name  # the cache names snapshots by commit


def names_at_hub(model: str, commit: str | None) -> list[str] | None:
    """The names of a hub model's files; None if the hub cannot be reached, as the model may be in the cache."""
    from huggingface_hub import list_repo_files
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        return patiently(partial(list_repo_files, model, revision=commit))
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError):
        return None
