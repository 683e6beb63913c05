"""The checks of `doctor`: whether this machine, this installation and this store can do the work."""

from __future__ import annotations

import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

from artifacts.copies.opening import open_store
from artifacts.errors import ClipsmithError
from artifacts.number_words import counted, megabytes
from artifacts.store.mounts import refuse_network
from artifacts.store.store import FORMAT
from deployments.printing.show_doctor import Check
from deployments.server.definitions import POOL

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
PORT = 4200
_SMALL = ("ViT-B/32", 151_277_313)  # a small published model, and its number of parameters
_SHOWN = 6  # packages that are named in a message; further ones are left out


def checks(store: Path) -> Iterator[Check]:
    """Every check. A check that needs a missing package says so, and the others go on."""
    looks: dict[str, Callable[[], Iterable[Check]]] = {
        "Python": _python,
        "packages": _packages,
        "GPU": _gpu,
        "targets": _targets,
        "store": lambda: _store(store),
        "space": lambda: _space(store),
        "port": _port,
        "server": _server,
    }
    for name, look in looks.items():
        try:
            yield from look()
        except ImportError as error:
            said = f"cannot be looked at: {' '.join(str(error).split())}"
            yield Check(name, False, said, True, "install what `packages` names")


def _python() -> Iterator[Check]:
    from packaging.specifiers import SpecifierSet

    wanted = str(metadata.metadata("clipsmith")["Requires-Python"])
    here = platform.python_version()
    ok = SpecifierSet(wanted).contains(here, prereleases=True)
    advice = None if ok else f"make the environment anew with a Python {wanted}"
    yield Check("Python", ok, f"{here} on {platform.system()} {platform.machine()}", True, advice)


def _packages() -> Iterator[Check]:
    """Check the packages that clipsmith requires, and whether installed packages have the locked versions."""
    from packaging.requirements import Requirement

    asked = [Requirement(text) for text in metadata.requires("clipsmith") or ()]
    asked = [each for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]
    missing, wrong, wanted = [], [], []
    for each in asked:
        here = _installed(each.name)
        if here is None:
            missing.append(each.name)
            wanted.append(f"'{each.name}{each.specifier}'")
        elif not each.specifier.contains(here, prereleases=True):
            wrong.append(f"{each.name} {here} (needs {each.specifier})")
            wanted.append(f"'{each.name}{each.specifier}'")
    install = f"pip install -c {CONSTRAINTS}" if CONSTRAINTS.is_file() else "pip install"
    parts = [f"missing: {', '.join(missing)}"] * bool(missing) + [f"other versions: {', '.join(wrong)}"] * bool(wrong)
    found = "; ".join(parts) or f"{counted(len(asked), 'requirement')} met, clipsmith {metadata.version('clipsmith')}"
    yield Check("packages", not parts, found, True, f"{install} {' '.join(wanted)}" if parts else None)
    if not CONSTRAINTS.is_file():
        return  # installed without a checkout: there is no constraints.txt
    locked = [line.split("==") for line in CONSTRAINTS.read_text(encoding="utf-8").split() if "==" in line]
    others = [(name, here, version) for name, version in locked if (here := _installed(name)) not in (None, version)]
    others = [each for each in others if str(each[1]).partition("+")[0] != each[2].partition("+")[0]]
    said = ", ".join(f"{name} {here} (locked {version})" for name, here, version in others[:_SHOWN])
    said += f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    advice = f"{install} {' '.join(name for name, _, _ in others)}"
    yield Check("locked", not others, said or "the versions that the tests ran with", False, advice if others else None)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> Iterator[Check]:
    from tasks.device.gpu import gpu_capability, gpu_count, gpu_name
    from tasks.device.gpu_state import driver_version

    if not gpu_count():
        advice = "nothing, unless you want latencies, or engines of tensorrt, trtrtx or torch-fp8"
        yield Check("GPU", False, "no CUDA device is seen", False, advice)
        return
    more = f" and {gpu_count() - 1} more" if gpu_count() > 1 else ""
    yield Check("GPU", True, f"{gpu_name()} ({gpu_capability()}){more}, driver {driver_version() or 'unknown'}", False)


