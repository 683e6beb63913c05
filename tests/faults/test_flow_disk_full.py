"""The disk fills up under every step in turn: a typed error, nothing published, the store intact, and no work lost."""

from __future__ import annotations

import errno
import functools
import gc
import importlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from artifacts import fs
from artifacts.errors import DiskFull
from artifacts.store.store import Store
from tests.flows.conftest import FUNCTIONS, replace_work, small_parameters, spied
from tests.processes import open_files
from tests.thorough import amount

SIZE_MB = 128
STEPS = {**FUNCTIONS, "publish": ("tasks.pipeline.publish", "publish")}


class SmallDisk:
    """A file system of its own, small and in memory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self, leave: int = 0) -> None:
        """Use up everything but `leave` bytes."""
        with self._filler.open("wb") as filler:
            for size in (1 << 20, 1 << 12, 1):
                _write_until_full(filler.fileno(), size)
            filler.truncate(max(0, filler.tell() - leave))

    def free(self) -> None:
        self._filler.unlink()


def _write_until_full(handle: int, size: int) -> None:
    try:
        while True:
            os.write(handle, bytes(size))
    except OSError as error:
        assert error.errno == errno.ENOSPC


class NoDisk(SmallDisk):
    """Where mounting is not allowed: the store's own file-system calls say that the disk is full."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._patch = pytest.MonkeyPatch()

    def fill(self, leave: int = 0) -> None:
        def refuse(path: Path, *_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        del leave
        for name in ("make_folder", "write_file"):
            self._patch.setattr(fs, name, refuse)

    def free(self) -> None:
        self._patch.undo()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    root = tmp_path / "disk"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "clipsmith-test", str(root)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield SmallDisk(root) if mounted else NoDisk(root)
    if mounted:
        unmount(root)


class StillBusy(Exception):
    """What keeps the small disk from going."""


@retry(retry=retry_if_exception_type(StillBusy), wait=wait_fixed(0.5), stop=stop_after_delay(30), reraise=True)
def unmount(root: Path) -> None:
    """Whoever looks at all mounts of the machine (apt-get, a browser) keeps this one busy for a moment; so do files
    that only a cycle of objects still maps. A file that stays open is a failure that names it."""
    gc.collect()
    done = subprocess.run(["umount", str(root)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(root) in line]
        raise StillBusy(done.stderr, open_files(str(root)), mapped)


@pytest.fixture(autouse=True)
def no_preflight(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process the room is not asked for beforehand: it is what happens without it that counts here."""
    monkeypatch.setattr("flows.wiring.require_space", lambda *_: None)


@contextmanager
def full_when_it_starts(step: str, disk: SmallDisk) -> Iterator[list[str]]:
    """Fill the disk whenever the plain function of a step is entered; the list says how often that was."""
    module_name, function_name = STEPS[step]
    module = importlib.import_module(module_name)
    function: Callable[..., Any] = getattr(module, function_name)
    entered: list[str] = []

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        entered.append(step)
        disk.fill()
        return function(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        replace_work(patch, module, function_name, call)
        yield entered


def causes(error: BaseException | None) -> list[str]:
    """The exceptions that led to this one, innermost last."""
    names = []
    while error is not None:
        names.append(f"{type(error).__module__}.{type(error).__name__}")
        error = error.__cause__ or error.__context__
    return names


@pytest.mark.heavy
def test_in_every_step(disk: SmallDisk, small_clip: Path) -> None:
    """Each step meets a full disk once, on the same store: what came before it is not computed again."""
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    root = disk.root / "store"
    # Else nothing is studied, and no builder is asked about attention.
    asked = {"calibration__sufficiency": True, "recipe": "fp8-auto", "targets": ["onnxruntime", "trtrtx-sm89"]}
    values = small_parameters(small_clip, root, **asked)
    parameters = OptimizeParameters.model_validate(values)
    for step in STEPS:
        with full_when_it_starts(step, disk) as entered, pytest.raises(DiskFull) as caught:
            optimize(parameters)
        assert set(entered) == {step}  # builds begin side by side
        assert caught.value.exit_code == 1
        assert caught.value.where == str(root)
        assert "free space" in str(caught.value)
        print(step, *causes(caught.value), sep="\n    ")
        disk.free()
        check_nothing_lost(root)
    with spied() as computed:
        published = optimize(parameters)
    assert computed == []
    assert (published.ref, published.new) == ("small@1", True)


@pytest.mark.heavy
def test_wherever_the_room_ends(disk: SmallDisk, small_clip: Path) -> None:
    """Libraries are cut off in the middle of a file, and flush late."""
    from flows.optimize import optimize
    from flows.parameters import OptimizeParameters

    root = disk.root / "store"
    parameters = OptimizeParameters.model_validate(small_parameters(small_clip, root))
    Store.open(root)
    for kib in amount((8, 6000, 200), (8, 24, 1000, 6000, 200, 1000, 30, 300)):
        disk.fill(leave=kib << 10)
        with pytest.raises(DiskFull) as caught:
            optimize(parameters)
        print(kib, *causes(caught.value), sep="\n    ")
        disk.free()
        check_nothing_lost(root)
    assert optimize(parameters).new


def check_nothing_lost(root: Path) -> None:
    store = Store.open(root)
    assert store.releases() == []
    assert not list((root / "staging").iterdir())
    assert not list((root / "locks").iterdir())


@pytest.mark.heavy
def test_the_command(disk: SmallDisk, small_clip: Path, clipsmith: Any, tmp_path: Path) -> None:
    """A disk that is simply too small, as a user meets it; then there is room."""
    if isinstance(disk, NoDisk):
        pytest.skip("mounting is not allowed here")
    root = disk.root / "store"
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(small_parameters(small_clip, root)))
    disk.fill(leave=1 << 19)
    failed = clipsmith("optimize", "--config", config)
    assert failed.code == 1
    assert failed.out == ""
    assert failed.err.count("NotEnoughSpace: ") == 1
    assert "Traceback" not in failed.err
    assert str(root) in failed.err
    disk.free()
    done = clipsmith("optimize", "--config", config, "--json")
    assert done.code == 0, done.err
    assert "(cached)" not in done.err  # it was said before any work was done
    assert done.document["ref"] == "small@1"
