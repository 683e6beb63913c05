"""Step 5: compare what an exported graph holds with what the recipe and the PyTorch model say it should hold.

Any mismatch raises an `AuditError` that names the module. Expectations come only from the module inventory and the
recipe; findings come only from the ONNX file, read with onnx-graphsurgeon.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message

from artifacts.errors import AuditError
from artifacts.manifest import Encoder, Precision, Row
from artifacts.refs import ArtifactRef
from artifacts.schema import new_row
from artifacts.store.store import active_store
from tasks.file_names import RECIPE_KEY, SKELETON_FILE, onnx_name
from tasks.graph.findings import Found, GraphFindings, read_findings
from tasks.graph.skeleton import OPSET, Inventory, Skeleton
from tasks.graph.strong_typing import type_conflicts
from tasks.quantizing.recipe import Owner, Recipe
from tasks.runs.stdout_to_log import quiet_polygraphy
from tasks.runs.steps import StepOutput, cached_step, measured

_LARGE = 1 << 16
_AGAIN = "export it again"
_OWNERS: dict[str, Owner] = {"linear": "nn.Linear", "conv": "nn.Conv2d", "embedding": "nn.Embedding"}


class GraphAudit(StepOutput):
    """Findings of a graph that passed: coverage rows, weight bytes by type, file bytes, quantized counts."""

    encoder: Encoder
    precision: Precision
    coverage: tuple[Row, ...]
    weight_bytes: dict[str, int]
    file_bytes: int
    encoder_row: Row


def audit(onnx_ref: ArtifactRef, skeleton: ArtifactRef, precision: Precision, recipe: Recipe | None) -> GraphAudit:
    """Audit one exported graph.

    Raises:
        AuditError: the first kind of mismatch that was found, with the modules or nodes concerned.
    """
    with measured() as meter:
        store = active_store()
        inventory = Skeleton.load(store.path(skeleton, SKELETON_FILE)).inventory
        path = store.path(onnx_ref, onnx_name(precision))
        findings = audit_file(path, inventory, recipe if precision == "fp8" else None)
        rows = _coverage(findings, inventory, precision, recipe)
    return GraphAudit(
        encoder=inventory.encoder,
        precision=precision,
        coverage=tuple(rows),
        weight_bytes=findings.weight_bytes,
        file_bytes=onnx_ref.size,
        encoder_row=new_row(
            "encoders", **inventory.model_dump(exclude={"modules"}), input=findings.inputs, output=findings.outputs
        ),
        stats=meter.stats,
    )


def audit_file(path: Path, inventory: Inventory, recipe: Recipe | None) -> GraphFindings:
    """Compare an ONNX file with its inventory and recipe (None: nothing may be quantized).

    Raises:
        AuditError: as `audit`.
    """
    model = _load(path)
    _check_form(model, path)
    conflicts = type_conflicts(_infer(model, path))
    if conflicts:
        raise AuditError(f"mixed types at {conflicts[0]}", where=path.name, expected="a strongly typed graph")
    quiet_polygraphy()
    findings = read_findings(model)
    if findings.misplaced:
        raise AuditError(
            f"{len(findings.misplaced)} Q/DQ nodes are misplaced, the first: {findings.misplaced[0]}",
            where=path.name,
            expected="FP8 weight -> DQ -> MatMul, and activation -> Q -> DQ -> MatMul with nothing between",
        )
    _check_coverage(findings, inventory, recipe, path)
    _check_label(model, recipe, path)
    return findings


# --- the file --------------------------------------------------------------------------------------------------------


def _load(path: Path) -> onnx.ModelProto:
    """Parse the file, make sure that every byte of its weights is there, and drop the data of large weights."""
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError) as error:
        raise AuditError(
            f"not an ONNX file: {error}", where=path.name, expected="a complete ONNX file", fix=_AGAIN
        ) from error
    # Protobuf gives bytes for a name that is not valid UTF-8; the libraries used below expect text.
    odd = next((text for text in _texts(model) if isinstance(text, bytes)), None)
    if odd is not None:
        raise AuditError(f"the name {odd[:80]!r} is not text", where=path.name, expected="UTF-8", fix=_AGAIN)
    for tensor in model.graph.initializer:
        if tensor.data_type not in onnx.helper.get_all_tensor_dtypes():
            raise AuditError(f"{tensor.name} has the unknown data type {tensor.data_type}", where=path.name)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(tensor, path)
        elif len(tensor.raw_data) != _nbytes(tensor):
            raise AuditError(
                f"{tensor.name} holds {len(tensor.raw_data)} bytes",
                where=path.name,
                expected=f"{_nbytes(tensor)}",
                fix=_AGAIN,
            )
        if _is_large(tensor):
            tensor.ClearField("raw_data")
    return model


def _texts(message: Message) -> Iterator[str | bytes]:
    """Every string field of a message and of those inside it."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.message_type is not None:
            for item in values:
                yield from _texts(item)
        elif field.type == field.TYPE_STRING:
            yield from values


