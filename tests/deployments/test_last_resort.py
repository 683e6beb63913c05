"""Whatever happens in a command, people see one line and no traceback, and programs one document."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import GateFailed, ReleaseNotFound
from artifacts.exit_codes import ExitCode
from deployments import cli, last_resort
from tests.error_documents import without_error
from tests.processes import own_environment

Ended = Callable[..., tuple[Any, str, str]]


@pytest.fixture(autouse=True)
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the logs of this test go; no log is there yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "clipsmith" / "errors"


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ended:
    """`ended(ZeroDivisionError("x"), "--json")`: exit code, stdout and stderr of a command in which that is raised."""

    def run(error: BaseException, *arguments: str) -> tuple[Any, str, str]:
        def command() -> None:
            raise error

        monkeypatch.setattr(sys, "argv", ["clipsmith", "show", *arguments])
        with pytest.raises(SystemExit) as stopped:
            last_resort.run(command)
        return stopped.value.code, *capsys.readouterr()

    return run


def test_an_error_is_a_document_for_programs(ended: Ended) -> None:
    error = ReleaseNotFound("no release", where="/here", fix="make one")
    code, out, err = ended(error, "--json")
    said = {"class": "ReleaseNotFound", "what": "no release", "where": "/here", "expected": None, "fix": "make one"}
    assert (code, json.loads(out)) == (ExitCode.WRONG_INPUT, {"schema": 1, "error": said})
    assert err.startswith("ReleaseNotFound: no release\n")
    assert ended(error)[1] == "" == ended(error, "--", "--json")[1]


def test_a_command_that_printed_its_document_prints_no_other(monkeypatch: Any, capsys: Any) -> None:
    def rejected() -> None:
        sys.stdout.write('{"ref": "demo@1"}\n')
        raise GateFailed("demo@1 is published as rejected")

    monkeypatch.setattr(sys, "argv", ["clipsmith", "optimize", "--json"])
    with pytest.raises(SystemExit):
        last_resort.run(rejected)
    assert json.loads(capsys.readouterr().out) == {"ref": "demo@1"}


@pytest.mark.parametrize(
    ("arguments", "what", "help_of"),
    [
        (["show", "--nope"], "No such option: --nope", "clipsmith show"),
        (["gc", "--keep", "x"], "Invalid value for '--keep'", "clipsmith gc"),
        (["variants", "chek"], "No such command 'chek'", "clipsmith variants"),
        (["no\x1bpe"], "No such command 'no\\x1bpe'", "clipsmith"),
    ],
)
def test_what_was_typed_wrong_is_a_document_too(
    arguments: list[str], what: str, help_of: str, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["clipsmith", *arguments, "--json"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert (stopped.value.code, error["class"]) == (ExitCode.WRONG_INPUT, "UsageError")
    assert error["what"].startswith(what) and error["fix"] == f"see `{help_of} --help`"
    assert without_error(out, err) == ""


@pytest.mark.parametrize("option", ["demo", "--json"])
def test_an_error_that_is_none_of_ours_is_a_line_and_a_log_that_only_its_user_reads(
    option: str, ended: Ended, logs: Path
) -> None:
    code, out, err = ended(ZeroDivisionError("division\nby [zero]"), option)
    (log,) = logs.iterdir()
    assert (code, bool(out)) == (ExitCode.FAILED, option == "--json")
    assert not out or without_error(out, err) == ""
    assert err == f"unexpected error: ZeroDivisionError: division by [zero]; the traceback is in {log}\n"
    text = log.read_text()
    assert "Traceback (most recent call last)" in text and "test_last_resort.py" in text
    assert f"['clipsmith', 'show', {option!r}]" in text
    assert log.stat().st_mode & 0o777 == 0o600
    assert logs.stat().st_mode & 0o777 == 0o700


def test_an_endless_message_is_cut(ended: Ended, logs: Path) -> None:
    _, _, err = ended(RuntimeError("x" * 10_000))
    assert len(err.splitlines()) == 1
    assert len(err) < 800
    assert "x" * 10_000 in next(logs.iterdir()).read_text()


def test_old_logs_go(logs: Path) -> None:
    logs.mkdir(parents=True)
    (logs / "mine.txt").touch()
    for number in range(30):
        (logs / f"2020010{number // 10}T00000{number % 10}-1-1.log").touch()
    log = last_resort.write_log(ValueError("new"))
    assert log is not None and log.exists()
    assert len(list(logs.glob("*.log"))) == last_resort.KEPT
    assert (logs / "mine.txt").exists()


def test_the_log_goes_to_temporary_files_where_there_is_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Ended
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    monkeypatch.setattr(last_resort.tempfile, "gettempdir", lambda: str(tmp_path))
    log = last_resort.write_log(ValueError("x"))
    assert log is not None and log.parent == tmp_path / f"clipsmith-errors-{os.getuid()}"
    # Where somebody else has made that folder, or a link, nothing is written to it.
    moved = log.parent.rename(tmp_path / "elsewhere")
    log.parent.symlink_to(moved)
    assert last_resort.write_log(ValueError("x")) is None
    code, _, err = ended(ValueError("x"))
    assert code == ExitCode.FAILED and "no folder for its traceback can be written" in err


def test_what_follows_from_the_input_is_told_in_our_words(ended: Ended, logs: Path) -> None:
    code, out, err = ended(OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "x" * 4000), "--json")
    assert (code, without_error(out, err)) == (ExitCode.WRONG_INPUT, "")
    assert err.startswith("ConfigError: a path is too long: 4000 characters\n") and len(err) < 500
    code, _, err = ended(ValueError("embedded null byte"))
    assert code == ExitCode.WRONG_INPUT and err.startswith("ConfigError: a path holds a NUL character")
    with pytest.raises(UnicodeEncodeError) as caught:
        f"{'x' * 100}caf\udce9 ...".encode()
    code, _, err = ended(caught.value)
    assert code == ExitCode.WRONG_INPUT and err.startswith(
        f"ConfigError: a name or a text is not UTF-8: {'x' * 57}caf\\udce9\n"
    )
    code, _, err = ended(PermissionError(errno.EACCES, "Permission denied", "/srv/store/releases"))
    assert code == ExitCode.FAILED and "NotPermitted: this user may not" in err and "/srv/store/releases" in err
    assert not logs.exists()


def test_a_folder_that_is_gone_is_said(ended: Ended, logs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = ended(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    assert code == ExitCode.WRONG_INPUT and "the folder that this command runs in is gone" in err
    assert not logs.exists()


def test_ctrl_c_is_no_error(ended: Ended, logs: Path) -> None:
    assert ended(KeyboardInterrupt()) == (130, "", "")
    assert not logs.exists()


class FullDisk(io.StringIO):
    """A stream that never takes what it was given."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("when", ["while it prints", "at its end"])
