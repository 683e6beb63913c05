"""TensorRT for RTX builds every graph ahead of time, strongly typed, with no GPU in the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from artifacts.errors import BuilderCrash, BuildError
from tasks.clip.weights import WeightReader
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job, build_in_child
from tasks.graph.quantize import quantize
from tasks.graph.skeleton import Skeleton
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import Recipe, load_recipe

pytest.importorskip("tensorrt_rtx")


def build(model: Path, engine: Path, target: str, profile: BatchProfile | None = None) -> Path:
    build_in_child(Job(onnx=model, engine=engine, target=target, profile=profile or BatchProfile()))
    return engine


@pytest.mark.parametrize(
    ("encoder", "precision", "target"),
    [
        ("image", "fp16", "trtrtx-sm89"),
        ("image", "fp8", "trtrtx-sm120"),
        ("text", "fp16", "trtrtx-sm120"),
        ("text", "fp8", "trtrtx-sm89"),
    ],
)
def test_every_graph_builds(encoder: str, precision: str, target: str, demo_graph: Any, tmp_path: Path) -> None:
    """Each pair of what may differ; the demo's release holds all of them: `test_engines_are_what_they_say`."""
    engine = build(demo_graph(encoder, precision), tmp_path / "e.engine", target)
    weights = sum(len(t.raw_data) for t in onnx.load(demo_graph(encoder, precision)).graph.initializer)
    assert engine.stat().st_size > 0.9 * weights


@pytest.mark.parametrize(("encoder", "target"), [("image", "trtrtx-sm89"), ("text", "trtrtx-sm120")])
def test_scales_by_channel_build(encoder: str, target: str, demo_graph: Any, tmp_path: Path) -> None:
    path = demo_graph(encoder, "fp8", by_channel=True)
    engine = build(path, tmp_path / "e.engine", target)
    assert engine.stat().st_size > 0.9 * sum(len(t.raw_data) for t in onnx.load(path).graph.initializer)


def test_fp8_weights_stay_fp8(make_clip: Any, skeleton_of: Any, recipe_by_channel: Recipe, tmp_path: Path) -> None:
    """An engine that widened them would be as large as FP16's; the kernels in both are small beside these weights."""
    wide = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 2}
    folder = make_clip(tmp_path / "wide", vision=wide, text={"num_hidden_layers": 1})
    plain = skeleton_of(folder, "image")
    suffixes = ("input_quantizer", "weight_quantizer", *(f"{operand}_bmm_quantizer" for operand in "qkv"))
    amax = {f"{module.name}.{suffix}": 4.0 for module in plain.inventory.modules for suffix in suffixes}
    engines, weights = [], []
    by_tensor = quantize(plain, load_recipe("fp8"), amax)
    by_channel = quantize(plain, recipe_by_channel, amax | _channels(plain))
    for name, skeleton in (("fp16", plain), ("fp8", by_tensor), ("fp8 by channel", by_channel)):
        write_onnx(skeleton, WeightReader([folder / "model.safetensors"]), tmp_path / f"{name}.onnx", {})
        weights.append((tmp_path / f"{name}.onnx").stat().st_size)
        engines.append(build(tmp_path / f"{name}.onnx", tmp_path / name, "trtrtx-sm89").stat().st_size)
    for quantized in (1, 2):
        assert engines[0] - engines[quantized] > 0.75 * (weights[0] - weights[quantized]) > 10_000_000


def _channels(plain: Skeleton) -> dict[str, Any]:
    """An amax for each column of every linear layer's weight."""
    linears = {f"{module.name}.weight.T" for module in plain.inventory.modules if module.kind == "linear"}
    return {
        f"{name.removesuffix('.weight.T')}.weight_quantizer": np.linspace(1, 4, weight.shape[1], dtype=np.float32)
        for name, weight in plain.weights.items()
        if name in linears
    }


def test_a_graph_of_mixed_types_is_refused(demo_graph: Any, tmp_path: Path) -> None:
    """The network is strongly typed: nothing is cast behind our back."""
    model = onnx.load(demo_graph("text", "fp16"))
    add = next(node for node in model.graph.node if node.name == "text_model.encoder.layers.0/Add")
    position = list(model.graph.node).index(add)
    cast = helper.make_node("Cast", [add.input[1]], ["wide"], name="wide", to=TensorProto.FLOAT)
    add.input[1] = "wide"
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    nodes.insert(position, cast)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    (tmp_path / "mixed.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BuildError, match=r"mixed\.onnx") as caught:
        build(tmp_path / "mixed.onnx", tmp_path / "e.engine", "trtrtx-sm89")
    assert not isinstance(caught.value, BuilderCrash)
    assert not (tmp_path / "e.engine").exists()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"not a model")
    with pytest.raises(BuildError) as caught:
        build(tmp_path / "m.onnx", tmp_path / "e.engine", "trtrtx-sm89")
    assert not isinstance(caught.value, BuilderCrash)


SPY = """
import json, sys
import polygraphy.backend.trt as api
from pathlib import Path
from tasks.engines import BatchProfile, backend_for
seen = {}
import tensorrt_rtx as trt
def engine_bytes(network, config):
    def run():
        builder, net, parser = network()
        made = config(builder, net)
        seen["inputs"] = [net.get_input(i).name for i in range(net.num_inputs)]
        seen["strongly_typed"] = net.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        seen["capabilities"] = [made.get_compute_capability(i).name for i in range(made.num_compute_capabilities)]
        seen["profiles"] = made.num_optimization_profiles
        seen["verbosity"] = made.profiling_verbosity.name
        return b"engine"
    return run
class Profile(api.Profile):
    def add(self, name, min, opt, max):
        seen["shapes"] = [name, list(min), list(opt), list(max)]
        return super().add(name, min, opt, max)
api.EngineBytesFromNetwork, api.Profile = engine_bytes, Profile
onnx, engine, target = sys.argv[1:]
backend_for(target).build(Path(onnx), Path(engine), target, BatchProfile(min=2, opt=5, max=9))
print(json.dumps(seen))
"""


def test_what_the_builder_is_asked_for(demo_graph: Any, tmp_path: Path) -> None:
    """Seen by TensorRT's own objects: strong typing, one capability, one profile with our batch sizes."""
    backend = backend_for("trtrtx-sm120")
    done = subprocess.run(
        [sys.executable, "-c", SPY, str(demo_graph("image", "fp8")), str(tmp_path / "e"), "trtrtx-sm120"],
        env={**os.environ, **backend.environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen == {
        "inputs": ["pixel_values"],
        "strongly_typed": True,
        "capabilities": ["SM120"],
        "profiles": 1,
        "verbosity": "DETAILED",
        "shapes": ["pixel_values", [2, 3, 32, 32], [5, 3, 32, 32], [9, 3, 32, 32]],
    }
