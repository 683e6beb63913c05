"""A traced skeleton keeps its promises: names, batch, domain, one MatMul per linear layer, and no weights."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, numpy_helper
from safetensors import safe_open

from artifacts.errors import ExportError
from tasks.clip.clip import Clip
from tasks.demo import SNAPSHOT
from tasks.graph.skeleton import Skeleton
from tasks.graph.tracing import trace

CONFIG = json.loads((SNAPSHOT / "config.json").read_text())
PREFIXES = {"image": ("vision_model.", "visual_projection."), "text": ("text_model.", "text_projection.")}
SIGNATURE = {
    "image": ("pixel_values", TensorProto.FLOAT16, ["batch", 3, 32, 32], "image_embeds"),
    "text": ("input_ids", TensorProto.INT64, ["batch", 16], "text_embeds"),
}


@pytest.fixture(params=["image", "text"])
def encoder(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["demo", "small"])
def folder(request: pytest.FixtureRequest, small_clip: Path) -> Path:
    """Quick GELU in the demo, GELU in the other."""
    return SNAPSHOT if request.param == "demo" else small_clip


@pytest.fixture
def skeleton(skeleton_of: Any, folder: Path, encoder: str) -> Skeleton:
    return skeleton_of(folder, encoder)


def pytorch_modules(folder: Path, encoder: str) -> dict[str, Any]:
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder)
    return {n: m for n, m in model.named_modules() if f"{n}.".startswith(PREFIXES[encoder])}


def shape(value: Any) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_input_and_output(skeleton: Skeleton, encoder: str) -> None:
    name, dtype, dims, output = SIGNATURE[encoder]
    (given,), (made,) = skeleton.model.graph.input, skeleton.model.graph.output
    assert (given.name, given.type.tensor_type.elem_type, shape(given)) == (name, dtype, dims)
    assert (made.name, made.type.tensor_type.elem_type, shape(made)) == (output, TensorProto.FLOAT16, ["batch", 64])


def test_plain_onnx(skeleton: Skeleton) -> None:
    model = skeleton.model
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    assert {node.domain for node in model.graph.node} == {""}
    assert model.ir_version == 10  # the one that belongs to opset 20 or 21: onnx/docs/Versioning.md
    assert not model.functions and not model.graph.value_info


def test_nothing_of_the_exporter_is_left(skeleton: Skeleton) -> None:
    model, graph = skeleton.model, skeleton.model.graph
    holders = [model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer]
    assert all(not holder.metadata_props and not holder.doc_string for holder in holders)
    assert (model.producer_name, model.producer_version) == ("clipsmith", "")
    text = model.SerializeToString()
    assert b"pkg.torch" not in text and b"/site-packages/" not in text and str(Path.home()).encode() not in text


def test_node_names_are_module_paths(skeleton: Skeleton, folder: Path, encoder: str) -> None:
    modules = {*pytorch_modules(folder, encoder), SIGNATURE[encoder][3]}
    names = [node.name for node in skeleton.model.graph.node]
    assert len(set(names)) == len(names)
    for node in skeleton.model.graph.node:
        match = re.fullmatch(r"([\w.]+)/(\w+?)(_\d+)?", node.name)
        assert match and match[2] == node.op_type
        assert match[1] in modules, node.name


def test_output_names_follow_their_nodes(skeleton: Skeleton) -> None:
    graph = skeleton.model.graph
    ends = {value.name for value in graph.output}
    assert all(node.output[0] in (node.name, *ends) for node in graph.node)
    known = {v.name for v in graph.input} | {c.name for c in graph.initializer} | skeleton.weights.keys()
    for node in graph.node:  # in topological order, and nothing dangles
        assert all(not name or name in known for name in node.input)
        known |= set(node.output)


def test_every_linear_layer_is_one_matmul(skeleton: Skeleton, folder: Path, encoder: str) -> None:
    from torch import nn

    linear = {n: m for n, m in pytorch_modules(folder, encoder).items() if isinstance(m, nn.Linear)}
    graph = skeleton.model.graph
    found = Counter(
        n.name.removesuffix("/MatMul")
        for n in graph.node
        if n.input[1:2] and n.input[1] in skeleton.weights and n.op_type == "MatMul"
    )
    assert found == Counter(list(linear))
    for node in graph.node:
        if (module := node.name.removesuffix("/MatMul")) in linear:
            weight = skeleton.weights[node.input[1]]
            assert (weight.key, weight.transposed) == (f"{module}.weight", True)
            assert weight.shape == tuple(linear[module].weight.shape[::-1])
    biased = {n for n, m in linear.items() if m.bias is not None}
    added = {n.name.removesuffix("/Add") for n in graph.node if n.op_type == "Add" and n.input[1].endswith(".bias")}
    assert added == biased
    assert "Gemm" not in {node.op_type for node in graph.node}


def test_no_weight_is_transposed_at_run_time(skeleton: Skeleton) -> None:
    assert not [
        n.name for n in skeleton.model.graph.node if n.op_type == "Transpose" and n.input[0] in skeleton.weights
    ]


def test_weights_are_the_encoders_state_dict(skeleton: Skeleton, folder: Path, encoder: str) -> None:
    with safe_open(folder / "model.safetensors", "np") as file:
        shapes = {n: tuple(file.get_slice(n).get_shape()) for n in file.keys() if n.startswith(PREFIXES[encoder])}  # noqa: SIM118
    stored = {w.key: w.shape[::-1] if w.transposed else w.shape for w in skeleton.weights.values()}
    assert stored == shapes
    assert all(w.precision == "fp16" and w.scale is None for w in skeleton.weights.values())


def test_activation_function(skeleton_of: Any, small_clip: Path, encoder: str) -> None:
    """quick_gelu is x * sigmoid(1.702 x) (OpenAI's CLIP); gelu uses erf."""

    def ops(folder: Path) -> set[str]:
        nodes = skeleton_of(folder, encoder).model.graph.node
        return {node.op_type for node in nodes if "activation_fn" in node.name or node.name.endswith("/Gelu")}

    assert ops(SNAPSHOT) == {"Mul", "Sigmoid"}
    assert ops(small_clip) in ({"Gelu"}, {"Erf", "Mul", "Add", "Div"})


def test_causal_mask_only_in_text(skeleton_of: Any, encoder: str) -> None:
    skeleton = skeleton_of(SNAPSHOT, encoder)
    masks = [numpy_helper.to_array(c) for c in skeleton.model.graph.initializer if list(c.dims) == [1, 1, 16, 16]]
    assert len(masks) == (1 if encoder == "text" else 0)
    for mask in (m[0, 0].tolist() for m in masks):
        for row in range(16):
            assert mask[row][: row + 1] == [0] * (row + 1)
            assert all(value <= -10000 for value in mask[row][row + 1 :])


def test_inventory_is_what_pytorch_has(skeleton: Skeleton, folder: Path, encoder: str) -> None:
    from torch import nn

    modules = pytorch_modules(folder, encoder)
    kinds = {nn.Linear: "linear", nn.Conv2d: "conv", nn.Embedding: "embedding"}
    expected = {(n, kind) for n, m in modules.items() for cls, kind in kinds.items() if isinstance(m, cls)}
    expected |= {(n, "attention") for n in modules if n.endswith(".self_attn")}
    inventory = skeleton.inventory
    assert {(m.name, m.kind) for m in inventory.modules} == expected
    assert len(inventory.modules) == len(expected)
    parameters = {p: v.numel() for n, m in modules.items() for p, v in m.named_parameters(prefix=n)}
    assert inventory.parameters == sum(parameters.values())
    assert (inventory.encoder, inventory.family) == (encoder, "clip")
    assert (inventory.hidden_size, inventory.heads, inventory.embedding_dim) == (128, 2, 64)


def test_a_batch_that_is_not_symbolic_is_an_error() -> None:
    class Fixed(Clip):
        def encode(self, model: Any, encoder: Any, *inputs: Any) -> Any:
            return super().encode(model, encoder, *inputs)[:1]

    with pytest.raises(ExportError, match="text_embeds has shape"):
        trace(Fixed(), CONFIG, "text")


def test_a_buffer_of_unknown_value_is_an_error() -> None:
    class Buffered(Clip):
        def build(self, config: dict[str, Any]) -> Any:
            import torch

            model = super().build(config)
            model.register_buffer("unheard_of", torch.ones(64))
            return model

        def encode(self, model: Any, encoder: Any, *inputs: Any) -> Any:
            return super().encode(model, encoder, *inputs) * model.unheard_of

    with pytest.raises(ExportError, match="unheard_of"):
        trace(Buffered(), CONFIG, "text")
