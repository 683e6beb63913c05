"""What the store costs: the command line over 1,000 releases, publishing 1 GB, verifying. Not a test.

`python -m tests.benchmarks.store` prints a table and exits with 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from artifacts.manifest import Manifest
from artifacts.refs import digest_file
from artifacts.store.layout import manifest_path
from artifacts.store.store import Store
from tests.artifacts.conftest import build_manifest
from tests.artifacts.support import add, digest, files_of, make_release
from tests.benchmarks.machine import describe
from tests.benchmarks.targets import Target

_CLIPSMITH = Path(sys.executable).with_name("clipsmith")
_ANSWER_S = 1.0  # the most that a command may take
_HASHING = 0.80  # the least that publishing may reach of what hashing alone does
_VERIFYING = 0.80  # the least that verification may reach of as many processes that only hash
_LAYERS = 34  # blocks per encoder: manifests of about 150 KB
_VERIFY = (
    "import os, sys; from artifacts.store.verification import verify; "
    "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:int(sys.argv[2])]); print(verify(sys.argv[1]).seconds)"
)
_HASH = (
    "import sys, time; from pathlib import Path; from hashlib import file_digest; start = time.perf_counter(); "
    "[file_digest(Path(name).open('rb'), 'sha256') for name in sys.argv[1:]]; print(time.perf_counter() - start)"
)


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.store", description=__doc__.splitlines()[0])
    parser.add_argument("--releases", type=int, default=1000, help="releases that are listed (%(default)s)")
    parser.add_argument("--megabytes", type=int, default=1000, help="size of the published release (%(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of each; the median counts (%(default)s)")
    parser.add_argument("--work", type=Path, help="folder on the disk to measure, 3 GB; default: a temporary one")
    options, console = parser.parse_args(), Console()
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-", dir=options.work) as name:
        work, size = Path(name), options.megabytes * 1_000_000
        targets = [
            *_commands(work / "many", options.releases, options.repeat),
            *_publishing(work / "published", size, options.repeat),
            *_verifying(work / "verified", size, options.repeat),
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
        shares = [_publish_once(root, size, files) for _ in range(repeat)]
        share = statistics.median(hashing / publishing for hashing, publishing in shares)
        speed = statistics.median(size / publishing for _, publishing in shares)
        name = f"publishing {size / 1e9:.1f} GB in {files} file{'s' * (files > 1)} ({speed / 1e6:,.0f} MB/s)"
        yield Target(f"{name}: time of hashlib's", 1 / share, 1 / _HASHING, "ratio")


def _publish_once(root: Path, size: int, files: int) -> tuple[float, float]:
    """Seconds of hashlib alone, and of publishing; the store is new, and gone afterwards."""
    store = Store.open(root)
    with store.staging() as folder:
        _write(folder, size, files)
        hashing = _timed(lambda: [digest_file(path) for path in folder.iterdir()], 1)
        start = time.perf_counter()
        make_release(store, "large", digest("large"), store.add("engine", folder))
        seconds = time.perf_counter() - start
    store.close()
    shutil.rmtree(root)
    return hashing, seconds


def _write(folder: Path, size: int, files: int) -> None:
    """Write files and flush them: what a step writes is not the store's to wait for."""
    block = os.urandom(1 << 20)
    for number in range(files):
        with (folder / f"{number}.bin").open("wb") as out:
            out.write(b"%d" % number)
            for _ in range(size // files // len(block)):
                out.write(block)
    os.sync()


def _verifying(root: Path, size: int, repeat: int) -> Iterator[Target]:
    """`verify` with all cores against as many processes that do nothing but hash, and with one core to compare."""
    cores = len(os.sched_getaffinity(0))
    store = Store.open(root)
    with store.staging() as folder:
        _write(folder, size, 4 * cores)
        make_release(store, "large", digest("large"), store.add("engine", folder))
    store.close()
    paths = list((root / "objects").rglob("*.bin"))
    runs = [(_verify(root, 1), _verify(root, cores), _hash(paths, cores)) for _ in range(repeat)]
    name = f"verify of {size / 1e9:.1f} GB with {cores} cores"
    yield Target(f"{name}: time of one core's", statistics.median(b / a for a, b, _ in runs), float("inf"), "ratio")
    share = statistics.median(every / best for _, every, best in runs)
    yield Target(f"{name}: time of {cores} processes that hash", share, 1 / _VERIFYING, "ratio")


def _verify(root: Path, cores: int) -> float:
    """Seconds."""
    call = [sys.executable, "-c", _VERIFY, str(root), str(cores)]
    return float(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def _hash(paths: list[Path], processes: int) -> float:
    """Seconds until the last of so many processes has hashed its share of the files."""
    calls = [[sys.executable, "-c", _HASH, *map(str, paths[start::processes])] for start in range(processes)]
    started = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for call in calls]
    return max(float(process.communicate()[0]) for process in started)


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
