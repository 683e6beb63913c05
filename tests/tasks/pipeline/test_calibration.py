"""Calibrated amax is a true maximum over the samples, and the evidence kept with it agrees with it."""

from __future__ import annotations

import gc
import hashlib
import re
import threading
import weakref
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from artifacts.errors import BadAmax, BadSample
from artifacts.store.store import Store, activate
from tasks.data import open_dataset
from tasks.data.batches import Batch, stream_batches
from tasks.data.pinned import pin_data
from tasks.pipeline import calibration as calibrating
from tasks.pipeline.calibration import MAX_POINTS, Calibration, calibrate
from tasks.quantizing import calibration_feed as feeding
from tasks.quantizing.calibration_feed import calibration_device
from tasks.quantizing.recipe import Recipe

pytestmark = pytest.mark.usefixtures("in_store")
ENCODERS = ("image", "text")
SAMPLES, BATCH = 24, 5  # as in conftest.py
TOWERS = {"image": ("vision_model.", "visual_projection"), "text": ("text_model.", "text_projection")}


def table(store: Store, calibration: Calibration, name: str = "amax.parquet") -> pd.DataFrame:
    return pd.read_parquet(store.path(calibration.table, name))


def amax_of(store: Store, calibration: Calibration) -> dict[str, float]:
    frame = table(store, calibration)
    return dict(zip(frame["quantizer"], frame["amax"], strict=True))


