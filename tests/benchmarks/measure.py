"""What a child process costs, from its start to its exit."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.children.report import PREFIX

ROOT = Path(__file__).resolve().parents[2]


class ChildFailed(Exception):
    """A measured process did not do its work; the message carries the end of what it printed."""


@dataclass(frozen=True)
class Cost:
    """One process, or several one after the other: wall and processor time in seconds, peak memory in MB (10^6).

    `elsewhere` is how many cores were busy with other work meanwhile: wall time means little unless it is about 0.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    elsewhere: float
    reported: dict[str, Any] = field(default_factory=dict)

    def then(self, other: Cost) -> Cost:
        """Both in a row: times add up, the larger peak counts."""
        peak, elsewhere = max(self.peak_mb, other.peak_mb), max(self.elsewhere, other.elsewhere)
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, peak, elsewhere)


@dataclass(frozen=True)
class Series:
    """The same process, measured several times."""

    costs: list[Cost]

    @property
    def wall_s(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(cost.wall_s for cost in self.costs)

    @property
    def cpu_s(self) -> float:
        """Median processor time in seconds."""
        return statistics.median(cost.cpu_s for cost in self.costs)

    @property
    def peak_mb(self) -> float:
        """Median peak resident memory in MB."""
        return statistics.median(cost.peak_mb for cost in self.costs)

    @property
    def elsewhere(self) -> float:
        """The most cores that were busy with other work during a run."""
        return max(cost.elsewhere for cost in self.costs)

    def range_of(self, name: str) -> tuple[float, float]:
        """Smallest and largest `wall_s`, `cpu_s` or `peak_mb`."""
        values = [getattr(cost, name) for cost in self.costs]
        return min(values), max(values)


def run_child(python: Path, module: str, *arguments: object) -> Cost:
    """Run `tests.benchmarks.children.MODULE` and measure it.

    Raises:
        ChildFailed: it died, or did not report.
    """
    # What was written before is not this child's to wait for.
    os.sync()
    before, machine_before = _children_cpu(), _machine_cpu()
    start = time.perf_counter()
    done = subprocess.run(
        [python, "-m", f"tests.benchmarks.children.{module}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    wall = time.perf_counter() - start
    cpu = _children_cpu() - before
    elsewhere = max(0.0, _machine_cpu() - machine_before - cpu) / wall
    lines = [line.removeprefix(PREFIX) for line in done.stdout.splitlines() if line.startswith(PREFIX)]
    if done.returncode != 0 or not lines:
        command = " ".join(map(str, (module, *arguments)))
        raise ChildFailed(f"{command}: exit code {done.returncode}\n{done.stdout[-3000:]}")
    reported = json.loads(lines[-1])
    return Cost(wall, cpu, reported.pop("peak_mb"), elsewhere, reported)


def _children_cpu() -> float:
    """Processor seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _machine_cpu() -> float:
    """Processor seconds that the machine has worked since it started: proc(5), all of /proc/stat's `cpu` but idling."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
