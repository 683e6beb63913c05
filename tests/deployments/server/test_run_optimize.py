"""How a flow is run from the command line: where a night's variants are made."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deployments.server import run_optimize
from flows import nightly as module
from flows.nightly import NightlyParameters


@pytest.mark.parametrize(
    ("names", "at_once", "shared_by"),
    [([], 1, None), ([], 2, 2), ([], 64, 3), (["a", "b"], 64, 2), (["a"], 4, None)],
    ids=["one at a time", "as asked", "no more than there are", "no more than are named", "one alone"],
)
def test_variants_share_the_cores_with_no_more_than_there_are(
    names: list[str], at_once: int, shared_by: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One alone is made in this process, with all cores."""
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.yaml").write_text("{}\n")
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(run_optimize, "_run", lambda load, _: load())
    before = module.processes.get()
    try:
        run_optimize.run_nightly(NightlyParameters(variants=names, at_once=at_once))
        apart: Any = module.processes.get()
        share = None if apart is None else 12 // int(apart._environment["OMP_NUM_THREADS"])
    finally:
        module.processes.set(before)
    assert share == shared_by
