"""What is recomputed when something changes, and what is not: the real wiring and keys, without Prefect."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from artifacts.errors import ConfigError
from artifacts.store.store import Store, activate
from flows.inputs import recipe_of
from flows.parameters import OptimizeParameters
from flows.wiring import Wiring, run_name
from tasks.evaluation.judge import LEAST_DB
from tasks.pipeline.attention_probe import Probed
from tasks.quantizing.recipe import load_recipe
from tasks.runs.step_cost import StepStats
from tasks.runs.steps import StepOutput
from tests.flows.conftest import flip, small_parameters
from tests.flows.expected_steps import (
    AUDITS,
    BUILDS,
    CALIBRATION,
    EMBEDS,
    EVERYTHING,
    FP8,
    LATENCY,
    RANGES,
    TEXT_FP16,
    TEXT_FP16_STEPS,
    WEIGHTS,
    each,
)
from tests.flows.keyed import Base, KeyedRunner, compute, run_wiring
from tests.tasks.data.support import labelled, noise, zero_shot
from tests.tasks.families.support import CONFIGS, save_checkpoint, save_processor


@pytest.fixture
def mine(base: Base, tmp_path: Path) -> Store:
    """A copy of `base.store`, to be damaged."""
    return Store.open(shutil.copytree(base.store.root, tmp_path / "store"))


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


@pytest.mark.parametrize(
    ("given", "revision", "release", "name"),
    [
        ({"model": "demo"}, None, None, "demo fp8"),
        ({"model": "openai/clip-vit-base-patch32"}, "ae8b3497d733", None, "clip-vit-base-patch32 ae8b3497d733 fp8"),
        ({"model": "/models/mine/", "recipe": "/recipes/found.yaml"}, None, None, "mine found"),
        ({"model": "demo", "precisions": ["fp16"]}, None, None, "demo fp16"),
        ({"model": "demo"}, None, "demo@2", "demo@2 fp8"),
        ({"model": "demo"}, "ae8b3497d733", "demo@2", "demo@2 fp8"),
        ({"model": "demo\x1b"}, None, None, "demo\\x1b fp8"),
    ],
)
def test_a_run_is_named_after_its_release_once_there_is_one(
    given: dict[str, Any], revision: str | None, release: str | None, name: str
) -> None:
    assert run_name(OptimizeParameters.model_construct(**given), revision, release) == name


def test_a_run_reads_each_data_set_once(base: Base) -> None:
    """Every step that looks at samples was real in that run: there are a dozen such calls."""
    assert base.sources == [("digits", "evaluation"), ("digits", "calibration")]


def test_what_decides_a_release_is_told_before_any_step_is_called(base: Base) -> None:
    runner = KeyedRunner(dict(base.kept), base.stand_in)
    told: list[tuple[str, int]] = []
    parameters = OptimizeParameters.model_validate(small_parameters(base.model, base.store.root))
    with activate(base.store):
        planned = lambda plan: bool(told.append((plan, len(runner.outputs))))  # noqa: E731
        drafted = Wiring(parameters, recipe_of(parameters), runner, planned).run()
    assert told == [(drafted.plan, 0)]


@pytest.mark.parametrize("made_before", [False, True])
def test_texts_are_checked_unless_the_release_is_there_already(
    base: Base, made_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check takes seconds, as it imports the model's code; the same plan has passed it."""
    checked: list[str] = []
    monkeypatch.setattr("flows.wiring.require_classes_apart", lambda *_: checked.append("classes"))
    monkeypatch.setattr("flows.wiring.require_whole_captions", lambda _, __, data: checked.append(data.role))
    strict = {"calibration__strict_captions": True, "evaluation__strict_captions": True}
    parameters = OptimizeParameters.model_validate(small_parameters(base.model, base.store.root, **strict))
    with activate(base.store):
        runner = KeyedRunner(dict(base.kept), base.stand_in)
        Wiring(parameters, recipe_of(parameters), runner, lambda _: made_before).run()
    assert checked == ([] if made_before else ["classes", "calibration", "evaluation"])


def test_decoded_pictures_are_not_kept_beyond_the_last_embedding(base: Base) -> None:
    assert list((base.store.root / "cache" / "partial").glob("*")) == []


