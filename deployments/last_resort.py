"""The end of a command in all cases, also if a stream fails or an error is unexpected.

People see one line, and with --json programs get a document. The traceback of an error that is none of ours goes to a
file that only its user can read.
"""

from __future__ import annotations

import errno
import io
import os
import platform
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, TextIO, cast

from artifacts.errors import ClipsmithError, ConfigError, NotPermitted, OutputLost
from artifacts.exit_codes import ExitCode
from artifacts.inert import visible
from deployments.commands.options import print_json
from deployments.printing.console import print_error, stderr

Code = str | int | None
KEPT = 20
"""How many logs are kept, the newest."""
INTERRUPTED = 130
"""The exit code that shells expect of a command that was ended by Ctrl-C; Typer uses the same."""
_LONGEST = 300  # characters of a message of another library
_SHOWN = 60  # characters of a path that is too long


def run(command: Callable[[], object]) -> None:
    """Run the command line, and end the process with its exit code.

    Raises:
        SystemExit: always.
    """
    prepare_streams()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        cast("TextIO", kind(stream)) for kind, stream in zip((_Output, _Errors), before, strict=True)
    )
    code: Code = ExitCode.DONE
    try:
        command()
    except SystemExit as end:
        code = end.code
    except ClipsmithError as error:
        code = _told(error)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the last place where it can be reported in one line)
        code = _tell(error)
    code = _flushed(code)
    if isinstance(sys.stdout, _Output):
        sys.stdout, sys.stderr = before
    sys.exit(code)


def prepare_streams() -> None:
    """Make sure that the three standard streams are open and accept any text, and that the terminal width is sensible.

    If a standard stream were closed, the next opened file would get its number, and everything printed would go there.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if not re.fullmatch("[1-9][0-9]{1,3}", os.environ.get("COLUMNS", "80")):
        del os.environ["COLUMNS"]  # rich would draw boxes of that width, a billion characters
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (for the process's life)
        elif isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def write_log(error: BaseException) -> Path | None:
    """Write the error's traceback to a file and return its path; None if no folder can be written."""
    said = "".join(traceback.format_exception(error))
    about = f"clipsmith {version('clipsmith')}, Python {platform.python_version()}, {platform.platform()}"
    text = "\n".join([time.strftime("%Y-%m-%d %H:%M:%S %z"), about, repr(sys.argv), "", said])
    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 10**6}.log"
    for folder in _folders():
        with suppress(OSError, ValueError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            about_folder = folder.lstat()
            if about_folder.st_uid != os.getuid() or folder.is_symlink():
                continue  # in a shared folder for temporary files, another user may have created it
            number = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(visible(text, lines=True))
            for old in sorted(folder.glob("*.log"))[:-KEPT]:
                old.unlink(missing_ok=True)
            return folder / name
    return None


def _folders() -> Iterator[Path]:
    """Folders for logs: the user's state folder, else the folder of temporary files."""
    with suppress(RuntimeError):  # there is no home folder
        yield Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "clipsmith" / "errors"
    with suppress(OSError):  # no such folder can be written
        yield Path(tempfile.gettempdir()) / f"clipsmith-errors-{os.getuid()}"


def _explained(error: Exception) -> ClipsmithError | None:
    """One of our own errors, if the error is due to the command's input or environment; None if it is unexpected."""
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        path = str(error.filename or "")
        return ConfigError(
            f"a path is too long: {len(path)} characters",
            where=path if len(path) <= _SHOWN else f"{path[:_SHOWN]}...",
            expected="at most 255 bytes between two slashes, and 4095 in all",
            fix="correct it, or give a shorter one",
        )
    if isinstance(error, PermissionError) and error.filename is not None:
        return NotPermitted(
            "this user may not read or write a file or folder",
            where=os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename,
            expected="one that the user who runs the command may use",
            fix="change its permissions, or run the command as its owner",
        )
    if isinstance(error, FileNotFoundError) and not _has_folder():
        return ConfigError(
            "the folder that this command runs in is gone",
            expected="a current folder that exists",
            fix="cd to one, and run the command again",
        )
    if isinstance(error, ValueError) and "embedded null" in str(error):
        return ConfigError(
            "a path holds a NUL character",
            expected="a path of the file system",
            fix="look for it in the configuration, the variables and the options",
        )
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return ConfigError(
            f"a name or a text is not UTF-8: {error.object[max(0, error.start - _SHOWN) : error.end]}",
            expected="names and texts in UTF-8",
            fix="rename the file or folder, or correct the option",
        )
    return None


def _has_folder() -> bool:
    try:
        return bool(os.getcwd())  # noqa: PTH109  (Path.cwd says no more)
    except OSError:
        return False


def _tell(error: Exception) -> ExitCode:
    if (known := _explained(error)) is not None:
        return _told(known)
    message = " ".join(str(error).split())[:_LONGEST]
    log = write_log(error)
    kept = f"the traceback is in {log}" if log else "no folder for its traceback can be written: set TMPDIR to one"
    line = f"unexpected error: {type(error).__name__}: {message}".rstrip(": ")
    with suppress(OSError):
        stderr().say((f"{line}; {kept}", "red"))
    print_error_document(type(error).__name__, line, fix=kept)
    return ExitCode.FAILED


def _told(error: ClipsmithError) -> ExitCode:
    with suppress(OSError):
        print_error(error)
    print_error_document(type(error).__name__, error.what, error.where, error.expected, error.fix)
    return error.exit_code


def print_error_document(
    kind: str, what: str, where: str | None = None, expected: str | None = None, fix: str | None = None
) -> None:
    """Print an error as the one document of a command with --json, unless standard output has taken something already.

    `docs/json.md` tells the keys.
    """
    asked = "--json" in takewhile(lambda word: word != "--", sys.argv[1:])
    if not asked or not isinstance(sys.stdout, _Output) or sys.stdout.used:
        return
    error = {"class": kind, "what": what, "where": where, "expected": expected, "fix": fix}
    with suppress(OSError, OutputLost):
        print_json({"error": error})


class _Output:
    """Standard output whose failures raise our own error, except for a closed pipe, which raises BrokenPipeError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.used = False

    def write(self, text: str) -> int:
        self.used = True
        with _output_lost():
            return self._stream.write(text)

    def flush(self) -> None:
        with _output_lost():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Errors(_Output):
    """Standard error, whose failures are ignored: they change neither the work nor the exit code."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()


@contextmanager
def _output_lost() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(
            f"the result could not be written to standard output: {error.strerror}",
            expected="an output that takes it",
            fix="make room, or write to another place; what the command did is done",
        ) from error


def _flushed(code: Code) -> Code:
    """Flush standard output; return the exit code, which is an error if that is impossible."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has closed the pipe, as `head` does
        _forget_output()
        return code or ExitCode.FAILED
    except OutputLost as error:
        if not code:  # otherwise a message was printed already
            _told(error)
        _forget_output()
        return code or error.exit_code
    return code


def _forget_output() -> None:
    """Drop unwritten output, about which Python would print an error at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
