"""A run whose release a gate rejects, as a user sees it: the release is there, and the exit code is 3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store
from deployments.printing import show
from tests.deployments.conftest import Call


def test_a_rejected_release_is_printed_and_the_command_exits_with_3(
    clipsmith: Callable[..., Any],
    call: Call,
    demo_store: Path,
    demo_document: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Path(shutil.copytree(demo_store, tmp_path / "store"))
    config = tmp_path / "gates.yaml"
    config.write_text("gates: {min_cosine_mean: 0.9999, max_top1_drop: 0.02, max_size_ratio: null}\n")
    done = clipsmith("optimize", "demo", "--config", config, "--store", store, "--json")
    assert done.code == 3, done.err
    document = done.document
    assert (document["ref"], document["status"], document["new"]) == ("demo@2", "rejected", True)
    assert [(gate["name"], gate["status"]) for gate in document["gates"]] == [
        ("min_cosine_mean", "failed"),
        ("min_cosine_mean", "failed"),
        ("max_top1_drop", "passed"),
        ("max_top1_drop", "passed"),
        ("above_chance", "passed"),
    ]
    for name in demo_document["tables"].keys() - {"stages"}:  # what resolving took differs
        assert document["tables"][name] == demo_document["tables"][name]
    (error,) = [part for part in done.err.split("\n") if part.startswith("GateFailed: ")]
    assert error == "GateFailed: demo@2 is published as rejected"
    listed = json.loads(call("releases", "--store", store, "--json")[1])["releases"]
    assert [(release["ref"], release["status"], release["gates"]) for release in listed] == [
        ("demo@2", "rejected", {"failed": 2, "passed": 3}),
        ("demo@1", "accepted", {"passed": 4}),
    ]
    opened = Store.open(store, writable=False)
    show.print_release(opened.find("demo@2"), opened, new=False)
    printed = capsys.readouterr().out
    assert "demo@2 (unchanged: published before)" in printed
    assert "nothing new" not in printed, "that is the error's to say"
    assert "Gates: rejected" in printed and "at least 0.9999" in printed
