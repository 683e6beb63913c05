"""Nothing that a process has started, at whatever remove, is left when it says so."""

from __future__ import annotations

import signal
import subprocess
import sys

from deployments.server.descendants import send
from tests.processes import left_after, marked, new_mark, own_environment

# A child, its child in a session of its own, and an orphan in another session: its parent ends at once.
FAMILY = """
import subprocess, sys, time
from deployments.server.descendants import adopt_orphans, descendants, kill_descendants
import os
sleep = "import time; time.sleep(600)"
nested = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {sleep!r}], start_new_session=True)"
adopt_orphans()
quiet = {"start_new_session": True, "stdout": subprocess.DEVNULL}
subprocess.Popen([sys.executable, "-c", nested + "; time.sleep(600)"], **quiet)
subprocess.Popen([sys.executable, "-c", nested], **quiet).wait()
deadline = time.monotonic() + 20
while len(descendants(os.getpid())) < 3 and time.monotonic() < deadline:
    time.sleep(0.02)
print("started", len(descendants(os.getpid())), flush=True)
sys.stdin.readline()
kill_descendants()
print(descendants(os.getpid()), flush=True)
"""


def test_children_sessions_of_their_own_and_orphans_are_all_killed() -> None:
    mark = new_mark()
    command = [sys.executable, "-P", "-c", FAMILY]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, env=own_environment(**mark), stdin=pipe, stdout=pipe, text=True) as parent:
            assert parent.stdin is not None and parent.stdout is not None
            assert parent.stdout.readline() == "started 3\n"
            assert len(marked(mark)) == 4
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline() == "[]\n"
        assert left_after(mark, 0) == {}
    finally:
        send(list(marked(mark)), signal.SIGKILL)


THREADED = """
import os, subprocess, sys, threading, time
from deployments.server.descendants import adopt_orphans, descendants, kill_descendants, send
import signal

adopt_orphans()
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
started = []

def work():
    started.append(subprocess.Popen(sleep, stdout=subprocess.DEVNULL))
    time.sleep(600)  # the child belongs to this thread

threading.Thread(target=work, daemon=True).start()
while not started:
    time.sleep(0.02)
kill_descendants()
print(descendants(os.getpid()) == [], flush=True)
started[0].wait()
send([started[0].pid, os.getpid()], signal.SIGCONT)  # one has ended: the other still gets it
print("done", flush=True)
"""


def test_the_children_of_every_thread_are_killed() -> None:
    mark = new_mark()
    command = [sys.executable, "-P", "-c", THREADED]
    try:
        done = subprocess.run(
            command, env=own_environment(**mark), capture_output=True, text=True, timeout=30, check=False
        )
        assert done.stdout.split() == ["True", "done"], done.stderr
    finally:
        send(list(marked(mark)), signal.SIGKILL)
