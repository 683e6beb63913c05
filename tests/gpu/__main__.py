"""`python -m tests.gpu`: the packages first, then `tests.gpu.command`, whose imports need them."""

from __future__ import annotations

import sys

from tests.gpu.needs import PACKAGES, missing, told


def main() -> int | str:
    """The command's exit code, or the line that names what is missing, which `sys.exit` makes 1."""
    lacking = missing(PACKAGES)
    if lacking:
        return told(lacking)
    from tests.gpu import command

    return command.main()


if __name__ == "__main__":
    sys.exit(main())
