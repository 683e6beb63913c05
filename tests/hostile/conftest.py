"""A workshop for bad inputs, the command that must refuse them, and a good graph to be broken."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store, activate
from deployments import cli
from deployments.server.embedded_api import EmbeddedApi
from tests.flows.keyed import KeyedRunner, compute
from tests.hostile.support import Bad, Workshop, check_nothing_left, check_output
from tests.made_once import traced_once


@pytest.fixture
def shop(tmp_path: Path, small_clip: Path) -> Workshop:
    """Bad things are made in `tmp_path`, or from a small random CLIP."""
    return Workshop(tmp_path, small_clip)


@pytest.fixture
def refuse(shop: Workshop, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[[Bad], None]:
    """`refuse(bad)`: run the command in this process, and make sure that it fails as it should and leaves nothing.

    Steps are called without Prefect, which tells nothing of what is refused and takes a second each time; with it run
    `refuse_as_a_user` and the tests of the flows.
    """
    import flows.optimize as flow

    monkeypatch.setattr(flow, "PrefectRunner", lambda _minutes: KeyedRunner({}, compute))
    monkeypatch.setattr(flow, "tag_run", lambda *_: None)
    monkeypatch.setattr(flow, "optimize", flow.optimize.fn)
    monkeypatch.setattr(EmbeddedApi, "start", lambda: None)

    def run(bad: Bad) -> None:
        store = bad.store or shop.root / "store"
        before = _outside(shop.root, store)
        for name, value in bad.environment.items():
            monkeypatch.setenv(name, value)
        arguments = ["clipsmith", "optimize", *map(str, bad.arguments), "--store", str(store), "--json"]
        monkeypatch.setattr(sys, "argv", arguments)
        monkeypatch.setattr(logging, "raiseExceptions", False)  # Prefect's handler still has an earlier test's stderr
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capfd.readouterr()
        check_output(bad, stopped.value.code, out, err)
        check_nothing_left(store)
        assert _outside(shop.root, store) == before

    return run


@pytest.fixture
def refuse_as_a_user(shop: Workshop, clipsmith: Callable[..., Any]) -> Callable[[Bad], None]:
    """`refuse`, with the installed command in a process of its own."""

    def run(bad: Bad) -> None:
        store = bad.store or shop.root / "store"
        done = clipsmith("optimize", *bad.arguments, "--store", store, "--json", **bad.environment)
        check_output(bad, done.code, done.out, done.err)
        if (store / "store.json").exists():
            listed = clipsmith("releases", "--store", store, "--json").document
            assert listed == {"schema": 1, "releases": [], "damaged": []}
        check_nothing_left(store)

    return run


def _outside(root: Path, store: Path) -> list[Path]:
    return [path for path in sorted(root.rglob("*")) if store not in (path, *path.parents)]


@pytest.fixture
def active(tmp_path: Path) -> Iterator[Store]:
    """An empty store, active for the test; at its end nothing may be published or left unfinished."""
    with activate(Store.open(tmp_path / "active")) as store:
        yield store
    check_nothing_left(store.root)


# --- a good graph ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def text_skeleton(session_folder: Path) -> Any:
    """The demo's text encoder, traced once; do not change it."""
    from tasks.demo import SNAPSHOT
    from tasks.families import family_named
    from tasks.graph.tracing import trace

    config = json.loads((SNAPSHOT / "config.json").read_text())
    return traced_once(session_folder, trace, family_named("clip"), config, "text")


@pytest.fixture(scope="session")
def good_onnx(text_skeleton: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's text encoder in FP16, one file; do not change it."""
    return _write(text_skeleton, tmp_path_factory.mktemp("onnx") / "fp16.onnx")


@pytest.fixture
def external_onnx(text_skeleton: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same with its weights in `fp16.onnx.data` beside it, free to be broken."""
    from tasks.graph import writer

    monkeypatch.setattr(writer, "SINGLE_FILE_LIMIT", 0)
    folder = tmp_path / "object"
    folder.mkdir()
    return _write(text_skeleton, folder / "fp16.onnx")


def _write(skeleton: Any, path: Path) -> Path:
    from tasks.clip.weights import WeightReader
    from tasks.demo import SNAPSHOT
    from tasks.graph.writer import write_onnx

    write_onnx(skeleton, WeightReader([SNAPSHOT / "model.safetensors"]), path, {})
    return path
