"""What the builder of TensorRT for RTX made, read from real engines of graphs that differ in one thing each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tasks.clip.weights import WeightReader
from tasks.engines import BatchProfile, backend_for
from tasks.engines.child import Job, build_in_child
from tasks.engines.plan import Made, Operation, made_by, read_made
from tasks.graph.quantize import quantize
from tasks.graph.writer import write_onnx
from tasks.quantizing.recipe import load_recipe

BLOCK = "vision_model.encoder.layers.0.self_attn"


@pytest.fixture(scope="module")
def graph(make_clip: Any, skeleton_of: Any, tmp_path_factory: Any) -> Callable[..., Path]:
    """`graph(recipe or None, pixels)`: an image encoder of one block, 17 tokens for 32 pixels and 37 for 48."""

    def write(recipe: str | None, pixels: int) -> Path:
        folder = tmp_path_factory.mktemp("graph")
        make_clip(folder, vision={"num_hidden_layers": 1, "image_size": pixels})
        skeleton = skeleton_of(folder, "image")
        if recipe is not None:
            suffixes = ("input_quantizer", "weight_quantizer", *(f"{operand}_bmm_quantizer" for operand in "qkv"))
            amax = {f"{module.name}.{suffix}": 4.0 for module in skeleton.inventory.modules for suffix in suffixes}
            skeleton = quantize(skeleton, load_recipe(recipe), amax)
        write_onnx(skeleton, WeightReader([folder / "model.safetensors"]), folder / "made.onnx", {})
        return folder / "made.onnx"

    return write


def made(model: Path, target: str) -> Made | None:
    engine = model.with_name(f"{target}.engine")
    pytest.importorskip("tensorrt_rtx")
    build_in_child(Job(onnx=model, engine=engine, target=target, profile=BatchProfile()))
    return backend_for(target).made(engine)


PLAN = """header {
  accelerators={sm89 }
}
descriptors {
  tensor={ dims={ 1 } name="weight" rank0=0 type=fp8_e4m3 }
  tensor={ dims={ 1 } name="wide" rank0=0 type=half }
  sub_tensor={ base="a" dims={ 1 } name="part^deref" rank0=0 type=fp8_e4m3 }
}
main {
 label bb1:
  shape_call={ name="shapes" stream=0  layers="" }
  function={ name=__myl_MulAdd input_args={ "wide" } layers="[ONNX Layer: elsewhere/MatMul]" }
  fully_connected={ name="x" input={"part^deref" "weight" "wide" } layers="[ONNX Layer: q/MatMul][ONNX Layer: k/MatMul]" }
  signal={ stream=1 }
  wait={ stream=1 }
  fully_connected={ name="x" input={"wide" "weight" } layers="[ONNX Layer: both/MatMul]" }
  fully_connected={ name="x" input={"weight" "untold" } layers="[ONNX Layer: untold/Gemm]" }
  function={ name=_gemm_mha_v2 input_args={ "wide" "wide" "wide" "weight" } layers="[ONNX Layer: attn/MatMul_2][ONNX Layer: attn/Softmax][ONNX Layer: attn/MatMul]" }
  runtime_fusion={ name=__myl_FcAdd input_args={ "wide" "wide" } layers="[ONNX Layer: fc/MatMul][ONNX Layer: fc/Add]" }
}
shape_main {
  function={ name=_gemm_mha_v2 layers="[ONNX Layer: nowhere/MatMul]" }
}
"""  # noqa: E501
KERNEL = """header {
  accelerators={*}
}
descriptors {
  tensor={ dims={ 1 } name="a" rank0=0 type=half }
}
main {
  fully_connected={ name="x" input={"a" "a" } layers="[ONNX Layer: fc/MatMul]" }
  add={ name="y" layers="[ONNX Layer: fc/Add]" }
}
"""


def test_a_plan_is_read(tmp_path: Path) -> None:
    """Every form of a plan that real engines were seen to hold, and types that it does not tell."""
    path = tmp_path / "an.engine"
    path.write_bytes(b"\xff\0" + PLAN.encode() + b"\0\xfe\0" + KERNEL.encode() + b"\0\x01")
    told = {"q": "fp8", "k": "fp8", "both": "mixed", "fc": "fp16", "attn": "fp16"}
    products = {f"{name}/MatMul": precision for name, precision in told.items()}
    assert read_made(path) == Made(
        launches=6,
        products=products | {"untold/Gemm": "unknown", "attn/MatMul_2": "fp16"},
        fused=(("attn/MatMul_2", "attn/MatMul"),),
    )


def test_an_engine_without_a_plan_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "an.engine"
    path.write_bytes(b"header { \0 main {\n  fully_connected={ }\n}\n")
    assert read_made(path) is None


@pytest.mark.heavy
@pytest.mark.parametrize("target", ["trtrtx-sm89", "trtrtx-sm120"])
@pytest.mark.parametrize(
    ("recipe", "pixels", "precisions", "fused"),
    [
        (None, 32, {"fp16": 9}, 1),
        ("fp8", 48, {"fp8": 9}, 1),
        ("fp8", 32, {"fp8": 9}, 0),
        ("fp8-no-attention", 32, {"fp8": 7, "fp16": 2}, 1),
    ],
)
def test_engines_tell(
    recipe: str | None, pixels: int, precisions: dict[str, int], fused: int, target: str, graph: Any
) -> None:
    """Six linear layers of the block, the projection, and the two products of attention."""
    found = made(graph(recipe, pixels), target)
    assert found is not None
    assert Counter(found.products.values()) == precisions
    assert [set(nodes) for nodes in found.fused] == [{f"{BLOCK}/MatMul", f"{BLOCK}/MatMul_2"}] * fused
    assert found.launches is not None and found.launches > len(found.products) - 2


@pytest.mark.heavy
def test_a_spoilt_graph_is_seen(graph: Any) -> None:
    """The softmax in FP32: attention falls apart, and nothing else does."""
    path = graph(None, 48)
    model = onnx.load(path)
    softmax = next(node for node in model.graph.node if node.op_type == "Softmax")
    place = list(model.graph.node).index(softmax)
    before = helper.make_node("Cast", [softmax.input[0]], ["wide"], name="wide", to=TensorProto.FLOAT)
    noise = helper.make_node("Erf", ["spoilt"], ["noise"], name="noise")
    after = helper.make_node("Cast", ["noise"], [softmax.output[0]], name="narrow", to=TensorProto.FLOAT16)
    softmax.input[0], softmax.output[0] = "wide", "spoilt"
    model.graph.node.insert(place + 1, noise)
    model.graph.node.insert(place + 2, after)
    model.graph.node.insert(place, before)
    onnx.save(model, path)
    found = made(path, "trtrtx-sm89")
    assert found is not None
    assert found.fused == () and {f"{BLOCK}/MatMul", f"{BLOCK}/MatMul_2"} <= found.products.keys()


def test_a_plan_that_weights_spell_makes_nothing_better(tmp_path: Path) -> None:
    """Weights are part of an engine, and a stranger's: a second plan among them contradicts the first, no more."""
    path = tmp_path / "an.engine"
    path.write_bytes(PLAN.encode() + b"\0" + KERNEL.encode() + b"\0")
    told = read_made(path)
    assert told is not None
    forged = PLAN.replace("type=half", "type=fp8_e4m3").replace(
        "q/MatMul][ONNX Layer: k", "attn/MatMul_2][ONNX Layer: both"
    )
    path.write_bytes(path.read_bytes() + forged.encode() + b"\0")
    found = read_made(path)
    assert found is not None and found.fused == ()
    worse = {"attn/MatMul_2", "attn/MatMul", "both/MatMul"}
    assert found.products == told.products | dict.fromkeys(worse, "unknown")
    assert (told.disputed, set(found.disputed)) == ((), worse)


