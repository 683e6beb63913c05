"""The schemas of a release's tables: each table's columns in order, as data, and the checks of rows against them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from artifacts import limits
from artifacts.errors import NumericError, TableError

if TYPE_CHECKING:
    from artifacts.manifest import Cell, Row

Kind = Literal["str", "int", "float"]
Tables = Mapping[str, Sequence["Row"]]

MEASURED = "measured"
EMULATED = "emulated"
NOT_RUN = "built, not run"
INVALID = "invalid"
BUILT = "built"
OVER_CHANCE = ("top1_over_chance", "recall@1_image_to_text_over_chance")
"""The metrics of FP32's accuracy above chance: of zero-shot classification, and of retrieval."""
EACH_CAPTION = "_each_caption"
"""Suffix of recalls in which a caption that belongs to several pictures counts once for each of them."""
ALIKE = "alike_classes"
"""The metric that counts classes whose embedding equals that of another class."""


@dataclass(frozen=True)
class Column:
    """One column. `unit` is empty for names and counts; `nullable` columns may hold None.

    `late` columns were added later: rows of older releases do not have them.
    """

    name: str
    kind: Kind
    about: str
    unit: str = ""
    nullable: bool = False
    late: bool = False


@dataclass(frozen=True)
class Table:
    """One table: its name, what a row is, and its columns in order."""

    name: str
    about: str
    columns: tuple[Column, ...]
    optional: bool = False
    """Whether a release has the table only if its run was asked for it."""


_ENCODER = Column("encoder", "str", "image or text")
_TARGET = Column("target", "str", "runtime, and the GPU generation where it matters")
_PRECISION = Column("precision", "str", "number format of the graph")

