"""The groups of commands in `clipsmith --help`."""

from __future__ import annotations

MAKE = "Make"
LOOK = "Look"
COMPARE = "Compare"
RELEASE = "Release"
KEEP = "Keep"
SERVE = "Serve"
RUN = "Run"