@pytest.fixture(scope="session")
def independent(small_clip: Path) -> dict[str, float]:
    """max|x| by quantizer name, from plain transformers: no ModelOpt, none of our preprocessing or batching."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel
    from transformers.models.clip import modeling_clip

    model = CLIPModel.from_pretrained(small_clip, attn_implementation="eager", dtype=torch.float32).eval()
    found: dict[str, float] = {}

    def note(name: str, tensor: torch.Tensor) -> None:
        found[name] = max(found.get(name, 0.0), float(tensor.detach().abs().max()))

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            note(f"{name}.weight_quantizer", module.weight)
            module.register_forward_pre_hook(lambda _m, inputs, name=name: note(f"{name}.input_quantizer", inputs[0]))
        if re.fullmatch(r".*\.[qkv]_proj", name):
            tensor = name[-len("q_proj")]
            target = f"{name.removesuffix(f'{tensor}_proj')}{tensor}_bmm_quantizer"
            module.register_forward_hook(lambda _m, _i, output, target=target: note(target, output))
    assert hasattr(modeling_clip, "eager_attention_forward")
    digits = open_dataset("digits", "calibration", SAMPLES)
    images = CLIPImageProcessor.from_pretrained(small_clip)
    tokenizer = AutoTokenizer.from_pretrained(small_clip)
    with torch.no_grad():
        for index, sample in enumerate(digits.samples):
            pixels = images(images=digits.image(index), return_tensors="pt")["pixel_values"]
            tokens = tokenizer([sample.caption], padding="max_length", truncation=True, max_length=16)
            model.get_image_features(pixels)
            model.get_text_features(torch.tensor(tokens["input_ids"]))
    return found


@pytest.mark.parametrize("encoder", ENCODERS)
def test_amax_is_the_maximum_that_plain_transformers_sees(
    encoder: str, in_store: Store, calibrated: dict[str, Calibration], independent: dict[str, float]
) -> None:
    amax = amax_of(in_store, calibrated[encoder])
    measured = {name: value for name, value in amax.items() if not name.endswith("p_bmm_quantizer")}
    expected = {name: value for name, value in independent.items() if name.startswith(TOWERS[encoder])}
    assert measured.keys() == expected.keys()
    for name, value in measured.items():
        assert value == pytest.approx(expected[name], rel=2e-5), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_amax_differs_between_layers_and_the_softmax_has_one(
    encoder: str, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    amax = amax_of(in_store, calibrated[encoder])
    softmax = {name: value for name, value in amax.items() if name.endswith("p_bmm_quantizer")}
    assert len(softmax) == 2
    assert set(softmax.values()) == {1.0}
    for kind in ("q_proj.input", "out_proj.input", "fc1.input", "fc2.input", "q_bmm", "k_bmm", "v_bmm", "fc1.weight"):
        values = [value for name, value in amax.items() if name.endswith(f"{kind}_quantizer")]
        assert len(set(values)) == len(values) == 2, kind


@pytest.mark.parametrize("encoder", ENCODERS)
def test_softmax_is_really_quantized_in_the_fake_quant_forward(
    encoder: str, prepared: Any, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    """Not only registered: with fused attention the softmax quantizer would exist and never be called."""
    import torch

    from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain, write_amax

    model, family = load_plain(prepared.snapshot, EAGER)
    insert_quantizers(model, prepared.snapshot, prepared.recipe, (encoder,), None)
    write_amax(model, amax_of(in_store, calibrated[encoder]))
    seen: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if name.startswith(TOWERS[encoder]) and name.endswith("p_bmm_quantizer"):
            module.register_forward_hook(
                lambda _m, inputs, output, name=name: seen.setdefault(name, []).extend((inputs[0], output))
            )
    values = torch.randn(2, 3, 32, 32) if encoder == "image" else torch.randint(1, 600, (2, 16))
    with torch.no_grad():
        family.encode(model, encoder, values)
    assert len(seen) == 2
    for name, (before, after) in seen.items():
        assert before.min() >= 0, name
        torch.testing.assert_close(before.sum(-1), torch.ones_like(before.sum(-1)))
        expected = (before * 448).to(torch.float8_e4m3fn).float() / 448  # E4M3 by PyTorch's own cast
        torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-9)
        assert not torch.equal(before, after)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_convergence_grows_to_the_amax(encoder: str, in_store: Store, calibrated: dict[str, Calibration]) -> None:
    amax = amax_of(in_store, calibrated[encoder])
    curves = table(in_store, calibrated[encoder], "convergence.parquet")
    activations = {name for name in amax if not name.endswith(("weight_quantizer", "p_bmm_quantizer"))}
    assert set(curves["quantizer"]) == activations
    moved = 0
    for name, curve in curves.groupby("quantizer"):
        assert list(curve["samples"]) == [5, 10, 15, 20, 24], name
        values = curve["amax"].to_numpy()
        assert (np.diff(values) >= 0).all(), name
        assert values[-1] == amax[name], name
        moved += values[0] < values[-1]
    assert moved >= 5


@pytest.mark.parametrize("encoder", ENCODERS)
def test_convergence_is_the_calibration_of_a_prefix(
    encoder: str, prepared: Any, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    data, _ = pin_data("digits", "calibration", 10)
    shorter = calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, encoder, 5)
    curves = table(in_store, calibrated[encoder], "convergence.parquet")
    point = curves[curves["samples"] == 10].set_index("quantizer")["amax"]
    amax = amax_of(in_store, shorter)
    for name, value in point.items():
        assert amax[name] == pytest.approx(value, rel=1e-5), name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_batch_size_does_not_matter(
    encoder: str, prepared: Any, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe, encoder)
    other = amax_of(in_store, calibrate(*arguments, 3))
    assert other == pytest.approx(amax_of(in_store, calibrated[encoder]), rel=2e-5)


def test_more_samples_never_lower_an_amax(prepared: Any, in_store: Store, calibrated: dict[str, Calibration]) -> None:
    data, _ = pin_data("digits", "calibration", 3 * SAMPLES)
    more = calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "image", 12)
    before, after = amax_of(in_store, calibrated["image"]), amax_of(in_store, more)
    assert all(after[name] >= before[name] * (1 - 2e-5) for name in before)
    assert any(after[name] > before[name] for name in before)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_saturation_is_the_share_of_the_last_batch_beyond_the_others(
    encoder: str, prepared: Any, in_store: Store, calibrated: dict[str, Calibration]
) -> None:
    """The last batch again, through plain transformers, against the running amax before it."""
    import torch
    from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel

    folder = prepared.snapshot.root
    curves = table(in_store, calibrated[encoder], "convergence.parquet")
    limits = curves[curves["samples"] == 20].set_index("quantizer")["amax"]
    found: dict[str, float] = {}
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    device = calibrating.torch_device()  # values that tie with the maximum need the same arithmetic
    model.to(device)
    for name, module in model.named_modules():
        key = f"{name}.input_quantizer"
        if key in limits:
            module.register_forward_pre_hook(
                lambda _m, x, key=key: found.update({key: float((x[0].abs() > limits[key]).float().mean())})
            )
    digits = open_dataset("digits", "calibration", SAMPLES)
    with torch.no_grad(), calibrating.full_precision():
        if encoder == "image":
            pictures = [digits.image(index) for index in range(20, 24)]
            images = CLIPImageProcessor.from_pretrained(folder)
            model.get_image_features(images(images=pictures, return_tensors="pt")["pixel_values"].to(device))
        else:
            captions = [sample.caption for sample in digits.samples[20:]]
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokens = tokenizer(captions, padding="max_length", truncation=True, max_length=16)["input_ids"]
            model.get_text_features(torch.tensor(tokens, device=device))
    frame = table(in_store, calibrated[encoder], "saturation.parquet")
    shares = dict(zip(frame["quantizer"], frame["share"], strict=True))
    assert set(shares) == set(limits.index)
    for name, share in found.items():
        assert shares[name] == pytest.approx(share, abs=2e-4), name
    assert all(0 <= share < 0.05 for share in shares.values())


def test_samples_are_recorded(in_store: Store, calibrated: dict[str, Calibration]) -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    for calibration in calibrated.values():
        frame = table(in_store, calibration, "samples.parquet")
        assert (len(frame), calibration.samples, calibration.skipped) == (SAMPLES, SAMPLES, 0)
        for name, digest in zip(frame["id"], frame["image_hash"], strict=True):
            pixels = digits.data[int(name.removeprefix("digits/"))].astype(np.uint8)
            assert hashlib.sha256(pixels.tobytes()).hexdigest() == digest


def test_small_sets_still_have_a_curve(prepared: Any, in_store: Store) -> None:
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe)
    calibration = calibrate(*arguments, "text", 512)
    assert table(in_store, calibration, "convergence.parquet")["samples"].nunique() >= 4


def photographs(folder: Path, count: int, broken: tuple[int, ...] = (), faint: tuple[int, ...] = ()) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(5)
    lines = ["file,caption"]
    for index in range(count):
        pixels = rng.integers(0, 256, (36, 50, 3), dtype=np.uint8) // (100 if index in faint else 1)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        if index in broken:
            (folder / f"{index}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20 + index))
        lines.append(f"{index}.png,a photo of number {index}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("broken", [(3,), (109,)])
def test_a_bad_sample_is_left_out_and_counted(
    broken: tuple[int, ...], prepared: Any, in_store: Store, tmp_path: Path
) -> None:
    data, _ = pin_data(str(photographs(tmp_path / "photos", 110, broken, faint=(0, 107))), "calibration", None)
    calibration = calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "image", 16)
    assert (calibration.samples, calibration.skipped, calibration.faint) == (109, 1, 2)
    used = table(in_store, calibration, "samples.parquet")
    assert list(used["id"]) == [f"{index}.png" for index in range(110) if index not in broken]
    activations = {n for n in amax_of(in_store, calibration) if n.endswith(("input_quantizer", "v_bmm_quantizer"))}
    assert activations <= set(table(in_store, calibration, "saturation.parquet")["quantizer"])


def test_texts_that_lose_their_end_are_counted(prepared: Any, tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos", 20)
    rows = ((folder / "captions.csv").read_text()).splitlines()
    for row in (3, 9, 20):  # in different batches
        rows[row] += " of a very long row of numbers" * 5
    (folder / "captions.csv").write_text("\n".join(rows))
    data, _ = pin_data(str(folder), "calibration", None)
    for encoder, count in (("text", 3), ("image", 0)):
        arguments = (prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe)
        assert calibrate(*arguments, encoder, 4).truncated == count  # type: ignore[arg-type]


def test_too_many_bad_samples_are_an_error(prepared: Any, tmp_path: Path) -> None:
    data, _ = pin_data(str(photographs(tmp_path / "photos", 20, (1, 2, 3))), "calibration", None)
    with pytest.raises(BadSample, match=r"1\.png"):
        calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "image", 16)


def _changed_weight(folder: Path, target: Path, name: str, value: float) -> Path:
    import shutil

    from safetensors.numpy import load_file, save_file

    shutil.copytree(folder, target)
    tensors = dict(load_file(target / "model.safetensors"))
    tensors[name] = np.full_like(tensors[name], value)
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


def test_a_dead_layer_is_named(prepared: Any, small_clip: Path, tmp_path: Path) -> None:
    """A norm that gives zeros: the weights of the next layers are fine, their input is dead."""
    from tasks.pipeline.checkpoint import resolve

    folder = small_clip
    for step, name in enumerate(("text_model.final_layer_norm.weight", "text_model.final_layer_norm.bias")):
        folder = _changed_weight(folder, tmp_path / f"dead{step}", name, 0.0)
    store = prepared.store
    with activate(store):
        snapshot = resolve(str(folder), None, store)
        with pytest.raises(BadAmax, match=re.escape("text_projection.input_quantizer is 0.0")):
            calibrate(snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe, "text", 8)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_every_unusable_amax_is_refused(value: float, prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """ModelOpt's own export would turn 0 and NaN into the largest value and go on."""
    import torch
    from modelopt.torch.quantization.nn import TensorQuantizer

    from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain, read_amax

    model, _ = load_plain(prepared.snapshot, EAGER)
    insert_quantizers(model, prepared.snapshot, prepared.recipe, ENCODERS, None)
    name = "vision_model.encoder.layers.1.self_attn.k_bmm_quantizer"
    good = TensorQuantizer.amax.fget
    bad = model.get_submodule(name)
    amax = property(lambda self: torch.tensor(value if self is bad else 1.0), TensorQuantizer.amax.fset)
    assert good is not None
    monkeypatch.setattr(TensorQuantizer, "amax", amax)
    with pytest.raises(BadAmax, match=re.escape(name)):
        read_amax(model, prepared.recipe)


