"""Data sets of the `datasets` library: saved folders for real, the hub through a stand-in (tests use no network)."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import httpx
import numpy as np
import pytest
from datasets.exceptions import DatasetNotFoundError
from PIL import Image
from skimage import data as pictures

from artifacts.errors import BadSample, ConfigError, DataError, DataNotFound
from artifacts.exit_codes import ExitCode
from tasks.checkpoints import hub_retries
from tasks.data.hf import HfDataset
from tasks.data.hf_source import HfSource, parse_source
from tasks.data.pictures import picture_places
from tests.wording import refusal


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


IMAGES = [png(picture[::8, ::8]) for picture in (pictures.astronaut(), pictures.coffee(), pictures.chelsea())]
CAPTIONS = ["an astronaut", "a cup of coffee", "a cat"]
CELLS: list[dict[str, Any] | None] = [{"bytes": data, "path": None} for data in IMAGES]


def table(columns: dict[str, list[Any]], **features: Any) -> datasets.Dataset:
    kinds = {"image": datasets.Image(), **features}
    return datasets.Dataset.from_dict(columns, features=datasets.Features({name: kinds[name] for name in columns}))


def captioned(name: str = "caption") -> datasets.Dataset:
    return table({"image": CELLS, name: CAPTIONS}, **{name: datasets.Value("string")})


def saved(data: Any, folder: Path) -> str:
    data.save_to_disk(str(folder))
    return f"datasets:{folder}"


# --- saved folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["caption", "captions", "text", "sentence"])
def test_captions(tmp_path: Path, column: str) -> None:
    data = HfDataset(saved(captioned(column), tmp_path / "set"))
    assert data.source == str(tmp_path / "set")
    assert data.classes is None
    assert [sample.caption for sample in data.samples] == CAPTIONS
    assert [sample.id for sample in data.samples] == ["0", "1", "2"]
    assert [sample.image_hash for sample in data.samples] == [hashlib.sha256(item).hexdigest() for item in IMAGES]


def test_images(tmp_path: Path) -> None:
    data = HfDataset(saved(captioned(), tmp_path / "set"))
    np.testing.assert_array_equal(np.asarray(data.image(2)), pictures.chelsea()[::8, ::8])


def test_classes(tmp_path: Path) -> None:
    kind = datasets.ClassLabel(names=["cat", "cup", "person"])
    data = HfDataset(saved(table({"image": CELLS, "kind": [2, 1, 0]}, kind=kind), tmp_path / "set"))
    assert data.classes is not None
    assert data.classes.names == ("cat", "cup", "person")
    assert [sample.label for sample in data.samples] == [2, 1, 0]
    assert data.samples[0].caption == "a photo of a person."


def test_captions_and_classes(tmp_path: Path) -> None:
    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])}
    data = HfDataset(saved(table({"image": CELLS, "text": CAPTIONS, "label": [0, 1, 0]}, **kinds), tmp_path / "set"))
    assert [(sample.caption, sample.label) for sample in data.samples] == list(zip(CAPTIONS, [0, 1, 0], strict=True))


def test_a_labelled_picture_counts_once_however_many_captions_it_has(tmp_path: Path) -> None:
    kinds = {"captions": datasets.List(datasets.Value("string")), "label": datasets.ClassLabel(names=["a", "b"])}
    columns = {"image": [CELLS[0], CELLS[0], CELLS[1]], "captions": [["x", "y"], ["z"], ["u", "v"]], "label": [0, 0, 1]}
    data = HfDataset(saved(table(columns, **kinds), tmp_path / "set"))
    assert len(data.samples) == 5
    assert picture_places(data) == [0, 2, 3], "the rows, of which two hold the same picture"


def test_lists_of_captions_give_a_sample_each(tmp_path: Path) -> None:
    lists = [["one", "two"], ["three"], ["four", "five"]]
    rows = table({"image": CELLS, "captions": lists}, captions=datasets.List(datasets.Value("string")))
    data = HfDataset(saved(rows, tmp_path / "set"))
    assert [(sample.id, sample.caption) for sample in data.samples] == [
        ("0", "one"),
        ("0#2", "two"),
        ("1", "three"),
        ("2", "four"),
        ("2#2", "five"),
    ]
    assert data.image(2).size == (75, 50)
    assert data.samples[0].image_hash == data.samples[1].image_hash


def test_a_caption_that_a_row_repeats_is_one_pair(tmp_path: Path) -> None:
    lists = [["one", "two", "one"], ["one"], ["three", "three"]]
    rows = table({"image": CELLS, "captions": lists}, captions=datasets.List(datasets.Value("string")))
    data = HfDataset(saved(rows, tmp_path / "set"))
    found = [(sample.id, sample.caption) for sample in data.samples]
    assert found == [("0", "one"), ("0#2", "two"), ("1", "one"), ("2", "three")]


def test_limit(tmp_path: Path) -> None:
    assert len(HfDataset(saved(captioned(), tmp_path / "set"), limit=2).samples) == 2


def test_saved_empty_set(tmp_path: Path) -> None:
    """The library writes such a folder but cannot load it."""
    refused(saved(captioned().select([]), tmp_path / "set"), "cannot load")


def test_saved_with_a_format_and_an_order(tmp_path: Path) -> None:
    data = HfDataset(saved(captioned().select([2, 0]).with_format("numpy"), tmp_path / "set"))
    assert [sample.caption for sample in data.samples] == ["a cat", "an astronaut"]


def test_image_that_cannot_be_decoded(tmp_path: Path) -> None:
    cells = [{"bytes": IMAGES[0][:200], "path": None}]
    data = HfDataset(saved(table({"image": cells, "text": ["x"]}, text=datasets.Value("string")), tmp_path / "set"))
    with pytest.raises(BadSample, match="row 0"):
        data.image(0)


# --- splits ------------------------------------------------------------------------------------------------


def test_named_split(tmp_path: Path) -> None:
    both = datasets.DatasetDict({"train": captioned(), "test": captioned().select([1])})
    spec = saved(both, tmp_path / "set")
    data = HfDataset(f"{spec}:test")
    assert [sample.caption for sample in data.samples] == ["a cup of coffee"]
    assert data.source == f"{tmp_path / 'set'}:test"
    with pytest.raises(DataNotFound, match="one of train, test"):
        HfDataset(f"{spec}:validation")
    with pytest.raises(ConfigError, match="one of train, test"):
        HfDataset(spec)


def test_only_split_needs_no_name(tmp_path: Path) -> None:
    spec = saved(datasets.DatasetDict({"train": captioned()}), tmp_path / "set")
    assert len(HfDataset(spec).samples) == 3


def test_split_of_a_single_set(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no split 'train'"):
        HfDataset(saved(captioned(), tmp_path / "set") + ":train")


# --- malformed sets ----------------------------------------------------------------------------------------


def refused(spec: str, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        HfDataset(spec)
    for part in parts:
        assert part in str(caught.value)


def test_no_image_column(tmp_path: Path) -> None:
    rows = table({"text": ["x"]}, text=datasets.Value("string"))
    refused(saved(rows, tmp_path / "set"), "no image column", "text (Value)")


def test_no_caption_and_no_class(tmp_path: Path) -> None:
    refused(saved(table({"image": CELLS, "n": [1, 2, 3]}, n=datasets.Value("int64")), tmp_path / "set"), "no captions")


def test_several_image_columns(tmp_path: Path) -> None:
    kinds = {"left": datasets.Image(), "right": datasets.Image(), "text": datasets.Value("string")}
    rows = table({"left": CELLS, "right": CELLS, "text": CAPTIONS}, **kinds)
    refused(saved(rows, tmp_path / "set"), "left, right")


def test_column_named_image_wins(tmp_path: Path) -> None:
    kinds = {"thumbnail": datasets.Image(), "text": datasets.Value("string")}
    rows = table({"thumbnail": CELLS[::-1], "image": CELLS, "text": CAPTIONS}, **kinds)
    data = HfDataset(saved(rows, tmp_path / "set"))
    assert data.samples[0].image_hash == hashlib.sha256(IMAGES[0]).hexdigest()


def test_row_without_image(tmp_path: Path) -> None:
    rows = table({"image": [CELLS[0], None], "text": ["x", "y"]}, text=datasets.Value("string"))
    refused(saved(rows, tmp_path / "set"), "no image", "row 1")


@pytest.mark.parametrize("caption", ["", "  ", None])
def test_empty_caption(tmp_path: Path, caption: str | None) -> None:
    rows = table({"image": CELLS, "text": ["x", caption, "y"]}, text=datasets.Value("string"))
    refused(saved(rows, tmp_path / "set"), "empty text", "row 1")


def test_hidden_label(tmp_path: Path) -> None:
    rows = table({"image": CELLS, "label": [0, -1, 0]}, label=datasets.ClassLabel(names=["a"]))
    refused(saved(rows, tmp_path / "set"), "no label", "row 1")


@pytest.mark.parametrize("captioned", [False, True])
def test_label_out_of_range(tmp_path: Path, captioned: bool) -> None:
    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    columns = {"image": CELLS, "label": [0, 2, 1]} | ({"text": CAPTIONS} if captioned else {})
    rows = table(columns, **kinds)
    kinds["label"] = datasets.ClassLabel(names=["a", "b"])  # what was stored before is not looked at again
    rows.info.features["label"] = kinds["label"]
    refused(saved(rows, tmp_path / "set"), "label 2 is not one of the set's classes", "row 1")


def test_folder_that_save_to_disk_did_not_write(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="neither"):
        HfDataset(f"datasets:{tmp_path}")


def test_damaged_folder(tmp_path: Path) -> None:
    spec = saved(captioned(), tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text("{")
    refused(spec, "cannot load", str(tmp_path))


# --- the hub -----------------------------------------------------------------------------------------------


class _Hub:
    """Stands in for `load_dataset` and `load_dataset_builder`; remembers what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, splits: list[str], failure: Exception | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.data = captioned()
        self.info = SimpleNamespace(splits=dict.fromkeys(splits) or None)
        self._failure = failure
        monkeypatch.setattr(datasets, "load_dataset", self._load)
        monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_, **__: self)

    def _load(self, place: str, **options: Any) -> datasets.Dataset:
        self.calls.append((place, options))
        if self._failure is not None:
            raise self._failure
        return self.data


