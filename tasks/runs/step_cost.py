"""What a step costs: seconds and peak memory. Knows no Prefect, so that a builder's process can tell it without."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from artifacts.models import Frozen


class StepStats(Frozen):
    """What a step cost when it ran: wall time in seconds and peak resident memory in MiB.

    `device` is what computed, a GPU's name or `cpu`; None of builders, which use what they find. Of a step that samples
    go through, `samples_per_s` counts them from the first that was asked for to the last that was worked on, and
    `waited` is the share of that time in which it waited for them.
    """

    wall_s: float
    peak_rss_mb: float
    device: str | None = None
    samples_per_s: float | None = None
    waited: float | None = None


def peak_rss_mb() -> float:
    """The largest resident memory of this process in MiB, since its start or the last reset.

    Not `ru_maxrss`: a child inherits its parent's across fork and exec.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
