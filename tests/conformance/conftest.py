"""Sound checkpoints of every family, made once, and what transformers makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from artifacts.store.store import Store, activate
from tests.conformance import oracle
from tests.conformance.folders import checkpoint


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`sound(name)`: a checkpoint's folder; do not change it."""

    @cache
    def make(name: str) -> Path:
        return checkpoint(name, tmp_path_factory.mktemp("sound") / name)

    return make


@pytest.fixture(scope="session")
def plain(sound: Callable[[str], Path]) -> Callable[[str], dict[str, np.ndarray]]:
    """`plain(name)`: its embeddings by transformers alone."""

    @cache
    def make(name: str) -> dict[str, np.ndarray]:
        return oracle.embeddings(sound(name))

    return make


@pytest.fixture
def active(store: Store) -> Iterator[Store]:
    """The test's own store, active."""
    with activate(store):
        yield store
