"""What the tests of commands share: running one in this process, and a small store of releases made without a model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from artifacts.manifest import GateResult, Manifest, Row
from artifacts.store.store import Store
from deployments import cli
from deployments.commands.options import SCHEMA
from tests.artifacts.conftest import accuracy_rows, build_manifest, coverage_rows
from tests.artifacts.support import add, files_of, sealed
from tests.error_documents import without_error

Call = Callable[..., tuple[int, str, str]]
MODEL = "openai--clip-vit-large-patch14"


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """`call("show", ref)`: exit code, stdout and stderr of the command, run in this process.

    With --json the document has its schema; that of an error is held to stderr here, and taken off stdout.
    """

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["clipsmith", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
            raise SystemExit(0)
        code, (out, err) = int(stopped.value.code or 0), capsys.readouterr()
        assert not out or "--json" not in arguments or json.loads(out)["schema"] == SCHEMA
        return code, without_error(out, err) if code and "--json" in arguments else out, err

    return run


def gate(name: str, status: Any, version: int) -> GateResult:
    """What the gate found on the first row of that version's release."""
    value = accuracy(version)[0]["value"]
    return GateResult(name=name, status=status, min=0.9, value=value, metric="cosine_mean", encoder="image")


def accuracy(version: int) -> list[Row]:
    return [
        row | {"value": float(row["value"] or 0) - version / 1e5} if row["metric"] == "cosine_mean" else row
        for row in accuracy_rows()
    ]


def release(
    store: Store, version: int, *gates: GateResult, model: str = MODEL, sizes: bool = True, **changes: Any
) -> Manifest:
    """Put a realistic release of one object into the store; what is measured depends on the version.

    Its sizes are those of files that it does not have: without `sizes` it is what it says, as other stores ask.
    """
    ref = add(store, b"graph %d" % (version % 2), "fp8.onnx")
    tables = {"accuracy": accuracy(version), "coverage": coverage_rows(3, version % 2 == 0)} | (
        {} if sizes else {"sizes": []}
    )
    base = build_manifest(measured=True, tables=tables)
    names = {"model": model, "version": version, "sequence": len(list(store.root.glob("releases/*/*.json"))) + 1}
    content = {"created": f"2026-01-0{version}T02:14:09Z", "gates": gates}
    made = sealed(base.model_copy(update={**names, **content, "files": files_of(ref), **changes}))
    assert store.insert(made)
    return made


@pytest.fixture
def releases(store: Store) -> list[Manifest]:
    """Three releases of one model in `store`: accepted, rejected, and one with an undecided gate."""
    return [
        release(store, 1, gate("min_cosine_mean", "passed", 1)),
        release(store, 2, gate("min_cosine_mean", "failed", 2), gate("max_size_ratio", "passed", 2)),
        release(store, 3, gate("min_cosine_mean", "undecided", 3)),
    ]
