"""Runs command lines in processes whose streams are closed, full, gone or of another encoding; imports only once.

`python -m tests.deployments.streams CASES.json`: each case is a child by fork, which ends as the interpreter ends.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, BinaryIO


def main() -> None:
    """Run the cases one after the other, and print what became of each."""
    from deployments import cli  # before the first fork: it is what takes time

    results = []
    for case in json.loads(Path(sys.argv[1]).read_text()):
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if not child:
                become(case, out, err)
                cli.main()
            _, status = os.waitpid(child, 0)
            said = [_all(stream).decode("latin-1") for stream in (out, err)]
            results.append([os.waitstatus_to_exitcode(status), *said])
    json.dump(results, sys.stdout)


def become(case: dict[str, Any], out: BinaryIO, err: BinaryIO) -> None:
    """Make this process what `clipsmith` would be when a shell had started it so."""
    os.environ.update(case["environment"])
    sys.argv = ["clipsmith", *case["command"]]
    for number, name, file in ((1, "stdout", out), (2, "stderr", err)):
        how = case.get(name, "file")
        if how == "closed":
            os.close(number)
            setattr(sys, name, None)
            setattr(sys, f"__{name}__", None)
            continue
        if how == "gone":
            reader, writer = os.pipe()
            os.close(reader)
        else:
            writer = os.open("/dev/full", os.O_WRONLY) if how == "full" else file.fileno()
        os.dup2(writer, number)
        errors = "strict" if name == "stdout" else "backslashreplace"
        stream = io.TextIOWrapper(io.FileIO(number, "w", closefd=False) if name == "stderr" else open(number, "wb"))  # noqa: PTH123, SIM115
        stream.reconfigure(encoding=case.get("encoding", "utf-8"), errors=errors, line_buffering=name == "stderr")
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _all(stream: BinaryIO) -> bytes:
    stream.seek(0)
    return stream.read()


if __name__ == "__main__":
    main()
