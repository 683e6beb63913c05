"""The choice of a calibration method by held-out samples, and the report on how many samples suffice."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from artifacts.errors import TooFewSamples
from artifacts.report.sufficiency import sentences
from artifacts.schema import check_rows
from artifacts.store.store import Store, activate
from tasks.data.pinned import pin_data
from tasks.pipeline import calibration_study
from tasks.pipeline.calibration import calibrate
from tasks.pipeline.calibration_study import (
    CalibrationStudy,
    best_of,
    is_lower,
    largest_change,
    p_lower,
    points,
    split,
    study,
)
from tasks.quantizing.recipe import Algorithm, Mse, Percentile

pytestmark = pytest.mark.usefixtures("in_store")
CANDIDATES: tuple[Algorithm, ...] = ("max", Percentile(percentile=99.9), Mse())
LAYER = "text_model.encoder.layers.0.mlp.fc1"
Changed = Callable[..., Any]


@pytest.fixture
def snapshot_with(prepared: Any, small_clip: Path, tmp_path: Path) -> Changed:
    """`snapshot_with(change)`: the small CLIP once `change` has had its tensors."""
    from safetensors.numpy import load_file, save_file

    from tasks.pipeline.checkpoint import resolve

    def make(change: Callable[[dict[str, np.ndarray]], None]) -> Any:
        folder = tmp_path / "changed"
        shutil.copytree(small_clip, folder)
        tensors = {name: tensor.copy() for name, tensor in load_file(folder / "model.safetensors").items()}
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        with activate(prepared.store):
            return resolve(str(folder), None, prepared.store)

    return make


def studied(prepared: Any, snapshot: Any, samples: int, algorithms: tuple[Algorithm, ...]) -> CalibrationStudy:
    data, _ = pin_data("digits", "calibration", samples)
    return study(snapshot, prepared.checked.preprocess, data, prepared.recipe, "text", 16, algorithms)


def planted(tensors: dict[str, np.ndarray]) -> None:
    """One channel of a normalisation in a million: what the next layer reads has one huge value, which it ignores."""
    tensors["text_model.encoder.layers.0.layer_norm2.weight"][3] = 1e7
    tensors[f"{LAYER}.weight"][:, 3] = 0


def test_a_planted_outlier_makes_auto_leave_max(prepared: Any, in_store: Store, snapshot_with: Changed) -> None:
    """One value in 64 is beyond all measure and counts for nothing: max gives the others no bits."""
    algorithms: tuple[Algorithm, ...] = ("max", Percentile(percentile=98.0), Mse())
    found = studied(prepared, snapshot_with(planted), 70, algorithms)
    cosines = {row["method"]: float(row["cosine_mean"] or 0) for row in found.comparison}
    assert found.method == "percentile"
    assert cosines["percentile"] > max(cosines["max"], cosines["mse"])
    (chosen,) = [row for row in found.comparison if row["chosen"] == "yes"]
    assert chosen["method"] == "percentile" and float(chosen["p"] or 1) < 0.025
    frame = pd.read_parquet(in_store.path(found.table, "held_out.parquet"))
    for name, group in frame[frame["samples"] == chosen["samples"]].groupby("method"):
        assert group["cosine"].mean() == pytest.approx(cosines[name])


def test_a_benign_encoder_keeps_max(prepared: Any) -> None:
    """Where values saturate for nothing, max is the best; a percentile of 90 harms it for certain."""
    found = studied(prepared, prepared.snapshot, 70, ("max", Percentile(percentile=90.0)))
    first, second = found.comparison
    assert (found.method, first["chosen"], second["chosen"]) == ("max", "yes", "no")
    assert float(first["cosine_mean"] or 0) > float(second["cosine_mean"] or 0)


def test_modelopts_extension_is_left_out_of_the_study_and_not_lost(
    prepared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU it is compiled when it is first asked for, which takes a minute."""
    from modelopt.torch.quantization.extensions import get_cuda_ext_fp8

    judged, loaded = calibration_study._judged, []

    def watched(*arguments: Any) -> Any:
        loaded.append(get_cuda_ext_fp8())
        return judged(*arguments)

    monkeypatch.setattr(get_cuda_ext_fp8, "extension", "compiled before", raising=False)
    monkeypatch.setattr(calibration_study, "_judged", watched)
    studied(prepared, prepared.snapshot, 70, ("max",))
    assert loaded == [None]
    assert get_cuda_ext_fp8() == "compiled before"


