"""Python's cyclic garbage collector in a thread of its own, for a process whose event loop must not wait for it.

An SQLite cursor that is part of a reference cycle (the traceback of a failed statement makes one) is reset when the
collector finds it. The reset waits while another statement of its connection waits for the database's write lock.
If the collector runs on the loop's thread, nothing else runs meanwhile, not even the commit that would free the lock:
Prefect's server stood still until SQLite's busy time-out of 60 s (native stack: `gc_collect_main`, `cursor_clear`,
`sqlite3_reset`, `pthread_mutex_lock`). In another thread, the reset waits without holding the interpreter's lock.
"""

from __future__ import annotations

import gc
import itertools
import threading
import time

_YOUNG_S = 1.0
_YOUNG_PER_FULL = 60  # a full collection of a busy server took 0.1 s, and 0.8 s without freezing permanent objects
_YOUNG_GENERATION = 1


def collect_aside() -> None:
    """From now on, collect only in a daemon thread. Objects that exist now are frozen: they are never collected."""
    gc.disable()
    gc.freeze()
    threading.Thread(target=_collect, name="garbage collector", daemon=True).start()


def _collect() -> None:
    for done in itertools.count(1):
        time.sleep(_YOUNG_S)
        if done % _YOUNG_PER_FULL:
            gc.collect(_YOUNG_GENERATION)
        else:
            gc.collect()
