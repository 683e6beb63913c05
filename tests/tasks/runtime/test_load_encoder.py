"""An exported release gives the embeddings of plain transformers, at the cosine that its own table says."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import (
    BadSample,
    EngineMismatch,
    EngineUnavailable,
    MissingEncoder,
    NotARelease,
    ObjectDamaged,
    ObjectMissing,
    UnknownTarget,
    WrongInput,
)
from artifacts.manifest import Manifest
from tasks.data import open_dataset
from tasks.demo import SNAPSHOT
from tasks.engines import backend_for
from tasks.engines import tensorrt as tensorrt_backend
from tasks.engines.base import BatchProfile
from tasks.engines.onnx_runtime import session_options
from tasks.runtime import load_encoder
from tasks.runtime.folder import ReleaseFolder
from tests.processes import own_environment
from tests.wording import refusal

TEXTS = [f"a photo of the digit {word}" for word in ("zero", "one", "two", "seven", "nine")]


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    dataset = open_dataset("digits", "evaluation")
    return [dataset.image(index) for index in range(len(dataset.samples))]


@pytest.fixture(scope="module")
def reference(pictures: list[Image.Image]) -> dict[str, Any]:
    """transformers' own model, processor and normalisation, with nothing of ours."""
    import torch
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(SNAPSHOT).eval()
    processor = CLIPProcessor.from_pretrained(SNAPSHOT)
    inputs = processor(text=TEXTS, images=pictures, return_tensors="pt", padding="max_length")
    with torch.no_grad():
        output = model(**inputs)
    return {"image": output.image_embeds.numpy(), "text": output.text_embeds.numpy()}


def table(folder: Path, encoder: str, precision: str) -> float:
    rows = json.loads((folder / "manifest.json").read_text())["tables"]["accuracy"]
    wanted = {"encoder": encoder, "precision": precision, "reference": "fp32", "metric": "cosine_mean"}
    (value,) = (row["value"] for row in rows if wanted.items() <= row.items())
    return value


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_embeddings_are_those_of_transformers(
    precision: Any, demo_export: Path, pictures: list[Image.Image], reference: dict[str, Any]
) -> None:
    with load_encoder(demo_export, precision=precision) as encoder:
        assert (encoder.target, encoder.precision) == ("onnxruntime", precision)
        images, texts = encoder.embed_images(pictures), encoder.embed_texts(TEXTS)
    for made, wanted in ((images, reference["image"]), (texts, reference["text"])):
        assert (made.dtype, made.shape) == (np.float32, wanted.shape)
        np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    cosines = (images * reference["image"]).sum(axis=1)
    assert cosines.mean() == pytest.approx(table(demo_export, "image", precision), abs=1e-4)
    least = 0.99999 if precision == "fp16" else 0.997
    assert min(cosines.min(), (texts * reference["text"]).sum(axis=1).min()) > least


