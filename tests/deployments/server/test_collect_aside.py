"""An event loop that shares SQLite's connections with threads does not stand still when garbage is collected."""

from __future__ import annotations

import select
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import own_environment

# Like Prefect's server: one transaction holds the write lock, another connection's statement waits for it in a thread,
# and a cursor of that connection is in a cycle of which nobody knows. Prints how long the loop took to free the lock,
# whether the waiting statement was carried out, and whether the cycle was found.
LOOP = """
import asyncio, gc, sqlite3, sys, threading, time, weakref
from deployments.server.collect_aside import collect_aside
if sys.argv[2] == "aside":
    collect_aside()

def connect():
    return sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None, check_same_thread=False)

class Cycle: pass

async def main():
    first, second = connect(), connect()
    first.execute("CREATE TABLE t (x)")
    cycle = Cycle()
    cycle.itself, cycle.cursor = cycle, second.execute("SELECT 1")
    found = weakref.ref(cycle)
    first.execute("BEGIN IMMEDIATE")
    waiting = asyncio.create_task(asyncio.to_thread(second.execute, "INSERT INTO t VALUES (1)"))
    await asyncio.sleep(0.5)
    del cycle
    begun = time.monotonic()
    kept = [[] for _ in range(100_000)]  # more than enough for a collection
    await asyncio.sleep(1)
    first.execute("COMMIT")
    took = time.monotonic() - begun
    refused = await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(1)
    print(round(took, 1), isinstance(refused[0], sqlite3.OperationalError), found() is None)

asyncio.run(main())
"""


@pytest.mark.parametrize(("where", "stands_still"), [("aside", False), ("on the loop", True)])
def test_the_loop_goes_on(where: str, stands_still: bool, tmp_path: Path) -> None:
    """Where it collects on the loop it stands still until SQLite gives up, here after 5 s: the test would see it."""
    command = [sys.executable, "-P", "-c", LOOP, str(tmp_path / "data"), where]
    done = subprocess.run(command, env=own_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    took, refused, found = done.stdout.split()
    assert (float(took) > 3) == stands_still
    assert (refused, found) == (str(stands_still), "True")


SERVER = """
import gc, socket, sys, threading, time
from deployments.server import api_process

def report():
    while gc.isenabled() or gc.get_freeze_count() == 0:
        time.sleep(0.1)
    print("aside", flush=True)

threading.Thread(target=report, daemon=True).start()
listener = socket.create_server(("127.0.0.1", 0))
sys.argv = ["", str(listener.detach())]
api_process.main()
"""


def test_the_server_collects_aside(tmp_path: Path) -> None:
    environment = own_environment(PREFECT_HOME=str(tmp_path / "prefect"))
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-P", "-c", SERVER], env=environment, stdin=pipe, stdout=pipe, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        ready, _, _ = select.select([server.stdout], [], [], 120)
        line = server.stdout.readline() if ready else "it still collects on the loop"
        server.stdin.close()  # it ends with its parent
    assert line == "aside\n"
