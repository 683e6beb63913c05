"""Nothing that a process has started, at whatever remove, is left when it says so."""

from __future__ import annotations

import subprocess
import sys

from tests.processes import left_after, marked, new_mark, own_environment

# A child, its child in a session of its own, and an orphan in another session: its parent ends at once.
FAMILY = """
import subprocess, sys, time
from deployments.descendants import adopt_orphans, descendants, kill_descendants
import os
sleep = "import time; time.sleep(600)"
nested = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleep!r}], start_new_session=True)"
adopt_orphans()
subprocess.Popen([sys.executable, "-c", nested + "; time.sleep(600)"], start_new_session=True)
subprocess.Popen([sys.executable, "-c", nested], start_new_session=True).wait()
while len(descendants(os.getpid())) < 3:
    time.sleep(0.02)
print("started", flush=True)
sys.stdin.readline()
kill_descendants()
print(descendants(os.getpid()), flush=True)
"""


def test_children_sessions_of_their_own_and_orphans_are_all_killed() -> None:
    mark = new_mark()
    command = [sys.executable, "-P", "-c", FAMILY]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=own_environment(**mark), stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin is not None and parent.stdout is not None
        assert parent.stdout.readline() == "started\n"
        assert len(marked(mark)) == 4
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "[]\n"
    assert left_after(mark, 0) == {}
