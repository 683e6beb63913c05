"""The numbers of generated sets are those of CLIP_benchmark's own functions, to the last digit where no scores tie.

Its package is installed without its dependencies, of which these functions need none but PyTorch and scikit-learn. It
reads the same shards by itself and embeds them with the same stand-in encoder, as a model of its own kind.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.manifest import Row
from artifacts.store.store import Store, activate
from tasks.data.pinned import pin_both
from tasks.evaluation.embedding_table import EmbeddingTable
from tasks.evaluation.kept_embeddings import load_embedded
from tasks.pipeline.embedding import embed
from tests.tasks.data.support import captioned, labelled, noise, retrieval, zero_shot
from tests.tasks.evaluation.stand_in import Kind, Processor, Runner, stand_in
from tests.thorough import amount

pytestmark = pytest.mark.heavy

_PACKAGE = "clip_benchmark==1.6.2 --hash=sha256:6fbfd39b454a036a628b7e227b3d4050015009afe418583f21f27886c74e4998"
_LIMIT_S = 120
_SEEDS = range(amount(5, 40))
_NAMES = ("ant", "bat", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kite", "lynx")
_TEMPLATES = "a photo of a {c}.\nart of the {c}.\n{c}\n"


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], ModuleType]]:
    """`benchmark("zeroshot_retrieval")`: a module of `clip_benchmark.metrics`; its version and content are fixed."""
    folder = tmp_path_factory.mktemp("clip-benchmark")
    (folder / "wanted.txt").write_text(_PACKAGE)
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--retries", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", folder / "lib", "-r", folder / "wanted.txt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
    )
    if done.returncode and ("No matching distribution" in done.stderr or "connection" in done.stderr.lower()):
        pytest.skip("omitted: CLIP_benchmark's package has to be installed, and no package index can be reached")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder / "lib"))
        yield lambda name: importlib.import_module(f"clip_benchmark.metrics.{name}")
    for name in [name for name in sys.modules if name.partition(".")[0] == "clip_benchmark"]:
        del sys.modules[name]


# --- its side ----------------------------------------------------------------------------------------------


class Model:
    """The stand-in encoder as CLIP_benchmark calls a model."""

    def __init__(self, kind: Kind) -> None:
        self._runner = Runner(kind, "fp32")

    def encode_image(self, pixels: Any) -> Any:
        """Tensors (n, 3, h, w) to (n, d)."""
        return self._run({"pixel_values": pixels.numpy()})

    def encode_text(self, ids: Any) -> Any:
        """Tensors (n, context) to (n, d)."""
        return self._run({"input_ids": ids.numpy()})

    def _run(self, feed: dict[str, np.ndarray]) -> Any:
        import torch

        (rows,) = self._runner.infer(feed).values()
        return torch.from_numpy(rows).as_subclass(_lenient())


@cache
def _lenient() -> Any:
    """Tensors that give an array of one number without its axis. The package's `accuracy` calls `float` with such an
    array, which NumPy no longer allows where it has an axis."""
    import torch

    class Lenient(torch.Tensor):
        def numpy(self, *, force: bool = False) -> np.ndarray:
            made = self.as_subclass(torch.Tensor).numpy(force=force)
            return made.reshape(()) if made.size == 1 else made

    return Lenient


def tokenizer(kind: Kind) -> Callable[[list[str]], Any]:
    """Texts to a tensor of ids."""
    import torch

    return lambda texts: torch.from_numpy(Processor(kind).text(texts)[0])


class Loader:
    """Batches of a set's shards, read with `tarfile` and Pillow alone: pictures, and labels or lists of captions."""

    def __init__(self, root: Path, kind: str, size: int) -> None:
        self.dataset, self._size, self._kind = self, size, kind
        names = root / "classnames.txt"
        self.classes = names.read_text().splitlines() if names.is_file() else []
        self._items: list[tuple[np.ndarray, str]] = []
        for shard in sorted((root / "test").glob("*.tar")):
            with tarfile.open(shard) as tar:
                members: dict[str, Any] = {member.name: tar.extractfile(member) for member in tar}
                for name in [name for name in members if name.endswith(".png")]:
                    picture = Image.open(members[name]).convert("RGB")
                    text = members[name.replace(".png", f".{kind}")].read().decode()
                    self._items.append((np.asarray(picture).transpose(2, 0, 1).astype(np.float32), text))

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        import torch

        for start in range(0, len(self._items), self._size):
            pictures, texts = zip(*self._items[start : start + self._size], strict=True)
            batch = torch.from_numpy(np.stack(pictures))
            yield batch, torch.tensor([*map(int, texts)]) if self._kind == "cls" else [t.splitlines() for t in texts]


# --- our side ----------------------------------------------------------------------------------------------


def fp32_rows(folder: Path, store: Store, kind: Kind = "rough") -> dict[str, Row]:
    """The rows of FP32's table by metric."""
    data = pin_both(None, 0, str(folder), 1_000_000, []).evaluation
    with activate(store), stand_in(kind) as snapshot:
        arrays = {
            (encoder, "pytorch", "fp32"): load_embedded(
                embed(snapshot, "stand-in", data, encoder, "fp32", "pytorch", None, 16).outputs  # type: ignore[arg-type]
            )
            for encoder in ("image", "text")
        }
    table = EmbeddingTable(data.open(), {**arrays, ("image", "ort", "fp16"): arrays["image", "pytorch", "fp32"]})
    return {str(row["metric"]): row for row in table.task_rows() if row["precision"] == "fp32"}


