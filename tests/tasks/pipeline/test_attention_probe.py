"""What a builder makes of attention: asked about one block, by the step, as it makes it of the whole encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from artifacts.errors import BuildError, Fp8Unavailable
from artifacts.manifest import Encoder
from artifacts.refs import ArtifactRef
from artifacts.store.store import Store
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job
from tasks.engines.plan import Made
from tasks.file_names import SKELETON_FILE
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.pipeline import attention_probe
from tasks.pipeline.attention_probe import probe, probe_task
from tasks.pipeline.engine_build import build
from tasks.quantizing.recipe import Mse, load_recipe
from tasks.runs.step_cost import StepStats
from tests.wording import refusal

PROFILE = BatchProfile(min=1, opt=2, max=4)
QUANTIZERS = ("input_quantizer", "weight_quantizer", *(f"{operand}_bmm_quantizer" for operand in "qkv"))


def stored(store: Store, skeleton: Skeleton) -> ArtifactRef:
    with store.staging() as folder:
        skeleton.save(folder / SKELETON_FILE)
        return store.add("skeleton", folder)


@pytest.fixture
def traced(store: Store, small_clip: Path, skeleton_of: Any) -> ArtifactRef:
    return stored(store, skeleton_of(small_clip, "image"))


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Callable[[Made | None], list[tuple[Job, onnx.ModelProto]]]:
    """`jobs(made)`: from here on every engine tells that; the builds that are asked for, each with its graph."""

    def answer(made: Made | None) -> list[tuple[Job, onnx.ModelProto]]:
        asked: list[tuple[Job, onnx.ModelProto]] = []

        def built(job: Job) -> tuple[StepStats, str]:
            asked.append((job, onnx.load(job.onnx)))
            return StepStats(wall_s=3, peak_rss_mb=5), "a log"

        monkeypatch.setattr(attention_probe, "build_in_child", built)
        monkeypatch.setattr(attention_probe, "require_target", lambda *_: None)
        monkeypatch.setattr(type(backend_for("trtrtx-sm89")), "made", lambda *_: made)
        return asked

    return answer


FIRST = tuple(f"vision_model.encoder.layers.0.self_attn/MatMul{number}" for number in ("", "_2"))
APART = Made(launches=9, products=dict.fromkeys(FIRST, "fp8"), fused=())
TOLD = {
    "one kernel": (APART.model_copy(update={"fused": (FIRST,)}), True),
    "apart": (APART, False),
    "contradicted": (APART.model_copy(update={"disputed": FIRST[:1]}), None),
    "of other nodes": (APART.model_copy(update={"products": {}}), None),
    "nothing": (None, None),
}


@pytest.mark.parametrize("told", TOLD)
def test_what_the_engine_of_a_block_tells(told: str, store: Store, traced: ArtifactRef, jobs: Any) -> None:
    pytest.importorskip("tensorrt_rtx")
    made, fused = TOLD[told]
    asked, before = jobs(made), [*store.root.rglob("*")]
    found = probe(traced, "image", load_recipe("fp8-auto"), "trtrtx-sm89", PROFILE)
    ((job, graph),) = asked
    assert (job.target, job.profile) == ("trtrtx-sm89", PROFILE)
    assert sum(node.op_type == "QuantizeLinear" for node in graph.graph.node) == 6, "else it asks about FP16"
    assert (found.encoder, found.target, found.tokens, found.fused) == ("image", "trtrtx-sm89", 17, fused)
    assert found.builder is not None and found.builder.startswith("tensorrt-rtx 1.")
    assert found.modules == ("vision_model.encoder.layers.*.self_attn",) and found.stats.wall_s == 3
    assert [*store.root.rglob("*")] == before, "nothing of it is kept"


def test_it_asks_about_a_layer_that_the_recipe_quantizes(traced: ArtifactRef, jobs: Any) -> None:
    pytest.importorskip("tensorrt_rtx")
    asked = jobs(APART)
    recipe = load_recipe("fp8").without_attention(["vision_model.encoder.layers.0.self_attn"])
    found = probe(traced, "image", recipe, "trtrtx-sm89", PROFILE)
    names = {node.name for node in asked[0][1].graph.node}
    assert found.fused is None and "vision_model.encoder.layers.1.self_attn/MatMul" in names and not names & set(FIRST)


def test_nobody_is_asked_about_attention_that_the_recipe_leaves(traced: ArtifactRef, jobs: Any) -> None:
    pytest.importorskip("tensorrt_rtx")
    asked = jobs(APART)
    found = probe(traced, "image", load_recipe("fp8-no-attention"), "trtrtx-sm89", PROFILE)
    assert asked == [] and (found.fused, found.builder, found.tokens) == (None, None, 17)


def test_a_target_without_fp8_is_not_asked(traced: ArtifactRef) -> None:
    pytest.importorskip("tensorrt_rtx")
    with refusal(Fp8Unavailable):
        probe(traced, "image", load_recipe("fp8-auto"), "trtrtx-sm80", PROFILE)


def test_a_builder_that_refuses_the_block_ends_the_step(
    traced: ArtifactRef, jobs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing of attention: to go on as if it were apart, or fused, would be a guess."""
    pytest.importorskip("tensorrt_rtx")
    jobs(APART)

    def refused(_: Job) -> Any:
        raise BuildError("no", where="x", fix="y")

    monkeypatch.setattr(attention_probe, "build_in_child", refused)
    with pytest.raises(BuildError):
        probe(traced, "image", load_recipe("fp8-auto"), "trtrtx-sm89", PROFILE)


