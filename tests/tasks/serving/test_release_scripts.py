"""Every engine of a release has a script that builds it again and one that times it; those for the CPU are run."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from artifacts.manifest import Manifest
from tasks.serving.release_scripts import write_scripts
from tests.processes import own_environment

BIN = Path(sys.executable).parent


@pytest.fixture
def scripts(demo_export: Path) -> list[Path]:
    return sorted((demo_export / "scripts").glob("*.sh"))


def run(script: Path) -> subprocess.CompletedProcess[str]:
    """From elsewhere, with the environment's own commands and none of NVIDIA's."""
    environment = own_environment(PATH=f"{BIN}:{os.environ['PATH']}")
    return subprocess.run(["bash", str(script)], capture_output=True, text=True, cwd="/", env=environment)


def test_every_engine_has_its_scripts(demo_export: Path, scripts: list[Path]) -> None:
    engines = {path.relative_to(demo_export) for path in demo_export.glob("*/*.engine")}
    labels = {f"{path.parent}-{path.stem.replace('.', '-', 1)}.sh" for path in engines}
    assert len(labels) == 12
    wanted = {f"{verb}-{label}" for verb in ("build", "run") for label in labels} | {"optimize.sh"}
    assert {path.name for path in scripts} == wanted


def test_the_manifest_alone_gives_the_same_bytes_again(demo_export: Path, scripts: list[Path], tmp_path: Path) -> None:
    """Lost scripts are made again from it, and must be the object that it lists."""
    path = demo_export / "manifest.json"
    write_scripts(Manifest.from_bytes(path.read_bytes(), where=path), tmp_path)
    assert len(scripts) == 25
    for script in (*scripts, demo_export / "scripts" / "parameters.yaml"):
        assert (tmp_path / script.name).read_bytes() == script.read_bytes(), script.name


def test_they_are_sound_shell(scripts: list[Path]) -> None:
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)
    done = subprocess.run([str(BIN / "shellcheck"), *map(str, scripts)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("encoder", ["image", "text"])
@pytest.mark.parametrize("precision", ["fp16", "fp8"])
def test_shapes_are_those_of_the_graph_and_the_profile(encoder: str, precision: str, demo_export: Path) -> None:
    script = (demo_export / "scripts" / f"build-{encoder}-{precision}-trtrtx-sm89.sh").read_text()
    words = shlex.split(script.replace("\\\n", ""), comments=True)
    graph = onnx.load(demo_export / encoder / f"{precision}.onnx").graph
    for size, batch in json.loads((demo_export / "manifest.json").read_text())["provenance"]["parameters"][
        "profile"
    ].items():
        sizes = {i.name: [batch, *(d.dim_value for d in i.type.tensor_type.shape.dim[1:])] for i in graph.input}
        wanted = ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in sizes.items())
        assert f"--{size}Shapes={wanted}" in words
    assert f"--onnx={encoder}/{precision}.onnx" in words


@pytest.mark.heavy
def test_the_scripts_that_need_no_gpu_make_the_same_files(demo_export: Path, tmp_path: Path) -> None:
    release = Path(shutil.copytree(demo_export, tmp_path / "release"))
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in release.rglob("*") if path.is_file()}
    built = 0
    for script in (release / "scripts").glob("build-*.sh"):
        done = run(script)
        assert done.returncode == 0, done.stderr
        built += 1
    for engine in (release / "rebuilt").rglob("*.engine"):
        assert engine.read_bytes() == (release / engine.relative_to(release / "rebuilt")).read_bytes(), engine
    assert len(list((release / "rebuilt").rglob("*.engine"))) == built == 12
    for script in (release / "scripts").glob("run-*-onnxruntime.sh"):
        done = run(script)
        assert done.returncode == 0, done.stderr
    assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in before}, "the release is untouched"


@pytest.mark.heavy
def test_the_whole_run_again_is_the_same_graphs_and_engines(demo_export: Path, tmp_path: Path) -> None:
    release = Path(shutil.copytree(demo_export, tmp_path / "release"))
    done = run(release / "scripts" / "optimize.sh")
    assert done.returncode == 0, done.stderr
    (manifest,) = (release / "rebuilt" / "store" / "releases" / "demo").glob("*.json")

    def digests(path: Path) -> dict[str, str]:
        kinds = ("onnx", "engine", "checkpoint", "preprocess")
        files = json.loads(path.read_text())["files"]
        # ModelOpt's own state is a pickle that differs from run to run; the scales are in the amax table beside it.
        return {f["path"]: f["sha256"] for f in files if f["kind"] in kinds and f["member"] != "modelopt_state.pth"}

    assert len(digests(manifest)) > 20
    assert digests(manifest) == digests(release / "manifest.json")
