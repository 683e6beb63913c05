"""The name of the current user, for histories that people read: a claim, not a proof (signatures are proofs)."""

from __future__ import annotations

import getpass
import socket


def current_user() -> str:
    """`user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user id without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
