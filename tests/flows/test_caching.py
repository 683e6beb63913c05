"""What is recomputed when something changes, and what is not: work done, not words in a log."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from artifacts.errors import GateFailed, ReleaseRejected
from artifacts.keeping.promotion import promote
from artifacts.manifest import GateResult, Manifest
from artifacts.store.store import Store

pytestmark = pytest.mark.xdist_group("caching")
ENCODERS = ("image", "text")
Run = Callable[..., tuple[Manifest, list[str]]]


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
WEIGHTS = ["check", *RANGES, *CALIBRATION, *each("export-fp16 {}"), *AUDITS, *BUILDS, *EMBEDS, *LATENCY, "score"]
EVERYTHING = [*WEIGHTS, *TRACES]

TEXT_FP16: dict[str, Any] = {"encoders": ["text"], "precisions": ["fp16"], "targets": []}
TEXT_FP16_STEPS = sorted(
    [
        *(
            "check",
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


@contextmanager
def records_in(store: Path) -> Iterator[None]:
    """Keep Prefect's task records in a store's own folder, so that copies of one store do not share them."""
    from prefect.settings import PREFECT_LOCAL_STORAGE_PATH, temporary_settings

    with temporary_settings({PREFECT_LOCAL_STORAGE_PATH: store / "cache"}):
        yield


@pytest.fixture(scope="session")
def base_store(run: Run, small_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one release of the small CLIP; tests add to it and never rely on what others add."""
    store = tmp_path_factory.mktemp("caching") / "store"
    with records_in(store):
        manifest, calls = run(small_clip, store)
    assert manifest.ref == "small@1"
    assert calls == sorted(EVERYTHING)
    return store


