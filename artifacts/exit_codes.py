"""What a command's exit code says: the one table. `docs/exit-codes.md` shows it, and a test compares the two."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    FAILED = 1
    WRONG_INPUT = 2
    GATE = 3


MEANINGS: dict[ExitCode, str] = {
    ExitCode.DONE: "A release was published and accepted, or the command did what was asked.",
    ExitCode.FAILED: "Anything else: a step failed, a check found damage, the machine or a service was in the way.",
    ExitCode.WRONG_INPUT: (
        "The input is wrong, and that was told before anything was computed: parameters, paths, data, references, the "
        "store, targets, or a model that is refused."
    ),
    ExitCode.GATE: (
        "A gate: a release is rejected, no recipe meets the gates, or FP8 was asked for and not proven to run."
    ),
}
