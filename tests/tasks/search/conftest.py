"""The small CLIP of `support`, traced once and prepared without outliers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tasks.search.support import Prepared, Weights, base_weights, prepare, traced


@pytest.fixture(scope="session")
def skeletons(session_folder: Path) -> dict[Any, Any]:
    """Both encoders; do not change them."""
    return traced(session_folder)


@pytest.fixture(scope="session")
def plain(skeletons: dict[Any, Any], tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """The model without outliers; do not change it."""
    return prepare(base_weights(), tmp_path_factory.mktemp("plain"), skeletons)


@pytest.fixture
def prepared_with(skeletons: dict[Any, Any], tmp_path: Path) -> Callable[[Weights], Prepared]:
    """`prepared_with(weights)`: the same architecture with other weights."""
    return lambda weights: prepare(weights, tmp_path, skeletons)
