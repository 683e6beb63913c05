"""A checkpoint's tokenizer, as plain transformers finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from artifacts.strict_json import strict_json


def load_tokenizer(folder: Path, **options: Any) -> Any:
    """What `tokenizer_config.json` or the configuration names; never code from the folder.

    Where the named class wants a vocabulary file that is not there (SigLIP's `spiece.model`), `tokenizer.json` alone
    says everything, and transformers' class for such files reads it. `options` go to transformers.

    Raises:
        Exception: whatever transformers and its libraries raise for files that they cannot use.
    """
    import transformers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    own = _own_code(folder)
    if own is not None and not any(hasattr(transformers, name) for name in (own, f"{own}Fast")):
        raise ValueError(f"{own} is code of the checkpoint's own, which is not run")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except (OSError, TypeError, ValueError):
        others = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json", "vocab.txt")
        if not (folder / "tokenizer.json").is_file() or any((folder / name).is_file() for name in others):
            raise
        options.pop("config", None)
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)


def _own_code(folder: Path) -> str | None:
    """The class that `tokenizer_config.json` names, if it also says where in the folder its code is."""
    path = folder / "tokenizer_config.json"
    settings = strict_json(path.read_bytes()) if path.is_file() else {}
    code = settings.get("auto_map") if isinstance(settings, dict) else None
    named = settings.get("tokenizer_class") if isinstance(code, dict) and "AutoTokenizer" in code else None
    return named if isinstance(named, str) else None
