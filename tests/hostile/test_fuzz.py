"""Random and randomly damaged input: a valid result or one of our errors, never another exception, a hang or a crash.

`make test-heavy` and `make test-thorough` run longer ones; with CLIPSMITH_FUZZ_SEEDS=random they try other examples.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artifacts.errors import ClipsmithError
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.schema import new_row
from flows.parameters import OptimizeParameters, parse_parameters, read_config
from tasks.data.folder import Folder
from tasks.data.listing import TABLE_NAMES, read_listing
from tasks.pipeline.graph_audit import audit_file
from tests.artifacts.support import SHA, provenance
from tests.thorough import amount

_CALM = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
_DEADLINE_MS = 60_000
"""A single input that takes longer counts as a hang."""
LONG = [pytest.param(amount(300, 5_000), marks=pytest.mark.heavy, id="long")]


def campaign(examples: int, test: Callable[..., None]) -> None:
    """Run a property on the same examples every time; CLIPSMITH_FUZZ_SEEDS=random draws new ones."""
    settings(
        max_examples=examples,
        derandomize=os.environ.get("CLIPSMITH_FUZZ_SEEDS") != "random",
        deadline=_DEADLINE_MS,
        suppress_health_check=_CALM,
        database=None,
    )(test)()


def expect(call: Callable[[], Any]) -> Any:
    """What a call gives, or None where it raises one of our errors; anything else fails the test."""
    try:
        return call()
    except ClipsmithError as error:
        assert error.what
        return None


# --- inputs ------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**400), 10**400),
    st.floats(),
    st.text(),
    st.sampled_from(["", "../x", "a\n", "-rf", "\0", "a" * 300, "\ud800", "4", "NaN"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
CUTS = st.tuples(st.floats(0, 1), st.sampled_from(["cut", "flip", "drop", "double", "insert", "swap"]), st.binary())


def damaged(data: bytes, cuts: list[tuple[float, str, bytes]]) -> bytes:
    """`data` with some bytes cut off, flipped, dropped, doubled, inserted or swapped."""
    for share, kind, piece in cuts:
        place = min(int(share * len(data)), max(len(data) - 1, 0))
        end = min(place + 1 + len(piece), len(data))
        if kind == "cut":
            data = data[:place]
        elif kind == "flip":
            data = data[:place] + bytes(byte ^ 1 << (place % 8) for byte in data[place : place + 1]) + data[place + 1 :]
        elif kind == "drop":
            data = data[:place] + data[end:]
        elif kind == "double":
            data = data[:end] + data[place:]
        elif kind == "insert":
            data = data[:place] + piece + data[place:]
        else:
            data = data[:place] + piece + data[end:]
    return data


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value can be changed."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inside for place in places(item, (*path, key)))]


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """A copy of a JSON value with another value at one place."""
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = with_value(value[path[0]], path[1:], new)
    return copy


# --- manifests ---------------------------------------------------------------------------------------------

MANIFEST = Manifest(
    model="demo",
    version=1,
    sequence=1,
    created="2026-01-01T00:00:00+00:00",
    identity=SHA,
    provenance=provenance(),
    files=(ReleaseFile(path="a/b.bin", kind="onnx", object=SHA, member="b.bin", sha256=SHA, size=7),),
    tables={"stages": (new_row("stages", step="x", wall_s=1.5),)},
)


def _read_manifest(data: bytes) -> None:
    manifest = expect(lambda: Manifest.from_bytes(data, where="fuzz"))
    assert manifest is None or manifest.to_bytes() == data


@pytest.mark.parametrize("examples", [150, *LONG])
def test_manifest_with_damaged_bytes(examples: int) -> None:
    @given(st.lists(CUTS, min_size=1, max_size=3))
    def test(cuts: list[tuple[float, str, bytes]]) -> None:
        _read_manifest(damaged(MANIFEST.to_bytes(), cuts))

    campaign(examples, test)


@pytest.mark.parametrize("examples", [150, *LONG])
def test_manifest_with_another_value(examples: int) -> None:
    content = json.loads(MANIFEST.to_bytes())

    @given(st.sampled_from(places(content)), VALUES)
    def test(place: tuple[Any, ...], value: Any) -> None:
        _read_manifest(json.dumps(with_value(content, place, value), sort_keys=True, separators=(",", ":")).encode())

    campaign(examples, test)


@pytest.mark.parametrize("examples", [100, *LONG])
def test_manifest_of_random_bytes(examples: int) -> None:
    @given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
    def test(data: bytes) -> None:
        _read_manifest(data)

    campaign(examples, test)


# --- configurations ----------------------------------------------------------------------------------------

DEFAULTS = OptimizeParameters().model_dump(mode="json")
CONFIG = yaml.safe_dump(DEFAULTS).encode()
YAML_PIECES = st.sampled_from(
    [
        *(
            b"&a [*a]",
            b"<<: *a",
            b"!!python/name:os.system",
            b"!!timestamp x",
            b"!!int x",
            b"!!bool maybe",
            b"!!float x",
        ),
        *(
            b"2001-99-99",
            b"0x",
            b"0b",
            b"1_",
            b"? [a]\n: b",
            b"? {a: b}\n: c",
            b"=",
            b"{",
            b"[" * 1200,
            b"'",
            b'"',
            b"\t",
        ),
        *(
            b"---\n",
            b"...\n",
            b"%YAML 9.9\n",
            b"\xff",
            b"\0",
            b"\xe2\x80\xa8",
            b"!!binary x",
            b"!!set {a}",
            b"!!omap [a]",
        ),
        *(b"model: a\nmodel: b\n", b"190:20:30", b"1e999", b".nan", b"-.inf", b"~", b"| \n a", b"!!pairs [a: b]"),
    ]
)


@pytest.mark.parametrize("examples", [200, *LONG])
def test_parameters_with_another_value(examples: int) -> None:
    @given(st.sampled_from(places(DEFAULTS)), VALUES)
    def test(place: tuple[Any, ...], value: Any) -> None:
        values = with_value(DEFAULTS, place, value)
        if isinstance(values, dict):
            result = expect(lambda: parse_parameters(values, where="fuzz"))
            assert result is None or result.model_dump(mode="json") is not None

    campaign(examples, test)


@pytest.mark.parametrize("examples", [200, *LONG])
def test_configuration_file(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    @given(st.lists(CUTS, max_size=3), st.lists(st.tuples(st.floats(0, 1), YAML_PIECES), max_size=2))
    def test(cuts: list[tuple[float, str, bytes]], pieces: list[tuple[float, bytes]]) -> None:
        inserted = [(share, "insert", piece) for share, piece in pieces]
        path.write_bytes(damaged(CONFIG, [*inserted, *cuts]))
        values = expect(lambda: read_config(path))
        if values is not None:
            expect(lambda: parse_parameters(values, where=path))

    campaign(examples, test)


@pytest.mark.parametrize("examples", [100, *LONG])
def test_configuration_file_of_yaml_pieces(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"

    @given(st.lists(YAML_PIECES | st.sampled_from([b"a: ", b"\n", b" ", b"- ", b", ", b"]", b"}"]), max_size=8))
    def test(pieces: list[bytes]) -> None:
        path.write_bytes(b"".join(pieces))
        values = expect(lambda: read_config(path))
        if values is not None:
            expect(lambda: parse_parameters(values, where=path))

    campaign(examples, test)


# --- captions ----------------------------------------------------------------------------------------------

ROWS = [{"file": f"{n}.png", "caption": f"a photo, number {n}", "label": f"class {n % 2}"} for n in range(3)]


def _table(suffix: str) -> bytes:
    frame, stream = pd.DataFrame(ROWS), io.BytesIO()
    if suffix == ".csv":
        frame.to_csv(stream, index=False)
    elif suffix == ".jsonl":
        stream.write("\n".join(json.dumps(row) for row in ROWS).encode())
    else:
        frame.to_parquet(stream, index=False)
    return stream.getvalue()


TABLES = {name: _table(Path(name).suffix) for name in TABLE_NAMES}


def _folder(root: Path) -> Path:
    root.mkdir()
    for n in range(3):
        (root / f"{n}.png").write_bytes(b"picture %d" % n)
    return root


@pytest.mark.parametrize("examples", [40, *LONG])
@pytest.mark.parametrize("name", TABLE_NAMES)
def test_captions_file_with_damaged_bytes(name: str, examples: int, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")

    @given(st.lists(CUTS, max_size=3))
    def test(cuts: list[tuple[float, str, bytes]]) -> None:
        (folder / name).write_bytes(damaged(TABLES[name], cuts))
        entries = expect(lambda: read_listing(folder / name))
        opened = expect(lambda: Folder(folder))
        if opened is not None:
            assert len(opened.samples) == len(entries)
            assert {sample.id.partition("#")[0] for sample in opened.samples} <= {"0.png", "1.png", "2.png"}

    campaign(examples, test)


@pytest.mark.parametrize("examples", [60, *LONG])
@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_captions_file_of_random_rows(suffix: str, examples: int, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "photos")
    cells = SCALARS | st.sampled_from(["0.png", "1.png", "/etc/passwd", ".", "..", "photos", "0.png/x", "a caption"])

    @given(st.lists(st.dictionaries(st.sampled_from(["file", "caption", "label"]), cells | VALUES), max_size=4))
    def test(rows: list[dict[str, Any]]) -> None:
        if suffix == ".jsonl":
            text = "\n".join(json.dumps(row) for row in rows)
        else:
            text = "file,caption,label\n" + "\n".join(",".join(str(value) for value in row.values()) for row in rows)
        (folder / f"captions{suffix}").write_bytes(text.encode("utf-8", "surrogatepass"))
        opened = expect(lambda: Folder(folder))
        if opened is not None:
            assert all((folder / sample.id.partition("#")[0]).is_file() for sample in opened.samples)

    campaign(examples, test)


# --- graphs ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(good_onnx: Path) -> list[bytes]:
    """A graph's bytes around its large weights, whose values the audit does not look at."""
    data, parts = good_onnx.read_bytes(), []
    for tensor in onnx.load(good_onnx).graph.initializer:
        if len(tensor.raw_data) > 1000 and data.count(tensor.raw_data) == 1:
            before, _, data = data.partition(tensor.raw_data)
            parts += [before, tensor.raw_data]
    return [*parts, data]


