"""Processes that decode pictures for this process, in which Python's global lock would limit decoding to a few cores.

The first process imports the modules and then forks the others, which is fast and shares memory. Each has a connection
to the process that wants the pictures, and ends when that process closes the connection or dies.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from artifacts.errors import DecoderCrash
from tasks.data.base import Encoded
from tasks.data.loading import Loaded, Loader

_ROOT = str(Path(__file__).parents[2])
_CODE = "import sys; sys.path.append(sys.argv.pop(1)); from tasks.data.decoders import main; main()"
"""Imports these modules also if they are not installed, and never from the working directory."""
_END_S = 30.0
_SHOWN = 1000
"""How many bytes of a dead process's last output are shown."""


class Decoders:
    """Running processes; each call of `load`, from any thread, is answered by one of them."""

    def __init__(self, connections: Sequence[Connection], log: IO[bytes]) -> None:
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._log = log
        for connection in connections:
            self._idle.put(connection)

    def load(self, encoded: Encoded) -> Loaded:
        """Call `Loader.load_encoded` in one of the processes: it returns the result, or raises the same error.

        Raises:
            DecoderCrash: the process died on this picture.
        """
        connection = self._idle.get()
        try:
            connection.send(encoded)
            answer = connection.recv()
        except (EOFError, OSError) as error:
            raise self._crash(encoded.where) from error
        finally:
            self._idle.put(connection)  # also after a crash, so that no other caller waits for ever
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Loaded)
        return answer

    def _crash(self, where: str) -> DecoderCrash:
        size = os.fstat(self._log.fileno()).st_size
        said = os.pread(self._log.fileno(), _SHOWN, max(0, size - _SHOWN)).decode(errors="replace").strip()
        return DecoderCrash(
            "a process that decodes pictures died",
            where=where,
            expected="an answer",
            fix=f"look for a lack of memory, or leave the picture out; last output: {said or 'none'}",
        )


@contextmanager
def decoders(loader: Loader, count: int) -> Iterator[Decoders]:
    """`count` processes that load pictures with `loader`; they end with the block."""
    pairs = [Pipe() for _ in range(count)]
    ours, theirs = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    numbers = [connection.fileno() for connection in theirs]
    with tempfile.TemporaryFile() as log:
        first = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, _ROOT, *map(str, numbers)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            pass_fds=numbers,
        )
        try:
            for connection in theirs:
                connection.close()
            assert first.stdin is not None
            try:
                with first.stdin:
                    pickle.dump(loader, first.stdin)
            except BrokenPipeError:  # it died at once: the first `load` will raise
                pass
            yield Decoders(ours, log)
        finally:
            for connection in ours:
                connection.close()
            try:
                first.wait(_END_S)
            except subprocess.TimeoutExpired:
                first.kill()
                first.wait()


def main() -> None:
    """The first process: read the loader, import what it needs, fork the others and wait for them.

    The command-line arguments are the file descriptors of the connections. Ctrl-C is ignored: the process that wants
    the pictures handles it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connections = [Connection(int(number)) for number in sys.argv[1:]]
    loader: Loader = pickle.load(sys.stdin.buffer)
    _warm_up(loader)
    for connection in connections:
        if os.fork() == 0:
            for other in connections:
                if other is not connection:
                    other.close()
            _serve(loader, connection)
            os._exit(0)
    for connection in connections:
        connection.close()  # so that the death of its process closes it
    for _ in connections:
        os.wait()


def _warm_up(loader: Loader) -> None:
    """Process one picture, so that libraries import now what they import on first use."""
    from PIL import Image

    try:
        loader.load(Image.new("RGB", (96, 96)), "")
    except Exception:  # noqa: BLE001 - the first real picture will raise it again
        return


def _serve(loader: Loader, connection: Connection) -> None:
    try:
        while True:
            encoded: Encoded = connection.recv()
            answer: Any
            try:
                answer = loader.load_encoded(encoded)
            except Exception as error:  # noqa: BLE001 - it is sent to the caller and raised there
                answer = error.with_traceback(None)
            connection.send(answer)
    except (EOFError, OSError):  # the other side has closed the connection
        return