_PARITY = Table(
    "parity",
    "One row per sample that plain transformers embedded too: how close the FP32 model comes to it.",
    (
        _ENCODER,
        Column("oracle", "str", "transformers, or golden files: then the tests compare, and the run does not"),
        Column("sample", "str", "which text or picture"),
        Column("cosine", "float", "cosine of the two embeddings", nullable=True),
    ),
    optional=True,
)
_ENCODERS = Table(
    "encoders",
    "One row per encoder: its architecture.",
    (
        _ENCODER,
        Column("family", "str", "model family"),
        Column("layers", "int", "transformer blocks"),
        Column("hidden_size", "int", "width of a block"),
        Column("heads", "int", "attention heads per block"),
        Column("parameters", "int", "weights and biases"),
        Column("embedding_dim", "int", "length of the embedding it returns"),
        Column("input", "str", "name, type and shape of the input"),
        Column("output", "str", "name, type and shape of the output"),
    ),
)
_SIZES = Table(
    "sizes",
    "One row per file a release holds: ONNX graphs and engines.",
    (
        _ENCODER,
        _PRECISION,
        Column("target", "str", "onnx, or the engine target"),
        Column("bytes", "int", "size of the file", "bytes", nullable=True),
        Column("vs_fp16", "float", "size relative to FP16, same encoder and target", "fraction", nullable=True),
        Column("fp8_bytes", "int", "weights stored as FP8", "bytes", nullable=True, late=True),
        Column("fp16_bytes", "int", "weights stored as FP16", "bytes", nullable=True, late=True),
        Column("other_bytes", "int", "weights stored as anything else", "bytes", nullable=True, late=True),
        Column("status", "str", "built, or unavailable and why", late=True),
    ),
)
_COVERAGE = Table(
    "coverage",
    "One row per module that the recipe speaks about: what was asked for and what the graph holds.",
    (
        _ENCODER,
        _PRECISION,
        Column("module", "str", "module of the checkpoint"),
        Column("kind", "str", "linear, bmm_qk, bmm_pv, conv or embedding"),
        Column("expected", "str", "precision the recipe asks for"),
        Column("actual", "str", "precision found in the graph"),
        Column("input_scale", "float", "scale of the quantized input", nullable=True),
        Column("weight_scale", "float", "scale of the quantized weight, of its channels the largest", nullable=True),
        Column("weight_bytes", "int", "size of the weight in the graph", "bytes", nullable=True),
        Column("node", "str", "node of the ONNX graph", nullable=True),
    ),
)
_MADE = Table(
    "engines",
    "One row per engine that tells, without being run, what its builder made of the graph.",
    (
        _ENCODER,
        _TARGET,
        _PRECISION,
        Column("launches", "int", "kernels that one inference launches", nullable=True),
        Column("attention", "int", "attention blocks of the graph"),
        Column("attention_fused", "int", "of them, those that became one kernel"),
        Column("fused_share", "float", "the same as a share; null if a block is unknown", "fraction", nullable=True),
        Column("apart", "str", "blocks whose attention fell apart into several kernels", nullable=True),
        Column("products", "int", "matrix products of the graph"),
        Column("products_fp8", "int", "of them, those computed in FP8"),
        Column("fp8_share", "float", "the same as a share; null if a product is unknown", "fraction", nullable=True),
        Column("not_fp8", "str", "products of an FP8 graph that are computed in something else", nullable=True),
        Column("unknown", "int", "products of which the engine does not tell"),
    ),
    optional=True,
)
_ATTENTION = Table(
    "attention",
    "One row per encoder and target of a recipe that asks builders what they make of attention in FP8, before it "
    "quantizes.",
    (
        _ENCODER,
        _TARGET,
        Column("tokens", "int", "tokens that the encoder's attention sees", nullable=True),
        Column(
            "fused",
            "str",
            "whether the builder makes one kernel: yes, no, or unknown if its engine does not tell; null if not asked",
            nullable=True,
        ),
        Column("builder", "str", "the builder that was asked, and its version", nullable=True),
        Column("precision", "str", "what attention of the encoder is left in, for all targets: fp8 or fp16"),
    ),
    optional=True,
)
_ACCURACY = Table(
    "accuracy",
    "One row per metric: a precision against a reference, with a 95 % interval where there is one.",
    (
        Column("encoder", "str", "image, text, or both together"),
        _TARGET,
        _PRECISION,
        Column("reference", "str", "what it is compared with"),
        Column("metric", "str", "what is measured"),
        Column("value", "float", "result; rates are fractions of 1", nullable=True),
        Column("low", "float", "lower end of the 95 % interval", nullable=True),
        Column("high", "float", "upper end of the 95 % interval", nullable=True),
        Column("samples", "int", "samples measured"),
    ),
)
_EXECUTORS = Table(
    "executors",
    "One row per precision whose embeddings PyTorch made on a GPU or in place of ONNX Runtime, and how far ONNX "
    "Runtime agrees on a sample.",
    (
        _ENCODER,
        _PRECISION,
        Column("executor", "str", "pytorch: the model itself; torch: the ONNX graph, node by node in PyTorch"),
        Column("device", "str", "what it ran on"),
        Column("judged", "int", "samples that ONNX Runtime computed, too", nullable=True),
        Column("layer", "str", "tensor of the graph where the two agree least, given the same input", nullable=True),
        Column("snr_db", "float", "signal to noise of that tensor, over all judged samples", "dB", nullable=True),
        Column("cosine_min", "float", "least cosine of a judged sample's embeddings, end to end", nullable=True),
    ),
    optional=True,
)
_LATENCY = Table(
    "latency",
    "One row per engine and batch size. Emulated rows ran without hardware for that precision: not its speed.",
    (
        _ENCODER,
        _TARGET,
        _PRECISION,
        Column("batch", "int", "samples per call"),
        Column("status", "str", f"{MEASURED}; {EMULATED}; {INVALID} (see note); or {NOT_RUN}"),
        Column("median_ms", "float", "half of the calls are faster", "ms", nullable=True),
        Column("p95_ms", "float", "95 % of the calls are faster", "ms", nullable=True),
        Column("p99_ms", "float", "99 % of the calls are faster", "ms", nullable=True),
        Column("throughput", "float", "samples per second", "1/s", nullable=True),
        Column("rounds", "int", "timed calls", nullable=True),
        Column("speedup", "float", "FP8 over FP16, timed side by side", "ratio", nullable=True),
        Column("speedup_low", "float", "lower end of its 95 % interval", "ratio", nullable=True),
        Column("speedup_high", "float", "upper end of its 95 % interval", "ratio", nullable=True),
        Column("device", "str", "what it ran on", nullable=True),
        Column("clock_mhz", "float", "clock while timing", "MHz", nullable=True),
        Column("load", "float", "load average of the machine just before timing", nullable=True),
        Column("note", "str", "anything a reader must know", nullable=True),
    ),
)
_CALIBRATION = Table(
    "calibration",
    "One row per calibration method tried: how close to FP32 it keeps the embeddings of samples it has not seen.",
    (
        _ENCODER,
        Column("method", "str", "how the amax of activations is chosen"),
        Column("percentile", "float", "percent of the values that must not saturate", nullable=True),
        Column("samples", "int", "samples calibrated on"),
        Column("held_out", "int", "samples judged on, none of them calibrated on"),
        Column("cosine_mean", "float", "mean cosine with FP32 of the held-out samples"),
        Column("cosine_min", "float", "the worst held-out sample's"),
        Column("snr_db", "float", "signal to noise of the held-out embeddings", "dB", nullable=True),
        Column("p", "float", "chance of this much less error than the first method's, paired t-test", nullable=True),
        Column("chosen", "str", "yes for the method that the scales are made by"),
    ),
    optional=True,
)
_SUFFICIENCY = Table(
    "sufficiency",
    "One row per number of calibration samples: what more samples changed.",
    (
        _ENCODER,
        Column("samples", "int", "samples calibrated on"),
        Column("method", "str", "how the amax of activations is chosen"),
        Column("cosine_mean", "float", "mean cosine with FP32 of the held-out samples"),
        Column("snr_db", "float", "signal to noise of the held-out embeddings", "dB", nullable=True),
        Column("amax_change", "float", "how far the amax furthest from its final value is from it", "fraction"),
        Column("quantizer", "str", "whose amax that is"),
        Column("more_helped", "str", "whether samples beyond these helped; nobody knows at the last", nullable=True),
    ),
    optional=True,
)
_STAGES = Table(
    "stages",
    "One row per step of the run: how long it took and how much memory it needed.",
    (
        Column("step", "str", "what was done"),
        Column("encoder", "str", "for which encoder", nullable=True),
        Column("precision", "str", "for which precision", nullable=True),
        Column("target", "str", "for which target", nullable=True),
        Column("wall_s", "float", "time from start to end", "s", nullable=True),
        Column("peak_rss_mb", "float", "most resident memory of the process that ran it", "MiB", nullable=True),
        Column("device", "str", "what computed: a GPU, or cpu; builders use what they find", nullable=True, late=True),
        Column("samples_per_s", "float", "samples that went through it in a second", "1/s", nullable=True, late=True),
        Column("waited", "float", "share of that time spent waiting for them", "fraction", nullable=True, late=True),
    ),
)

