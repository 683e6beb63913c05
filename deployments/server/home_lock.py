"""Turns among the processes that share a Prefect home."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def home_lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of the current Prefect home, which is made where there is none yet."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    with (home / f"clipsmith-{name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