def test_a_quantizer_that_no_data_reached_is_refused(prepared: Any) -> None:
    from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain, read_amax

    model, _ = load_plain(prepared.snapshot, EAGER)
    insert_quantizers(model, prepared.snapshot, prepared.recipe, ("text",), lambda _model, _observers: None)
    with pytest.raises(BadAmax, match="missing"):
        read_amax(model, prepared.recipe)


def test_activations_that_are_not_finite_are_refused(prepared: Any) -> None:
    import torch

    from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain

    def loop(_model: Any, observers: dict[str, Any]) -> None:
        for observer in observers.values():
            observer(torch.ones(3))
        observers["text_model.encoder.layers.1.mlp.fc2.input_quantizer"](torch.tensor([1.0, float("nan")]))

    model, _ = load_plain(prepared.snapshot, EAGER)
    with pytest.raises(BadAmax, match=re.escape("layers.1.mlp.fc2.input_quantizer is nan")):
        insert_quantizers(model, prepared.snapshot, prepared.recipe, ("text",), loop)


def test_by_channel_the_largest_is_recorded(
    prepared: Any, in_store: Store, calibrated: dict[str, Calibration], recipe_by_channel: Recipe
) -> None:
    """Which is what one scale is made of, so the table is the same."""
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, recipe_by_channel)
    made = table(in_store, calibrate(*arguments, "text", 5))
    pd.testing.assert_frame_equal(made, table(in_store, calibrated["text"]))


