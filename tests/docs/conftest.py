"""Commands are run in this process, as in the tests of the commands; a store with two releases of the demo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.manifest import GateResult
from artifacts.store.store import Store
from tests.artifacts.support import sealed
from tests.deployments.conftest import call

__all__ = ["call"]

CopyDemo = Callable[[Path], Path]


@pytest.fixture
def two_releases(demo_store: Path) -> CopyDemo:
    """`two_releases(root)`: the demo's store and in it `demo@2`: another torch and top-1, an undecided gate."""

    def copy(root: Path) -> Path:
        store = Store.open(Path(shutil.copytree(demo_store, root)))
        first = store.find("demo@1")
        rows = tuple(
            row | {"value": float(row["value"] or 0) - 0.01} if row["metric"] == "top1" else row
            for row in first.tables["accuracy"]
        )
        packages = first.provenance.packages | {"torch": "9.9.9"}
        about = {"packages": packages, "parameters": first.provenance.parameters | {"gates": None}}
        provenance = first.provenance.model_copy(update=about)
        gate = GateResult(name="max_top1_drop", status="undecided", max=0.01, metric="top1", samples=500, needed=9000)
        changes = {"version": 2, "sequence": 2, "provenance": provenance, "gates": (gate,)}
        changes |= {"tables": first.tables | {"accuracy": rows}}
        assert store.insert(sealed(first.model_copy(update=changes)))
        return root

    return copy
