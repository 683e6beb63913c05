"""The steps of a run of two encoders and two precisions on ONNX Runtime, as `words_of` and `spied` name them."""

from __future__ import annotations

from typing import Any

ENCODERS = ("image", "text")


def each(*patterns: str) -> list[str]:
    """`audit {} fp8` for both encoders."""
    return sorted({pattern.format(encoder) for pattern in patterns for encoder in ENCODERS})


AUDITS = ["audit fp16", "audit fp16", "audit fp8", "audit fp8"]
EMBEDS = each("embed {} fp32 pytorch", "embed {} fp16 onnxruntime", "embed {} fp8 onnxruntime")
BUILDS = each("build {} fp16 onnxruntime", "build {} fp8 onnxruntime")
LATENCY = each("latency {} onnxruntime")
TRACES = each("trace {}")
RANGES = each("fp16-range {}")
CALIBRATION = [*each("calibrate {}", "export-fp8 {}"), "quantize"]
# New scales: everything that FP8 goes through, and nothing that FP16 goes through, but what compares the two.
FP8 = [
    *CALIBRATION,
    *each("build {} fp8 onnxruntime", "embed {} fp8 onnxruntime"),
    *AUDITS[2:],
    *LATENCY,
    "score",
]
WEIGHTS = [
    "check",
    "parity",
    *RANGES,
    *CALIBRATION,
    *each("export-fp16 {}"),
    *AUDITS,
    *BUILDS,
    *EMBEDS,
    *LATENCY,
    "score",
]
EVERYTHING = [*WEIGHTS, *TRACES]

TEXT_FP16: dict[str, Any] = {"encoders": ["text"], "precisions": ["fp16"], "targets": []}
TEXT_FP16_STEPS = sorted(
    [
        *(
            "check",
            "parity",
            "fp16-range text",
            "trace text",
            "export-fp16 text",
            "audit fp16",
            "score",
            "embed text fp16 onnxruntime",
        ),
        *each("embed {} fp32 pytorch"),
    ]
)
