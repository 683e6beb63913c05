"""A checkpoint's tokenizer, as plain transformers finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def load_tokenizer(folder: Path, **options: Any) -> Any:
    """What `tokenizer_config.json` or the configuration names; never code from the folder.

    Where the named class wants a vocabulary file that is not there (SigLIP's `spiece.model`), `tokenizer.json` alone
    says everything, and transformers' class for such files reads it. `options` go to transformers.

    Raises:
        Exception: whatever transformers and its libraries raise for files that they cannot use.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False, **options)
    except Exception:
        others = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.json", "vocab.txt")
        if not (folder / "tokenizer.json").is_file() or any((folder / name).is_file() for name in others):
            raise
        options.pop("config", None)
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, **options)
