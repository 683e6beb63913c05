"""The journal of a search: its measurements, one line of JSON each, so that a killed search can be continued."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from artifacts.errors import ConfigError


class Journal:
    """A file of records by kind and key; `search` is the digest of everything that the records depend on.

    Raises (on opening):
        ConfigError: the file belongs to another search, or is not a journal.
    """

    def __init__(self, path: Path, search: str) -> None:
        self._path = path
        self._found: dict[tuple[str, str], Any] = {}
        whole = b""
        if path.exists():
            whole = self._read(path.read_bytes(), search)
        # A line that a kill has cut off is removed before more is appended.
        with path.open("wb" if not whole else "r+b") as stream:
            stream.truncate(len(whole))
        if not whole:
            self._append({"search": search})

    def get(self, kind: str, key: str) -> Any:
        """The recorded value, or None."""
        return self._found.get((kind, key))

    def put(self, kind: str, key: str, value: Any) -> None:
        """Record a value durably."""
        self._append({"kind": kind, "key": key, "value": value})
        self._found[kind, key] = value

    def _append(self, record: dict[str, Any]) -> None:
        with self._path.open("ab") as stream:
            stream.write(json.dumps(record, allow_nan=True).encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _read(self, content: bytes, search: str) -> bytes:
        """Read the complete lines, and return their bytes."""
        whole = content[: content.rfind(b"\n") + 1]
        try:
            records = [json.loads(line) for line in whole.splitlines()]
            if records and records[0]["search"] != search:
                raise ConfigError(
                    "this is the journal of another search",
                    where=self._path,
                    expected="the same model, data, gates, recipe, seed and versions as when it was begun",
                    fix="repeat that search with its own parameters, delete the journal, or give another --out",
                )
            self._found = {(r["kind"], r["key"]): r["value"] for r in records[1:]}
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"this is no journal of a search: {error!r}",
                where=self._path,
                expected="a file that `clipsmith search` wrote",
                fix="delete it, or give another --out",
            ) from error
        return whole
