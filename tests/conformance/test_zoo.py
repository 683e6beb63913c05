"""Every published folder that we know is accepted, or refused by its reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import CheckpointError
from artifacts.store.store import Store
from tasks.clip.base import ENCODERS
from tasks.families import family_named
from tasks.pipeline.checkpoint import check, resolve
from tests.conformance.facts.everything import ALL
from tests.conformance.facts.form import Published
from tests.conformance.facts.zoo import KINDS, OPENCLIP, OTHERS, PIPELINES, PROCESSORS, TOWERS, WHOLE, Row
from tests.conformance.vocabularies import write_json

FACTS = {each.name: each for each in ALL}
REFUSED = [row for row in (*TOWERS, *PIPELINES, *OTHERS, *OPENCLIP, *KINDS) if not row.family]
ACCEPTED = [row for row in (*OTHERS, *OPENCLIP, *KINDS) if row.family]


def written(row: Row, folder: Path) -> Path:
    """The row's files, and weights that nobody gets to read."""
    for name, content in row.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_json(folder / name, content)
    file = "model" if "model_type" in row.files.get("config.json", {}) else "open_clip_model"
    (folder / f"{file}.safetensors").write_bytes(b"")
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in REFUSED])
def test_refused(row: Row, tmp_path: Path, active: Store) -> None:
    with pytest.raises(row.error, match=row.words) as caught:
        _ = resolve(str(written(row, tmp_path / "model")), None, active).config
    assert caught.value.where and caught.value.expected and caught.value.fix


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in ACCEPTED])
def test_accepted(row: Row, tmp_path: Path, active: Store) -> None:
    """The document alone decides; both encoders are described, with embeddings of one width."""
    snapshot = resolve(str(written(row, tmp_path / "model")), None, active)
    assert snapshot.family.startswith(row.family)
    family = family_named(snapshot.family)
    image, text = (family.encoder_spec(snapshot.config, encoder) for encoder in ENCODERS)
    document = next(iter(row.files.values()))
    if "model_type" not in document:
        assert image.embedding_dim == text.embedding_dim == document.get("model_cfg", document)["embed_dim"]


@pytest.mark.parametrize("name", sorted(set(WHOLE.values())))
def test_whole_models_are_accepted_in_full_size(name: str, tmp_path: Path, active: Store) -> None:
    """What they embed is tested in small (`test_published.py`); here the file is as it was published."""
    published: Published = FACTS[name]
    row = Row(name, {"config.json": published.config})
    snapshot = resolve(str(written(row, tmp_path / "model")), None, active)
    assert snapshot.family == published.config["model_type"]
    family = family_named(snapshot.family)
    image, text = (family.encoder_spec(snapshot.config, encoder) for encoder in ENCODERS)
    vision = published.config["vision_config"]
    side = published.processor["size"]
    side = next(iter(side.values())) if isinstance(side, dict) else side
    assert image.inputs[0].shape == (3, side, side)
    assert image.hidden_size == vision.get("hidden_size", 768)
    wanted = published.config.get("projection_dim", image.hidden_size)
    assert image.embedding_dim == text.embedding_dim == wanted


@pytest.mark.parametrize("name", sorted(PROCESSORS))
def test_processors_that_make_nothing_of_one_size(name: str, sound: Any, tmp_path: Path, active: Store) -> None:
    kind = "siglip2" if "iglip2" in name else "clip"
    folder = Path(shutil.copytree(sound(kind), tmp_path / "model"))
    write_json(folder / "preprocessor_config.json", PROCESSORS[name])
    with pytest.raises(CheckpointError, match=r"size|shape|pixels|makes|Siglip2ImageProcessor") as caught:
        check(resolve(str(folder), None, active))
    assert "preprocessor" in json.dumps(caught.value.where) or caught.value.fix


def test_every_folder_has_a_row() -> None:
    """120 folders of checkpoints and seven sets of architectures; some have several files that decide."""
    rows = {row.name.partition(":")[0].partition(",")[0] for row in (*TOWERS, *PIPELINES, *OTHERS, *OPENCLIP)}
    assert set(WHOLE.values()) <= set(FACTS)
    folders = set(WHOLE) | rows | set(PROCESSORS)
    assert len(folders) == 120
    assert len({row.name.partition(":")[0] for row in KINDS}) == 7
