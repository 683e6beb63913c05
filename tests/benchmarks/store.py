"""What the store costs: the command line over 1,000 releases, publishing 1 GB, verifying. Not a test.

`python -m tests.benchmarks.store` prints a table and exits with 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from artifacts.layout import manifest_path
from artifacts.manifest import Manifest
from artifacts.refs import digest_file
from artifacts.store import Store
from tests.artifacts.conftest import build_manifest
from tests.artifacts.support import add, digest, files_of, make_release
from tests.benchmarks.machine import describe
from tests.benchmarks.targets import Target

_CLIPSMITH = Path(sys.executable).with_name("clipsmith")
_ANSWER_S = 1.0  # the most that a command may take
_HASHING = 0.80  # the least that publishing may reach of what hashing alone does
_CORES = 0.75  # the least that a further core may add to verification
_LAYERS = 24  # blocks per encoder: manifests of about 150 KB
_VERIFY = (
    "import os, sys; from artifacts.verification import verify; "
    "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[2])]); print(verify(sys.argv[1]).seconds)"
)


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1000, help="releases that are listed (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the published release (%(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the median counts (%(default)s)")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure, 5 GB; default: a temporary one")
    options, console = parser.parse_args(), Console()
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-", dir=options.work) as name:
        work, size = Path(name), options.megabytes * 1_000_000
        targets = [
            *_commands(work / "many", options.releases, options.repeat),
            *_publishing(work / "large", size, options.repeat),
            *_verifying(work / "large", options.repeat),
        ]
    machine = describe()
    console.print(f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB")
    console.print(_table(targets))
    return 0 if all(target.met for target in targets) else 1


# --- the command line --------------------------------------------------------------------------------------


def _commands(root: Path, releases: int, repeat: int) -> Iterator[Target]:
    """Whole processes, with the index warm, as it is after any command has listed the releases once."""
    store = Store.open(root)
    newest = _fill(store, releases)
    size = manifest_path(root, newest.model, newest.version).stat().st_size
    about = f"{releases:,} releases, manifests of {size / 1000:.0f} KB"
    cold = _timed(lambda: _run("releases", "--store", root), 1)
    yield Target(f"releases without an index, {about}", cold, float("inf"), "s")
    moves = iter(range(1, repeat + 1))
    work: dict[str, Callable[[], None]] = {
        "--help": lambda: _run("--help"),
        "releases": lambda: _run("releases", "--store", root),
        "releases --json": lambda: _run("releases", "--json", "--store", root),
        "show": lambda: _run("show", newest.ref, "--store", root),
        "promote": lambda: _run("promote", f"{newest.model}@{next(moves)}", "--alias", "production", "--store", root),
    }
    for name, run in work.items():
        yield Target(f"{name}, {about}", _timed(run, repeat), _ANSWER_S, "s")


def _fill(store: Store, releases: int) -> Manifest:
    """Put releases with realistic tables into the store; the newest."""
    files = files_of(add(store))
    base = build_manifest(_LAYERS, measured=True)
    for number in range(1, releases + 1):
        names = {"version": number, "sequence": number, "identity": digest(str(number)), "files": files}
        base = base.model_copy(update=names)
        store.insert(base)
    return base


def _run(*arguments: object) -> None:
    subprocess.run([_CLIPSMITH, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


# --- publishing and verifying ------------------------------------------------------------------------------


def _publishing(root: Path, size: int, repeat: int) -> Iterator[Target]:
    """`add` and `publish` of files that are written and flushed, against hashlib alone over the same files."""
    for files in (1, 4):
        shares = [_publish_once(Store.open(root), size, files, f"{files} {run}") for run in range(repeat)]
        share = statistics.median(hashing / publishing for hashing, publishing in shares)
        speed = statistics.median(size / publishing for _, publishing in shares)
        name = f"publishing {size / 1e9:.1f} GB in {files} file{'s' * (files > 1)} ({speed / 1e6:,.0f} MB/s)"
        yield Target(f"{name}: time of hashlib's", 1 / share, 1 / _HASHING, "ratio")


def _publish_once(store: Store, size: int, files: int, name: str) -> tuple[float, float]:
    """Seconds of hashlib alone, and of publishing."""
    block = os.urandom(1 << 20)
    with store.staging() as folder:
        for number in range(files):
            with (folder / f"{number}.bin").open("wb") as out:
                out.write(name.encode())
                for _ in range(size // files // len(block)):
                    out.write(block)
        os.sync()  # what a step writes is not the store's to wait for
        hashing = _timed(lambda: [digest_file(path) for path in folder.iterdir()], 1)
        start = time.perf_counter()
        make_release(store, "large", digest(name), store.add("engine", folder))
        return hashing, time.perf_counter() - start


def _verifying(root: Path, repeat: int) -> Iterator[Target]:
    """`verify` with all cores against one, over what was published before."""
    cores = len(os.sched_getaffinity(0))

    def seconds(count: int) -> float:
        call = [sys.executable, "-c", _VERIFY, str(root), str(count)]
        return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)

    pairs = [(seconds(1), seconds(cores)) for _ in range(repeat)]
    share = statistics.median(every / one for one, every in pairs)
    yield Target(f"verify with {cores} cores: time of one's", share, 1 / (1 + _CORES * (cores - 1)), "ratio")


# --- printing ----------------------------------------------------------------------------------------------


def _timed(run: Callable[[], object], repeat: int) -> float:
    """Median seconds."""
    seconds = []
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def _table(targets: list[Target]) -> Table:
    table = Table("what", "measured", "at most", "met", title="store", title_justify="left")
    for target in targets:
        unit = " s" if target.unit == "s" else "x"
        limit = "-" if target.limit == float("inf") else f"{target.limit:.2f}{unit}"
        table.add_row(target.name, f"{target.value:.2f}{unit}", limit, "yes" if target.met else "NO")
    return table


if __name__ == "__main__":
    sys.exit(main())
