"""Small immutable records on disk: canonical JSON that carries its own digest, so that any changed bit is noticed."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from artifacts.errors import BadName, ClipsmithError
from artifacts.refs import canonical_json, digest_json

_DIGEST = "digest"
_RESTORE = "restore the file from a copy of the store (`clipsmith pull`), or make it again"
Record = TypeVar("Record", bound=BaseModel)


def dump(record: BaseModel) -> bytes:
    """Canonical JSON with its own digest; `parse(type(r), dump(r), ...) == r`."""
    content = record.model_dump(mode="json")
    return canonical_json(content | {_DIGEST: digest_json(content)})


def parse(cls: type[Record], data: bytes, *, where: object, error: type[ClipsmithError], what: str) -> Record:
    """Read a record back.

    Raises:
        `error`: not JSON, duplicate keys, NaN, other fields than the record's, or not in canonical form; `what` is
            how the message names it ("the manifest").
    """
    try:
        content = load_strictly(data)
        content.pop(_DIGEST, None)
        record = cls.model_validate(content)
        canonical = dump(record)
    except (ValueError, TypeError, AttributeError, RecursionError, ValidationError, BadName) as problem:
        raise error(
            f"{what} cannot be read: {problem}",
            where=where,
            expected="canonical JSON as clipsmith writes it",
            fix=_RESTORE,
        ) from problem
    if canonical != data:  # the digest is part of the canonical form
        raise error(
            f"{what} does not match its own digest: it was edited or damaged",
            where=where,
            expected="the bytes clipsmith wrote",
            fix=_RESTORE,
        )
    return record


def load_strictly(data: bytes | str) -> Any:
    """JSON without the two things that Python's reader lets through: duplicate keys, and NaN or Infinity.

    Raises:
        ValueError: not such JSON.
    """
    return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_refuse)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"duplicate key among {sorted(keys)[:5]}")
    return dict(pairs)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
