"""Weights beyond protobuf's 2 GB lie in `.onnx.data` from export to `clipsmith export`; here the limit is lowered."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.processes import own_environment

pytestmark = pytest.mark.heavy

LIMITED = """
import sys
from tasks.graph import writer
writer.SINGLE_FILE_LIMIT = 0
from deployments.cli import main
sys.argv[0] = "clipsmith"
main()
"""


def clipsmith(*arguments: object) -> str:
    command = [sys.executable, "-c", LIMITED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=own_environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What `optimize demo` printed, and the release as an exported folder."""
    folder = tmp_path_factory.mktemp("external")
    document = json.loads(
        clipsmith("optimize", "demo", "--targets", "onnxruntime,trtrtx-sm89", "--store", folder / "store", "--json")
    )
    clipsmith("export", "demo@1", folder / "out", "--store", folder / "store")
    return document, folder / "out"


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
@pytest.mark.parametrize("encoder", ["image", "text"])
def test_the_exported_folder_holds_both_files(encoder: str, precision: str, released: Any) -> None:
    path = released[1] / encoder / f"{precision}.onnx"
    assert path.stat().st_size < 200_000 < path.with_name(f"{path.name}.data").stat().st_size
    model = onnx.load(path, load_external_data=False)
    outside = [t for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert len(outside) > 20 and {e.value for t in outside for e in t.external_data if e.key == "location"} == {
        f"{precision}.onnx.data"
    }
    onnx.checker.check_model(path, full_check=True)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(float16)": np.float16, "tensor(int64)": np.int64}
    feed = {item.name: np.ones((2, *item.shape[1:]), dtypes[item.type]) for item in session.get_inputs()}
    assert np.isfinite(session.run(None, feed)[0]).all()


def test_engines_were_built_and_measured_from_them(released: Any) -> None:
    document, folder = released
    for encoder in ("image", "text"):
        for target in ("trtrtx-sm89", "onnxruntime"):
            assert (folder / encoder / f"fp8.{target}.engine").stat().st_size > 1000
    assert document["ref"] == "demo@1"
    measured = {row["target"] for row in document["tables"]["latency"] if row["status"] != "built, not run"}
    assert "onnxruntime" in measured