def test_hub_with_revision_and_split(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub(monkeypatch, ["train", "test"])
    data = HfDataset("datasets:org/photos@v1.0:test[:10]", limit=1)
    assert hub.calls == [("org/photos", {"revision": "v1.0", "split": "test[:10]"})]
    assert data.source == "datasets:org/photos@v1.0:test[:10]"
    assert len(data.samples) == 1


def test_hub_with_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub(monkeypatch, ["validation"])
    assert HfDataset("datasets:photos").source == "datasets:photos:validation"
    assert hub.calls == [("photos", {"revision": None, "split": "validation"})]


@pytest.mark.parametrize("splits", [[], ["train", "test"]])
def test_hub_with_several_splits_loads_nothing(monkeypatch: pytest.MonkeyPatch, splits: list[str]) -> None:
    hub = _Hub(monkeypatch, splits)
    with pytest.raises(ConfigError, match="name the split"):
        HfDataset("datasets:org/photos")
    assert hub.calls == []


@pytest.mark.parametrize(
    "failure", [ConnectionError("offline"), DatasetNotFoundError("gone"), httpx.ConnectTimeout("slow")]
)
def test_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr(hub_retries, "_FIRST_WAIT_S", 0.0)
    monkeypatch.setattr(hub_retries, "_LONGEST_WAIT_S", 0.0)
    _Hub(monkeypatch, [], failure)
    with pytest.raises(DataNotFound, match=str(failure)) as caught:
        HfDataset("datasets:org/photos:train")
    passing = isinstance(failure, httpx.TimeoutException)
    assert caught.value.exit_code == (ExitCode.FAILED if passing else ExitCode.WRONG_INPUT)


@pytest.mark.parametrize("failure", [ValueError("Unknown split"), RuntimeError("scripts are no longer supported")])
def test_hub_set_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    _Hub(monkeypatch, [], failure)
    with pytest.raises(DataError, match=str(failure)):
        HfDataset("datasets:org/photos:train")


@pytest.mark.parametrize("place", ["/nothing/here", "a/b/c", "./x", "org/na me"])
def test_neither_folder_nor_hub_id(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    hub = _Hub(monkeypatch, ["train"])
    with refusal(DataNotFound):
        HfDataset(f"datasets:{place}")
    assert hub.calls == []


def test_images_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sets of loose files on the hub are downloaded and named by path; `save_to_disk` embeds them."""
    path = tmp_path / "a.png"
    path.write_bytes(IMAGES[0])
    hub = _Hub(monkeypatch, ["train"])
    hub.data = table({"image": [str(path)], "text": ["x"]}, text=datasets.Value("string"))
    data = HfDataset("datasets:org/photos")
    assert data.samples[0].image_hash == hashlib.sha256(IMAGES[0]).hexdigest()
    path.write_bytes(IMAGES[1])
    with pytest.raises(DataError, match="changed"):
        data.image(0)
    path.unlink()
    refused("datasets:org/photos", "cannot be read", "row 0")


def test_empty_set(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = _Hub(monkeypatch, ["train"])
    hub.data = captioned().select([])
    assert len(HfDataset("datasets:org/photos").samples) == 0


# --- specs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "place", "split"),
    [
        ("datasets:org/photos", "org/photos", None),
        ("datasets:org/photos:train", "org/photos", "train"),
        ("datasets:org/photos@refs/pr/1:train", "org/photos@refs/pr/1", "train"),
        ("datasets:org/photos:train[10%:20%]", "org/photos", "train[10%:20%]"),
    ],
)
def test_specs(spec: str, place: str, split: str | None) -> None:
    assert parse_source(spec) == HfSource(place, split, None)


def test_existing_folder_with_a_colon_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    assert parse_source(f"datasets:{folder}") == HfSource(str(folder), None, folder.resolve())
    assert parse_source(f"datasets:{folder}:train") == HfSource(str(folder), "train", folder.resolve())


@pytest.mark.parametrize("spec", ["datasets:", "datasets:a\0b", "datasets:a\nb"])
def test_malformed_specs(spec: str) -> None:
    with pytest.raises(ConfigError):
        parse_source(spec)