def test_batches_follow_the_profile(
    demo_export: Path, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an engine would be fed that takes 4 to 6 samples: never another number, and the same rows in order."""
    with load_encoder(demo_export, precision="fp16") as encoder:
        whole = encoder.embed_images(pictures[:13])
        runner = encoder._runners["image"]
        runner._profile = encoder._profiles["image"] = BatchProfile(min=4, opt=5, max=6)
        seen = []
        infer = runner._runner.infer

        def watched(feed: Any, **options: Any) -> Any:
            seen.append(len(feed["pixel_values"]))
            return infer(feed, **options)

        monkeypatch.setattr(runner._runner, "infer", watched)
        np.testing.assert_allclose(encoder.embed_images(pictures[:13]), whole, atol=1e-3)
    assert seen == [6, 6, 4]


def test_the_precision_is_the_one_measured_as_fastest(copy: Path, caplog: pytest.LogCaptureFixture) -> None:
    """By the release's table, whose latencies on the CPU are written anew here."""
    path = copy / "manifest.json"
    manifest = Manifest.from_bytes(path.read_bytes(), where=path)

    def write(**medians: float | None) -> None:
        rows = tuple(
            row | {"median_ms": medians[str(row["precision"])]} if row["target"] == "onnxruntime" else row
            for row in manifest.tables["latency"]
        )
        path.chmod(0o644)
        path.write_bytes(manifest.model_copy(update={"tables": manifest.tables | {"latency": rows}}).to_bytes())

    write(fp8=6.0, fp16=2.0)
    with caplog.at_level(logging.INFO, "clipsmith.runtime"), load_encoder(copy) as encoder:
        assert (encoder.target, encoder.precision) == ("onnxruntime", "fp16")
        assert encoder.choice.reason.startswith("3.00 times as fast as fp8 (its latency table")
    assert [record.getMessage() for record in caplog.records] == [f"demo@1 runs {encoder.choice}"]
    with load_encoder(copy, precision="fp8") as encoder:
        assert (encoder.precision, encoder.choice.reason) == ("fp8", "as asked for")
    write(fp8=2.0, fp16=6.0)
    with load_encoder(copy) as encoder:
        assert encoder.precision == "fp8" and encoder.choice.reason.startswith("3.00 times as fast as fp16")
    write(fp8=None, fp16=2.0)
    with load_encoder(copy) as encoder:
        assert (encoder.precision, encoder.choice.reason[:12]) == ("fp8", "the default,")


@pytest.mark.parametrize(("found", "file"), [("1.31.1", "fp8.onnx"), ("1.32.0", "fp8.onnxruntime.engine")])
def test_an_older_onnx_runtime_gets_the_graph_itself_and_its_option(
    found: str, file: str, demo_export: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The versions themselves are tried in `test_old_onnx_runtime.py`."""
    import onnxruntime as ort

    monkeypatch.setattr(ort, "__version__", found)
    path, _ = ReleaseFolder(demo_export).engine("text", "onnxruntime", "fp8", tmp_path)
    assert path.name == file
    option = "session.disable_quant_qdq"
    options = session_options()
    if found == "1.31.1":
        assert options.get_session_config_entry(option) == "1"
    else:
        with pytest.raises(RuntimeError, match=option):
            options.get_session_config_entry(option)


def test_nothing_in_gives_nothing_out(demo_export: Path) -> None:
    with load_encoder(demo_export) as encoder:
        assert encoder.embed_images([]).shape == encoder.embed_texts([]).shape == (0, 64)


def test_paths_and_pictures_of_every_mode_are_the_same(demo_export: Path, tmp_path: Path) -> None:
    from skimage import data

    picture = Image.fromarray(data.astronaut()).resize((120, 80))
    made = {"rgb.png": picture, "grey.png": picture.convert("L"), "alpha.png": picture.convert("RGBA")}
    for name, each in made.items():
        each.save(tmp_path / name)
    with load_encoder(demo_export) as encoder:
        from_files = encoder.embed_images([tmp_path / name for name in made])
        np.testing.assert_array_equal(encoder.embed_images(list(made.values())), from_files)
        np.testing.assert_array_equal(encoder.embed_images([str(tmp_path / "rgb.png")])[0], from_files[0])


def test_long_texts_lose_their_end_and_are_counted(demo_export: Path, caplog: pytest.LogCaptureFixture) -> None:
    short, long = "seven " * 14, "seven " * 40
    with load_encoder(demo_export) as encoder, caplog.at_level(logging.WARNING, "clipsmith.runtime"):
        rows = encoder.embed_texts([short, long, "two"])
    np.testing.assert_allclose(rows[0], rows[1], atol=2e-3)
    assert np.abs(rows[0] - rows[2]).max() > 0.05
    assert [record.getMessage() for record in caplog.records] == [
        "1 texts are longer than 16 tokens and lose their end"
    ], "and nothing from the tokenizer"


def test_the_runtime_needs_no_heavy_package(demo_export: Path) -> None:
    missing = ("torch", "torchvision", "modelopt", "prefect", "pandas", "scipy", "sklearn", "datasets")
    code = f"import sys\nfor name in {missing}: sys.modules[name] = None\n"
    code += "from tasks.runtime import load_encoder\n"
    code += f"with load_encoder({str(demo_export)!r}) as encoder: print(encoder.embed_texts(['seven']).shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=own_environment())
    assert done.stdout == "(1, 64)\n", done.stderr


# --- refusals ----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(demo_export: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_export, tmp_path / "copy", ignore=lambda _, names: {"evidence"} & set(names)))


@pytest.fixture
def opened(demo_export: Path) -> Iterator[Any]:
    with load_encoder(demo_export) as encoder:
        yield encoder


def test_a_folder_that_is_no_release(tmp_path: Path) -> None:
    with pytest.raises(NotARelease, match="clipsmith export"):
        load_encoder(tmp_path)


def test_a_changed_engine_and_a_lost_tokenizer(copy: Path) -> None:
    engine = copy / "text" / "fp8.onnxruntime.engine"
    data = bytearray(engine.read_bytes())
    data[len(data) // 2] ^= 1
    engine.write_bytes(data)
    with refusal(ObjectDamaged, "fp8.onnxruntime.engine"):
        load_encoder(copy, precision="fp8")
    load_encoder(copy, precision="fp16").close()
    (copy / "preprocess" / "tokenizer.json").unlink()
    with refusal(ObjectMissing, "copy"):
        load_encoder(copy, precision="fp16")


def test_targets_and_precisions_that_are_not_there(copy: Path) -> None:
    with pytest.raises(UnknownTarget):
        load_encoder(copy, target="no-such")
    with refusal(EngineUnavailable, "copy"):
        load_encoder(copy, target="trtrtx-sm75")
    with refusal(EngineUnavailable, "copy"):
        load_encoder(copy, target="trtrtx-sm75", precision="fp8")
    with pytest.raises(EngineUnavailable, match="no precision fp32"):
        load_encoder(copy, precision="fp32")  # type: ignore[arg-type]


@pytest.mark.skipif(backend_for("trtrtx").why_not_run("trtrtx") is None, reason="this machine has a GPU")
def test_an_engine_that_needs_a_gpu(copy: Path) -> None:
    with refusal(EngineUnavailable, "copy"):
        load_encoder(copy, target="trtrtx-sm89")


def test_an_engine_for_another_machine_is_not_deserialized(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt_backend, "gpu_count", lambda: 1)
    monkeypatch.setattr(tensorrt_backend, "gpu_capability", lambda: "sm89")
    monkeypatch.setattr(tensorrt_backend, "package_version", lambda _name: "9.9")
    with refusal(EngineMismatch, "fp8.trtrtx-sm89.engine"):
        load_encoder(copy)  # the GPU's engine comes first


def test_a_release_with_one_encoder(copy: Path) -> None:
    path = copy / "manifest.json"
    manifest = Manifest.from_bytes(path.read_bytes(), where=path)
    images = tuple(file for file in manifest.files if file.encoder != "text")
    path.write_bytes(manifest.model_copy(update={"files": images}).to_bytes())
    with load_encoder(copy) as encoder:
        assert encoder.embed_images([Image.new("RGB", (32, 32), "red")]).shape == (1, 64)
        with pytest.raises(MissingEncoder, match="no text encoder"):
            encoder.embed_texts(["seven"])


def test_corrupt_pictures_are_named(opened: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.png", tmp_path / "bad.png"
    Image.new("RGB", (64, 64), "red").save(good)
    bad.write_bytes(good.read_bytes()[:60])
    with pytest.raises(BadSample, match=r"bad\.png"):
        opened.embed_images([good, bad])
    with Image.open(bad) as picture, pytest.raises(BadSample, match="picture 1"):
        opened.embed_images([Image.new("RGB", (4, 4)), picture])


@pytest.mark.parametrize("texts", ["seven", ["seven", 7]])
def test_texts_that_are_none(texts: Any, opened: Any) -> None:
    with pytest.raises(WrongInput, match="list of strings"):
        opened.embed_texts(texts)


@pytest.mark.parametrize("pictures", ["a.png", Path("a.png"), [np.zeros((4, 4, 3), np.uint8)]])
def test_pictures_that_are_none(pictures: Any, opened: Any) -> None:
    with pytest.raises(WrongInput):
        opened.embed_images(pictures)


def test_a_closed_encoder_says_so(demo_export: Path) -> None:
    encoder = load_encoder(demo_export)
    encoder.close()
    with pytest.raises(MissingEncoder, match="it is closed"):
        encoder.embed_texts(["seven"])


def test_what_is_loaded_is_what_was_hashed(
    demo_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: list[Image.Image]
) -> None:
    """Files that somebody changes between the two are of no effect, whatever becomes of their size and times."""
    from tasks.runtime import folder as module

    shutil.copytree(demo_export, tmp_path / "release")
    copy = module._copy

    def changed_afterwards(source: Path, target: Path) -> str:
        digest = copy(source, target)
        source.chmod(0o644)
        source.write_bytes(b"\0" * source.stat().st_size)
        return digest

    with monkeypatch.context() as patch:
        patch.setattr(module, "_copy", changed_afterwards)
        with load_encoder(tmp_path / "release", target="onnxruntime") as encoder:
            embeddings = encoder.embed_images(pictures[:2]), encoder.embed_texts(TEXTS)
    with load_encoder(demo_export, target="onnxruntime") as encoder:
        assert np.array_equal(embeddings[0], encoder.embed_images(pictures[:2]))
        assert np.array_equal(embeddings[1], encoder.embed_texts(TEXTS))
    with pytest.raises(ObjectDamaged):
        load_encoder(tmp_path / "release", target="onnxruntime")
