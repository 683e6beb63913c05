"""Small immutable records on disk: canonical JSON that carries its own digest, so that any changed bit is noticed."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from artifacts import limits
from artifacts.errors import ClipsmithError, TableError
from artifacts.limits import Limits
from artifacts.refs import canonical_json, digest_json

_DIGEST = "digest"
_SHOWN = 240  # characters of a message that may repeat what a stranger wrote
_RESTORE = "restore the file from a copy of the store (`clipsmith pull`), or make it again"
Record = TypeVar("Record", bound=BaseModel)


def dump(record: BaseModel) -> bytes:
    """Canonical JSON with its own digest; `parse(type(r), dump(r), ...) == r`."""
    content = record.model_dump(mode="json")
    return canonical_json(content | {_DIGEST: digest_json(content)})


def parse(
    cls: type[Record],
    data: bytes,
    *,
    where: object,
    error: type[ClipsmithError],
    what: str,
    limit: Limits = limits.RECORD,
    check: Callable[[dict[str, Any]], None] | None = None,
) -> Record:
    """Read a record back. The size is checked first; then `check` may refuse (raise for) the parsed content.

    `what` is how the message names the record ("the manifest").

    Raises:
        `error`: too large, not JSON, duplicate keys, NaN, other fields than the record's, or not in canonical form.
    """
    try:
        refuse_large(data, limit)
        content = load_strictly(data)
        content.pop(_DIGEST, None)
        if check is not None:
            check(content)
        record = cls.model_validate(content)
        canonical = dump(record)
    except (ValueError, TypeError, AttributeError, RecursionError, ValidationError, ClipsmithError) as problem:
        raise error(
            f"{what} cannot be read: {in_a_line(problem)}",
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


def refuse_large(data: bytes, limit: Limits) -> None:
    """Count a record's bytes and values before it is parsed. Raises: ValueError: more than the limit."""
    if len(data) > limit.bytes:
        raise ValueError(f"it is larger than {limit.bytes:,} bytes")
    values = data.count(b",") + data.count(b"[") + data.count(b"{")
    if values > limit.values:
        raise ValueError(f"it may hold {values:,} values, more than {limit.values:,}")


def read_bytes(path: Path, limit: Limits = limits.RECORD) -> bytes:
    """The bytes of a record's file; of a file that is too large, just enough bytes for `parse` to refuse it.

    Raises:
        FileNotFoundError.
        OSError: it cannot be read, or is not a plain file (opening a pipe would block).
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a plain file", str(path))
        return stream.read(min(limit.bytes, found.st_size) + 1)


def came_refused(kind: str, name: str, why: str, *, expected: str) -> TableError:
    """The error about a file called `name` that came with a release and is not used."""
    return TableError(
        f"{kind} that came with a release is refused: {why}",
        where=name,
        expected=expected,
        fix="do not use this release; ask whoever made it what it is",
    )


def in_a_line(problem: Exception) -> str:
    """The first complaint in one line, shortened: an untrusted record may cause a million complaints of any length."""
    text = problem.what if isinstance(problem, ClipsmithError) else str(problem)
    if isinstance(problem, ClipsmithError) and problem.where is not None:
        text = f"{text} ({problem.where})"
    if isinstance(problem, ValidationError):
        first = problem.errors(include_url=False, include_context=False, include_input=False)[0]
        more = problem.error_count() - 1
        place = ".".join(map(str, first["loc"]))
        text = f"{place}: {first['msg']}" + (f" (and {more:,} more)" if more else "")
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def load_strictly(data: bytes | str) -> Any:
    """JSON without the two things that Python's reader lets through: duplicate keys, and NaN or Infinity.

    Raises:
        ValueError: not such JSON.
    """
    return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_refuse)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"duplicate key among {[key[:40] for key in sorted(keys)[:5]]}")
    return dict(pairs)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
