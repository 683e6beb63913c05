"""COCO's captions in a folder, with the pictures beside the document or where COCO's archives put them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.data.support import pictures, refused, said

IMAGES = [{"id": 7, "file_name": "a.png"}, {"id": 5, "file_name": "b.png"}]
ANNOTATIONS = [
    {"id": 0, "image_id": 5, "caption": "one"},
    {"id": 1, "image_id": 7, "caption": "two"},
    {"id": 2, "image_id": 5, "caption": "one"},
    {"id": 3, "image_id": 5, "caption": "three"},
]


def coco(path: Path, images: Any = IMAGES, annotations: Any = ANNOTATIONS) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))


@pytest.mark.parametrize("place", ["", "val2017", "images/val2017", "images"])
@pytest.mark.parametrize("document", ["captions.json", "captions_val2017.json", "annotations/captions_val2017.json"])
def test_layouts(tmp_path: Path, place: str, document: str) -> None:
    pictures(tmp_path / place, "a.png", "b.png")
    coco(tmp_path / document)
    assert said(tmp_path) == [("b.png", "one"), ("a.png", "two"), ("b.png#2", "three")]


def test_the_one_called_captions_is_meant(tmp_path: Path) -> None:
    pictures(tmp_path / "val2017", "a.png", "b.png")
    for split in ("train2017", "val2017"):
        coco(tmp_path / "annotations" / f"captions_{split}.json")
    refused(tmp_path, "several tables", f"ln -s annotations/captions_val2017.json {tmp_path}/captions.json")
    (tmp_path / "captions.json").symlink_to("annotations/captions_val2017.json")
    assert len(said(tmp_path)) == 3


@pytest.mark.parametrize(
    ("images", "annotations", "words"),
    [
        (IMAGES, [{"image_id": 9, "caption": "x"}], "image_id 9 is no id"),
        (IMAGES, [{"image_id": 5, "bbox": [1, 2, 3, 4]}], "boxes of objects, not captions"),
        (IMAGES, [{"image_id": 5, "caption": ""}], "empty caption"),
        (IMAGES, [{"caption": "x"}], "image_id is None"),
        (IMAGES, None, "no list of annotations"),
        ([{"id": 5}], ANNOTATIONS, "empty file_name"),
        ([{"id": 5, "file_name": "../a.png"}], [{"image_id": 5, "caption": "x"}], "plain relative path"),
        ([*IMAGES, {"id": 5, "file_name": "c.png"}], ANNOTATIONS, "the id 5 comes twice"),
    ],
)
def test_what_is_no_set_of_captions(tmp_path: Path, images: Any, annotations: Any, words: str) -> None:
    pictures(tmp_path, "a.png", "b.png")
    coco(tmp_path / "captions.json", images, annotations)
    refused(tmp_path, words, "captions.json")


def test_a_document_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"images": [')
    refused(tmp_path, "not valid JSON")
