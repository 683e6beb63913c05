"""How a child tells the benchmark what it cost: its last line of output. Needs nothing but Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PREFIX = "bench-child: "
"""What that line starts with; libraries print lines of their own."""


def report(**values: Any) -> None:
    """Print the peak resident memory of this process so far in MB (10^6 bytes), and `values`. Call it last.

    proc(5): VmHWM belongs to the address space, which exec replaces; `ru_maxrss` would inherit the parent's.
    """
    status = Path("/proc/self/status").read_text()
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    print(f"\n{PREFIX}{json.dumps({'peak_mb': kib * 1024 / 1e6, **values})}", flush=True)
