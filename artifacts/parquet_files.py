"""Parquet files of a release from elsewhere: checked before anything reads them.

A column that repeats one value ten million times takes a few bytes in the file and gigabytes in memory. The footer is
small and says how many values and bytes each column chunk unpacks to, so it is checked first. A reader also trusts the
header of each page, so the pages' sizes are added up and compared with the footer. Texts that are encoded as indices
into a dictionary are counted at their full length, before they are expanded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from artifacts import limits, parquet_pages
from artifacts.records import came_refused
from artifacts.schema import SCHEMAS, Kind

if TYPE_CHECKING:
    import pyarrow

    from artifacts.manifest import Row

_ARROW: Mapping[Kind, tuple[str, ...]] = MappingProxyType(
    {"str": ("string", "large_string"), "int": ("int64",), "float": ("double",)}
)
_FLAT = {*(kind for kinds in _ARROW.values() for kind in kinds), "int32", "float", "bool", "null"}
"""The types with one value per row."""
_ENCODINGS = {"PLAIN", "RLE", "PLAIN_DICTIONARY", "RLE_DICTIONARY", "BIT_PACKED"}
"""The encodings that Arrow writes by default; some others repeat the start of one text in all that follow."""
_BATCH = 8192  # rows
_MAGIC = b"PAR1"
_END = 8  # bytes: the length of the footer and the magic


def check(path: Path, name: str, table: str | None = None, rows: Sequence[Row] = ()) -> None:
    """Make sure that a file is a Parquet file within our limits.

    `name` is how messages call it. A file that holds a `table` of a release must have its columns and exactly `rows`.

    Raises:
        TableError: it is not.
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
    if odd := sorted(kind for kind in columns.values() if kind not in _FLAT):
        raise _refused(name, f"a column has the type {odd[0][:40]}")
    if table is not None:
        _check_table(columns, name, table)
        if about.num_rows != len(rows):
            raise _refused(name, f"it has {about.num_rows:,} rows where the manifest has {len(rows):,}")
    try:
        _check_pages(path, about, name)
        _check_texts(path, columns, name)
        if table is not None:
            _check_rows(path, columns, rows, name)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise _refused(name, f"it cannot be read: {' '.join(str(error).split())[:200]}") from error


def _check_pages(path: Path, about: pyarrow.parquet.FileMetaData, name: str) -> None:
    """Check that the page headers of each column agree with the footer."""
    left = limits.PARQUET_PAGES
    with path.open("rb") as stream:
        for group in range(about.num_row_groups):
            for column in range(about.num_columns):
                part = about.row_group(group).column(column)
                label = f"column {part.path_in_schema[:40]}"
                if odd := set(part.encodings) - _ENCODINGS:
                    raise _refused(name, f"{label} has the encoding {odd.pop()[:40]}")
                places = (part.data_page_offset, part.dictionary_page_offset)  # 0 or None if there is no such page
                start = min(place for place in (*places, path.stat().st_size) if place)
                if start < len(_MAGIC) or start + part.total_compressed_size > path.stat().st_size - _END:
                    raise _refused(name, f"{label} lies outside the file")
                unpacked = values = 0
                for page in parquet_pages.pages(stream, start, start + part.total_compressed_size):
                    unpacked += page.unpacked
                    values += 0 if page.dictionary else page.values
                    left -= 1
                    if left < 0:
                        raise _refused(name, f"it has more than {limits.PARQUET_PAGES:,} pages")
                    if unpacked > part.total_uncompressed_size or values > part.num_values:
                        raise _refused(name, f"a page of {label} says that it holds more")


def _check_texts(path: Path, columns: dict[str, str], name: str) -> None:
    """Check how many bytes the texts of a file take once they are expanded."""
    from pyarrow import compute, parquet

    texts = [column for column, kind in columns.items() if kind in _ARROW["str"]]
    unpacked = 0
    with parquet.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(_BATCH, columns=texts) if texts else ():
            for array in batch.columns:
                lengths = compute.binary_length(array.dictionary).take(array.indices)
                unpacked += compute.sum(lengths).as_py() or 0
            if unpacked > limits.PARQUET_BYTES:
                raise _refused(name, f"its texts take more than {limits.PARQUET_BYTES:,} bytes")


def _check_rows(path: Path, columns: dict[str, str], rows: Sequence[Row], name: str) -> None:
    from pyarrow import parquet

    for index, (found, row) in enumerate(zip(parquet.read_table(path).to_pylist(), rows, strict=True)):
        odd = next((column for column in columns if found[column] != row.get(column)), None)
        if odd is not None:
            raise _refused(name, f"column {odd}, row {index} is another than in the manifest")


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


_refused = partial(came_refused, "a table", expected="a Parquet file as clipsmith writes it")
