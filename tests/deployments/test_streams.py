"""Whatever becomes of its streams, and whatever its terminal is said to be, a command ends as it would have ended.

People get a line, programs JSON, and nobody a traceback. A few real processes are in `test_last_resort.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.store.store import Store
from tests.deployments.conftest import MODEL
from tests.processes import own_environment

ROOT = Path(__file__).parents[2]
Ended = tuple[int, str, str]
Run = Callable[..., list[Ended]]
SURROGATES = os.fsdecode(b"\xff\xfe")
GOOD = {
    "releases": ["releases"],
    "show": ["show", MODEL],
    "show as JSON": ["show", MODEL, "--json"],
    "diff": ["diff", f"{MODEL}@1", f"{MODEL}@3"],
    "aliases": ["aliases"],
    "verify": ["verify"],
    "gc": ["gc", "--dry-run"],
    "history": ["history", "--model", MODEL, "--out", "history"],
    "models": ["models"],
    "data": ["data", "digits", "--limit", "30"],
    "help": ["--help"],
}
BAD = {
    "no such release": (["show", "none"], 2),
    "no such release, undecodable": (["show", SURROGATES], 2),
    "no such store": (["releases", "--store", f"none{SURROGATES}\x1b[2J"], 2),
    "no such model": (["optimize", f"./none{SURROGATES}[bold]"], 2),
    "no gates": (["judge", MODEL, "--gates", "none.yaml"], 2),
    "no model to search for": (["search", "./none", "--gate", "min_cosine_mean=0.9"], 2),
    "no archive": (["unpack", f"none{SURROGATES}.tar"], 2),
    "a folder in use": (["export", MODEL, "."], 2),
    "no key": (["sign", MODEL, "--key", f"none{SURROGATES}"], 2),
    "no such option": (["show", f"--none{SURROGATES}\x1b[2J"], 2),
    "no such command": ([f"none{SURROGATES}"], 2),
}
CODES = dict.fromkeys(GOOD, 0) | {name: code for name, (_, code) in BAD.items()}
COMMANDS = GOOD | {name: command for name, (command, _) in BAD.items()}


@pytest.fixture
def run(store: Store, releases: list[Any], tmp_path: Path) -> Run:
    """`run({"command": [...], "stdout": "closed"}, ...)`: exit code, stdout and stderr of each case."""
    del releases  # they are in the store
    environment = own_environment(CLIPSMITH_STORE=str(store.root), PYTHONPATH=str(ROOT), HOME=str(tmp_path))
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state"), "PREFECT_HOME": str(tmp_path / "prefect")}

    def run_all(*cases: dict[str, Any]) -> list[Ended]:
        file = tmp_path / "cases.json"
        file.write_text(json.dumps([{"environment": {}} | case for case in cases]))
        command = [sys.executable, "-m", "tests.deployments.streams", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "state").exists(), "a traceback was kept"
        return [
            (code, out.encode("latin-1").decode(), err.encode("latin-1").decode())
            for code, out, err in json.loads(done.stdout)
        ]

    return run_all


HOWS: list[dict[str, str]] = [{}, {"stdout": "full"}, {"stdout": "gone"}, {"stderr": "full"}, {"stdout": "closed"}]
HOWS += [{"stderr": "closed"}, {"stderr": "gone"}, {"encoding": "ascii"}, {"stdout": "closed", "stderr": "closed"}]
MANY = {"releases", "show as JSON", "verify", "no such release, undecodable"}
"""These meet every kind of stream; the others an output that is full, which is lost or was not needed."""


def test_streams(run: Run) -> None:
    cases = [(name, how) for name in COMMANDS for how in (HOWS if name in MANY else HOWS[1:2])]
    found = run(*({"command": COMMANDS[name]} | how for name, how in cases))
    plain: dict[str, Ended] = {}
    for (name, how), ended in zip(cases, found, strict=True):
        if name in MANY:
            check(how, ended, plain.setdefault(name, ended), as_json="--json" in COMMANDS[name])
        else:
            check(how, ended, (CODES[name], "" if CODES[name] else "something", ""), as_json=False)
        assert CODES[name] in (0, ended[0]), (name, ended)


def check(how: dict[str, str], ended: Ended, plain: Ended, *, as_json: bool) -> None:
    """What is lost is the output; the exit code says so unless it says worse."""
    (code, out, err), said = ended, (how, ended)
    assert not any(word in err for word in ("Traceback", "Exception ignored", "unexpected error")), said
    assert "\x1b" not in out + err, said
    lost = how.get("stdout") in ("full", "gone") and plain[1]
    assert code == (plain[0] or 1 if lost else plain[0]), said
    if how.get("stdout") == "full":
        assert err.count("OutputLost: ") == (1 if lost and not plain[0] else 0), said
    elif "stderr" not in how and "encoding" not in how:
        assert err == plain[2], said
    if "encoding" in how:
        assert out.isascii() and err.isascii(), said
        if as_json:
            assert json.loads(out) == json.loads(plain[1]), said


def test_terminals(run: Run) -> None:
    environment = {"TERM": "dumb", "NO_COLOR": "1", "LINES": "abc"}
    cases = [(name, columns) for columns in ("0", "abc", "9" * 10) for name in ("show", "no such option")]
    found = run(
        *({"command": COMMANDS[name], "environment": environment | {"COLUMNS": columns}} for name, columns in cases)
    )
    for (name, _), (code, out, err) in zip(cases, found, strict=True):
        assert code == CODES[name] and "Traceback" not in err
        assert max(map(len, (out + err).splitlines())) < 1000
