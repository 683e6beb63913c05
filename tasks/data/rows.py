"""Strict reading of small tables (CSV, JSON Lines, Parquet): every error names the file and the line or row."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.strict_json import strict_json

SUFFIXES = (".csv", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Row:
    """One row: where it stands (for messages) and its values; a column without a value is absent."""

    where: str
    values: dict[str, object]


@dataclass(frozen=True)
class Table:
    """The columns found, in order, and the rows."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """Read a table by its suffix; of a Parquet file only the `wanted` columns, as others may hold whole images.

    Raises:
        DataError: invalid UTF-8 or a malformed row (names the line), or a file that cannot be read.
    """
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".jsonl":
        return _read_jsonl(path)
    return _read_parquet(path, wanted)


def unreadable(path: Path, error: OSError) -> DataError:
    """The error about a file that the system does not let us read."""
    return DataError(
        f"the file cannot be read: {error.strerror}", where=path, fix="check that it is there and its permissions"
    )


def read_utf8(path: Path) -> str:
    """The text of a UTF-8 file; a byte order mark is dropped.

    Raises:
        DataError: invalid UTF-8, with the line number; or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"invalid UTF-8: byte 0x{data[error.start]:02x}",
            where=f"{path}, line {line}",
            expected="a file in UTF-8",
            fix="convert it, for example: iconv -f latin1 -t utf-8",
        ) from error


# --- CSV ---------------------------------------------------------------------------------------------------


def _read_csv(path: Path) -> Table:
    lines = _csv_lines(path)
    _, header = next(lines, ("", []))
    if not header or len(set(header)) != len(header):
        raise DataError(
            "the file has no header" if not header else "two columns have the same name",
            where=f"{path}, line 1",
            expected=f"a first line with distinct column names, found {header}",
            fix="correct the first line",
        )
    return Table(tuple(header), tuple(_csv_row(where, header, cells) for where, cells in lines))


def _csv_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Where each record starts, and its cells; a quoted cell may span lines. Blank lines are skipped."""
    reader = csv.reader(io.StringIO(read_utf8(path), newline=""), strict=True)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"not valid CSV: {error}", where=where, expected="commas and double quotes", fix="correct the line"
            ) from error
        if cells:
            yield where, cells


def _csv_row(where: str, header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise DataError(
            f"the row has {len(cells)} cells",
            where=where,
            expected=f"{len(header)} cells: {', '.join(header)}",
            fix="put values that hold commas into double quotes",
        )
    return Row(where, dict(zip(header, cells, strict=True)))


# --- JSON Lines --------------------------------------------------------------------------------------------


def _read_jsonl(path: Path) -> Table:
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON strings may hold.
    numbered = enumerate(read_utf8(path).split("\n"), start=1)
    rows = tuple(_json_row(f"{path}, line {number}", line) for number, line in numbered if line.strip())
    return Table(tuple(dict.fromkeys(name for row in rows for name in row.values)), rows)


def _json_row(where: str, line: str) -> Row:
    try:
        value = strict_json(line)
    except ValueError as error:
        raise DataError(f"not valid JSON: {error}", where=where, fix="correct the line") from error
    if not isinstance(value, dict):
        raise DataError(f"a {type(value).__name__}, not an object", where=where, expected="one JSON object per line")
    return Row(where, {name: item for name, item in value.items() if item is not None})


# --- Parquet -----------------------------------------------------------------------------------------------


def _read_parquet(path: Path, wanted: Collection[str]) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        columns = tuple(parquet.read_schema(path).names)
        table = parquet.read_table(path, columns=[name for name in columns if name in wanted])
    except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:  # the last from names of columns
        raise DataError(
            f"not a readable Parquet file: {error}",
            where=path,
            expected="a complete Parquet file",
            fix="write it again",
        ) from error
    cells = {name: table.column(name) for name in table.column_names}
    return Table(columns, tuple(_parquet_row(f"{path}, row {n + 1}", cells, n) for n in range(table.num_rows)))


def _parquet_row(where: str, cells: dict[str, Any], index: int) -> Row:
    try:
        values = {name: column[index].as_py() for name, column in cells.items()}
    except UnicodeDecodeError as error:  # Arrow does not check the strings it reads
        raise DataError(
            "invalid UTF-8", where=where, expected="strings in UTF-8", fix="write the file again"
        ) from error
    return Row(where, {name: value for name, value in values.items() if value is not None})