@pytest.mark.parametrize("examples", [100, *LONG])
def test_graph_with_damaged_bytes(examples: int, parts: list[bytes], text_skeleton: Any, tmp_path: Path) -> None:
    path, structure = tmp_path / "m.onnx", [index for index, part in enumerate(parts) if index % 2 == 0 and part]

    @given(st.sampled_from(structure), st.lists(CUTS, min_size=1, max_size=2))
    def test(index: int, cuts: list[tuple[float, str, bytes]]) -> None:
        path.write_bytes(b"".join([*parts[:index], damaged(parts[index], cuts), *parts[index + 1 :]]))
        expect(lambda: audit_file(path, text_skeleton.inventory, None))

    campaign(examples, test)


@pytest.mark.parametrize("examples", [30, *LONG])
def test_truncated_graph(examples: int, good_onnx: Path, text_skeleton: Any, tmp_path: Path) -> None:
    data, path = good_onnx.read_bytes(), tmp_path / "m.onnx"

    @given(st.integers(0, len(data) - 1))
    def test(length: int) -> None:
        path.write_bytes(data[:length])
        assert expect(lambda: audit_file(path, text_skeleton.inventory, None)) is None

    campaign(examples, test)


def _fields(message: Any) -> list[tuple[Any, Any, int | None]]:
    """Every field that is set, in a message and those inside it: (message, field, place in it if it repeats)."""
    found: list[tuple[Any, Any, int | None]] = []
    for field, value in message.ListFields():
        items = list(enumerate(value)) if field.is_repeated else [(None, value)]
        for place, item in items:
            found.append((message, field, place))
            if field.message_type is not None:
                found += _fields(item)
    return found


