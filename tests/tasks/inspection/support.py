"""A small folder with something of everything that is told of a source."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

EVIL = "<script>alert('cats')</script>"


def messy_folder(root: Path) -> Path:
    """Twelve pictures of three classes in many modes and formats; two copies, a file that is none, one in no row."""
    root.mkdir()
    pixels = np.random.default_rng(3)
    rows = []
    for number, (mode, suffix) in enumerate(
        [("RGB", "png"), ("L", "jpg"), ("P", "png"), ("RGBA", "webp"), ("CMYK", "jpg"), ("1", "png")] * 2
    ):
        size = (20 + number, 10 + 2 * number, 3)
        picture = Image.fromarray(pixels.integers(0, 256, size, dtype=np.uint8)).convert(mode)
        if mode == "RGBA":  # one without transparency would be stored as RGB
            picture.putalpha(100)
        picture.save(root / f"{number}.{suffix}")
        rows.append((f"{number}.{suffix}", ("cat", "dog", EVIL)[number % 3]))
    deep = pixels.integers(0, 65536, (9, 7), dtype=np.uint16)
    Image.fromarray(deep).save(root / "deep.png")
    shutil.copyfile(root / "0.png", root / "again.png")
    shutil.copyfile(root / "1.jpg", root / "elsewhere.jpg")
    shutil.copyfile(root / "1.jpg", root / "unlisted.JPG")
    (root / "none.jpg").write_bytes(b"<!doctype html>")
    rows += [("deep.png", "dog"), ("again.png", "cat"), ("elsewhere.jpg", "cat"), ("none.jpg", "dog")]
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "label"), *rows])
    return root


@contextmanager
def unwatched(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Nobody looks at the progress."""
    del what, total
    yield lambda _: None