def test_only_the_asked_encoder_is_calibrated(in_store: Store, calibrated: dict[str, Calibration]) -> None:
    for encoder, calibration in calibrated.items():
        names = set(amax_of(in_store, calibration))
        assert names
        assert all(name.startswith(TOWERS[encoder]) for name in names)
        assert not any("embedding" in name for name in names)


def test_recipe_without_attention_calibrates_no_products(prepared: Any, in_store: Store) -> None:
    from tasks.quantizing.recipe import load_recipe

    recipe = load_recipe("fp8-no-attention")
    calibration = calibrate(prepared.snapshot, prepared.checked.preprocess, prepared.data, recipe, "image", 8)
    names = set(amax_of(in_store, calibration))
    assert names
    assert not any("bmm" in name for name in names)


def test_data_that_changed_since_it_was_pinned_is_refused(prepared: Any, tmp_path: Path) -> None:
    from artifacts.errors import DataError

    folder = photographs(tmp_path / "photos", 12)
    data, _ = pin_data(str(folder), "calibration", None)
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "4.png")
    with pytest.raises(DataError, match="changed"):
        calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "image", 8)


# --- the size of the evidence ------------------------------------------------------------------------------


def test_the_curve_does_not_grow_with_the_number_of_batches(prepared: Any, in_store: Store) -> None:
    data, _ = pin_data("digits", "calibration", 70)
    calibration = calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "text", 1)
    amax = amax_of(in_store, calibration)
    for name, curve in table(in_store, calibration, "convergence.parquet").groupby("quantizer"):
        samples, values = curve["samples"].to_numpy(), curve["amax"].to_numpy()
        assert len(samples) == MAX_POINTS
        assert set(np.diff(samples)) <= {2, 3}  # 70 batches, 32 points
        assert samples[-1] == 70
        assert (np.diff(values) >= 0).all()
        assert values[-1] == amax[name], name