def _change(message: Any, field: Any, place: int | None, value: Any) -> None:
    """Give a field another value, or remove, double or empty it; what protobuf itself refuses stays as it was."""
    try:
        if place is None and field.message_type is None:
            setattr(message, field.name, value)
        elif place is None:
            message.ClearField(field.name)
        elif field.message_type is None:
            getattr(message, field.name)[place] = value
        elif isinstance(value, bool) and value:
            getattr(message, field.name).append(getattr(message, field.name)[place])
        else:
            del getattr(message, field.name)[place]
    except (TypeError, ValueError):
        message.ClearField(field.name)


@pytest.mark.parametrize("examples", [100, *LONG])
def test_graph_with_another_field(examples: int, good_onnx: Path, text_skeleton: Any, tmp_path: Path) -> None:
    """Well-formed protobuf that says something else: types, shapes, names, missing and doubled nodes."""
    model, path = onnx.load(good_onnx), tmp_path / "m.onnx"
    count = len(_fields(model))
    values = (
        st.integers(-(2**31), 2**31 - 1)
        | st.integers(-3, 30)
        | st.booleans()
        | st.binary(max_size=9)
        | st.sampled_from(["", "MatMul", "DequantizeLinear", "batch", "input_ids", "x", "com.other"])
    )

    @given(st.lists(st.tuples(st.integers(0, count - 1), values), min_size=1, max_size=2))
    def test(changes: list[tuple[int, Any]]) -> None:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        for index, value in changes:
            fields = _fields(other)
            _change(*fields[index % len(fields)], value)
        path.write_bytes(other.SerializeToString())
        expect(lambda: audit_file(path, text_skeleton.inventory, None))

    campaign(examples, test)