@pytest.fixture
def mine(base_store: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of `base_store` for one test: the same identity, objects and task records, elsewhere."""
    store = Path(shutil.copytree(base_store, tmp_path / "store"))
    with records_in(store):
        yield store


def photographs(folder: Path) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(3)
    lines = ["file,caption"]
    for index in range(12):
        Image.fromarray(rng.integers(0, 256, (33, 40, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        lines.append(f"{index}.png,a photo of number {index}")
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


def renamed_recipe(folder: Path) -> Path:
    """The rules of `fp8` under another name and description."""
    from tasks.quantizing.recipe import BUILTIN

    text = (BUILTIN / "fp8.yaml").read_text().replace("W8A8 FP8 E4M3", "Mine:")
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "encoders": ({"encoders": ["image"]}, ["quantize", "score"]),
    "encoders in another order": ({"encoders": ["text", "image"]}, []),
    "precisions: FP16 alone": ({"precisions": ["fp16"]}, [*LATENCY, "score"]),
    "precisions: FP8 alone": ({"precisions": ["fp8"]}, [*LATENCY, "score"]),
    "recipe": (
        {"recipe": "fp8-no-attention"},
        FP8,
    ),
    "targets: none": ({"targets": []}, []),
    "targets: one more": (
        {"targets": ["onnxruntime", "trtrtx-sm89"]},
        each("build {} fp16 trtrtx-sm89", "build {} fp8 trtrtx-sm89", "latency {} trtrtx-sm89"),
    ),
    "calibration samples": ({"calibration__samples": 64}, FP8),
    # Maxima do not depend on the batch; the evidence does. The graph is the same, so nothing that reads it runs.
    "calibration batch": ({"calibration__batch": 3}, CALIBRATION),
    "calibration method of one encoder": (
        {"calibration__image": {"method": "percentile", "percentile": 99.0}},
        [
            *(step for step in FP8 if " image" in step),
            *("quantize", "audit fp8", "score"),
        ],
    ),
    "sufficiency report": ({"calibration__sufficiency": True}, each("study {}")),
    # Batches of 8 instead of 4, but 16 samples are split into four batches anyway.
    "calibration preset": ({"calibration__preset": "published"}, []),
    # The prompts of the classes are the same texts.
    "evaluation samples": ({"evaluation__samples": 30}, [*(e for e in EMBEDS if "image" in e), *RANGES, "score"]),
    # An engine carries the profile it was built for, so a changed one is another engine.
    "profile opt": ({"profile__opt": 16}, [*BUILDS, *LATENCY]),
    "latency rounds": ({"latency__rounds": 6}, LATENCY),
    "latency batches": ({"latency__batches": [1, 2]}, LATENCY),
    "gates": ({"gates__min_cosine_mean": 0.5}, []),
    "time limit": ({"step_minutes": 30}, []),
}


@pytest.mark.parametrize("name", CHANGES)
def test_changing_one_parameter_recomputes_what_depends_on_it(
    name: str, run: Run, small_clip: Path, mine: Path
) -> None:
    changes, expected = CHANGES[name]
    if name == "targets: one more":
        pytest.importorskip("tensorrt_rtx")
    _, calls = run(small_clip, mine, **changes)
    assert calls == sorted(expected)


def test_every_parameter_is_in_the_table() -> None:
    """A new parameter must say here what it makes stale."""
    from flows.parameters import OptimizeParameters

    covered = {key.partition("__")[0] for changes, _ in CHANGES.values() for key in changes}
    elsewhere = {"model", "revision", "store"}  # the tests below
    assert covered | elsewhere == set(OptimizeParameters.model_fields)


def test_evaluation_batch(run: Run, small_clip: Path, mine: Path) -> None:
    _, calls = run(small_clip, mine, evaluation__batch=5)
    assert [call for call in calls if call != "score"] == sorted(EMBEDS)  # equal bits need no new score


def test_another_calibration_source(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    source = photographs(tmp_path / "photos")
    _, calls = run(small_clip, mine, calibration__source=str(source), targets=[])
    assert calls == sorted(call for call in FP8 if not call.startswith(("build", "latency")))
    moved = tmp_path / "elsewhere"
    shutil.copytree(source, moved)
    first, calls = run(small_clip, mine, calibration__source=str(moved), targets=[])
    assert calls == []
    lines = (moved / "captions.csv").read_text().splitlines()
    (moved / "captions.csv").write_text("\n".join([*lines[:-1], "11.png,art of the digit seven"]))
    second, calls = run(small_clip, mine, calibration__source=str(moved), targets=[])
    assert {"calibrate image", "calibrate text"} <= set(calls)
    assert first.provenance.calibration != second.provenance.calibration


def test_another_evaluation_source(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    _, calls = run(small_clip, mine, evaluation__source=str(photographs(tmp_path / "photos")), evaluation__samples=None)
    assert calls == sorted([*EMBEDS, *RANGES, "score"])


def test_a_recipe_of_another_name_that_does_the_same(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    manifest, calls = run(small_clip, mine, recipe=str(renamed_recipe(tmp_path)))
    assert calls == []
    assert manifest.ref == "small@1"


def test_other_weights(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_clip, tmp_path / "small"))
    tensors = dict(load_file(folder / "model.safetensors"))
    for name in ("text_projection.weight", "visual_projection.weight"):
        tensors[name] = tensors[name] * np.float32(1.25)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    manifest, calls = run(folder, mine)
    assert calls == sorted(WEIGHTS)  # the graphs' shape is that of the configuration: not traced again
    assert manifest.ref == "small@2"


def test_another_configuration(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_clip, tmp_path / "small"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(config))
    _, calls = run(folder, mine, **TEXT_FP16)
    assert calls == TEXT_FP16_STEPS


def test_the_same_content_elsewhere_is_the_same_model(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_clip, tmp_path / "another" / "small"))
    manifest, calls = run(folder, mine)
    assert calls == []
    assert manifest.ref == "small@1"


def test_a_moved_store_keeps_its_cache(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    mine.rename(tmp_path / "moved")
    with records_in(tmp_path / "moved"):
        manifest, calls = run(small_clip, tmp_path / "moved")
    assert (calls, manifest.ref) == ([], "small@1")


def test_another_store_shares_nothing(run: Run, small_clip: Path, mine: Path, tmp_path: Path) -> None:
    _, calls = run(small_clip, tmp_path / "fresh", **TEXT_FP16)
    assert calls == TEXT_FP16_STEPS
    with records_in(mine):  # not even where both keep their task records in one place
        manifest, calls = run(small_clip, tmp_path / "fresher", **TEXT_FP16)
    assert calls == TEXT_FP16_STEPS
    assert manifest.ref == "small@1"
    assert len(Store.open(tmp_path / "fresher", writable=False).releases()) == 1


def test_a_second_run_is_the_same_release_and_prefect_says_cached(run: Run, small_clip: Path, mine: Path) -> None:
    from prefect.client.orchestration import get_client

    before = sorted(path for path in (mine / "releases").rglob("*"))
    manifest, calls = run(small_clip, mine)
    assert calls == []
    assert sorted(path for path in (mine / "releases").rglob("*")) == before
    assert manifest.to_bytes() == (mine / "releases" / "small" / "1.json").read_bytes()
    with get_client(sync_client=True) as client:
        from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
        from prefect.client.schemas.sorting import FlowRunSort

        recent = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)  # other tests' runs among them
        (latest,) = [run for run in recent if run.parameters.get("parameters", {}).get("store") == str(mine)]
        of_it = FlowRunFilter(id=FlowRunFilterId(any_=[latest.id]))
        deadline = time.monotonic() + 60  # the server learns of task runs by events, some time after them
        while len(runs := client.read_task_runs(flow_run_filter=of_it)) < len(EVERYTHING) + 5:
            assert time.monotonic() < deadline, [run.name for run in runs]
            time.sleep(0.2)
    uncached = {run.name.rpartition("-")[0] for run in runs if run.state_name != "Cached"}
    assert uncached == {"resolve", "pin-data", "publish", "show-tables", "show-release"}
    assert len(runs) == len(EVERYTHING) + len(uncached)


def objects(manifest: Manifest, kind: str) -> list[Any]:
    return [file for file in manifest.files if file.kind == kind]


DAMAGE = {
    # kind of object -> the steps that make it again; equal bytes come back, so nothing after them runs
    "preprocess": ["check"],
    "calibration": each("calibrate {}"),
    "checkpoint": ["quantize"],
    "range": RANGES,
    "embeddings": EMBEDS,
    "cosines": ["score"],
}


def flip(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("how", [pytest.param("deleted", marks=pytest.mark.heavy), "flipped"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_object_is_recomputed_not_believed(
    kind: str, how: str, run: Run, small_clip: Path, mine: Path
) -> None:
    opened = Store.open(mine, writable=False)
    manifest = opened.find("small@1")
    for file in objects(manifest, kind):
        path = mine / "objects" / file.object[:2] / file.object / file.member
        if how == "deleted":
            path.unlink(missing_ok=True)
        else:
            flip(path)
    again, calls = run(small_clip, mine)
    assert calls == sorted(DAMAGE[kind])
    fresh = Store.open(mine, writable=False)
    for file in again.files:
        fresh.read(again, file.path)  # verified: every object is sound again


def test_a_damaged_graph_is_written_again(run: Run, small_clip: Path, mine: Path) -> None:
    manifest = Store.open(mine, writable=False).find("small@1")
    (file,) = [file for file in manifest.files if file.path == "text/fp8.onnx"]
    shutil.rmtree(mine / "objects" / file.object[:2] / file.object)
    again, calls = run(small_clip, mine)
    assert calls == ["export-fp8 text"]
    assert [f.sha256 for f in again.files if f.path == "text/fp8.onnx"] == [file.sha256]


def flow_state(store: Path) -> Any:
    """What Prefect says of the latest run with this store."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import FlowRunSort

    with get_client(sync_client=True) as client:
        recent = client.read_flow_runs(sort=FlowRunSort.START_TIME_DESC, limit=50)
    return next(run.state for run in recent if run.parameters["parameters"]["store"] == str(store))


def test_a_failed_gate_publishes_a_rejected_release_and_the_run_fails(run: Run, small_clip: Path, mine: Path) -> None:
    for new in (True, False):  # again: the same release, and again a failure
        with pytest.raises(GateFailed, match="small@2 is published as rejected") as caught:
            run(small_clip, mine, gates__min_cosine_mean=1.0)
        assert (caught.value.exit_code, caught.value.release, caught.value.new) == (3, "small@2", new)
        assert "min_cosine_mean failed: mean cosine with FP32 (image, onnxruntime)" in str(caught.value)
        state = flow_state(mine)
        assert state.is_failed()
        assert "small@2 is published as rejected" in state.message
    store = Store.open(mine, writable=False)
    assert [(manifest.ref, manifest.status) for manifest in store.releases()] == [
        ("small@2", "rejected"),
        ("small@1", "accepted"),
    ]
    manifest = store.find("small@2")
    for file in manifest.files:
        store.read(manifest, file.path)  # it is whole
    assert "Rejected." in store.read(manifest, "report.html").read_text()
    with pytest.raises(ReleaseRejected, match="min_cosine_mean"):
        promote(Store.open(mine), "small@2", "production")
    first = store.find("small@1")
    assert [f.sha256 for f in manifest.files if f.kind == "onnx"] == [f.sha256 for f in first.files if f.kind == "onnx"]


def test_a_gate_that_was_set_and_not_measured_rejects(run: Run, small_clip: Path, mine: Path) -> None:
    with pytest.raises(GateFailed, match=r"max_recall_drop not measured.*needs an evaluation set with captions"):
        run(small_clip, mine, gates__max_recall_drop=0.5)
    with pytest.raises(GateFailed, match="max_size_ratio not measured"):
        run(small_clip, mine, gates__max_size_ratio=0.5, precisions=["fp8"])


def test_gates_that_have_nothing_to_speak_about_are_left_out(run: Run, small_clip: Path, mine: Path) -> None:
    manifest, _ = run(small_clip, mine, **TEXT_FP16)
    assert (manifest.gates, manifest.status) == ((), "accepted")


def test_an_undecided_gate_rejects(
    run: Run, small_clip: Path, mine: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import flows.optimize as flow

    result = GateResult(name="max_top1_drop", status="undecided", max=0.01, value=0.005, low=0.0, high=0.02)
    result = result.model_copy(update={"samples": 20, "needed": 300})
    monkeypatch.setattr(flow, "judge", lambda *_: (result,))
    with pytest.raises(GateFailed, match="280 more samples than these 20 would settle it"):
        run(small_clip, mine)
    manifest = Store.open(mine).find("small")
    assert (manifest.ref, manifest.status, manifest.gates) == ("small@2", "rejected", (result,))
    (warning,) = [record.message for record in caplog.records if record.message.startswith("gate max_top1_drop")]
    assert "is 0.50 points (95 % interval 0.00 to 2.00), asked for at most 1 points" in warning
