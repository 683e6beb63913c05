"""The precision of a target is the one that the release's own table of latencies has as the faster one."""

from __future__ import annotations

from typing import Any

import pytest

from artifacts.manifest import Manifest, ReleaseFile
from artifacts.release.fastest import choices, fastest
from artifacts.schema import EMULATED, INVALID, MEASURED, NOT_RUN, new_row
from tests.artifacts.support import SHA, provenance

BOTH: Any = ("fp8", "fp16")


def row(encoder: str, precision: str, batch: int, median: float | None, **more: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"target": "onnxruntime", "status": EMULATED, **more}
    return new_row("latency", encoder=encoder, precision=precision, batch=batch, median_ms=median, **values)


def release(*rows: dict[str, Any], files: tuple[ReleaseFile, ...] = ()) -> Manifest:
    about: Any = {"version": 1, "sequence": 1, "created": "2026-01-01T00:00:00+00:00", "identity": SHA}
    return Manifest(model="m", provenance=provenance(), files=files, tables={"latency": rows}, **about)


@pytest.mark.parametrize(("fp8", "chosen"), [((4, 18), "fp16"), ((1, 2), "fp8"), ((2, 2), "fp8"), ((1, 4.01), "fp16")])
def test_the_geometric_mean_of_what_was_timed_in_both_decides(fp8: tuple[float, float], chosen: str) -> None:
    slow = row("image", "fp16", 32, 9000)  # not timed in FP8
    rows = [row("image", "fp8", 1, fp8[0]), row("text", "fp8", 1, fp8[1])]
    found = fastest(release(slow, *rows, row("image", "fp16", 1, 2), row("text", "fp16", 1, 2)), "onnxruntime", BOTH)
    assert found.precision == chosen
    times = max((fp8[0] * fp8[1]) ** 0.5 / 2, 2 / (fp8[0] * fp8[1]) ** 0.5)
    other = {"fp8": "fp16", "fp16": "fp8"}[chosen]
    assert str(found) == (
        f"{chosen} on onnxruntime: {times:.2f} times as fast as {other} (its latency table, geometric mean of 2 rows)"
    )


@pytest.mark.parametrize("status", [INVALID, NOT_RUN])
def test_what_was_not_measured_does_not_count(status: str) -> None:
    rows = (row("image", "fp8", 1, 9.0, status=status), row("image", "fp16", 1, 1.0))
    found = fastest(release(*rows), "onnxruntime", BOTH)
    assert (found.precision, found.reason) == (
        "fp8",
        "the default, as the release has no latency of both there",
    )


def test_another_targets_latency_does_not_count() -> None:
    rows = [row("image", name, 1, ms, target="tensorrt", status=MEASURED) for name, ms in (("fp8", 3.0), ("fp16", 1.0))]
    assert fastest(release(*rows), "tensorrt", BOTH).precision == "fp16"
    assert fastest(release(*rows), "onnxruntime", BOTH).precision == "fp8"


def test_the_only_precision_needs_no_measurement() -> None:
    found = fastest(release(), "onnxruntime", ("fp16",))
    assert (found.precision, found.reason) == ("fp16", "the release has no other precision there")


def test_every_target_of_a_release_has_a_choice() -> None:
    def made(path: str, **about: Any) -> ReleaseFile:
        return ReleaseFile(path=path, object=SHA, member=path, sha256=SHA, size=1, **about)

    files = (
        made("image/fp8.onnx", kind="onnx", precision="fp8", target=None),
        made("image/fp16.onnx", kind="onnx", precision="fp16", target=None),
        made("image/fp16.tensorrt.engine", kind="engine", precision="fp16", target="tensorrt"),
        made("evidence/x", kind="evidence", precision="fp8", target="trtrtx"),
    )
    found = choices(release(files=files))
    assert [(choice.target, choice.precision) for choice in found] == [("onnxruntime", "fp8"), ("tensorrt", "fp16")]
