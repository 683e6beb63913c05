"""Times in records: ISO 8601 with a time zone."""

from __future__ import annotations

import datetime
import re
from typing import Annotated

from pydantic import AfterValidator

_FORM = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})")


def check_time(text: str) -> str:
    """Return `text` if it is a time with a zone, such as 2026-01-01T00:00:00+00:00, else raise ValueError."""
    if not _FORM.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is no time in ISO 8601 with a zone, as 2026-01-01T00:00:00+00:00")
    try:  # also in UTC, where 0001-01-01 of a zone east of it, or 9999-12-31 west of it, is out of Python's range
        datetime.datetime.fromisoformat(text).astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is no time: {error}") from error
    return text


IsoTime = Annotated[str, AfterValidator(check_time)]