def test_fidelity_is_that_of_modelopts_fake_quantized_encoder(prepared: Any, in_store: Store) -> None:
    """Again by plain transformers and ModelOpt, for the scales that a calibration of the same samples gives."""
    import torch
    from transformers import AutoTokenizer

    from tasks.quantizing.modelopt import EAGER, insert_quantizers, load_plain, write_amax

    found = studied(prepared, prepared.snapshot, 70, ("max",))
    _, dataset = pin_data("digits", "calibration", 70)
    made = split([sample.caption for sample in dataset.samples])
    fit = SimpleNamespace(
        source="fit", classes=None, samples=[dataset.samples[p] for p in made.fit], image=dataset.image
    )
    ref: Any = SimpleNamespace(open=lambda: fit)
    arguments = (prepared.snapshot, prepared.checked.preprocess, ref, prepared.recipe, "text", 16)
    frame = pd.read_parquet(in_store.path(calibrate(*arguments).table, "amax.parquet"))
    tokenizer = AutoTokenizer.from_pretrained(prepared.snapshot.root)
    captions = [dataset.samples[place].caption for place in made.held_out]
    tokens = tokenizer(captions, padding="max_length", truncation=True, max_length=16, return_tensors="pt")["input_ids"]
    model, family = load_plain(prepared.snapshot, EAGER)
    with torch.no_grad():
        reference = family.encode(model, "text", tokens)
        insert_quantizers(model, prepared.snapshot, prepared.recipe, ("text",), None)
        write_amax(model, dict(zip(frame["quantizer"], frame["amax"], strict=True)))
        quantized = family.encode(model, "text", tokens)
    expected = torch.nn.functional.cosine_similarity(reference.double(), quantized.double())
    (row,) = found.comparison
    assert (row["samples"], row["held_out"]) == (len(made.fit), len(made.held_out))
    assert row["cosine_mean"] == pytest.approx(float(expected.mean()), abs=2e-5)
    assert row["cosine_min"] == pytest.approx(float(expected.min()), abs=2e-4)


def test_rows_keep_to_their_tables(prepared: Any, in_store: Store) -> None:
    found = studied(prepared, prepared.snapshot, 70, CANDIDATES)
    check_rows("calibration", found.comparison)
    check_rows("sufficiency", found.sufficiency)
    assert [row["method"] for row in found.comparison] == ["max", "percentile", "mse"]
    assert [row["percentile"] for row in found.comparison] == [None, 99.9, None]
    kept = pd.read_parquet(in_store.path(found.table, "sufficiency.parquet"))
    assert list(kept["samples"]) == [row["samples"] for row in found.sufficiency]


@pytest.mark.parametrize("algorithm", CANDIDATES, ids=str)
def test_every_method_calibrates(algorithm: Algorithm, prepared: Any, in_store: Store, calibrated: Any) -> None:
    """By the same batches as the session's calibration by max; weights and the softmax do not change."""
    recipe = prepared.recipe.calibrated_by(algorithm)
    made = calibrate(prepared.snapshot, prepared.checked.preprocess, prepared.data, recipe, "image", 5)
    frames = [
        pd.read_parquet(in_store.path(c.table, "amax.parquet")).set_index("quantizer")["amax"]
        for c in (made, calibrated["image"])
    ]
    share = frames[0] / frames[1]
    fixed = share.index.str.endswith(("weight_quantizer", "p_bmm_quantizer"))
    assert (share[fixed] == 1).all() and (share <= 1).all() and (share >= 1 / 16).all()
    saturation = pd.read_parquet(in_store.path(made.table, "saturation.parquet"))["share"]
    curves = pd.read_parquet(in_store.path(made.table, "convergence.parquet"))
    last = curves[curves["samples"] == 24].set_index("quantizer")["amax"]
    assert (last == frames[0][last.index]).all()
    if algorithm == "max":
        assert (share == 1).all()
    else:
        assert (share[~fixed] < 1).any()
        assert 0 < saturation.mean() < 0.05


def test_the_percentile_of_a_calibration_is_numpys(prepared: Any, in_store: Store) -> None:
    """All the values that plain transformers feeds one layer."""
    import torch
    from transformers import AutoTokenizer, CLIPModel

    from tasks.data import open_dataset

    recipe = prepared.recipe.calibrated_by(Percentile(percentile=99.0))
    made = calibrate(prepared.snapshot, prepared.checked.preprocess, prepared.data, recipe, "text", 5)
    amax = pd.read_parquet(in_store.path(made.table, "amax.parquet")).set_index("quantizer")["amax"]
    model = CLIPModel.from_pretrained(prepared.snapshot.root, attn_implementation="eager", dtype=torch.float32).eval()
    seen: list[np.ndarray] = []
    model.get_submodule(LAYER).register_forward_pre_hook(lambda _m, x: seen.append(x[0].abs().numpy().ravel()))
    captions = [sample.caption for sample in open_dataset("digits", "calibration", 24).samples]
    tokenizer = AutoTokenizer.from_pretrained(prepared.snapshot.root)
    with torch.no_grad():
        model.get_text_features(
            torch.tensor(tokenizer(captions, padding="max_length", truncation=True, max_length=16)["input_ids"])
        )
    expected = np.percentile(np.concatenate(seen), 99.0)
    assert amax[f"{LAYER}.input_quantizer"] == pytest.approx(expected, rel=2**-7)


