"""The gate on FP8: the share of an FP8 row's matrix products that must provably have run in FP8."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["passed", "failed", "unverifiable"]
MIN_FP8_SHARE = 0.9


def judge(precision: str, share: float | None, least: float) -> Verdict | None:
    """The verdict on an FP8 row by the share (0 to 1) of its products that ran in FP8; None for other precisions.

    It is `unverifiable` if the share is unknown: that is neither a failure of the engine nor a proof.
    """
    if precision != "fp8":
        return None
    if share is None:
        return "unverifiable"
    return "passed" if share >= least else "failed"


def is_rejected(verdict: Verdict | None) -> bool:
    """Whether FP8 was asked for but not proven."""
    return verdict in ("failed", "unverifiable")