def drawn_labels(seed: int, names: Sequence[str]) -> list[int]:
    """Of 150 pictures; the fourth class has none."""
    labels = np.random.default_rng(seed).integers(0, len(names), 150)
    return [int(label) for label in np.where(labels == 3, 0, labels)]


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("classes", [4, 5, 6, 12])
def test_zero_shot(
    benchmark: Callable[[str], ModuleType], store: Store, tmp_path: Path, seed: int, classes: int
) -> None:
    names = _NAMES[:classes]
    members = labelled([noise(1000 * seed + n) for n in range(150)], drawn_labels(seed, names))
    folder = zero_shot(tmp_path / "set", [members[:120], members[120:]], "\n".join(names) + "\n", _TEMPLATES)
    its = benchmark("zeroshot_classification").evaluate(
        Model("rough"), Loader(folder, "cls", 32), tokenizer("rough"), names, _TEMPLATES.splitlines(), "cpu", amp=False
    )
    rows = fp32_rows(folder, store)
    assert rows["top1"]["value"] == its["acc1"]
    assert rows["mean_class_recall"]["value"] == its["mean_per_class_recall"]
    if classes > 5:
        assert rows["top5"]["value"] == its["acc5"]
    else:  # all of five classes are among five answers
        assert "top5" not in rows and (np.isnan(its["acc5"]) if classes < 5 else its["acc5"] == 1)
    assert 0 < its["acc1"] < 1


@pytest.mark.parametrize("seed", _SEEDS)
def test_where_scores_tie_recall_is_that_of_argmax(
    benchmark: Callable[[str], ModuleType], store: Store, tmp_path: Path, seed: int
) -> None:
    """Two pairs of classes of one name, as ImageNet has had one, and an encoder of whose exact scores many are equal.

    Its top-1 takes any of equal scores, so it is not compared; argmax takes the first.
    """
    names = (*_NAMES[:5], "ant", "Dog")
    members = labelled([noise(1000 * seed + n) for n in range(150)], drawn_labels(seed, names))
    folder = zero_shot(tmp_path / "set", [members], "\n".join(names) + "\n", _TEMPLATES)
    its = benchmark("zeroshot_classification").evaluate(
        Model("exact"), Loader(folder, "cls", 150), tokenizer("exact"), names, _TEMPLATES.splitlines(), "cpu", amp=False
    )
    rows = fp32_rows(folder, store, "exact")
    assert rows["mean_class_recall"]["value"] == its["mean_per_class_recall"]
    assert int(rows["alike_classes"]["value"] or 0) >= 4


@pytest.mark.parametrize("seed", _SEEDS)
@pytest.mark.parametrize("shared", [False, True])
def test_retrieval(
    benchmark: Callable[[str], ModuleType], store: Store, tmp_path: Path, seed: int, shared: bool
) -> None:
    """Where pictures share captions, it is ours of each caption by itself that are its numbers."""
    rng = np.random.default_rng(seed)
    texts = [[f"caption {n} {number}" for number in range(int(rng.integers(1, 6)))] for n in range(60)]
    if shared:
        for place in range(0, 60, 20):
            texts[place].append(f"far {seed} {place}")
            texts[place + 1].append(f"far {seed} {place}")
    members = captioned([noise(1000 * seed + n) for n in range(60)], ["\n".join(own) for own in texts])
    folder = retrieval(tmp_path / "set", [members[:50], members[50:]])
    its = benchmark("zeroshot_retrieval").evaluate(
        Model("rough"), Loader(folder, "txt", 16), tokenizer("rough"), "cpu", amp=False, recall_k_list=[1, 5, 10]
    )
    rows = fp32_rows(folder, store)
    assert ("recall@1_image_to_text_each_caption" in rows) is shared
    for k in (1, 5, 10):
        for metric, name in (("image_to_text", "text_retrieval"), ("text_to_image", "image_retrieval")):
            row = rows[f"recall@{k}_{metric}{'_each_caption' if shared else ''}"]
            samples = int(row["samples"] or 0)
            its_hits = its[f"{name}_recall@{k}"] * samples
            assert abs(its_hits - round(its_hits)) < 1e-4  # it takes the mean in FP32
            undecided = torn(Loader(folder, "txt", 60), k) if metric == "image_to_text" else 0
            assert abs(round(its_hits) - float(row["value"] or 0) * samples) <= undecided + 1e-9, (k, metric)


def torn(loader: Loader, k: int) -> int:
    """Of how many pictures a caption ties at place k with the same caption of another picture: it takes either."""
    ((pixels, texts),) = loader
    every, count = [text for own in texts for text in own], 0
    rows = [Model("rough").encode_image(pixels), Model("rough").encode_text(tokenizer("rough")(every))]
    images, words = (array / np.linalg.norm(array, axis=1, keepdims=True) for array in map(np.asarray, rows))
    for image, own in zip(images, texts, strict=True):
        scores = dict(zip(every, words @ image, strict=True))
        better = [sum(scores[text] > scores[caption] + 1e-6 for text in every) for caption in own]
        count += any(every.count(text) > 1 and place == k - 1 for text, place in zip(own, better, strict=True))
    return count
