"""A builder that dies, or refuses, or says too much, becomes a typed error in the parent."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import BuilderCrash, BuildError, StepStopped, StepTimedOut
from tasks.engines import BatchProfile
from tasks.engines.child import _RESULT, Job, build_in_child, builders_stopped
from tasks.runs.step_limit import step_limit
from tests.processes import left_after, marked, new_mark
from tests.wording import refusal

PYTHON = sys.executable  # tests replace it
LEAVE_ENGINE = """
import json, pathlib, sys
job = json.loads(pathlib.Path(sys.argv[-1]).read_text())
pathlib.Path(job["engine"]).write_bytes(b"engine")
"""

# A builder that stays in native code and does not let go of the interpreter.
STUCK = """
import ctypes, pathlib, sys, tasks.engines.child as child
sys.argv[1:] = sys.argv[-1:]

class Stuck:
    def build(self, *_):
        pathlib.Path({begun!r}).touch()
        ctypes.PyDLL(None).sleep(600)

child.backend_for = lambda _target: Stuck()
child.main()
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "m.onnx").write_bytes(b"")
    return Job(onnx=tmp_path / "m.onnx", engine=tmp_path / "e.engine", target="onnxruntime", profile=BatchProfile())


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let `code` run in place of the child's program; it sees the same environment, with the job file as argument."""

    def install(code: str) -> None:
        (tmp_path / "program.py").write_text(code)
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{tmp_path / "program.py"}" "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return install


def left_over(job: Job) -> list[str]:
    return [path.name for path in job.engine.parent.glob("*.json")]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.abort()", "SIGABRT in native code"),
        ("import ctypes; ctypes.string_at(0)", "SIGSEGV in native code"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "out of memory"),
        ("import sys; sys.exit(7)", "exit code 7"),
        (f"print('{_RESULT}12.5')", "exit code 0"),
        (LEAVE_ENGINE, "exit code 0"),
        ("import sys; sys.exit(3)", "exit code 3"),
        ("raise RuntimeError('unexpected')", "unexpected"),
    ],
    ids=["abort", "segfault", "kill", "exit", "no engine", "no result", "no reason", "exception"],
)
def test_death_is_a_builder_crash(code: str, words: str, job: Job, impostor: Any) -> None:
    impostor(code)
    with pytest.raises(BuilderCrash, match=words) as caught:
        build_in_child(job)
    assert "onnxruntime" in str(caught.value) and "m.onnx" in str(caught.value)
    assert not left_over(job)


def test_a_crash_after_the_engine_was_written_is_a_crash(job: Job, impostor: Any) -> None:
    impostor(f"{LEAVE_ENGINE}\nimport os; print('{_RESULT}12.5', flush=True); os.abort()")
    with pytest.raises(BuilderCrash, match="SIGABRT"):
        build_in_child(job)


def test_last_words_are_kept(job: Job, impostor: Any) -> None:
    impostor("import sys, os; print('the last words', file=sys.stderr, flush=True); os.abort()")
    with pytest.raises(BuilderCrash, match="the last words"):
        build_in_child(job)


def test_output_that_is_not_text(job: Job, impostor: Any) -> None:
    impostor("import sys, os; sys.stdout.buffer.write(bytes(range(128, 256))); sys.stdout.flush(); os.abort()")
    with pytest.raises(BuilderCrash, match="SIGABRT"):
        build_in_child(job)


def test_refusal_is_a_build_error_with_the_builders_words(job: Job) -> None:
    """The real child, the real ONNX Runtime, an empty file."""
    with refusal(BuildError, "onnxruntime, m.onnx") as caught:
        build_in_child(job)
    assert not isinstance(caught.value, BuilderCrash)
    assert not job.engine.exists() and not left_over(job)


def test_success_gives_cost_and_log(job: Job, impostor: Any) -> None:
    impostor(f"print('first'); print('second'){LEAVE_ENGINE}print('{_RESULT}123.4')")
    stats, log = build_in_child(job)
    assert log == "first\nsecond"
    assert stats.peak_rss_mb == 123.4 and stats.wall_s > 0
    assert not left_over(job)


def test_words_at_exit_do_not_hide_the_result(job: Job, impostor: Any) -> None:
    """Native libraries print when they are unloaded, after everything else."""
    impostor(f"{LEAVE_ENGINE}print('{_RESULT}123.4')\nprint('[W] unloading')")
    stats, log = build_in_child(job)
    assert stats.peak_rss_mb == 123.4
    assert "[W] unloading" in log


def test_a_builder_that_is_not_done_within_the_limit_is_killed(job: Job, impostor: Any, tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    impostor(f"import os, pathlib, time; pathlib.Path({str(noted)!r}).write_text(str(os.getpid())); time.sleep(600)")
    start = time.monotonic()
    with step_limit(3), refusal(StepTimedOut, "m.onnx") as caught:
        build_in_child(job)
    assert time.monotonic() - start < 30
    assert "m.onnx" in str(caught.value) and "step_minutes" in str(caught.value)
    with pytest.raises(ProcessLookupError):
        os.kill(int(noted.read_text()), 0)
    assert not left_over(job)


def test_the_child_builds_a_real_engine_and_reports_its_own_memory(demo_graph: Any, tmp_path: Path) -> None:
    job = Job(
        onnx=demo_graph("text", "fp8"), engine=tmp_path / "e.engine", target="onnxruntime", profile=BatchProfile()
    )
    stats, _ = build_in_child(job)
    assert job.engine.stat().st_size > 100_000
    assert 10 < stats.peak_rss_mb < 2000


def test_a_builder_does_not_outlive_its_parent(job: Job, impostor: Any, tmp_path: Path) -> None:
    impostor(STUCK.format(begun=str(tmp_path / "begun")))
    code = f"""
import sys
sys.executable = {sys.executable!r}
from tasks.engines.child import Job, build_in_child, builders_stopped
build_in_child(Job.model_validate_json({job.model_dump_json()!r}))
"""
    mark = new_mark()
    parent = subprocess.Popen([PYTHON, "-c", code], env=os.environ | mark)
    while not (tmp_path / "begun").exists():
        assert parent.poll() is None
        time.sleep(0.05)
    assert len(marked(mark)) == 2
    parent.kill()
    parent.wait()
    assert not left_after(mark, 1)


def test_a_run_that_is_told_to_end_does_not_wait_for_its_builders(
    job: Job, impostor: Callable[[str], None], tmp_path: Path
) -> None:
    impostor(f"import pathlib, time; pathlib.Path({str(tmp_path / 'begun')!r}).touch(); time.sleep(600)")
    with ThreadPoolExecutor(1) as pool:
        building = pool.submit(build_in_child, job)
        while not (tmp_path / "begun").exists():
            assert not building.done()
            time.sleep(0.02)
        with builders_stopped():
            with pytest.raises(StepStopped):
                building.result(20)
            with pytest.raises(StepStopped):  # nor does another one begin
                build_in_child(job)
    assert left_over(job) == []
    (tmp_path / "program.py").write_text(f"{LEAVE_ENGINE}\nprint('{_RESULT}12.5')")
    assert build_in_child(job)[0].peak_rss_mb == 12.5  # a later run builds again
