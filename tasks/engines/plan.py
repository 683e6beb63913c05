"""What the builder made of a graph, read without a GPU from the plan that an engine of TensorRT for RTX holds as text.

An engine holds one plan per part of the graph, and one for each kernel that is put together where the engine runs. A
plan describes tensors and lists, in their order, what is launched: the kernel, its inputs, and the nodes of the ONNX
graph that it computes. The text is not documented: what it does not say is unknown. Read in tensorrt-rtx 1.7.

An engine also holds weights, whose bytes are a stranger's and may spell a plan. So all is read in linear time, and a
node of which two operations tell different things is unknown: no forged plan betters what the builder's tells of it.
"""

from __future__ import annotations

import mmap
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from artifacts.models import Frozen

_LARGEST = 1 << 26
"""The most bytes that the plans of an engine may have."""
_PLAN = re.compile(rb"header \{\n[^\0]*")
_TENSOR = re.compile(r"^  (?:sub_)?tensor=\{(.*)$", re.MULTILINE)
_NAME, _TYPE = re.compile(r' name="([^"]+)"'), re.compile(r" type=(\w+)")
_OPERATION = re.compile(r"^  (\w+)=\{(.*)$", re.MULTILINE)
_INPUTS = re.compile(r" input(?:_args)?=\{([^{}]*)\}")
_LAYERS = re.compile(r' layers="([^"]*)"')
_NODE = re.compile(r"\[ONNX Layer: ([^\[\]]+)\]")
_LAUNCHES_NOTHING = ("shape_call", "signal", "wait")
_PRECISIONS = {"fp8_e4m3": "fp8", "half": "fp16", "bfloat16": "bf16", "float": "fp32"}


class Made(Frozen):
    """What an engine launches for one inference, and how it computes the nodes of its graph.

    `products` are precisions of matrix products by node; `fused` are the nodes of each attention that is one kernel,
    which `products` holds, too. A node that is in neither is computed in a way that the engine does not tell.
    `disputed` are the nodes of which an engine tells different things, and those that a kernel has together with one.
    `launches` is None if the engine does not tell it.
    """

    launches: int | None
    products: dict[str, str]
    fused: tuple[tuple[str, ...], ...]
    disputed: tuple[str, ...] = ()

    def fuses(self, block: Collection[str]) -> bool | None:
        """Whether one kernel computes these two products of an attention; None if the engine does not tell, or tells
        different things."""
        if any(set(block) <= set(kernel) for kernel in self.fused):
            return True
        return False if set(block) <= self.products.keys() and set(block).isdisjoint(self.disputed) else None


class Operation(NamedTuple):
    """One operation of an engine: the matrix products that it computes, in what, and whether as a whole attention."""

    nodes: tuple[str, ...]
    precision: str
    attention: bool


def read_made(engine: Path) -> Made | None:
    """What the builder made, or None if the engine holds no plan that can be read."""
    launches = 0
    found: list[Operation] = []
    for plan in _plans(engine):
        types = _types(plan)
        whole = "accelerators={*}" not in plan  # else: one kernel, which another plan launches
        for kind, text in _operations(plan):
            launches += whole and kind not in _LAUNCHES_NOTHING
            attention = kind == "function" and "name=_gemm_mha" in text
            if attention or kind == "fully_connected":
                precision = _precision(text, types, operands=3 if attention else 2)
                found.append(Operation(_nodes(text), precision, attention))
    return made_by(found, launches) if launches else None


def made_by(operations: Iterable[Operation], launches: int | None) -> Made:
    """What an engine of these operations made: of a node, what all agree on that compute it."""
    kernels: dict[tuple[str, ...], int] = {}
    told: defaultdict[str, set[tuple[str, int | None]]] = defaultdict(set)
    for nodes, precision, attention in operations:
        # By number: to compare all nodes of a kernel for each of them would take quadratic time.
        kernel = kernels.setdefault(nodes, len(kernels)) if attention else None
        for node in nodes:
            told[node].add((precision, kernel))
    unclear = {node for node, said in told.items() if len(said) > 1}
    torn = [nodes for nodes in kernels if not unclear.isdisjoint(nodes)]
    return Made(
        launches=launches,
        products={node: "unknown" if node in unclear else next(iter(said))[0] for node, said in told.items()},
        fused=tuple(nodes for nodes in kernels if nodes and unclear.isdisjoint(nodes)),
        disputed=tuple(sorted(unclear.union(*torn))),
    )


def _plans(engine: Path) -> list[str]:
    """The texts of an engine that begin as a plan does; none if they are absurdly large, or the engine is empty."""
    if not engine.stat().st_size:  # which cannot be mapped
        return []
    found, size = [], 0
    with engine.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for match in _PLAN.finditer(data):
            size += match.end() - match.start()
            if size > _LARGEST:
                return []
            found.append(match[0].decode(errors="replace"))
    return found


def _types(plan: str) -> dict[str, str]:
    """The type of each tensor that a plan describes, by name."""
    found = ((_NAME.search(line[1]), _TYPE.search(line[1])) for line in _TENSOR.finditer(plan))
    return {name[1]: kind[1] for name, kind in found if name and kind}


def is_product(node: str) -> bool:
    """Whether a node of one of our graphs is a matrix product, by its name."""
    return re.fullmatch(r"(MatMul|Gemm)(_\d+)?", node.rpartition("/")[2]) is not None


def _operations(plan: str) -> Iterator[tuple[str, str]]:
    """The operations of a plan in their order: kind, and text."""
    main, closed, _ = plan.partition("\nmain {")[2].partition("\n}")
    return ((found[1], found[2]) for found in _OPERATION.finditer(main if closed else ""))


def _nodes(text: str) -> tuple[str, ...]:
    """The matrix products of the graph that an operation computes."""
    layers = _LAYERS.search(text)
    found = _NODE.findall(layers[1]) if layers else ()
    return tuple(filter(is_product, found))


def _precision(text: str, types: dict[str, str], operands: int) -> str:
    """The precision of an operation's first inputs: `unknown` if one's type is not told, `mixed` if they differ."""
    inputs = _INPUTS.search(text)
    names = re.findall(r'"([^"]+)"', inputs[1])[:operands] if inputs else []
    found = {_PRECISIONS.get(types.get(name, ""), "unknown") for name in names} or {"unknown"}
    return "unknown" if "unknown" in found else found.pop() if len(found) == 1 else "mixed"
