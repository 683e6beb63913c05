"""Small folders of pictures, and webdatasets in CLIP_benchmark's layout, written with tarfile alone."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import ClipsmithError
from tasks.data import open_dataset

Member = tuple[str, bytes]


def png(pixels: np.ndarray) -> bytes:
    """uint8 pixels as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def noise(seed: int, side: int = 8) -> bytes:
    """A picture of its own for each seed."""
    return png(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


def pictures(folder: Path, *names: str) -> Path:
    """A folder with a picture of its own under each name."""
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(noise(seed))
    return folder


def refused(spec: object, *parts: str, columns: str | None = None) -> None:
    """Opening fails, and the message has all of these parts."""
    with pytest.raises(ClipsmithError) as caught:
        open_dataset(str(spec), "evaluation", columns=columns)
    for part in parts:
        assert part in str(caught.value)


def said(spec: object, columns: str | None = None) -> list[tuple[str, str]]:
    """The id and caption of each sample."""
    return [(sample.id, sample.caption) for sample in open_dataset(str(spec), "evaluation", columns=columns).samples]


def classed(spec: object, columns: str | None = None) -> tuple[tuple[str, ...], list[str]]:
    """The classes, and the name of each sample's class."""
    dataset = open_dataset(str(spec), "evaluation", columns=columns)
    assert dataset.classes is not None
    return dataset.classes.names, [dataset.classes.names[sample.label or 0] for sample in dataset.samples]


def write_tar(path: Path, members: Iterable[Member]) -> None:
    """A plain tar file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def labelled(pictures: Iterable[bytes], labels: Sequence[int], start: int = 0) -> list[Member]:
    """The members of a shard for zero-shot classification."""
    members = []
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True), start=start):
        members += [(f"s{number:07d}.png", picture), (f"s{number:07d}.cls", str(label).encode())]
    return members


def captioned(pictures: Iterable[bytes], captions: Sequence[str], start: int = 0) -> list[Member]:
    """The members of a shard for retrieval; a picture's captions are the lines of its text."""
    members = []
    for number, (picture, text) in enumerate(zip(pictures, captions, strict=True), start=start):
        members += [(f"s{number:07d}.png", picture), (f"s{number:07d}.txt", text.encode())]
    return members


def zero_shot(
    root: Path,
    shards: Sequence[Iterable[Member]],
    names: str = "cat\ndog\n",
    templates: str = "a photo of a {c}.\na {c}\n",
) -> Path:
    """A folder for zero-shot classification."""
    for number, members in enumerate(shards):
        write_tar(root / "test" / f"{number}.tar", members)
    (root / "test" / "nshards.txt").write_text(f"{len(shards)}\n")
    (root / "classnames.txt").write_text(names)
    (root / "zeroshot_classification_templates.txt").write_text(templates)
    return root


def retrieval(root: Path, shards: Sequence[Iterable[Member]]) -> Path:
    """A folder for retrieval."""
    for number, members in enumerate(shards):
        write_tar(root / "test" / f"{number}.tar", members)
    (root / "test" / "nshards.txt").write_text(f"{len(shards)}\n")
    (root / "dataset_type.txt").write_text("retrieval\n")
    return root


def digits_zero_shot(root: Path, count: int, shard: int = 40) -> Path:
    """The first `count` held-out digits, as a folder for zero-shot classification."""
    from tasks.data.digits import CLASSES, Digits

    digits = Digits("evaluation", count)
    pictures = [png(np.asarray(digits.image(index))) for index in range(count)]
    labels = [sample.label or 0 for sample in digits.samples]
    shards = [labelled(pictures[n : n + shard], labels[n : n + shard], n) for n in range(0, count, shard)]
    templates = [template.replace("{}", "{c}") for template in CLASSES.templates]
    return zero_shot(root, shards, "\n".join(CLASSES.names) + "\n", "\n".join(templates) + "\n")
