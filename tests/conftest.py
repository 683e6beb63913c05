"""What all tests share: an isolated Prefect home, a store, small CLIP checkpoints, and one run of the demo."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests import wording
from tests.made_once import made_once
from tests.processes import SERVER_VARIABLES, own_environment

_PREFECT_HOME = Path(tempfile.gettempdir()) / f"clipsmith-tests-prefect-{os.getuid()}"
os.environ |= {
    "PREFECT_HOME": str(_PREFECT_HOME),
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are more processes than cores, and OpenMP's threads wait by spinning: side by side, training took twice as
    # long.
    os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

for name in (*SERVER_VARIABLES, "COLUMNS"):  # neither a server of the user's nor a terminal's width is tested with
    os.environ.pop(name, None)

from artifacts.store.store import Store, activate  # noqa: E402  (the environment comes first)

# Prefect logs the end of its embedded server after pytest has closed the stream.
logging.raiseExceptions = False

TESTS = Path(__file__).parent
ROOT = TESTS.parent
CLIPSMITH = Path(sys.executable).with_name("clipsmith")

MakeClip = Callable[..., Path]


SHARING = "system/stack"
"""A folder whose files share what takes long to start: they go to one process, as if they were one file."""
FIRST = (
    "deployments/test_demo_release.py",
    "flows/test_caching.py",
    "tasks/families/test_graphs.py",
    "tasks/demo/test_demo.py",
    SHARING,
    "docker/test_image_commands.py",
    "flows/test_full_size.py",
    "system/test_day.py",
    "system/test_up.py",
    "conformance/test_published.py",
    "system/test_two_hosts.py",
    "deployments/commands/test_search.py",
    "tasks/families/test_real_widths.py",
    "tasks/engines/test_torch_fp8.py",
    "faults/test_flow_kill.py",
    "faults/test_flow_disk_full.py",
    "flows/test_at_once.py",
)
"""One file that trains the demo, and those that take longest."""


def pytest_xdist_auto_num_workers() -> int:
    """Processes for `-n auto`: two for each core. For a third of their time, tests wait for disks and children."""
    return 2 * len(os.sched_getaffinity(0))


class FileScheduling(LoadFileScheduling):
    """`--dist loadfile`, but the files of SHARING are one."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = PurePosixPath(file).parent
        return str(folder) if (ROOT / folder).is_relative_to(TESTS / SHARING) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling | None:
    """Take the place of xdist's own scheduler of whole files."""
    return FileScheduling(config, log) if config.getoption("dist") == "loadfile" else None


LIMIT_S, HEAVY_LIMIT_S = 480, 900
"""A test that takes longer hangs, also on a slow machine; fixtures that it has to make count."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its time limit, and put long files first, so that none is left alone at the end.

    Other files of the demo come last, when it has been made. Files go to the processes in this order (`--dist
    loadfile`); within a file tests stay shuffled, and so do the files of a folder.
    """
    of_demo = {item.path for item in items if "demo_store" in getattr(item, "fixturenames", ())}
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HEAVY_LIMIT_S if item.get_closest_marker("heavy") else LIMIT_S))

    def place(item: pytest.Item) -> int:
        file = item.path.relative_to(TESTS)
        for name in (file.as_posix(), file.parent.as_posix()):
            if name in FIRST:
                return FIRST.index(name)
        return len(FIRST) + (item.path in of_demo)

    items.sort(key=place)
    if os.environ.get(wording.UPDATE) and not any("::" in argument for argument in config.args):
        there, files = {item.nodeid for item in items}, {item.nodeid.partition("::")[0] for item in items}
        wording.keep({test: [] for test in wording.kept() if test.partition("::")[0] in files and test not in there})


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """What the errors of a test say is compared with what is kept: `tests/wording.py`."""
    with wording.compared(item.nodeid):
        yield


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store, active for the test."""
    with activate(Store.open(tmp_path / "store")) as opened:
        yield opened


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """`make_clip(folder, text={...}, vision={...})`: a small random CLIP with the demo's tokenizer and processor.

    Biases and norms are random too: at their initial 0 and 1 a mix-up would be invisible.
    """

    def make(folder: Path, *, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> Path:
        import torch
        from transformers import CLIPConfig, CLIPModel

        from tasks.demo import SNAPSHOT

        torch.manual_seed(0)
        base = json.loads((SNAPSHOT / "config.json").read_text())
        base["text_config"] |= text or {}
        base["vision_config"] |= vision or {}
        model = CLIPModel(CLIPConfig.from_dict(base))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 1 and "class_embedding" not in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        model.save_pretrained(folder)
        for file in SNAPSHOT.iterdir():
            if file.name not in ("config.json", "model.safetensors"):
                shutil.copyfile(file, folder / file.name)
        return folder

    return make


@pytest.fixture(scope="session")
def small_clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random CLIP with two layers per encoder, made once; do not change it."""
    shape = {"num_hidden_layers": 2, "hidden_act": "gelu"}
    return make_clip(tmp_path_factory.mktemp("clip") / "small", text=shape, vision=shape)


@dataclass(frozen=True)
class CommandResult:
    """What a `clipsmith` command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Its stdout as the one JSON document it must be."""
        return json.loads(self.out)


def run_clipsmith(*arguments: object, timeout: float = 600, **environment: str) -> CommandResult:
    """Run the installed command in a child process, away from the checkout."""
    done = subprocess.run(
        [str(CLIPSMITH), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        cwd=tempfile.gettempdir(),
        env=own_environment(**environment),
    )
    return CommandResult(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def clipsmith() -> Callable[..., CommandResult]:
    """`clipsmith("optimize", "demo", "--store", path)` as a user would run it."""
    return run_clipsmith


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all test processes of this session have; what is in it is not changed: `tests/made_once.py`."""
    root = tmp_path_factory.getbasetemp()
    return root if worker_id == "master" else root.parent


@pytest.fixture(scope="session")
def demo_store(session_folder: Path) -> Path:
    """A store that holds one release of the demo, `demo@1`, made once for all test processes; do not change it."""
    store = session_folder / "demo" / "store"

    def make(document: Path) -> None:
        result = run_clipsmith("optimize", "demo", "--store", store, "--json")
        assert result.code == 0, result.err
        document.write_text(result.out)

    made_once(store.with_name("result.json"), make)
    return store


@pytest.fixture(scope="session")
def demo_document(demo_store: Path) -> dict[str, Any]:
    """What `clipsmith optimize demo --json` printed for the release in `demo_store`."""
    return json.loads((demo_store.parent / "result.json").read_text())


@pytest.fixture(scope="session")
def demo_export(demo_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`demo@1` as an exported folder; do not change it for good."""
    folder = tmp_path_factory.mktemp("export") / "demo"
    result = run_clipsmith("export", "demo@1", folder, "--store", demo_store)
    assert result.code == 0, result.err
    return folder