def _targets() -> Iterator[Check]:
    from flows.parameters import DEMO
    from tasks.engines.available import standings

    found = standings()
    lacking = {each.target: each.why_not_build for each in found if each.target in DEMO.targets and not each.builds}
    built = ", ".join(each.target for each in found if each.builds) or "none"
    run = ", ".join(each.target for each in found if each.runs) or "none"
    reasons = "; ".join(dict.fromkeys(str(why) for why in lacking.values()))
    advice = f"{reasons}; or leave out {', '.join(lacking)}: `--targets`" if lacking else None
    yield Check("targets", not lacking, f"built here: {built}; run here: {run}", True, advice)


def _store(root: Path) -> Iterator[Check]:
    place = root.expanduser().absolute()
    there = place.exists() and (not place.is_dir() or any(place.iterdir()))
    try:
        if there:
            known, damaged = open_store(place, writable=False).summaries()
            said = f"{place}: format {FORMAT}, {counted(len(known), 'release')}"
            if damaged:
                yield Check("store", False, f"{said}, {len(damaged)} damaged", False, "`clipsmith verify` names them")
                return
        else:
            refuse_network(place)
            said = f"{place}: none yet, the first run makes it"
        with tempfile.TemporaryFile(dir=_existing(place)):
            pass
    except ClipsmithError as error:
        yield Check("store", False, f"{place}: {error.what}", True, error.fix)
    except OSError as error:
        advice = "correct the folder's permissions, or give --store"
        yield Check("store", False, f"{place}: cannot be written: {error.strerror}", True, advice)
    else:
        yield Check("store", True, said, True)


def _existing(place: Path) -> Path:
    return next(path for path in (place, *place.parents) if path.exists())


def _space(root: Path) -> Iterator[Check]:
    from flows.parameters import DEMO
    from tasks.pipeline.disk_space import MARGIN, estimate_bytes

    place = _existing(root.expanduser().absolute())
    free, (model, parameters) = shutil.disk_usage(place).free, _SMALL
    room = MARGIN * estimate_bytes(parameters, DEMO.precisions, DEMO.targets)
    advice = f"free some: a run of {model} may need {megabytes(room, 0)}; `clipsmith gc` may help"
    yield Check("space", free >= room, f"{megabytes(free, 0)} free at {place}", False, None if free >= room else advice)


def _port() -> Iterator[Check]:
    from deployments.server.asking import listener

    name = f"port {PORT}"
    match listener(PORT):
        case "nothing":
            yield Check(name, True, "free for `clipsmith up`", False)
        case "prefect":
            yield Check(name, True, "a Prefect server answers", False)
        case _:
            advice = f"`clipsmith up --port {PORT + 1}`, or end that program"
            yield Check(name, False, "another program listens", False, advice)


def _server() -> Iterator[Check]:
    from deployments.server.asking import ask_server

    try:
        server = ask_server(POOL)
    except ClipsmithError as error:
        where = "" if error.where is None else f" ({error.where})"
        yield Check("server", False, f"{error.what}{where}", True, error.fix)
        return
    if server is None:
        advice = "nothing for single runs, they bring their own; for nights and the UI `clipsmith up`"
        yield Check("server", False, "no Prefect server runs or is named", False, advice)
        return
    yield Check("server", True, f"Prefect {server.version or 'Cloud'} at {server.url}", True)
    if server.workers:
        yield Check("worker", True, f"in pool {POOL}: {', '.join(server.workers)}", False)
    elif server.workers is None:
        yield Check("worker", False, f"there is no pool {POOL}", False, "`clipsmith deploy` makes it")
    else:
        advice = f"`prefect worker start --pool {POOL}`: runs that are started on the server wait for one"
        yield Check("worker", False, f"none is at work in pool {POOL}", False, advice)