# --- sufficiency -------------------------------------------------------------------------------------------


def test_data_that_is_all_alike_is_soon_enough(prepared: Any) -> None:
    """The digits' captions are few, and the small encoder has seen what matters in half of them."""
    found = studied(prepared, prepared.snapshot, 280, ("max",))
    assert [row["samples"] for row in found.sufficiency] == points(int(found.sufficiency[-1]["samples"] or 0))
    (sentence,) = sentences(found.sufficiency)
    assert sentence.startswith("text: more data stopped helping at ")
    assert found.sufficiency[-1]["more_helped"] is None
    assert found.sufficiency[-1]["amax_change"] == 0


def test_an_outlier_at_the_end_is_not_yet_enough(prepared: Any, tmp_path: Path, snapshot_with: Changed) -> None:
    """A token that only the last caption has, with an embedding along one axis that no other reaches."""
    from PIL import Image

    folder = tmp_path / "late"
    folder.mkdir()
    rng = np.random.default_rng(0)
    captions = [f"a photo of {'abcdefgh'[i % 8]} and {'abcdefgh'[i // 8]}" for i in range(64)]
    late = split(captions).fit[-1]
    captions[late] = captions[late].replace("photo", "zzz")
    assert split(captions).fit[-1] == late
    for i in range(64):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    rows = [f"{i}.png,{caption}" for i, caption in enumerate(captions)]
    (folder / "captions.csv").write_text("\n".join(["file,caption", *rows]))
    new = _tokens(prepared, captions[late]) - _tokens(prepared, *(c for i, c in enumerate(captions) if i != late))
    assert new

    def reach(tensors: dict[str, np.ndarray]) -> None:
        # The projections of the first block read the direction that the new tokens alone have.
        embeddings = tensors["text_model.embeddings.token_embedding.weight"]
        for token in new:
            embeddings[token] = 0
            embeddings[token, :2] = (40, -40)
        tensors["text_model.encoder.layers.0.self_attn.v_proj.weight"][0, :2] += (4, -4)

    data, _ = pin_data(str(folder), "calibration", None)
    arguments = (prepared.checked.preprocess, data, prepared.recipe, "text", 16, ("max",))
    found = study(snapshot_with(reach), *arguments)
    (sentence,) = sentences(found.sufficiency)
    before = found.sufficiency[-2]
    assert before["more_helped"] == "yes" and float(before["amax_change"] or 0) > 1 / 8
    assert sentence.startswith("text: not yet enough: from ")
    assert str(before["quantizer"]) in sentence


def _tokens(prepared: Any, *captions: str) -> set[int]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(prepared.snapshot.root)
    return {token for caption in captions for token in tokenizer(caption)["input_ids"]}


# --- the parts ---------------------------------------------------------------------------------------------


def test_the_split_shares_no_input_and_is_always_the_same() -> None:
    inputs = [f"caption {i % 30}" for i in range(200)]
    made = split(inputs)
    held_out = [inputs[place] for place in made.held_out]
    assert len(held_out) == len(set(held_out)) == 6
    assert not set(held_out) & {inputs[place] for place in made.fit}
    assert sorted(made.fit) == [i for i, text in enumerate(inputs) if text not in held_out]
    assert list(made.fit) != sorted(made.fit)
    assert split(inputs) == made
    assert len(split([str(i) for i in range(5000)]).held_out) == 64


def test_too_few_different_inputs_are_refused() -> None:
    with pytest.raises(TooFewSamples, match="9 different"):
        split([str(i % 9) for i in range(500)])


def test_points_double() -> None:
    assert points(448) == [7, 14, 28, 56, 112, 224, 448]
    assert points(51) == [6, 12, 25, 51]
    assert points(5) == [5]


def test_lower_is_scipys_paired_test_and_ties_are_not_lower() -> None:
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    base = rng.uniform(1, 2, 30)
    better = base - 0.1 + rng.normal(0, 0.05, 30)
    p = p_lower(better, base)
    assert p == pytest.approx(ttest_1samp(better - base, 0, alternative="less").pvalue)
    assert is_lower(better, base) and not is_lower(base, better)
    assert not is_lower(base, base) and p_lower(base, base) is None
    assert not is_lower(base[:1] - 1, base[:1])
    assert best_of({"max": base, "percentile": base + rng.normal(0, 0.5, 30), "mse": better}) == "mse"
    assert best_of({"max": base, "percentile": base.copy()}) == "max"


def test_the_largest_change_goes_both_ways() -> None:
    final = {"a": 1.0, "b": 2.0}
    assert largest_change({"a": 1.1, "b": 1.0}, final) == (1.0, "b")
    assert largest_change({"a": 4.0, "b": 2.0}, final) == (3.0, "a")
