"""Makes bad things, and the one way in which each of them must be refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from safetensors.numpy import load_file, save_file

from artifacts.errors import ClipsmithError
from artifacts.store.store import Store
from tests.error_documents import without_error


@dataclass
class Bad:
    """A command that must fail: its arguments after `optimize`, the error's class and words of its message.

    `complete`: the message says where, what was expected, and what to do next, too.
    """

    arguments: list[object]
    error: str
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    store: Path | None = None
    complete: bool = True


class Workshop:
    """Makes bad things in a folder of its own."""

    def __init__(self, root: Path, clip: Path) -> None:
        self.root = root
        self._clip = clip

    def clip(self) -> Path:
        """A good checkpoint, to be broken."""
        return Path(shutil.copytree(self._clip, self.root / "clip"))

    def weights(self, change: Callable[[dict[str, np.ndarray]], object]) -> Path:
        """A checkpoint with changed tensors."""
        folder = self.clip()
        tensors = dict(load_file(folder / "model.safetensors"))
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def json(self, name: str, change: Callable[[dict[str, Any]], object]) -> Path:
        """A checkpoint with a changed JSON file."""
        folder = self.clip()
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))
        return folder

    def pictures(self, name: str, count: int, same: bool = False, seed: int = 0) -> Path:
        """A folder of pictures with captions."""
        folder = self.root / name
        folder.mkdir()
        rng = np.random.default_rng(seed)
        picture = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
        lines = ["file,caption"]
        for index in range(count):
            if not same:
                picture = rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"{index}.png")
            lines.append(f"{index}.png,a photo of the digit number {index}")
        (folder / "captions.csv").write_text("\n".join(lines) + "\n")
        return folder

    def config(self, text: str) -> Path:
        path = self.root / "config.yaml"
        path.write_text(text)
        return path


def set_values(tensors: dict[str, np.ndarray], name: str, value: float, count: int) -> None:
    changed = tensors[name].copy()
    changed.reshape(-1)[:count] = value
    tensors[name] = changed


def digits(model: Path | str) -> list[object]:
    return [model, "--calibration", "digits", "--calibration-samples", "16", "--targets", "onnxruntime"]


# --- what every refusal must be ----------------------------------------------------------------------------


def check_output(bad: Bad, code: int | str | None, out: str, err: str) -> None:
    """The command failed, named the error's class, said the expected words, and printed no result."""
    assert code not in (0, None)
    assert "Traceback" not in err
    message = err[err.index(f"\n{bad.error}" if f"\n{bad.error}" in err else bad.error) :]
    for words in bad.words:
        assert words in message, message
    if bad.complete:
        for part in ("\n  where: ", "\n  expected: ", "\n  next: "):
            assert part in message, message
    assert without_error(out, err) == ""


def check_complete(error: ClipsmithError, *words: str) -> None:
    """The message says what happened, where, what was expected and what to do next."""
    assert error.what and error.where and error.expected and error.fix, repr(error.__reduce__())
    for text in words:
        assert text in str(error), str(error)


def check_nothing_left(store: Path) -> None:
    """Nothing was published, and no unfinished work lies about."""
    assert list(store.glob("releases/**/*.json")) == []
    assert list(store.glob("staging/*")) == []
    if (store / "store.json").exists():
        assert list(Store.open(store, writable=False).releases()) == []