def test_what_is_odd_about_the_data_is_said_and_recorded(base: Base, tmp_path: Path) -> None:
    members = [*labelled([noise(n) for n in range(12)], [0, 2] * 6), ("._s0000000.png", b"x")]
    folder = zero_shot(tmp_path / "set", [members], names="cat\n\ndog\n")

    def faint(step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        made = base.stand_in(step, inputs, key)
        return made.model_copy(update={"faint": 2} if (step.name, inputs.get("encoder")) == ("embed", "image") else {})

    drafted, runner = base.run(make=faint, evaluation__source=str(folder))
    notes = drafted.draft.evaluation.notes
    assert [note.partition(" ")[0] for note in notes] == ["members", "1", "2"]
    assert "macOS" in notes[0] and "have no name" in notes[1] and "next to no contrast" in notes[2]
    assert runner.warnings == [f"evaluation data: {note}" for note in notes]
    assert drafted.draft.calibration is not None and drafted.draft.calibration.notes == ()


REAL = {"calibration batch", "sufficiency report"}
"""What is said of them is that equal bits come out, or that a step runs which has no stand-in."""
CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "name": ({"name": "another"}, []),
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
    "sufficiency report": ({"calibration__sufficiency": True}, each("study-calibration {}")),
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


def answering(base: Base, fused: dict[tuple[str, str], bool | None], asked: bool = True) -> Any:
    """Makes stand-ins, and of a probe what a builder says of (encoder, target), or that there was nothing to ask."""

    def make(step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        if step.name != "probe":
            return base.stand_in(step, inputs, key)
        encoder, target = inputs["encoder"], inputs["target"]
        return Probed(
            encoder=encoder,
            target=target,
            tokens=17,
            fused=fused[encoder, target],
            builder="a builder 1" if asked else None,
            modules=(f"{encoder}.*",),
            stats=StepStats(wall_s=1, peak_rss_mb=1),
        )

    return make


AUTO: dict[str, Any] = {"recipe": "fp8-auto", "targets": ["onnxruntime", "trtrtx-sm89"]}


@pytest.mark.parametrize(
    ("image", "text", "left"),
    [(True, True, []), (True, False, ["text"]), (False, None, ["image"]), (None, None, [])],
)
def test_builders_settle_what_becomes_of_attention(
    image: bool | None, text: bool | None, left: list[str], base: Base, caplog: pytest.LogCaptureFixture
) -> None:
    """Fused or unknown, the recipe is `fp8`, and all of it is in the cache; else everything in FP8 is made again."""
    caplog.set_level("INFO")
    fused = {"image": image, "text": text}
    make = answering(base, {(encoder, "trtrtx-sm89"): said for encoder, said in fused.items()})
    drafted, runner = base.run(make=make, **AUTO)
    plain = base.calls(recipe="fp8", targets=AUTO["targets"])
    probes = each("probe {} trtrtx-sm89")
    if left:
        assert set(runner.calls) == {*plain, *probes, *FP8}
    else:
        assert sorted(runner.calls) == sorted([*plain, *probes])
    recipe, fp8 = drafted.draft.recipe, load_recipe("fp8")
    assert recipe is not None and recipe.attention is None
    off = [rule.quantizer_name for rule in recipe.quantize.quant_cfg[len(fp8.quantize.quant_cfg) :]]
    assert off == [f"{encoder}.*.*_bmm_quantizer" for encoder in left]
    words = {True: "yes", False: "no", None: "unknown"}
    assert [tuple(row.values()) for row in drafted.draft.tables["attention"]] == [
        (encoder, target, *told, "fp16" if encoder in left else "fp8")
        for encoder in ("image", "text")
        for target, told in (
            ("onnxruntime", (None, None, None)),
            ("trtrtx-sm89", (17, words[fused[encoder]], "a builder 1")),
        )
    ]
    assert sum(line.startswith("recipe fp8-auto, ") for line in caplog.messages) == 2


@pytest.mark.parametrize("of_sm89", [True, False, None])
@pytest.mark.parametrize("of_sm120", [True, False, None])
def test_one_builder_that_would_not_fuse_decides_for_all_targets(
    of_sm89: bool | None, of_sm120: bool | None, base: Base
) -> None:
    """Every target that tells is asked, once for each encoder; one that is unknown has no say."""
    pytest.importorskip("tensorrt_rtx")
    said = {"trtrtx-sm89": of_sm89, "trtrtx-sm120": of_sm120}
    make = answering(base, {(encoder, t): fused for encoder in ("image", "text") for t, fused in said.items()})
    drafted, runner = base.run(make=make, recipe="fp8-auto", targets=[*said])
    assert sorted(call for call in runner.calls if call.startswith("probe")) == sorted(
        each(*(f"probe {{}} {target}" for target in said))
    )
    assert {row["precision"] for row in drafted.draft.tables["attention"]} == {
        "fp16" if False in said.values() else "fp8"
    }
    recipe = drafted.draft.recipe
    assert recipe is not None and (recipe.digest == load_recipe("fp8").digest) is (False not in said.values())


def test_the_release_of_a_recipe_that_asks_is_another_than_that_of_its_rules(base: Base) -> None:
    """Both quantize alike, and share every cached step; but that builders were to be asked is part of this one."""
    asked, plain = base.run(recipe="fp8-auto")[0], base.run(recipe="fp8")[0]
    assert asked.plan != plain.plan
    with activate(base.store):
        assert asked.draft.identity() != plain.draft.identity()
        about, fp8 = (drafted.draft.manifest(1, 1).provenance for drafted in (asked, plain))
    assert (about.recipe, fp8.recipe) == ("fp8-auto", "fp8") and about.recipe_digest == fp8.recipe_digest
    assert about.parameters["recipe"] == "fp8-auto" and "attention" not in plain.draft.tables


def test_attention_that_the_recipe_leaves_in_fp16_is_told_as_that(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    make = answering(base, dict.fromkeys([("image", "trtrtx-sm89"), ("text", "trtrtx-sm89")]), asked=False)
    drafted, _ = base.run(make=make, **AUTO)
    assert {tuple(row.values())[2:] for row in drafted.draft.tables["attention"]} == {(None, None, None, "fp16")}
    assert sum("quantizes none of it" in line for line in caplog.messages) == 2


def test_no_builder_to_ask_is_told(base: Base, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert base.calls(recipe="fp8-auto") == [] == base.calls(recipe="fp8-auto", targets=[])
    for target in ("onnxruntime", "onnx"):
        assert sum("no target tells" in line and line.endswith(f"({target})") for line in caplog.messages) == 2


@pytest.mark.parametrize("name", CHANGES)
def test_changing_one_parameter_recomputes_what_depends_on_it(name: str, base: Base) -> None:
    changes, expected = CHANGES[name]
    if name == "targets: one more":
        pytest.importorskip("tensorrt_rtx")
    assert base.calls(make=compute if name in REAL else None, **changes) == sorted(expected)


def test_every_parameter_is_in_the_table() -> None:
    """A new parameter must say here what it makes stale."""
    from flows.parameters import OptimizeParameters

    covered = {key.partition("__")[0] for changes, _ in CHANGES.values() for key in changes}
    elsewhere = {"model", "revision", "image_size", "store"}  # the tests below
    assert covered | elsewhere == set(OptimizeParameters.model_fields)


def test_evaluation_batch(base: Base) -> None:
    calls = base.calls(make=compute, evaluation__batch=5)
    assert [call for call in calls if call != "score"] == sorted(EMBEDS)  # equal bits need no new score


def test_pytorch_as_the_executor_is_judged_and_told(base: Base) -> None:
    """Graphs are embedded again, by PyTorch; FP32 on the same processor is not."""
    drafted, runner = base.run(make=compute, evaluation__executor="torch")
    graphs = [step for step in EMBEDS if "fp32" not in step]
    assert sorted(runner.calls) == sorted([*each("judge {} fp16", "judge {} fp8"), *graphs, "score"])
    rows = drafted.draft.tables["executors"]
    assert [(row["encoder"], row["precision"], row["executor"], row["judged"]) for row in rows] == [
        ("image", "fp16", "torch", 20),
        ("image", "fp8", "torch", 20),
        ("text", "fp16", "torch", 64),
        ("text", "fp8", "torch", 64),
    ]
    assert all(row["snr_db"] > LEAST_DB[row["precision"]] and row["cosine_min"] > 0.99 for row in rows)
    assert base.calls(evaluation__executor="onnxruntime") == []  # which is what these small graphs had


def test_on_a_gpu_a_judge_computes_beside_the_embeddings(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor is idle while the GPU embeds: the first embedding here ends only once a judge has begun."""
    for place in ("flows.wiring", "flows.planned_steps"):
        monkeypatch.setattr(f"{place}.torch_gpu", lambda: "a GPU")
    judging = threading.Event()

    def make(step: Any, inputs: dict[str, Any], key: str) -> StepOutput:
        if step.name == "judge":
            judging.set()
        elif step.name == "embed":
            assert judging.wait(60)
        return compute(step, inputs, key)

    drafted, _ = base.run(make=make, evaluation__executor="torch", evaluation__batch=6)
    rows = drafted.draft.tables["executors"]
    assert [(row["encoder"], row["precision"]) for row in rows if row["judged"]] == [
        ("image", "fp16"),
        ("image", "fp8"),
        ("text", "fp16"),
        ("text", "fp8"),
    ]


def test_another_calibration_source(base: Base, tmp_path: Path) -> None:
    source = photographs(tmp_path / "photos")
    made, runner = base.run(calibration__source=str(source))
    assert sorted(runner.calls) == sorted(FP8)
    moved = tmp_path / "elsewhere"
    shutil.copytree(source, moved)
    again = KeyedRunner(runner.kept, base.stand_in)
    run_wiring(again, base.model, base.store, calibration__source=str(moved))
    assert again.calls == []
    lines = (moved / "captions.csv").read_text().splitlines()
    (moved / "captions.csv").write_text("\n".join([*lines[:-1], "11.png,art of the digit seven"]))
    other, runner = base.run(calibration__source=str(moved))
    assert sorted(runner.calls) == sorted(FP8)
    assert made.draft.calibration != other.draft.calibration


def test_another_evaluation_source(base: Base, tmp_path: Path) -> None:
    source = str(photographs(tmp_path / "photos"))
    assert base.calls(evaluation__source=source, evaluation__samples=None) == sorted([*EMBEDS, *RANGES, "score"])


def test_a_recipe_of_another_name_that_does_the_same(base: Base, tmp_path: Path) -> None:
    assert base.calls(recipe=str(renamed_recipe(tmp_path))) == []


def test_other_weights(base: Base, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.model, tmp_path / "small"))
    tensors = dict(load_file(folder / "model.safetensors"))
    for name in ("text_projection.weight", "visual_projection.weight"):
        tensors[name] = tensors[name] * np.float32(1.25)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert base.calls(model=folder) == sorted(WEIGHTS)  # the graphs' shape is that of the configuration: no trace


def test_another_configuration(base: Base, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(base.model, tmp_path / "small"))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["hidden_act"] = config["vision_config"]["hidden_act"] = "quick_gelu"
    (folder / "config.json").write_text(json.dumps(config))
    assert base.calls(model=folder, **TEXT_FP16) == TEXT_FP16_STEPS


def test_another_image_size_is_another_model(base: Base, tmp_path: Path) -> None:
    folder = save_checkpoint(CONFIGS["siglip2"], tmp_path / "naflex")
    save_processor("siglip2", folder)
    drafted, runner = base.run(model=folder)
    assert sorted(runner.calls) == sorted(EVERYTHING)
    assert drafted.draft.parameters["image_size"] == [32, 32]
    plans = {drafted.plan}
    for size, expected in (([32, 32], []), ([48, 32], EVERYTHING), ([32, 48], EVERYTHING)):
        again = KeyedRunner(dict(runner.kept), base.stand_in)
        other = run_wiring(again, folder, base.store, image_size=size)
        assert sorted(again.calls) == sorted(expected)
        assert other.draft.parameters["image_size"] == size
        with activate(base.store):  # where the files lie that decide
            same = other.draft.identity() == drafted.draft.identity()
        assert same == (other.plan in plans) == (expected == [])
        plans.add(other.plan)


def test_a_model_of_one_size_records_none(base: Base) -> None:
    assert base.run()[0].draft.parameters["image_size"] is None
    with pytest.raises(ConfigError, match="has one of its own"):
        base.run(image_size=[64, 64])


def test_another_store_shares_nothing(base: Base, tmp_path: Path) -> None:
    """Not even where both keep their records in one place."""
    _, runner = base.run(store=Store.open(tmp_path / "fresh"), **TEXT_FP16)
    assert sorted(runner.calls) == TEXT_FP16_STEPS
    assert len(runner.kept) == len(base.kept) + len(TEXT_FP16_STEPS), "every key is another one"


def test_another_version_of_a_package_makes_again_what_depends_on_it(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks.runs import steps

    version = steps.package_version
    monkeypatch.setattr(steps, "package_version", lambda name: "0" if name == "onnx_graphsurgeon" else version(name))
    assert base.calls() == AUDITS


DAMAGE = {
    "preprocess": ["check"],
    "calibration": each("calibrate {}"),
    "checkpoint": ["quantize"],
    "range": RANGES,
    "embeddings": EMBEDS,
    "cosines": ["score"],
    "onnx": each("export-fp16 {}", "export-fp8 {}"),
}
"""Kind of object -> the steps that make it again; equal bytes come back, so nothing after them runs."""


@pytest.mark.parametrize("how", ["deleted", "flipped"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_object_is_recomputed_not_believed(kind: str, how: str, base: Base, mine: Store) -> None:
    refs = {piece.object.digest: piece.object for piece in base.run()[0].draft.pieces if piece.object.kind == kind}
    assert refs
    for ref in refs.values():
        for file in ref.files:
            path = mine.root / "objects" / ref.digest[:2] / ref.digest / file.path
            if how == "deleted":
                path.unlink()
            else:
                flip(path)
    made, runner = base.run(store=mine, make=compute)
    assert sorted(runner.calls) == sorted(DAMAGE[kind])
    for piece in made.draft.pieces:
        mine.check(piece.object)  # every object is sound again
