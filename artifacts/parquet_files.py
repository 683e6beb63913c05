"""Parquet files of a release that comes from elsewhere: looked at before anything reads them.

A column of one value ten million times takes a few bytes in the file and gigabytes where it is read. What a file would
unpack to is in its footer, which is small and says for every column chunk how many values and bytes it holds.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from artifacts import limits
from artifacts.errors import TableError
from artifacts.schema import SCHEMAS, Kind

if TYPE_CHECKING:
    import pyarrow

_ARROW: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {"str": ("string", "large_string"), "int": ("int64",), "float": ("double",)}
)
_MAGIC = b"PAR1"
_END = 8  # bytes: the length of the footer and the magic


def check(path: Path, name: str, table: str | None = None, rows: int = 0) -> None:
    """Make sure that a Parquet file is one, and within limits; only its footer is read.

    `name` is what messages call it. One that holds a `table` of a release has its columns, and as many `rows`.

    Raises:
        TableError.
    """
    import pyarrow
    from pyarrow import parquet

    _check_footer(path, name)
    try:
        about = parquet.read_metadata(path)
        _check_parts(about, name)
        columns = {field.name: str(field.type) for field in about.schema.to_arrow_schema()}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _refused(name, f"it cannot be read: {' '.join(str(error).split())[:200]}") from error
    if table is not None:
        _check_table(columns, name, table)
        if about.num_rows != rows:
            raise _refused(name, f"it has {about.num_rows:,} rows where the manifest has {rows:,}")


def _check_table(columns: dict[str, str], name: str, table: str) -> None:
    schema = SCHEMAS.get(table)
    if schema is None:
        raise _refused(name, "there is no such table")
    known = {column.name: column for column in schema.columns}
    odd = sorted(columns.keys() - known.keys()) or sorted({c for c in known if not known[c].late} - columns.keys())
    if odd:
        raise _refused(name, f"column {odd[0][:40]} is not the table's, or missing")
    for column, kind in columns.items():
        if kind not in _ARROW[known[column].kind]:
            raise _refused(name, f"column {column} has the type {kind[:40]}")


def _check_footer(path: Path, name: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(len(_MAGIC))
        if start != _MAGIC or size < len(_MAGIC) + _END:
            raise _refused(name, "it is not a Parquet file")
        stream.seek(-_END, os.SEEK_END)
        end = stream.read(_END)
    footer = int.from_bytes(end[:4], "little")
    if end[4:] != _MAGIC or footer > size - _END - len(_MAGIC):
        raise _refused(name, "it is not a Parquet file")
    if footer > limits.PARQUET_FOOTER:
        raise _refused(name, f"its footer has {footer:,} bytes, more than {limits.PARQUET_FOOTER:,}")


def _check_parts(about: pyarrow.parquet.FileMetaData, name: str) -> None:
    if about.num_row_groups * about.num_columns > limits.PARQUET_PARTS:
        raise _refused(name, f"it has more than {limits.PARQUET_PARTS:,} column chunks")
    rows, unpacked = max(0, about.num_rows), 0
    for group in range(about.num_row_groups):
        for column in range(about.num_columns):
            part = about.row_group(group).column(column)
            rows = max(rows, part.num_values)
            unpacked += max(part.total_uncompressed_size, part.total_compressed_size)
            if part.num_values < 0 or part.total_uncompressed_size < 0:
                raise _refused(name, "it counts below zero")
    if rows > limits.PARQUET_ROWS:
        raise _refused(name, f"it has {rows:,} rows, more than {limits.PARQUET_ROWS:,}")
    if unpacked > limits.PARQUET_BYTES:
        raise _refused(name, f"it unpacks to {unpacked:,} bytes, more than {limits.PARQUET_BYTES:,}")


def _refused(name: str, what: str) -> TableError:
    return TableError(
        f"a table that came with a release is refused: {what}",
        where=name,
        expected="a Parquet file as clipsmith writes it",
        fix="do not use this release; ask whoever made it what it is",
    )
