"""P2, P6: the power fails after any operation, and whatever of what was not flushed survives, the store is sound.

`tests/faults/power.py` is the disk, `power_checks.py` is what must be true.
"""

from __future__ import annotations

import pytest

from tests.faults.power_checks import PAIRS, check_pair, check_whole_life


def test_power_loss_after_every_operation() -> None:
    count = check_whole_life()
    print(f"\npower loss: {count}")
    assert count.moments > 400


@pytest.mark.parametrize("pair", PAIRS)
def test_power_loss_after_a_second_process_went_on(pair: str) -> None:
    """A process is killed at any operation and another goes on: what that one promises must not rest on luck."""
    count = check_pair(pair)
    print(f"\n{pair}: {count}")
    assert count.moments > 5