@pytest.mark.parametrize("package", ["nothing", "tensorrt", "tensorrt-rtx", "onnx", "polygraphy"])
def test_a_new_builder_is_asked_again(package: str, traced: ArtifactRef, monkeypatch: pytest.MonkeyPatch) -> None:
    before = key(traced)
    monkeypatch.setattr("tasks.runs.steps.package_version", lambda name: f"{name} {name == package}")
    other = key(traced)
    monkeypatch.setattr("tasks.runs.steps.package_version", lambda name: f"{name} False")
    assert (other != key(traced)) == (package != "nothing") and before != other


def key(traced: ArtifactRef, **changes: Any) -> str:
    inputs = {
        "skeleton": traced,
        "encoder": "image",
        "recipe": load_recipe("fp8-auto"),
        "target": "trtrtx-sm89",
        "profile": PROFILE,
        "device": "trtrtx-sm89",
    }
    return str(probe_task.cache_policy.compute_key(None, inputs | changes, {}))


def test_an_answer_is_for_one_question(store: Store, traced: ArtifactRef, make_clip: Any, skeleton_of: Any) -> None:
    """Another recipe, target, GPU, profile or shape of the encoder is another question; another name is none."""
    recipe = load_recipe("fp8-auto")
    wider = make_clip(store.root.parent / "wider", vision={"num_hidden_layers": 2, "image_size": 48})
    changes: list[dict[str, Any]] = [
        {"skeleton": stored(store, skeleton_of(wider, "image"))},
        {"encoder": "text"},
        {"recipe": load_recipe("fp8")},
        {"recipe": recipe.calibrated_by(Mse())},
        {"recipe": recipe.model_copy(update={"quantize": load_recipe("fp8-compact").quantize})},
        {"target": "trtrtx-sm120"},
        {"device": "another GPU"},
        {"profile": BatchProfile(min=1, opt=2, max=8)},
    ]
    keys = [key(traced), *(key(traced, **change) for change in changes)]
    assert len(set(keys)) == len(keys)
    assert key(traced, recipe=recipe.model_copy(update={"name": "mine"})) == keys[0]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("encoder", "shape", "fused"),
    [
        ("image", {"image_size": 32}, False),  # 17 tokens
        ("image", {"image_size": 48}, True),  # 37
        ("text", {"max_position_embeddings": 24}, False),
        ("text", {"max_position_embeddings": 40}, True),
    ],
)
def test_a_block_alone_becomes_what_it_becomes_in_the_encoder(
    encoder: Encoder,
    shape: dict[str, int],
    fused: bool,
    store: Store,
    make_clip: Any,
    skeleton_of: Any,
    tmp_path: Path,
) -> None:
    """For each of an encoder's two blocks: a real builder is asked about one, and builds both in the whole graph."""
    from tasks.clip.weights import WeightReader

    pytest.importorskip("tensorrt_rtx")
    shape = {"num_hidden_layers": 2, **shape}
    folder = make_clip(tmp_path / "clip", **{"vision" if encoder == "image" else "text": shape})
    whole, recipe = skeleton_of(folder, encoder), load_recipe("fp8-auto")
    found = probe(stored(store, whole), encoder, recipe, "trtrtx-sm89", PROFILE)

    amax = {f"{module.name}.{name}": 4.0 for module in whole.inventory.modules for name in QUANTIZERS}
    with store.staging() as made:
        reader = WeightReader([folder / "model.safetensors"])
        write_onnx(quantize(whole, recipe, amax), reader, made / "fp8.onnx", {})
        graph = store.add("onnx", made)
    engine = build(graph, encoder, "fp8", "trtrtx-sm89", PROFILE).made
    assert engine is not None
    names = [module.name for module in whole.inventory.modules if module.kind == "attention"]
    assert len(names) == 2
    blocks = [engine.fuses([f"{name}/MatMul", f"{name}/MatMul_2"]) for name in names]
    assert blocks == [found.fused] * 2 == [fused] * 2
