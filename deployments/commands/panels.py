"""How `clipsmith --help` groups the commands: by what people do."""

from __future__ import annotations

MAKE = "Make"
LOOK = "Look"
COMPARE = "Compare"
RELEASE = "Release"
KEEP = "Keep"
SERVE = "Serve"
RUN = "Run"
