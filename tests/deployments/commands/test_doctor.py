"""`clipsmith doctor`: what is there, what is missing and what to do, and whether the main job can run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import NoServer
from artifacts.exit_codes import ExitCode
from artifacts.manifest import Manifest
from artifacts.store.store import Store
from deployments.commands import checkup
from deployments.server import asking
from tasks.device import gpu, gpu_state
from tasks.engines import tensorrt
from tests.deployments.conftest import Call
from tests.deployments.server.conftest import told

__all__ = ["told"]
Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]
NAMES = ["Python", "packages", "locked", "GPU", "targets", "store", "space", "port 4200", "server"]


@pytest.fixture
def doctor(call: Call, told: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    """`doctor("--store", DIR)`: the exit code, and the checks by name; without a server, and with the port free."""
    told(PREFECT_HOME=str(tmp_path / "home"))
    monkeypatch.setattr(asking, "listener", lambda _: "nothing")
    monkeypatch.setattr(checkup, "CONSTRAINTS", tmp_path / "constraints.txt")
    (tmp_path / "constraints.txt").write_text(f"pydantic=={metadata.version('pydantic')}\nof-another-machine==1\n")

    def run(*arguments: object) -> tuple[int, dict[str, dict[str, Any]]]:
        given = arguments or ("--store", tmp_path / "store")
        code, out, err = call("doctor", *given, "--json")
        assert err == ""
        document = json.loads(out)
        assert document["able"] == (code == ExitCode.DONE)
        return code, {each["name"]: each for each in document["checks"]}

    return run


def test_a_machine_that_can_run(doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt.TensorRtRtx, "why_not_build", lambda *_: None)
    code, found = doctor()
    assert (code, list(found)) == (ExitCode.DONE, NAMES)
    assert all(
        found[name]["ok"] and found[name]["next"] is None
        for name in NAMES
        if found[name]["needed"] and name != "server"
    )
    assert (found["server"]["ok"], found["server"]["needed"]) == (False, False)
    assert found["locked"]["ok"] and "none yet" in found["store"]["found"]
    assert not (tmp_path / "store").exists(), "looking makes no store"


@pytest.mark.usefixtures("doctor")
def test_for_people_a_line_each_and_the_sum(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tensorrt.TensorRtRtx, "why_not_build", lambda *_: None)
    code, out, _ = call("doctor", "--store", tmp_path / "s")
    lines = out.splitlines()
    assert code == ExitCode.DONE and lines[-1] == "`clipsmith optimize` can run here"
    assert max(len(line) for line in lines if str(tmp_path) not in line) <= 100
    assert [line for line in lines if line.startswith("ok      Python")]
    monkeypatch.setattr(tensorrt.TensorRtRtx, "why_not_build", lambda *_: "it is not installed")
    code, out, _ = call("doctor", "--store", tmp_path / "s")
    assert code == ExitCode.FAILED and out.splitlines()[-1] == "`clipsmith optimize` cannot run here: targets"
    assert "next: it is not installed; or leave out trtrtx-sm89, trtrtx-sm120" in out


def test_packages_that_are_missing_or_of_another_version(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ["pydantic>=2", "typer<0.1", "no-such-package>=1", "s3fs ; extra == 's3'", "other ; python_version < '3'"]
    monkeypatch.setattr(checkup.metadata, "requires", lambda _: asked)
    code, found = doctor()
    assert code == ExitCode.FAILED and not found["packages"]["ok"]
    said = f"missing: no-such-package; other versions: typer {metadata.version('typer')} (needs <0.1)"
    assert found["packages"]["found"] == said
    assert found["packages"]["next"] == f"pip install -c {checkup.CONSTRAINTS} 'typer<0.1' 'no-such-package>=1'"
    checkup.CONSTRAINTS.unlink()
    assert doctor()[1]["packages"]["next"] == "pip install 'typer<0.1' 'no-such-package>=1'"


def test_a_package_that_a_check_itself_needs(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tasks.engines.available", None)
    code, found = doctor()
    assert (code, list(found)) == (ExitCode.FAILED, NAMES), "the others go on"
    assert found["targets"]["found"].startswith("cannot be looked at: ") and found["targets"]["next"]


def test_a_version_that_is_not_the_locked_one_is_told_and_no_obstacle(doctor: Doctor) -> None:
    checkup.CONSTRAINTS.write_text("pydantic==1.0\nno-such-package==1\n")
    _, found = doctor()
    locked = found["locked"]
    assert (locked["ok"], locked["needed"]) == (False, False)
    assert locked["found"] == f"pydantic {metadata.version('pydantic')} (locked 1.0)"
    checkup.CONSTRAINTS.unlink()
    assert "locked" not in doctor()[1]


def test_another_python(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkup.platform, "python_version", lambda: "3.9.1")
    code, found = doctor()
    assert (code, found["Python"]["ok"]) == (ExitCode.FAILED, False)
    assert found["Python"]["next"].startswith("make the environment anew with a Python ")


def test_a_gpu_and_its_driver(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu_count", lambda: 2)
    monkeypatch.setattr(gpu, "gpu_name", lambda: "NVIDIA H200")
    monkeypatch.setattr(gpu, "gpu_capability", lambda: "sm90")
    monkeypatch.setattr(gpu_state, "driver_version", lambda: "580.1")
    assert doctor()[1]["GPU"]["found"] == "NVIDIA H200 (sm90) and 1 more, driver 580.1"


def test_stores(doctor: Doctor, store: Store, releases: list[Manifest], tmp_path: Path) -> None:
    assert doctor("--store", store.root)[1]["store"]["found"] == f"{store.root}: format 1, 3 releases"
    (store.root / "releases" / releases[0].model / "1.json").chmod(0o600)
    (store.root / "releases" / releases[0].model / "1.json").write_text("{}")
    found = doctor("--store", store.root)[1]["store"]
    assert found["found"].endswith("2 releases, 1 damaged") and not found["ok"] and not found["needed"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    for place, words in ((tmp_path / "mine", "no clipsmith store"), (Path("/proc/store"), "cannot be written")):
        code, checks = doctor("--store", place)
        assert code == ExitCode.FAILED and words in checks["store"]["found"] and checks["store"]["next"]


def test_a_disk_that_is_nearly_full(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = checkup.shutil.disk_usage("/")._replace(free=2_000_000)
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: usage)
    space = doctor()[1]["space"]
    assert (space["ok"], space["found"].startswith("2 MB free at ")) == (False, True)
    assert "ViT-B/32 may need 5," in space["next"]


@pytest.mark.parametrize(("answer", "ok"), [("prefect", True), ("other", False)])
def test_what_is_at_the_port(answer: str, ok: bool, doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "listener", lambda port: answer if port == 4200 else "nothing")
    port = doctor()[1]["port 4200"]
    assert (port["ok"], port["needed"], "--port 4201" in (port["next"] or "")) == (ok, False, not ok)


@pytest.mark.parametrize(
    ("workers", "ok", "words"),
    [(("w1", "w2"), True, "w1, w2"), ((), False, "none is at work"), (None, False, "there is no pool clipsmith")],
)
def test_a_server_and_its_workers(
    workers: tuple[str, ...] | None, ok: bool, words: str, doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "ask_server", lambda _: asking.Server("http://host/api", "3.8.8", workers))
    _, found = doctor()
    assert found["server"]["ok"] and found["server"]["found"] == "Prefect 3.8.8 at http://host/api"
    assert (found["worker"]["ok"], found["worker"]["needed"]) == (ok, False) and words in found["worker"]["found"]


def test_a_server_that_is_named_and_does_not_answer(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise NoServer("it does not answer", where="PREFECT_API_URL=http://x/api", fix="start it")

    monkeypatch.setattr(asking, "ask_server", refuse)
    code, found = doctor()
    assert (code, found["server"]["next"]) == (ExitCode.FAILED, "start it")
    assert found["server"]["found"] == "it does not answer (PREFECT_API_URL=http://x/api)"