def test_an_output_that_takes_nothing_is_an_error(when: str, logs: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    with pytest.raises(SystemExit) as stopped:
        last_resort.run((lambda: sys.stdout.flush()) if when == "while it prints" else (lambda: None))
    assert stopped.value.code == ExitCode.FAILED
    err = capsys.readouterr().err
    assert err.count("OutputLost: the result could not be written to standard output: No space left on device") == 1
    assert not logs.exists()


class Gone(io.StringIO):
    """A pipe whose reader has ended."""

    def flush(self) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def test_a_reader_that_has_seen_enough_is_told_nothing(logs: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    with pytest.raises(SystemExit) as stopped:
        last_resort.run(lambda: None)
    assert stopped.value.code == ExitCode.FAILED
    assert capsys.readouterr().err == ""
    assert not logs.exists()


@pytest.mark.parametrize("long", ["x" * 4000, "x/" * 2000, "\N{DOG FACE}" * 64], ids=["name", "path", "bytes"])
@pytest.mark.parametrize("command", ["releases", "verify", "unpack"])
def test_a_store_whose_path_is_too_long(command: str, long: str, call: Any, tmp_path: Path) -> None:
    code, out, err = call(command, *(["file.tar"] if command == "unpack" else []), "--store", tmp_path / long)
    if command != "verify":
        assert (code, out) == (2, "") and err.startswith("NotAStore: the path of the store is too long")
    assert code != 0 and "Traceback" not in err and "unexpected" not in err


@pytest.mark.parametrize("command", ["releases", "unpack"])
def test_a_store_whose_path_is_not_utf_8(command: str, call: Any, tmp_path: Path) -> None:
    code, out, err = call(command, *(["file.tar"] if command == "unpack" else []), "--store", tmp_path / "caf\udce9")
    assert (code, out) == (2, "") and err.startswith("NotAStore: the path of the store is not UTF-8")
    assert not (tmp_path / "caf\udce9").exists()


def clipsmith(command: str, tmp_path: Path) -> subprocess.CompletedProcess[bytes]:
    """A shell's command line with `clipsmith` in it."""
    environment = own_environment(XDG_STATE_HOME=str(tmp_path / "state"), PYTHONPATH=str(Path(__file__).parents[2]))
    script = f'clipsmith() {{ "{sys.executable}" -m deployments.cli "$@"; }}\n{command}'
    return subprocess.run(["bash", "-c", script], capture_output=True, env=environment, cwd=tmp_path, check=False)


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    code = "from deployments.last_resort import prepare_streams as p; p(); raise SystemExit(open('file', 'w').fileno())"
    done = clipsmith(f'"{sys.executable}" -c "{code}" >&- <&-', tmp_path)
    assert done.returncode > 2, done.stderr


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("set -o pipefail; clipsmith models --json | true", 1, b""),
        ("clipsmith models >/dev/full", 1, b"OutputLost: "),
        ("clipsmith models >&- 2>&- <&-", 0, b""),
        ("PYTHONIOENCODING=ascii clipsmith show $'\\xff' --store $'b\\xc3\\xa4r\\xff'", 2, b"NotAStore"),
    ],
    ids=["reader gone", "disk full", "closed", "not text"],
)
def test_streams_of_a_real_process(command: str, code: int, words: bytes, tmp_path: Path) -> None:
    done = clipsmith(command, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(words) and (words or not done.stderr)
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr
