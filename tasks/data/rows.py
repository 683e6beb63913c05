"""Strict reading of small tables (CSV, JSON Lines, Parquet): every error names the file and the line or row.

CSV is read as spreadsheets and data frames write it: cells are separated by commas, tabs, semicolons or pipes.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import DataError
from artifacts.limits import Limits
from artifacts.records import read_bytes, refuse_large
from artifacts.strict_json import strict_json
from tasks.data import limits

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SEPARATORS = (",", "\t", ";", "|")
_SEPARATOR_LINE = re.compile(r"sep=(.)", re.IGNORECASE)  # Excel may write this line above the header
_SNIFFED = 4096  # bytes
_PARQUET_END = 8  # bytes: the length of the footer and the magic
_MOST_ROWS = 65_536
"""Rows of a Parquet file per batch."""


@dataclass(frozen=True)
class Row:
    """One row: its position (for messages) and its values; columns without a value are left out."""

    where: str
    values: dict[str, object]


@dataclass(frozen=True)
class Table:
    """The columns in order, and the rows; `pictures` are columns that hold pictures and were not read."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    pictures: tuple[str, ...] = ()


def read_table(path: Path, wanted: Collection[str]) -> Table:
    """Read a table, by its suffix.

    `wanted` are column names in lower case. They help to detect the separator of a CSV file, and from a Parquet file
    only these columns are read, except those that hold pictures.

    Raises:
        DataError: the encoding is not UTF-8, a row is malformed (the message names the line), or the file cannot be
            read.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, wanted)
    text = read_utf8(path)
    check_rows(text.count("\n"), path)
    return _read_jsonl(path, text) if path.suffix == ".jsonl" else _read_csv(path, text, wanted)


def check_rows(rows: int, where: object) -> None:
    """Refuse a source with too many rows. Raises: DataError."""
    if rows > limits.ROWS:
        raise too_much(f"there are {rows:,} rows", where, f"at most {limits.ROWS:,}")


def unreadable(path: Path, error: OSError) -> DataError:
    """The error about a file that the system cannot read."""
    return DataError(
        f"the file cannot be read: {error.strerror}", where=path, fix="check that it is there and its permissions"
    )


def too_much(what: str, where: object, expected: str) -> DataError:
    """The error about a source that is larger than our limits."""
    return DataError(what, where=where, expected=expected, fix="look at where it comes from, or give a part of it")


def read_utf8(path: Path, most: int = limits.TABLE.bytes) -> str:
    """The text of a UTF-8 file of at most `most` bytes; a byte order mark is dropped.

    Raises:
        DataError: invalid UTF-8, with the line number; or the file cannot be read, or is too large.
    """
    try:
        if path.stat().st_size > most:
            raise too_much("the file is too large", path, f"at most {most:,} bytes")
        data = read_bytes(path, Limits(most, values=0))
    except OSError as error:
        raise unreadable(path, error) from error
    encoding = _wide_encoding(data)
    if encoding is not None:
        raise _wrong_encoding(f"the file is in {encoding}", path, encoding, f"{path}, line 1")
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        # CP1252 has letters and quotes where Latin-1 has control characters.
        encoding = "CP1252" if re.search(rb"[\x80-\x9f]", data) else "ISO-8859-1"
        words = "Windows' code page 1252" if encoding == "CP1252" else "Latin-1"
        raise _wrong_encoding(
            f"invalid UTF-8: byte 0x{data[error.start]:02x}; the file may be in {words}",
            path,
            encoding,
            f"{path}, line {line}",
        ) from error


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 or UTF-32 by the byte order mark; UTF-16 without a mark by its zero bytes, which most letters have."""
    for mark, name in (
        (codecs.BOM_UTF32_LE, "UTF-32"),  # first, as it begins with UTF-16's mark
        (codecs.BOM_UTF32_BE, "UTF-32"),
        (codecs.BOM_UTF16_LE, "UTF-16"),
        (codecs.BOM_UTF16_BE, "UTF-16"),
    ):
        if data.startswith(mark):
            return name
    part = data[:_SNIFFED]
    for first, name in ((0, "UTF-16BE"), (1, "UTF-16LE")):
        if len(part) > 1 and 2 * part[first::2].count(0) > len(part) // 2:
            return name
    return None


def _wrong_encoding(what: str, path: Path, encoding: str, where: str) -> DataError:
    name = shlex.quote(str(path))
    copy = shlex.quote(f"{path}.utf8")
    return DataError(
        what,
        where=where,
        expected="a file in UTF-8",
        fix=f"convert it: iconv -f {encoding} -t UTF-8 {name} > {copy} && mv {copy} {name}",
    )


# --- CSV ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Form:
    """How a file separates cells; `padded`: cells have white space around them, as in the header."""

    separator: str
    padded: bool
    marked: bool  # a `sep=` line above the header


def _read_csv(path: Path, text: str, wanted: Collection[str]) -> Table:
    form = _form(text, path.suffix, wanted)
    lines = _csv_lines(path, text, form)
    if form.marked:
        next(lines)
    _, header = next(lines, ("", []))
    named = [name for name in header if name]  # a data frame's index and a spreadsheet's empty columns have no name
    if not header or len(set(named)) != len(named):
        raise DataError(
            "the file has no header" if not header else "two columns have the same name",
            where=f"{path}, line 1",
            expected=f"a first line with distinct column names, found {header}",
            fix="correct the first line",
        )
    rows = tuple(_csv_row(where, header, cells, form.separator) for where, cells in lines)
    return Table(tuple(header), rows)


