"""A store and Prefect's results, as the version before the rooms left them: what it kept of steps names their classes
by modules that are gone, and must neither be believed nor be in the way. It also kept it outside of the store.

`make_run.py` made it. When this test fails, the code is wrong, not what was recorded.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

from artifacts.copies.exporting import export
from artifacts.store.store import Store
from artifacts.store.verification import verify
from tasks.runs import step_results
from tests.flows.conftest import spied
from tests.golden.make_run import PARAMETERS

STEPS = [
    *("audit fp16", "audit fp8", "build text fp16 onnxruntime", "build text fp8 onnxruntime", "calibrate text"),
    *("check", "embed image fp32 pytorch", "embed text fp16 onnxruntime", "embed text fp32 pytorch"),
    *("embed text fp8 onnxruntime", "export-fp16 text", "export-fp8 text", "fp16-range text"),
    *("latency text onnxruntime", "parity", "quantize", "score", "trace text"),
]


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    with tarfile.open(Path(__file__).with_name("run-1.tar.xz")) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run-1"


def test_its_release_is_sound_and_can_be_exported(recorded: Path, tmp_path: Path) -> None:
    store = Store.open(recorded / "store")
    assert verify(store.root).problems == ()
    manifest = store.find("model@1")
    export(store, manifest, tmp_path / "out")
    assert (tmp_path / "out" / "text" / "fp8.onnx").stat().st_size == 91_124


def test_every_step_runs_once_more_and_then_comes_from_the_cache(
    recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    before = {path.name: path.read_bytes() for path in (recorded / "results").iterdir()}
    values = PARAMETERS | {"model": str(recorded / "model"), "store": str(recorded / "store")}
    said: list[str] = []
    monkeypatch.setattr(step_results, "say", said.append)
    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: recorded / "results"}):
        for expected in (STEPS, []):
            said.clear()
            with spied() as calls:
                published = optimize(OptimizeParameters.model_validate(values))
            assert sorted(calls) == expected
            assert ["so that every step is done once" in message for message in said] == [True] * bool(expected)
    after = {path.name: path.read_bytes() for path in (recorded / "results").iterdir()}
    assert before.items() <= after.items(), "what the version before has kept is still there for it"
    store = Store.open(recorded / "store")
    assert {"model@1", published.ref} <= {manifest.ref for manifest in store.releases()}
    assert verify(store.root).problems == ()