class Growing:
    """An observer whose running maximum is the number of times that it was read."""

    def __init__(self) -> None:
        self.reads = 0

    @property
    def amax(self) -> Any:
        import torch

        self.reads += 1
        return torch.tensor(float(self.reads))


@pytest.mark.parametrize(
    ("total", "batch", "used", "points"),
    [(24, 5, 24, 5), (8192, 32, 8192, 32), (33, 1, 33, 32), (1000, 1, 970, 32), (100, 100, 100, 1), (64, 16, 3, 1)],
)
def test_points_are_bounded_and_the_last_batch_is_always_one(total: int, batch: int, used: int, points: int) -> None:
    """`used` of `total` samples could be decoded; nothing is read from the device before the end."""
    observer = Growing()
    watch = calibrating._Watch(SimpleNamespace(encoder="image"), total)  # type: ignore[arg-type]
    for start in range(0, used, batch):
        indices = list(range(start, min(start + batch, used)))
        watch._record({"q": observer}, indices, last=indices[-1] == used - 1)
    assert not watch.curve
    watch._read_points()
    assert len(watch.curve) == observer.reads == points
    assert watch.curve[-1]["samples"] == watch.seen == used


# --- streaming ---------------------------------------------------------------------------------------------


def clipsmith_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("clipsmith")]


