"""Short scripts inside a release that repeat its steps by hand, from the folder that `clipsmith export` writes.

Their results go to `rebuilt/` beside them, so that the exported, signed files do not change.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from artifacts import places
from artifacts.inert import visible
from artifacts.keeping import render
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.store.store import Store
from tasks.engines.by_hand import Engine, Shapes, build_command, package_command, run_command, shell_line
from tasks.engines.record import is_record, release_profile

_PARAMETERS = "parameters.yaml"
_TENSOR = re.compile(r"(\w+) \[batch, ([\d, ]+)\]")
"""An input in the table of encoders: `pixel_values [batch, 3, 224, 224] float16`."""


def write_scripts(manifest: Manifest, folder: Path) -> None:
    """Write the scripts of a release: one for everything up to the ONNX files and, per engine, build and run."""
    import yaml

    source = manifest.provenance.source
    pinned = {"revision": source.revision} if source.kind == "hub" else {}  # the resolved commit
    parameters = yaml.safe_dump(manifest.provenance.parameters | pinned, allow_unicode=True)
    (folder / _PARAMETERS).write_text(parameters, encoding="utf-8")
    line = ["clipsmith", "optimize", "--config", places.within(places.SCRIPTS, _PARAMETERS), "--store", "rebuilt/store"]
    everything = f"Makes {manifest.ref} again: checkpoint, calibration, export, engines, evaluation."
    _write(folder / "optimize.sh", everything, shell_line(line))
    for file, engine in _engines(manifest):
        label = f"{file.encoder}-{file.precision}-{file.target}.sh"
        place = f"rebuilt/{file.path}"
        again = _build(replace(engine, path=place))
        _write(folder / f"build-{label}", f"Builds {file.path} again, as {place}.", again)
        timed = shell_line(run_command(engine, engine.profile.opt))
        _write(folder / f"run-{label}", f"Times {file.path} at batch {engine.profile.opt}.", timed)


def derive(store: Store, manifest: Manifest, folder: Path) -> None:
    """Write all derived files of a release into an exported folder: tables, report and scripts.

    Raises:
        ObjectMissing, ObjectDamaged, TableError, NumericError: see `artifacts.keeping.render.render`.
    """
    render.render(store, manifest, render.TABLES, folder / places.TABLES)
    render.render(store, manifest, render.REPORT, folder)
    (folder / places.SCRIPTS).mkdir()
    write_scripts(manifest, folder / places.SCRIPTS)


def _engines(manifest: Manifest) -> Iterator[tuple[ReleaseFile, Engine]]:
    profile = release_profile(manifest)
    shapes: dict[str, Shapes] = {
        str(row["encoder"]): {
            name: tuple(map(int, sizes.split(","))) for name, sizes in _TENSOR.findall(str(row["input"]))
        }
        for row in manifest.tables.get("encoders", ())
    }
    for file in manifest.files:
        if file.kind == "engine" and not is_record(file.member) and str(file.encoder) in shapes:
            onnx = places.within(str(file.encoder), f"{file.precision}.onnx")
            inputs = shapes[str(file.encoder)]
            yield file, Engine(str(file.target), onnx, file.path, f"rebuilt/{file.path}", inputs, profile)


def _build(engine: Engine) -> str:
    """The build commands; for TensorRT for RTX also with a Python package, if NVIDIA's own tool is not installed."""
    package = package_command(engine)
    tool = build_command(engine)
    if package is None:
        return shell_line(tool)
    return f"if command -v {tool[0]} > /dev/null; then\n  {shell_line(tool)}\nelse\n  {shell_line(package)}\nfi"


def _write(path: Path, about: str, body: str) -> None:
    home = 'cd "$(dirname "$0")/.."'
    made = "mkdir -p rebuilt/image rebuilt/text"
    path.write_text(
        f"#!/usr/bin/env bash\n# {visible(about)}\nset -euo pipefail\n{home}\n{made}\n{body}\n", encoding="utf-8"
    )
