"""A lock between the processes that share a Prefect home."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from artifacts.locks import wait


@contextmanager
def home_lock(name: str) -> Iterator[None]:
    """Hold the lock `name` of the current Prefect home; the folder is created if it does not exist."""
    from prefect.settings import get_current_settings

    home = get_current_settings().home
    home.mkdir(parents=True, exist_ok=True)
    path = home / f"clipsmith-{name}.lock"
    with path.open("a") as lock:
        wait(lock.fileno(), path, "the Prefect home, which another process is changing")
        yield
