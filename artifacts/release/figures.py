"""The main figures of a release, as its history shows them."""

from __future__ import annotations

from dataclasses import dataclass

from artifacts.release.measurements import Measurement


@dataclass(frozen=True)
class Point:
    """The main figures of one release, by name; figures that it does not have are left out.

    Beside `artifacts.keeping.history.FIGURES` there may be `onnx fp16` and `onnx fp8` (all encoders together), their
    `ratio`, and `speedup` (the best that was measured).
    """

    ref: str
    version: int
    created: str
    status: str
    figures: dict[str, Measurement]
