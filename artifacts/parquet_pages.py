"""The page headers of a Parquet file. A header says how many bytes its page unpacks to, and readers trust it.

Headers are Thrift structures in the compact protocol (parquet.thrift, `PageHeader`). The pages themselves are not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_BLOCK = 1 << 10  # bytes that are read for a header: it has 20, and more only with statistics
_LARGEST_BLOCK = 1 << 16
_STRUCT, _STOP = 12, 0
_DATA, _INDEX, _DICTIONARY, _DATA_V2 = 0, 1, 2, 3
_HEADER_OF = {_DATA: 5, _INDEX: 6, _DICTIONARY: 7, _DATA_V2: 8}
_DEPTH = 8
Fields = dict[int, "int | Fields"]


class Page(NamedTuple):
    """One page: its bytes unpacked and in the file (both with its header), and its number of values or entries."""

    unpacked: int
    packed: int
    values: int
    dictionary: bool


def pages(stream: BinaryIO, start: int, end: int) -> Iterator[Page]:
    """The pages between two places of a file.

    Raises:
        ValueError: the bytes there are not a sequence of pages that ends at `end`.
    """
    while start < end:
        fields, size = _header(stream, start, end)
        unpacked, packed, kind = (_whole(fields, field) for field in (2, 3, 1))
        about = fields.get(_HEADER_OF.get(kind, 0), {})
        if min(unpacked, packed) < 0 or not isinstance(about, dict) or kind not in _HEADER_OF:
            raise ValueError("a page header that is none")
        values = 0 if kind == _INDEX else _whole(about, 1)
        if values < 0:
            raise ValueError("a page counts below zero")
        yield Page(size + unpacked, size + packed, values, kind == _DICTIONARY)
        start += size + packed
    if start != end:
        raise ValueError("a page reaches beyond its column")


def _whole(fields: Fields, field: int) -> int:
    value = fields.get(field)
    if not isinstance(value, int):
        raise ValueError("a page header lacks a field")
    return value


def _header(stream: BinaryIO, start: int, end: int) -> tuple[Fields, int]:
    """The fields of the header at `start`, and its size in bytes."""
    block = _BLOCK
    while True:
        stream.seek(start)
        data = stream.read(min(block, end - start))
        try:
            reader = _Compact(data)
            return reader.struct(0), reader.place
        except IndexError:
            if block >= min(_LARGEST_BLOCK, end - start):
                raise ValueError("a page header without an end") from None
            block *= 8


class _Compact:
    """The part of Thrift's compact protocol that page headers need; IndexError if the bytes end too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def struct(self, depth: int) -> Fields:
        """A structure by field number: whole numbers and structures; anything else is passed over."""
        if depth > _DEPTH:
            raise ValueError("a page header is nested too deep")
        fields: Fields = {}
        number = 0
        while (head := self._byte()) != _STOP:
            kind, step = head & 15, head >> 4
            number = number + step if step else self._zigzag()
            value = self._value(kind, depth)
            if value is not None:
                if number in fields:
                    raise ValueError("a page header has a field twice")
                fields[number] = value
        return fields

    def _value(self, kind: int, depth: int) -> int | Fields | None:
        if kind in (1, 2):  # true and false have no bytes
            return None
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind not in (3, 7, 8):  # byte, double, binary; lists and maps are in no page header
            raise ValueError("a page header with a field of an odd type")
        length = {3: 1, 7: 8}.get(kind) or self._varint()
        self.place += length
        if self.place > len(self.data):
            raise IndexError
        return None

    def _byte(self) -> int:
        value = self.data[self.place]
        self.place += 1
        return value

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("a page header with a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
