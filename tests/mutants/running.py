"""A copy of a checkout, in which one mutant at a time is put, tested and taken out again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.mutants import witness
from tests.mutants.catalogue import Mutant
from tests.mutants.finding import TOPS, Checkout, Unfit

Result = Literal["caught", "survived", "error"]
_LEFT_OUT = (".git", ".venv*", ".clipsmith", "__pycache__", ".*_cache", ".hypothesis", "*.egg-info", "build", "dist")
_PLUGIN = "clipsmith_mutants_witness"
_OPTIONS = ("-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-p", _PLUGIN, "-c", "pyproject.toml")
_NO_CATCH = ("SyntaxError", "ImportError", "ModuleNotFoundError", "NameError")
"""What a mutant must not be red for: it would be one that nobody could have committed."""


@dataclass(frozen=True)
class Run:
    """What became of one run of pytest; `code` is None where it was not done in time."""

    code: int | None
    passed: int
    red: str | None
    reason: str
    seconds: float
    last_words: str


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant; `red` is the first test that failed, `detail` what it said, or why there is none."""

    name: str
    symbol: str
    file: str
    tests: tuple[str, ...]
    result: Result
    red: str | None
    detail: str
    seconds: float


class Copy:
    """A copy of `root` in `work`, tested with the interpreter `python`."""

    def __init__(self, root: Path, work: Path, python: str) -> None:
        self._python = python
        self._home = work / "tree"
        self._beside = work / "beside"
        self._temporary = work / "tmp"
        shutil.copytree(root, self._home, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        self._beside.mkdir()
        self._temporary.mkdir()
        shutil.copyfile(witness.__file__, self._beside / f"{_PLUGIN}.py")
        self.checkout = Checkout(self._home)
        self._check_imports()

    def try_out(self, mutant: Mutant, limit_s: float) -> Outcome:
        """Put a mutant in, run its tests, and take it out."""
        about: dict[str, Any] = {"name": mutant.name, "symbol": mutant.symbol, "tests": mutant.tests}
        try:
            file, source = self.checkout.mutated(mutant)
            tests = self.checkout.tests(mutant)
        except Unfit as error:
            return Outcome(**about, file="", result="error", red=None, detail=str(error), seconds=0.0)
        with _changed(self._home / file, source):
            run = self.run(tests, limit_s, first_only=True)
        result, detail = _judge(run, limit_s)
        return Outcome(
            **about, file=file.as_posix(), result=result, red=run.red, detail=detail, seconds=round(run.seconds, 1)
        )

    def run(self, tests: Sequence[str], limit_s: float, *, first_only: bool) -> Run:
        """Run tests of the copy; with `first_only` they end with the first that fails."""
        report, log = self._beside / "report.json", self._beside / "log.txt"
        report.unlink(missing_ok=True)
        command = [self._python, "-m", "pytest", *_OPTIONS, *(["-x"] if first_only else []), "-m", "not heavy", *tests]
        start = time.perf_counter()
        with log.open("wb") as stream:
            environment = self._environment() | {witness.REPORT: str(report)}
            child = subprocess.Popen(
                command, cwd=self._home, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )
            try:
                code = child.wait(limit_s)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                if child.poll() is None:  # all that it has started goes with it
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        seconds = time.perf_counter() - start
        seen = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
        assert not seen.get("strangers"), f"imported from elsewhere than the copy: {seen['strangers']}"
        words = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        return Run(code, seen.get("passed", 0), seen.get("red"), seen.get("reason", ""), seconds, "".join(words))

    def _check_imports(self) -> None:
        """Make sure that children of the tests, too, import the copy and not what is installed."""
        code = (
            f"import {', '.join(TOPS)}; print(*(m.__file__ or m.__path__[0] for m in ({', '.join(TOPS)})), sep='\\n')"
        )
        done = subprocess.run(
            [self._python, "-P", "-c", code],
            cwd=self._temporary,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        places = [Path(line).resolve() for line in done.stdout.splitlines()]
        home = self._home.resolve()
        assert len(places) == len(TOPS) and all(place.is_relative_to(home) for place in places), places

    def _environment(self) -> dict[str, str]:
        """The copy comes before what is installed. No bytecode: a mutant that is as long as what it replaces, within
        the same second, would not be seen. Temporary files, Prefect's home among them, are this copy's own."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
        return kept | {
            "PYTHONPATH": f"{self._home}{os.pathsep}{self._beside}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(self._temporary),
        }


@contextmanager
def _changed(path: Path, source: str) -> Iterator[None]:
    before = path.read_bytes()
    path.write_text(source, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)


def _judge(run: Run, limit_s: float) -> tuple[Result, str]:
    """By pytest's exit code: 1 says that tests failed; others, but for 0, that they did not come to it."""
    if run.code == 0:
        return "survived", ""
    if run.code is None:
        return "error", f"not done within {limit_s:g} s"
    if run.code != 1 or run.red is None:
        return "error", f"pytest ended with {run.code}: {run.last_words}"
    if run.reason.startswith(_NO_CATCH):
        return "error", f"no mutant but a mistake: {run.reason}"
    return "caught", run.reason
