"""What a step costs: seconds and peak memory. Without Prefect, so that a builder's process need not import it."""

from __future__ import annotations

import resource
from contextlib import suppress
from pathlib import Path

from artifacts.models import Frozen


class StepStats(Frozen):
    """What a step cost when it ran: wall time in seconds and peak resident memory in MiB.

    `device` is what computed, a GPU's name or `cpu`; None for builders, which choose themselves. For a step that
    processes samples, `samples_per_s` is measured from the first request for a sample to the end of the last one's
    processing, and `waited` is the share of that time spent waiting for samples.
    """

    wall_s: float
    peak_rss_mb: float
    device: str | None = None
    samples_per_s: float | None = None
    waited: float | None = None


def peak_rss_mb() -> float:
    """The peak resident memory of this process in MiB, since its start or the last reset.

    It is not `ru_maxrss`, which a child inherits from its parent across fork and exec.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
