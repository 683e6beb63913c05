"""Building one engine in a child process.

If a builder crashes in native code or is killed for lack of memory, only the child dies, and `build_in_child` raises a
typed error. If the parent is killed, the child ends too: its standard input is a pipe from the parent, which never
writes to it.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from artifacts.errors import BuilderCrash, BuildError, StepStopped, StepTimedOut
from tasks.engines import BatchProfile, backend_for
from tasks.runs.step_cost import StepStats, peak_rss_mb
from tasks.runs.step_limit import step_limit_s

_REFUSED = 3
_ROOT = str(Path(__file__).parents[2])
_CODE = "import sys; sys.path.append(sys.argv.pop(1)); from tasks.engines.child import main; main()"
"""Imports these modules also if they are not installed, and never from the working directory."""
_RESULT = "clipsmith-child: "
"""The prefix of the child's result line: native libraries print before it, and at exit after it."""
_lock = threading.Lock()
_running: set[subprocess.Popen[str]] = set()
_stopping = False


class Job(BaseModel):
    """The child's input: absolute paths, the target and the batch profile."""

    onnx: Path
    engine: Path
    target: str
    profile: BatchProfile


def build_in_child(job: Job) -> tuple[StepStats, str]:
    """Run `job` in a fresh Python; return its cost (its own peak memory) and what the builder printed.

    Raises:
        BuildError: the builder refused the graph.
        BuilderCrash: the child died: a signal, out of memory, or no engine left behind.
        StepStopped: the run was told to end, see `builders_stopped`.
        StepTimedOut: it was not done within the run's limit for a step, and was killed.
    """
    job_file = job.engine.with_suffix(".job.json")
    job_file.write_text(job.model_dump_json())
    start = time.perf_counter()
    try:
        with _lifeline() as stdin:
            output, code = _run(job, job_file, stdin)
    except subprocess.TimeoutExpired as error:
        raise StepTimedOut(
            f"the {job.target} builder was not done after {error.timeout:.0f} s, and was killed",
            where=job.onnx.name,
            expected="an engine within the time limit for a step",
            fix="raise `step_minutes`, or build with a smaller profile",
        ) from error
    finally:
        job_file.unlink()
    log, result = _split(output)
    if code == _REFUSED and result is not None:
        raise BuildError(result, where=f"{job.target}, {job.onnx.name}", fix="the builder's own words are above")
    if code != 0 or result is None or not job.engine.is_file():
        raise BuilderCrash(
            f"the {job.target} builder died: {death(code)}",
            where=job.onnx.name,
            expected="an engine",
            fix=f"last output: {log[-2000:] or 'none'}",
        )
    return StepStats(wall_s=round(time.perf_counter() - start, 4), peak_rss_mb=round(float(result), 1)), log


@contextmanager
def builders_stopped() -> Iterator[None]:
    """Inside the block, kill all builders and start no new ones, in all threads, so that a cancelled run ends soon."""
    global _stopping
    with _lock:
        _stopping = True
        for child in _running:
            child.kill()
    try:
        yield
    finally:
        _stopping = False


def _run(job: Job, job_file: Path, stdin: int) -> tuple[str, int]:
    """Run the child; return its output and its exit code."""
    with _lock:
        if _stopping:
            raise _stopped(job)
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, _ROOT, str(job_file)],
            env={**os.environ, **backend_for(job.target).environment()},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        _running.add(child)
    with child:
        try:
            output, _ = child.communicate(timeout=step_limit_s())
        except BaseException:
            child.kill()
            raise
        finally:
            with _lock:
                _running.discard(child)
    if _stopping:
        raise _stopped(job)
    return output, child.returncode


def _stopped(job: Job) -> StepStopped:
    return StepStopped(f"the {job.target} build was stopped", where=job.onnx.name, fix="run it again")


@contextmanager
def _lifeline() -> Iterator[int]:
    """The reading end of a pipe that is closed when this process ends."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _split(output: str) -> tuple[str, str | None]:
    """Split the child's output into the builder's output and the child's result (None if there is none)."""
    results = [line.removeprefix(_RESULT) for line in output.splitlines() if line.startswith(_RESULT)]
    log = "\n".join(line for line in output.splitlines() if not line.startswith(_RESULT))
    return log.strip(), results[-1] if results else None


def death(code: int) -> str:
    """How a child with this exit code ended, in words."""
    if code == -signal.SIGKILL:
        return "killed (SIGKILL), most likely out of memory"
    if code < 0:
        return f"killed by {signal.Signals(-code).name} in native code"
    return f"exit code {code}"


def main() -> None:
    """The child process: build, then print its peak memory in MiB, or why the builder refused."""
    end_with_parent()
    job = Job.model_validate_json(Path(sys.argv[1]).read_text())
    try:
        backend_for(job.target).build(job.onnx, job.engine, job.target, job.profile)
    except BuildError as error:
        _report(" ".join(error.what.split()))
        sys.exit(_REFUSED)
    _report(str(peak_rss_mb()))


def end_with_parent() -> None:
    """Let the kernel end this process (by SIGIO) when the pipe is closed: a builder in native code runs no Python."""
    pipe = sys.stdin.fileno()
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it is closed already
        sys.exit("the parent is gone")


def _report(result: str) -> None:
    print(f"\n{_RESULT}{result}", flush=True)
