"""Checks of a calibrated amax table against the weights that it is for."""

from __future__ import annotations

from artifacts.errors import BadAmax


def require_largest(quantizer: str, found: float, recorded: float | None) -> None:
    """Check that the largest amax of a weight's channels is the one in the table.

    Raises:
        BadAmax: it is not.
    """
    if found != recorded:
        raise BadAmax(
            f"the largest weight that {quantizer} sees is {found}, and the amax table says {recorded}",
            where=quantizer.rpartition(".")[0],
            expected="the table of these weights",
            fix="calibrate again",
        )