def _form(text: str, suffix: str, wanted: Collection[str]) -> _Form:
    """The separator with which the header has most wanted names, then most cells; the first of equal ones."""
    lines = (line for line in io.StringIO(text, newline="") if line.strip())
    header = next(lines, "").strip("\r\n")
    marked = _SEPARATOR_LINE.fullmatch(header)
    if marked is not None:
        header = next(lines, "").strip("\r\n")
    separators = marked[1] if marked is not None else "\t" if suffix == ".tsv" else _SEPARATORS

    def names(separator: str) -> list[str]:
        return header.split(separator)

    def known(separator: str) -> tuple[int, int]:
        found = {name.strip(' "').casefold() for name in names(separator)}
        return len(found.intersection(wanted)), len(names(separator))

    separator = max(separators, key=known)
    padded = any(name != name.strip() for name in names(separator))
    return _Form(separator, padded, marked is not None)


def _csv_lines(path: Path, text: str, form: _Form) -> Iterator[tuple[str, list[str]]]:
    """The position and the cells of each record; a quoted cell may span lines. Blank lines are skipped."""
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, strict=True, delimiter=form.separator, skipinitialspace=form.padded)
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"not valid CSV: {error}",
                where=where,
                expected=f"{_words(form.separator)} and double quotes",
                fix="correct the line; a double quote inside of quotes is written twice",
            ) from error
        if cells:
            yield where, [cell.strip() for cell in cells] if form.padded else cells


def _csv_row(where: str, header: list[str], cells: list[str], separator: str) -> Row:
    if len(cells) != len(header):
        more = f"put values that hold {_words(separator)} into double quotes"
        raise DataError(
            f"the row has {len(cells)} cells",
            where=where,
            expected=f"{len(header)} cells: {', '.join(header)}",
            fix=more if len(cells) > len(header) else f"correct the line: cells are separated by {_words(separator)}",
        )
    return Row(where, dict(zip(header, cells, strict=True)))


def _words(separator: str) -> str:
    return {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}.get(separator, repr(separator))


# --- JSON Lines --------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, text: str) -> Table:
    # Not splitlines(): it also cuts at U+2028 and the like, which JSON strings may hold.
    numbered = enumerate(text.split("\n"), start=1)
    rows = tuple(_json_row(f"{path}, line {number}", line) for number, line in numbered if line.strip())
    return Table(tuple(dict.fromkeys(name for row in rows for name in row.values)), rows)


def _json_row(where: str, line: str) -> Row:
    try:
        refuse_large(line.encode(), limits.LINE)
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
        _check_footer(path)
        file = parquet.ParquetFile(path)
        schema = file.schema_arrow
        columns = tuple(schema.names)
        pictures = tuple(field.name for field in schema if _holds_bytes(field.type))
        small = [name for name in columns if name not in pictures]
        table = _read_columns(file, [name for name in small if name.strip().casefold() in wanted], path)
    except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError also for odd column names
        raise DataError(
            f"not a readable Parquet file: {error}",
            where=path,
            expected="a complete Parquet file",
            fix="write it again",
        ) from error
    cells = {name: table.column(name) for name in table.column_names}
    rows = tuple(_parquet_row(f"{path}, row {n + 1}", cells, n) for n in range(table.num_rows))
    return Table(columns, rows, pictures)


def _check_footer(path: Path) -> None:
    """Check the footer. Raises ValueError: it is too large, or inconsistent."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - _PARQUET_END))
        length = int.from_bytes(stream.read(4), "little")
    if length > min(size, limits.PARQUET_FOOTER):
        raise ValueError(f"its footer has {length:,} bytes, more than {min(size, limits.PARQUET_FOOTER):,}")


def _read_columns(file: Any, names: list[str], path: Path) -> Any:
    """Read some columns as a table. The footer may be wrong, and repeated values take no room in the file, so the data
    is counted while it is read, in small batches if rows may be long.

    Raises:
        DataError: it is larger than our limit.
    """
    import pyarrow

    about = file.metadata
    check_rows(about.num_rows, path)
    if about.num_row_groups * about.num_columns > limits.PARQUET_PARTS:
        raise too_much("the file has too many parts", path, f"at most {limits.PARQUET_PARTS:,} row groups and columns")
    longest = 1
    for group in range(about.num_row_groups):
        parts = map(about.row_group(group).column, range(about.num_columns))
        sizes = [part.total_uncompressed_size for part in parts if part.path_in_schema.partition(".")[0] in names]
        longest = max(longest, *sizes, 1)
    at_once = max(1, min(_MOST_ROWS, limits.PARQUET_BYTES // 4 // longest))
    batches, unpacked = [], 0
    for read in file.iter_batches(batch_size=at_once, columns=names):
        columns = [each.dictionary_decode() if hasattr(each, "dictionary_decode") else each for each in read.columns]
        batch = pyarrow.RecordBatch.from_arrays(columns, names=read.schema.names)
        unpacked += batch.nbytes
        if unpacked > limits.PARQUET_BYTES:
            raise too_much("the file's columns are too large", path, f"at most {limits.PARQUET_BYTES:,} bytes")
        batches.append(batch)
    return pyarrow.Table.from_batches(batches) if batches else file.schema_arrow.empty_table().select(names)


def _parquet_row(where: str, cells: dict[str, Any], index: int) -> Row:
    try:
        values = {name: column[index].as_py() for name, column in cells.items()}
    except UnicodeDecodeError as error:  # Arrow does not check the strings it reads
        raise DataError(
            "invalid UTF-8", where=where, expected="strings in UTF-8", fix="write the file again"
        ) from error
    return Row(where, {name: value for name, value in values.items() if value is not None})


def _holds_bytes(kind: Any) -> bool:
    """Whether a column holds pictures: bytes, or records with bytes."""
    from pyarrow import types

    if types.is_struct(kind):
        return any(_holds_bytes(kind.field(place).type) for place in range(kind.num_fields))
    return types.is_binary(kind) or types.is_large_binary(kind)