def _infer(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Check the graph and infer every type and shape, strictly; large weights become inputs, without their data."""
    light = deepcopy(model)
    large = [tensor for tensor in light.graph.initializer if _is_large(tensor)]
    for tensor in large:
        light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        light.graph.initializer.remove(tensor)
    try:
        onnx.checker.check_model(light, full_check=True)
        return onnx.shape_inference.infer_shapes(light, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise AuditError(f"the ONNX checker refuses the graph: {error}", where=path.name) from error


def _is_large(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is a large weight; scales, indices and masks are small, and shape inference may need them."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL or _nbytes(tensor) > _LARGE


def _nbytes(tensor: onnx.TensorProto) -> int:
    width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return int(np.prod(tensor.dims, dtype=np.int64)) * width


def _check_external(tensor: onnx.TensorProto, path: Path) -> None:
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    data = path.parent / location.replace("\0", "?")
    plain = location and Path(location).name == location and not data.is_symlink()
    if not plain:
        raise _bad_data(f"external data of {tensor.name} is at {location!r}", path)
    if not data.is_file():
        raise _bad_data(f"external data file {location} of {tensor.name} is missing", path)
    if data.stat().st_nlink > 1:
        raise _bad_data(f"external data file {location} has another hard link", path)
    needed = _nbytes(tensor)
    place = [info.get(key, "0") for key in ("offset", "length")]
    start, length = (int(text) if text.isdecimal() else None for text in place)
    if start is None or length != needed or start + length > data.stat().st_size:
        raise _bad_data(
            f"external data of {tensor.name} is short: bytes {info.get('offset')} + {info.get('length')} "
            f"of {data.stat().st_size}, {needed} are needed",
            path,
        )


def _bad_data(what: str, path: Path) -> AuditError:
    return AuditError(
        what,
        where=path.name,
        expected="a plain file beside the graph, with one name and every byte of the weights",
        fix=_AGAIN,
    )


def _check_form(model: onnx.ModelProto, path: Path) -> None:
    plain = f"default domain, opset {OPSET}, no functions"
    for node in model.graph.node:
        if node.domain:
            raise AuditError(f"{node.name} is in domain {node.domain}", where=path.name, expected=plain)
    imports = {entry.domain: entry.version for entry in model.opset_import}
    if imports != {"": OPSET} or len(model.functions):
        raise AuditError(f"the graph is not plain ONNX: it imports {imports}", where=path.name, expected=plain)
    for value in (*model.graph.input, *model.graph.output):
        dims = [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        if dims[:1] != ["batch"] or not all(isinstance(d, int) and d > 0 for d in dims[1:]):
            raise AuditError(f"{value.name} has shape {dims}", where=path.name, expected="['batch', fixed sizes ...]")


def _check_label(model: onnx.ModelProto, recipe: Recipe | None, path: Path) -> None:
    """Check that the graph names the recipe it was made with, so that an engine can be traced back to it."""
    digest = {entry.key: entry.value for entry in model.metadata_props}.get(RECIPE_KEY)
    wanted = None if recipe is None else recipe.digest
    if digest != wanted:
        raise AuditError(
            f"the graph says that it was made by {f'recipe {digest}' if digest else 'no recipe'}",
            where=f"{path.name}, metadata {RECIPE_KEY}",
            expected=f"recipe {wanted}" if wanted else "no recipe",
        )


# --- quantization ----------------------------------------------------------------------------------------------------


def _check_coverage(findings: GraphFindings, inventory: Inventory, recipe: Recipe | None, path: Path) -> None:
    for (module, kind), expected in expected_precisions(inventory, recipe).items():
        found = findings.products.get((module, kind), [])
        if len(found) != 1:
            raise AuditError(f"{module} has {len(found)} {kind} products in the graph", where=path.name, expected="one")
        if found[0].precision != expected:
            raise AuditError(
                f"{module} ({kind}) is {found[0].precision} in the graph",
                where=f"{path.name}, node {found[0].node}",
                expected=f"{expected}, by {'the recipe' if recipe else 'the FP16 baseline'}",
                fix="nothing is published under a precision that it does not have: report this as a bug of the export",
            )
        if kind == "linear":
            _check_channels(module, found[0], recipe, path)
    known = expected_precisions(inventory, recipe).keys()
    strangers = sorted(module for module, kind in findings.products if (module, kind) not in known)
    if strangers:
        raise AuditError(f"products of unknown modules: {strangers[:3]}", where=path.name)
    if recipe is not None and not any(f.precision == "fp8" for fs in findings.products.values() for f in fs):
        raise AuditError("the graph is labelled FP8 and nothing in it is", where=path.name)


def _check_channels(module: str, found: Found, recipe: Recipe | None, path: Path) -> None:
    """Check that a weight has one scale per output channel if the recipe says so, and one scale in all otherwise."""
    rule = None if recipe is None else recipe.rule_for(f"{module}.weight_quantizer", "nn.Linear")
    expected = found.precision == "fp8" and rule is not None and rule.axis is not None
    if found.by_channel != expected:
        one, each = "one scale for the whole weight", "a scale for each output channel"
        raise AuditError(
            f"{module} has {each if found.by_channel else one}",
            where=f"{path.name}, node {found.node}",
            expected=f"{each if expected else one}, by the recipe",
            fix=_AGAIN,
        )


def expected_precisions(inventory: Inventory, recipe: Recipe | None) -> dict[tuple[str, str], Precision]:
    """(module, kind) -> expected precision, for every matrix product and weight of the PyTorch model."""
    expected: dict[tuple[str, str], Precision] = {}

    def wanted(owner: Owner, *quantizers: str) -> Precision:
        on = recipe is not None and all(recipe.rule_for(name, owner) is not None for name in quantizers)
        return "fp8" if on else "fp16"

    for module in inventory.modules:
        name = module.name
        if module.kind == "attention":
            expected[name, "bmm_qk"] = wanted("attention", f"{name}.q_bmm_quantizer", f"{name}.k_bmm_quantizer")
            expected[name, "bmm_pv"] = wanted("attention", f"{name}.p_bmm_quantizer", f"{name}.v_bmm_quantizer")
        else:
            quantizers = [f"{name}.weight_quantizer"]
            if module.kind in ("linear", "conv"):
                quantizers.append(f"{name}.input_quantizer")
            expected[name, module.kind] = wanted(_OWNERS[module.kind], *quantizers)
    return expected


# --- rows ------------------------------------------------------------------------------------------------------------


def _coverage(findings: GraphFindings, inventory: Inventory, precision: Precision, recipe: Recipe | None) -> list[Row]:
    expected = expected_precisions(inventory, recipe if precision == "fp8" else None)

    def row(module: str, kind: str, found: Found) -> Row:
        return {
            "encoder": inventory.encoder,
            "precision": precision,
            "module": module,
            "kind": kind,
            "expected": expected[module, kind],
            "actual": found.precision,
            "input_scale": found.first_scale,
            "weight_scale": found.second_scale,
            "weight_bytes": found.weight_bytes,
            "node": found.node,
        }

    return [row(module, kind, findings.products[module, kind][0]) for module, kind in expected]


audit_task = cached_step("audit", version=2, packages=("onnx", "onnx_graphsurgeon"))(audit)
