"""What people read about gates."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.manifest import GateResult
from artifacts.release.gates import Gates
from artifacts.report.gate_words import sentence, tally, words


def result(name: str, status: str, **values: Any) -> GateResult:
    base = {"encoder": "image", "target": "onnxruntime", "reference": "fp32"}
    return GateResult.model_validate({"name": name, "status": status} | base | values)


SENTENCES = {
    "max_top1_drop undecided: zero-shot top-1 drop against FP16 (both, onnxruntime) is 0.22 points "
    "(95 % interval -0.16 to 0.61), asked for at most 0.5 points": result(
        "max_top1_drop",
        "undecided",
        encoder="both",
        reference="fp16",
        metric="top1_difference",
        max=0.005,
        value=0.0022,
        low=-0.0016,
        high=0.0061,
    ),
    "max_recall_drop passed: text-to-image recall@1 drop against FP32 (both, onnxruntime) is 0.00 points "
    "(95 % interval 0.00 to 1.00), asked for at most 10 points": result(
        "max_recall_drop",
        "passed",
        encoder="both",
        metric="recall@1_text_to_image_difference",
        max=0.1,
        value=-0.00001,
        low=0.0,
        high=0.01,
    ),
    "min_cosine_mean failed: mean cosine with FP32 (image, onnxruntime) is 0.897999, asked for at least 0.9": result(
        "min_cosine_mean", "failed", metric="cosine_mean", min=0.9, value=0.8979994
    ),
    "max_size_ratio passed: FP8 ONNX file as a share of FP16's (text, onnx) is 61.0 %, asked for at most 97.5 %": (
        GateResult(name="max_size_ratio", status="passed", max=0.975, value=0.6103687, encoder="text", target="onnx")
    ),
    "max_top1_drop not measured: zero-shot top-1 drop, asked for at most 1 points, "
    "needs an evaluation set with labels, and FP8": GateResult(name="max_top1_drop", status="not measured", max=0.01),
    "max_top1_drop undecided: zero-shot top-1 drop against FP32 (both, onnxruntime) is 0.20 points "
    "(95 % interval -0.40 to 0.80), asked for at most 0.5 points; 3,500 more samples than these 500 would settle it "
    "with a probability of 80%, if they are like these": result(
        "max_top1_drop",
        "undecided",
        encoder="both",
        max=0.005,
        value=0.002,
        low=-0.004,
        high=0.008,
        samples=500,
        needed=4000,
    ),
    "max_fp16_change undecided: change of FP16's own accuracy against FP32 (both, onnxruntime) is 0.10 points "
    "(95 % interval 0.00 to 0.40), asked for at most 0.1 points; no number of samples would settle it: what was "
    "measured is the bound itself": result(
        "max_fp16_change", "undecided", encoder="both", max=0.001, value=0.001, low=0.0, high=0.004, samples=500
    ),
    "above_chance failed: FP32's zero-shot top-1 above chance (both, pytorch) is 0.50 points (95 % interval -2.00 to "
    "3.10), asked for at least 0 points: accuracy is at chance; do the labels belong to these pictures and class "
    "names?": result(
        "above_chance",
        "failed",
        encoder="both",
        target="pytorch",
        reference="chance",
        min=0.0,
        value=0.005,
        low=-0.02,
        high=0.031,
        samples=500,
    ),
    "above_chance failed: FP32's image-to-text recall@1 above chance (both, pytorch) is 0.50 points (95 % interval "
    "-2.00 to 3.10), asked for at least 0 points: accuracy is at chance; do the captions belong to these "
    "pictures?": result(
        "above_chance",
        "failed",
        encoder="both",
        target="pytorch",
        reference="chance",
        metric="recall@1_image_to_text_over_chance",
        min=0.0,
        value=0.005,
        low=-0.02,
        high=0.031,
        samples=500,
    ),
    "min_attention_fused failed: FP8 attention blocks in one kernel (text, trtrtx-sm89) is 50.0 %, asked for at least "
    "100 %": GateResult(
        name="min_attention_fused", status="failed", min=1.0, value=0.5, encoder="text", target="trtrtx-sm89"
    ),
    "min_products_fp8 not measured: matrix products in FP8, asked for at least 90 %, needs an FP8 engine of TensorRT "
    "or TensorRT for RTX": GateResult(name="min_products_fp8", status="not measured", min=0.9),
    # As a later version may record it.
    "max_fog failed: max_fog (image) is 0.25, asked for at most 0.125": GateResult(
        name="max_fog", status="failed", max=0.125, value=0.25, encoder="image"
    ),
}


@pytest.mark.parametrize("text", SENTENCES, ids=lambda text: text.partition(":")[0])
def test_sentences(text: str) -> None:
    assert sentence(SENTENCES[text]).replace("\N{MINUS SIGN}", "-") == text


def test_every_gate_has_words_of_its_own() -> None:
    for name in Gates.model_fields:
        said = words(GateResult(name=name, status="not measured", max=1.0))
        assert said.what and said.what != name


def test_the_tally_begins_with_what_is_urgent() -> None:
    made = [result("min_cosine_mean", status) for status in ("passed", "undecided", "passed", "failed", "not measured")]
    assert tally(made) == "1 failed, 1 not measured, 1 undecided, 2 passed"
    assert tally(made[:1]) == "1 passed"