_TABLES = (
    _PARITY,
    _ENCODERS,
    _SIZES,
    _COVERAGE,
    _ATTENTION,
    _MADE,
    _ACCURACY,
    _EXECUTORS,
    _LATENCY,
    _CALIBRATION,
    _SUFFICIENCY,
    _STAGES,
)
SCHEMAS: Mapping[str, Table] = MappingProxyType({table.name: table for table in _TABLES})

_TYPES: Mapping[Kind, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float)}


def present(tables: Tables) -> list[str]:
    """The names of the tables that a release has: all except optional tables without rows."""
    return [name for name, schema in SCHEMAS.items() if tables.get(name) or not schema.optional]


def check_tables(tables: Tables) -> None:
    """Check every row of every table.

    Raises:
        TableError: an unknown table, a missing or surplus column, a value of the wrong type, or a speed-up that was
            not measured.
        NumericError: NaN or Inf.
    """
    for name, rows in tables.items():
        check_rows(name, rows)


def check_rows(name: str, rows: Sequence[Row]) -> Table:
    """Check `rows` against the schema of table `name`, and return the schema. Raises as `check_tables`."""
    schema = SCHEMAS.get(name)
    if schema is None:
        raise TableError(f"there is no table {name!r}", expected=f"one of: {', '.join(SCHEMAS)}")
    for index, row in enumerate(rows):
        _check_columns(schema, row, index)
        for column in schema.columns:
            _check_value(schema, column, row[column.name], index)
        _check_speedup(schema, row, index)
    return schema


def check_kept(tables: Mapping[str, Sequence[Mapping[str, object]]]) -> None:
    """Check published tables, of any version and from anywhere: only known tables, with all columns but `late` ones.

    Time grows with the number of cells, and columns are checked one by one; use `check_tables` for new tables.

    Raises:
        TableError: as `check_tables`, except for missing `late` columns; or a table or cell beyond `artifacts.limits`.
    """
    for name, rows in tables.items():
        schema = SCHEMAS.get(name)
        if schema is None:
            raise TableError(f"there is no table {name[:40]!r}", expected=f"one of: {', '.join(SCHEMAS)}")
        if len(rows) > limits.ROWS:
            raise TableError(f"table {name} has {len(rows):,} rows", expected=f"at most {limits.ROWS:,}")
        _check_names(schema, rows)
        for column in schema.columns:
            _check_cells(schema, column, rows)


