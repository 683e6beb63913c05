"""The gate on FP8: of an FP8 row's matrix products, how much must have been seen to run in FP8."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["passed", "failed", "unverifiable"]
MIN_FP8_SHARE = 0.9


def judge(precision: str, share: float | None, least: float) -> Verdict | None:
    """An FP8 row's verdict by the share (0 to 1) of its products that ran in FP8; None for other precisions.

    `unverifiable` where nothing tells the share: not a failure of the engine, and no proof either.
    """
    if precision != "fp8":
        return None
    if share is None:
        return "unverifiable"
    return "passed" if share >= least else "failed"


def is_rejected(verdict: Verdict | None) -> bool:
    """Whether FP8 was asked for and not proven."""
    return verdict in ("failed", "unverifiable")