BLOCK_OF_TWO = ("attn/MatMul", "attn/MatMul_2")
ALONE = Operation(BLOCK_OF_TWO[:1], "fp8", attention=False)
OTHER_HALF = Operation(BLOCK_OF_TWO[1:], "fp8", attention=False)
WHOLE = Operation(BLOCK_OF_TWO, "fp8", attention=True)


@pytest.mark.parametrize(
    ("operations", "fused"),
    [
        ([WHOLE], True),
        ([WHOLE, WHOLE], True),  # as two profiles of one engine would say it
        ([ALONE, OTHER_HALF], False),
        ([ALONE, OTHER_HALF._replace(precision="unknown")], False),  # in what is not told, but that it is apart
        ([ALONE], None),
        ([WHOLE, ALONE], None),
        ([WHOLE, ALONE, OTHER_HALF], None),
        ([WHOLE, WHOLE._replace(precision="fp16")], None),
        ([ALONE, OTHER_HALF, ALONE._replace(precision="fp16")], None),
        # Of the attention itself all agree, but its kernel has a node of which they do not.
        ([WHOLE._replace(nodes=(*BLOCK_OF_TWO, "fc/MatMul")), ALONE._replace(nodes=("fc/MatMul",))], None),
        ([], None),
    ],
)
def test_attention_is_apart_only_if_nothing_contradicts_it(operations: list[Operation], fused: bool | None) -> None:
    """In whichever order it is told."""
    for told in (operations, operations[::-1]):
        assert made_by(told, launches=9).fuses(BLOCK_OF_TWO) is fused


LONG = 1 << 20
HEAD = "header {\n  accelerators={*}\n}\nmain {\n"
HOSTILE = {
    "empty": "",
    "torn": PLAN[: PLAN.index("shape_main") - 2],
    "names without a type": "header {\n  tensor={" + ' name="a"' * LONG + "\n",
    "beginnings without an end": "header {\n" + "main {\n" * LONG,
    "inputs without an end": HEAD + "  fully_connected={" + " input={" * LONG + "\n}\n",
    "layers without an end": HEAD + '  fully_connected={ layers="' + "[ONNX Layer: " * LONG + '"\n}\n',
    "a kernel of many products": HEAD
    + '  function={ name=_gemm_mha layers="'
    + "".join(f"[ONNX Layer: {n}/MatMul]" for n in range(LONG // 4))
    + '" }\n}\n',
    "too large": f"{PLAN}{'x' * (64 * LONG)}",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_plan_tells_nothing_and_takes_no_time(text: str, tmp_path: Path) -> None:
    """Most would take hours where a pattern looks on from every place at which it could begin."""
    path = tmp_path / "an.engine"
    path.write_bytes(text.encode())
    assert read_made(path) is None