def complete(tables: Tables) -> dict[str, tuple[Row, ...]]:
    """The tables with None in the `late` columns that rows of older releases do not have."""
    filled: dict[str, tuple[Row, ...]] = {}
    for name, rows in tables.items():
        late: Row = {column.name: None if column.nullable else "" for column in SCHEMAS[name].columns if column.late}
        filled[name] = tuple(late | row for row in rows)
    return filled


def new_row(table: str, **values: Cell) -> Row:
    """A row of a table; columns that are not given are None.

    Raises:
        TableError: the table has no such column.
    """
    row: Row = dict.fromkeys(column.name for column in SCHEMAS[table].columns)
    unknown = values.keys() - row.keys()
    if unknown:
        raise TableError(f"table {table} has no column {', '.join(sorted(unknown))}", expected=", ".join(row))
    return row | values


def number(row: Row, column: str) -> float | None:
    """The number in a column of a row; None if the row has none there."""
    value = row.get(column)
    return None if value is None or isinstance(value, str) else float(value)


def _check_names(schema: Table, rows: Sequence[Mapping[str, object]]) -> None:
    known = frozenset(column.name for column in schema.columns)
    needed = frozenset(column.name for column in schema.columns if not column.late)
    for index, row in enumerate(rows):
        names = row.keys()
        if not needed <= names <= known:
            odd = sorted(names - known) or sorted(needed - names)
            what = "has a column too many" if names - known else "lacks a column"
            raise TableError(
                f"a row {what}: {odd[0][:40]}", where=_where(schema, odd[0][:40], index), expected=", ".join(known)
            )


def _check_cells(schema: Table, column: Column, rows: Sequence[Mapping[str, object]]) -> None:
    absent = None if column.nullable else ""  # stands for a missing cell of a late column, and passes the check
    cells = [row.get(column.name, absent) for row in rows] if column.late else [row[column.name] for row in rows]
    allowed = {*_TYPES[column.kind], *((type(None),) if column.nullable else ())}
    if not set(map(type, cells)) <= allowed:  # exact types: to Python, True is an int
        index = next(index for index, cell in enumerate(cells) if type(cell) not in allowed)
        expected = f"a value of type {column.kind}" + (", or null" if column.nullable else "")
        raise TableError(
            f"a value is of the wrong type, {type(cells[index]).__name__}",
            where=_where(schema, column.name, index),
            expected=expected,
        )
    for index, cell in enumerate(cells):
        if (isinstance(cell, str) and len(cell) > limits.CELL) or (
            isinstance(cell, int | float) and abs(cell) > limits.LARGEST_SIZE
        ):
            raise TableError("a value is larger than ours are", where=_where(schema, column.name, index))


def _where(schema: Table, column: str, index: int) -> str:
    return f"table {schema.name}, column {column}, row {index}"


def _check_columns(schema: Table, row: Row, index: int) -> None:
    wanted = [column.name for column in schema.columns]
    for what, names in (
        ("lacks a column", [name for name in wanted if name not in row]),
        ("has a column too many", [name for name in row if name not in wanted]),
    ):
        if names:
            raise TableError(
                f"a row {what}: {', '.join(names)}", where=_where(schema, names[0], index), expected=", ".join(wanted)
            )


def _check_value(schema: Table, column: Column, value: Cell, index: int) -> None:
    where = _where(schema, column.name, index)
    if value is None:
        if not column.nullable:
            raise TableError("a value is missing", where=where, expected=f"a value of type {column.kind}")
        return
    # bool is a subclass of int in Python: True is not a count.
    if isinstance(value, bool) or not isinstance(value, _TYPES[column.kind]):
        raise TableError(f"{value!r} is of the wrong type", where=where, expected=f"a value of type {column.kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise NumericError(f"a measured value is {value}", where=where, expected="a finite number, or null")


def _check_speedup(schema: Table, row: Row, index: int) -> None:
    """Check that only measured rows have a speed-up: it is a claim about hardware."""
    if schema.name != "latency" or row["status"] == MEASURED:
        return
    for name in ("speedup", "speedup_low", "speedup_high"):
        if row[name] is not None:
            raise TableError(
                f"a row that is {row['status']!r} claims a speed-up",
                where=_where(schema, name, index),
                expected="null unless the status is 'measured'",
            )
