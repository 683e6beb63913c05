"""Installs what tests need of the distribution, where that is possible."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_LIMIT_S = 300


def install(package: str) -> None:
    """Install a Debian package when this is root and there is apt-get; who calls looks whether it is there.

    Test processes take turns: apt-get refuses to run twice at once.
    """
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    with (Path(tempfile.gettempdir()) / "clipsmith-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", package]):
            environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
            subprocess.run(
                ["apt-get", "-o", f"DPkg::Lock::Timeout={_LIMIT_S}", *command],
                capture_output=True,
                check=False,
                timeout=_LIMIT_S,
                env=environment,
            )