def test_memory_holds_a_few_batches_at_a_time(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, most, made = 0, 0, 0

    def freed() -> None:
        nonlocal alive
        alive -= 1

    def counted(*arguments: Any) -> Generator[Batch, None, None]:
        nonlocal alive, most, made
        for batch in stream_batches(*arguments):
            weakref.finalize(batch.pixel_values, freed)
            alive, most, made = alive + 1, max(most, alive + 1), made + 1
            yield batch

    monkeypatch.setattr(feeding, "stream_batches", counted)
    data, _ = pin_data("digits", "calibration", 80)
    calibrate(prepared.snapshot, prepared.checked.preprocess, data, prepared.recipe, "image", 2)
    gc.collect()
    assert made == 40
    # In use, waiting, and being made: each may still be held by the frame that passed it on.
    assert most <= 5
    assert alive == 0


def test_a_batch_is_made_while_the_one_before_is_used() -> None:
    started = [threading.Event() for _ in range(4)]

    def items() -> Generator[Any, None, None]:
        for number in range(3):
            started[number].set()
            yield number

    with feeding.made_ahead(items()) as ahead:
        assert started[0].wait(5)  # before anything was asked for
        for number in ahead:
            assert number == 2 or started[number + 1].wait(5)
    assert clipsmith_threads() == []


def test_no_thread_outlives_a_failure(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(calibrating, "load_exposed", fail)
    with pytest.raises(MemoryError):
        calibrate(prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe, "image", 2)
    assert clipsmith_threads() == []


# --- device ------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Test")


@pytest.mark.usefixtures("fake_gpu")
def test_a_gpu_is_used_and_named() -> None:
    assert calibrating.torch_device().type == "cuda"
    assert calibration_device() == "NVIDIA Test"


def test_the_device_is_recorded(calibrated: dict[str, Calibration]) -> None:
    assert {calibration.device for calibration in calibrated.values()} == {calibration_device()}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_gpu_is_held_against_the_bare_forward_loop(
    encoder: str, prepared: Any, in_store: Store, calibrated: dict[str, Calibration], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU in the GPU's place: the bare loop runs on the first batch, which is calibrated on all the same."""
    import torch

    runs: list[int] = []

    def bare(model: Any, family: Any, which: str, batch: Any) -> float:
        assert not any("quantizer" in name for name, _ in model.named_modules())
        runs.append(len(batch.indices))
        return measure(model, family, which, batch)

    measure = calibrating._bare_throughput
    monkeypatch.setattr(calibrating, "torch_device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(calibrating, "_bare_throughput", bare)
    monkeypatch.setattr(feeding, "_moved", lambda values, _: torch.from_numpy(values))
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, *_: self)
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe)
    found = calibrate(*arguments, encoder, BATCH)  # type: ignore[arg-type]
    assert runs == [BATCH]
    assert amax_of(in_store, found) == amax_of(in_store, calibrated[encoder])
    assert found.samples == SAMPLES and found.throughput > 0
    assert found.bare_throughput is not None and found.bare_throughput > 0
    assert f"{found.throughput / found.bare_throughput:.0%} of the bare forward loop" in found.speed()


def test_on_a_cpu_only_the_throughput_is_told(calibrated: dict[str, Calibration]) -> None:
    for found in calibrated.values():
        assert found.bare_throughput is None and 0 < found.throughput < SAMPLES / 1e-4
        assert found.speed() == f"{found.throughput:,.1f} samples/s on {found.device}"


def test_inputs_go_to_a_gpu_from_pinned_memory_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls: list[Any] = []

    class Fake:
        def pin_memory(self) -> Fake:
            calls.append("pinned")
            return self

        def to(self, device: torch.device, non_blocking: bool) -> str:
            calls.append((device.type, non_blocking))
            return "moved"

    monkeypatch.setattr(torch, "from_numpy", lambda _: Fake())
    assert feeding._moved(np.zeros(3), torch.device("cuda")) == "moved"
    assert calls == ["pinned", ("cuda", True)]


def test_inputs_are_not_copied_on_a_cpu() -> None:
    import torch

    values = np.zeros(3, np.float32)
    assert feeding._moved(values, torch.device("cpu")).data_ptr() == values.ctypes.data


def test_tf32_is_off_while_calibrating(prepared: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    seen: list[bool] = []
    insert = calibrating.insert_quantizers  # type: ignore[attr-defined]

    def watched(*arguments: Any) -> Any:
        seen.append(torch.backends.cudnn.allow_tf32)
        return insert(*arguments)

    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(calibrating, "insert_quantizers", watched)
    calibrate(prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe, "image", 8)
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32 is before


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_gpu_finds_the_amax_that_a_cpu_finds(
    encoder: str, prepared: Any, in_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    arguments = (prepared.snapshot, prepared.checked.preprocess, prepared.data, prepared.recipe, encoder, 5)
    found = amax_of(in_store, calibrate(*arguments))
    monkeypatch.setattr(calibrating, "torch_device", lambda: torch.device("cpu"))
    assert found == pytest.approx(amax_of(in_store, calibrate(*arguments)), rel=2e-5)
