"""`python -m tests.faults.clock_child STORE YEARS STEP...`: steps in a process whose clock is years off."""

from __future__ import annotations

import datetime
import sys
import time
from pathlib import Path
from typing import Any

SHIFT_S = float(sys.argv[2]) * 365.25 * 86400
_time, _time_ns, _datetime = time.time, time.time_ns, datetime.datetime


class _Shifted(_datetime):
    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return _datetime.now(tz) + datetime.timedelta(seconds=SHIFT_S)


time.time = lambda: _time() + SHIFT_S
time.time_ns = lambda: _time_ns() + int(SHIFT_S * 1e9)
datetime.datetime = _Shifted  # type: ignore[misc]

from artifacts.keeping.promotion import promote, rollback  # noqa: E402
from artifacts.store.garbage import collect  # noqa: E402  (the clock comes first)
from artifacts.store.store import Store  # noqa: E402
from tests.faults.support import publish  # noqa: E402


def main(store: Store, steps: list[str]) -> None:
    for step in steps:
        what, _, argument = step.partition(" ")
        match what:
            case "publish":
                print(publish(store, "a", argument).ref)
            case "promote":
                print(promote(store, argument, "production").after.created)
            case "rollback":
                print(rollback(store, "a", "production").after.ref)
            case "collect":
                store.close()
                print(",".join(collect(store, keep=int(argument), wait_s=5).releases))


main(Store.open(Path(sys.argv[1])), sys.argv[3:])
