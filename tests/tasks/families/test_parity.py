"""Parity with plain transformers: it holds for what we make, and each side that differs is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts import places
from artifacts.errors import ParityError
from artifacts.store.store import Store, activate, active_store
from tasks.checkpoints.preprocess import Preprocess
from tasks.checkpoints.snapshot import Snapshot
from tasks.clip.weights import WeightReader
from tasks.families import family_named
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.parity import MIN_COSINE, Parity, check_parity, picture_samples, text_samples
from tests.tasks.families.support import EACH_NAME


@pytest.fixture(autouse=True)
def _active(store: Store) -> Any:
    with activate(store):
        yield


def parity_of(folder: Path) -> Parity:
    snapshot = resolve(str(folder), None, active_store())
    return check_parity(snapshot, check(snapshot).preprocess)


@pytest.mark.parametrize("name", EACH_NAME)
def test_every_sample_has_a_cosine_and_the_record_names_the_oracle(name: str, folder_of: Any) -> None:
    found = parity_of(folder_of(name))
    record = json.loads(active_store().path(found.table, places.PARITY).read_text())
    assert found.oracle == record["oracle"] == "transformers"
    assert set(record["cosines"]["image"]) == {"wide", "tall", "grey", "palette", "transparent"}
    assert set(record["cosines"]["text"]) == {"a word", "a sentence", "as long as the context", "longer"}
    assert all(cosine >= 0.99999 for cosines in record["cosines"].values() for cosine in cosines.values())
    assert {(row["encoder"], row["sample"]): row["cosine"] for row in found.rows} == {
        (encoder, sample): cosine for encoder, values in record["cosines"].items() for sample, cosine in values.items()
    }


def test_one_text_fills_the_context_and_one_is_longer(folder_of: Any) -> None:
    snapshot = resolve(str(folder_of("clip")), None, active_store())
    processor = Preprocess(active_store().path(check(snapshot).preprocess), family_named("clip"), snapshot.config)
    texts = text_samples(processor)
    too_long = processor.too_long(list(texts.values()))
    assert 3 in too_long and 0 not in too_long and 2 not in too_long
    full = processor.text_inputs([texts["as long as the context"]])["input_ids"]
    assert full[0, -1] == 602 and (full[0, :-1] != 602).all()


def test_pictures_come_in_the_modes_that_files_have() -> None:
    assert [picture.mode for picture in picture_samples().values()] == ["RGB", "RGB", "L", "P", "RGBA"]


# --- each side ----------------------------------------------------------------------------------------------


def swapped_mean(folder: Path) -> None:
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings | {"image_mean": [0.9, 0.1, 0.1]}))


def swapped_tokens(folder: Path) -> None:
    settings = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = settings["model"]["vocab"]
    vocabulary["a</w>"], vocabulary["b</w>"] = vocabulary["b</w>"], vocabulary["a</w>"]
    (folder / "tokenizer.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(("change", "side"), [(swapped_mean, "the image processor"), (swapped_tokens, "the tokenizer")])
def test_preprocessing_that_differs_is_named(
    change: Callable[[Path], None], side: str, folder_of: Any, tmp_path: Path
) -> None:
    folder = folder_of("clip")
    snapshot = resolve(str(folder), None, active_store())
    kept = active_store().path(check(snapshot).preprocess)
    changed = Path(shutil.copytree(kept, tmp_path / "changed", copy_function=shutil.copyfile))
    change(changed)
    with pytest.raises(ParityError, match=f"^{side} does not do what plain transformers does") as caught:
        check_parity(snapshot, active_store().add("preprocess", changed))
    assert caught.value.where == str(folder)


def test_a_configuration_that_is_read_otherwise_is_named(folder_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = resolve(str(folder_of("clip")), None, active_store())
    preprocess = check(snapshot).preprocess
    other = snapshot.config | {"vision_config": snapshot.config["vision_config"] | {"layer_norm_eps": 0.1}}
    monkeypatch.setitem(snapshot.__dict__, "config", other)
    with pytest.raises(
        ParityError, match=r"the model does not do .* vision_config\.layer_norm_eps is 0\.1 here and 1e-05"
    ):
        check_parity(snapshot, preprocess)


def test_weights_that_are_read_otherwise_are_named(folder_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot = resolve(str(folder_of("siglip")), None, active_store())
    preprocess = check(snapshot).preprocess
    read = WeightReader.read

    def mixed(reader: WeightReader, name: str) -> np.ndarray:
        return read(reader, name.replace("head.attention.k_proj", "head.attention.v_proj"))

    monkeypatch.setattr(WeightReader, "read", mixed)
    with pytest.raises(ParityError, match=r"the model does not do .* other values of vision_model\.head"):
        check_parity(snapshot, preprocess)


def test_arithmetic_that_differs_is_named(folder_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.clip import attention

    snapshot = resolve(str(folder_of("clip")), None, active_store())
    preprocess = check(snapshot).preprocess
    monkeypatch.setattr(attention, "_mask", lambda **_: None)  # texts would see what comes after a token
    with pytest.raises(
        ParityError, match=r"the model does not do .* the embedding of the 'a word' text sample"
    ) as caught:
        check_parity(snapshot, preprocess)
    assert str(MIN_COSINE) in (caught.value.expected or "")


def test_a_family_that_transformers_does_not_have_is_held_by_golden_files(
    folder_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot: Snapshot = resolve(str(folder_of("clip")), None, active_store())
    preprocess = check(snapshot).preprocess
    monkeypatch.setattr(type(family_named("clip")), "oracle", "golden files")
    found = check_parity(snapshot, preprocess)
    assert [row["cosine"] for row in found.rows] == [None, None] and {row["oracle"] for row in found.rows} == {
        found.oracle
    }
    assert found.oracle == "golden files" and "golden files" in found.words()
