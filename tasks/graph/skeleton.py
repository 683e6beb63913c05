"""A skeleton: one encoder's ONNX graph without weights, in which every weight is only named.

It is traced once per architecture (see `tasks.graph.tracing`) and serves FP16 and every FP8 recipe.
"""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Literal

import onnx
from pydantic import BaseModel

from artifacts.manifest import Encoder, Precision
from artifacts.models import Frozen

OPSET = 20
IR_VERSION = 10
_KEY = "clipsmith.skeleton"

ModuleKind = Literal["linear", "attention", "conv", "embedding"]


class Weight(Frozen):
    """A weight initializer to be filled in: `key` names the safetensors tensor, `shape` is the one in the graph."""

    key: str
    shape: tuple[int, ...]
    transposed: bool = False
    precision: Precision = "fp16"
    scale: str | None = None
    """The name of the FP16 initializer with the scale of an FP8 weight: a scalar, or one per column in the graph."""


class Module(Frozen):
    """One module of the PyTorch model that can have quantizers, or has large weights."""

    name: str
    kind: ModuleKind


class Inventory(Frozen):
    """The modules of an encoder in the PyTorch model: the expectation that the audit compares the graph with."""

    family: str
    encoder: Encoder
    layers: int
    hidden_size: int
    heads: int
    embedding_dim: int
    parameters: int
    modules: tuple[Module, ...]

    def attention_patterns(self) -> tuple[str, ...]:
        """The names of all attention modules, with `*` for the number of the layer."""
        names = (module.name for module in self.modules if module.kind == "attention")
        return tuple(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))


class Skeleton:
    """Nodes, small constants and the list of absent weights.

    Node names are `<module>/<op>`, e.g. `vision_model.encoder.layers.0.mlp.fc1/MatMul`; weight names are the
    state-dict keys.
    """

    def __init__(self, model: onnx.ModelProto, weights: dict[str, Weight], inventory: Inventory) -> None:
        self.model = model
        self.weights = weights
        self.inventory = inventory

    def save(self, path: Path) -> None:
        """Write the skeleton as one small file; `Skeleton.load(path)` gives it back."""
        record = _Record(weights=self.weights, inventory=self.inventory)
        model = deepcopy(self.model)
        onnx.helper.set_model_props(model, {_KEY: record.model_dump_json()})
        path.write_bytes(model.SerializeToString(deterministic=True))

    @classmethod
    def load(cls, path: Path) -> Skeleton:
        """Read what `save` wrote."""
        model = onnx.ModelProto.FromString(path.read_bytes())
        record = _Record.model_validate_json({p.key: p.value for p in model.metadata_props}[_KEY])
        del model.metadata_props[:]
        return cls(model, record.weights, record.inventory)


class _Record(BaseModel):
    weights: dict[str, Weight]
    inventory: Inventory


def module_of(node_name: str) -> str:
    """The module path in a node name: `a.b.fc1/MatMul` -> `a.b.fc1`."""
    return node_name.partition("/")[0]
