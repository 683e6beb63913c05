"""Commands by hand use flags that NVIDIA documents, and the shapes of the graph and its profile."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import UnknownTarget
from tasks.engines import BatchProfile, backend_for
from tasks.engines.by_hand import Engine, build_command, package_command, run_command, shell_line
from tasks.engines.child import Job, build_in_child
from tasks.torch_fp8 import aot
from tests.processes import own_environment

PUBLIC = json.loads(Path(__file__).with_name("public_flags.json").read_text())
PROFILE = BatchProfile(min=2, opt=8, max=32)
TEXT = {"input_ids": (77,), "attention_mask": (77,)}


def engine(target: str, **changes: Any) -> Engine:
    values = {"onnx": "text/fp8.onnx", "path": "e.engine", "kept": "kept/e", "inputs": TEXT, "profile": PROFILE}
    return Engine(target=target, **values | changes)


def flags(command: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in command if part.startswith("--"))}


def documented(tool: str) -> set[str]:
    lists = [set(source["flags"]) for source in PUBLIC[tool]]
    # Every version of trtexec must know them; the pages about tensorrt_rtx each tell of some.
    return set.intersection(*lists) if tool == "trtexec" else set.union(*lists)


@pytest.mark.parametrize("target", ["tensorrt", "trtrtx", "trtrtx-sm89", "trtrtx-sm120"])
def test_every_flag_is_documented(target: str) -> None:
    for command in (build_command(engine(target)), run_command(engine(target), 8)):
        assert command[0] == ("trtexec" if target == "tensorrt" else "tensorrt_rtx")
        assert all(part.startswith("--") for part in command[1:])
        assert flags(command).keys() <= documented(command[0])
        assert len(flags(command)) == len(command) - 1, "no flag twice"


def test_the_build_is_ours_by_the_profile_the_types_and_the_cache() -> None:
    made = flags(build_command(engine("tensorrt")))
    for size in ("min", "opt", "max"):
        batch = getattr(PROFILE, size)
        assert made[f"--{size}Shapes"] == f"input_ids:{batch}x77,attention_mask:{batch}x77"
    assert {"--stronglyTyped", "--noTF32", "--skipInference"} <= made.keys()
    assert (made["--profilingVerbosity"], made["--timingCacheFile"]) == ("detailed", "kept/e.timing")
    assert (made["--onnx"], made["--saveEngine"]) == ("text/fp8.onnx", "e.engine")


def test_the_compute_capability_is_the_targets() -> None:
    assert flags(build_command(engine("trtrtx-sm89")))["--computeCapabilities"] == "89"
    assert flags(build_command(engine("trtrtx-sm120")))["--computeCapabilities"] == "120"
    here = flags(build_command(engine("trtrtx")))
    assert "--useGpu" in here and "--computeCapabilities" not in here


def test_a_run_loads_the_engine_at_one_batch() -> None:
    for target in ("tensorrt", "trtrtx-sm89"):
        made = flags(run_command(engine(target), 32))
        assert (made["--loadEngine"], made["--shapes"]) == ("e.engine", "input_ids:32x77,attention_mask:32x77")
    assert flags(run_command(engine("trtrtx-sm89"), 32))["--runtimeCacheFile"] == "kept/e.kernels"


@pytest.mark.parametrize("target", ["torch-fp16", "trtrtx2-sm89", ""])
def test_targets_without_a_command(target: str) -> None:
    with pytest.raises(UnknownTarget):
        build_command(engine(target))
    with pytest.raises(UnknownTarget):
        run_command(engine(target), 8)


def test_only_rtx_has_a_packages_command() -> None:
    assert package_command(engine("tensorrt")) is None
    assert "--use-gpu" in (package_command(engine("trtrtx")) or [])


def test_pytorchs_commands_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """And do with the file, the package and the profile what the backend does."""
    built: list[Any] = []
    monkeypatch.setattr(aot, "build_package", lambda *arguments: built.append(arguments))
    monkeypatch.setattr(aot, "_median_ms", lambda *arguments: built.append(arguments) or 0.0)
    for command in (build_command(engine("torch-fp8")), run_command(engine("torch-fp8"), 16)):
        assert command[:3] == ["python", "-m", "tasks.torch_fp8.aot"]
        aot.main(command[3:])
    assert built == [(Path("text/fp8.onnx"), Path("e.engine"), (2, 8, 32)), (Path("e.engine"), 16)]
    built.clear()
    backend_for("torch-fp8").build(Path("text/fp8.onnx"), Path("e.engine"), "torch-fp8", PROFILE)
    assert built == [(Path("text/fp8.onnx"), Path("e.engine"), (2, 8, 32), aot.DEVICE)]


@pytest.mark.parametrize("target", ["onnxruntime", "tensorrt", "torch-fp8", "trtrtx-sm120"])
def test_a_line_is_the_command_again_in_a_shell(target: str) -> None:
    odd = engine(target, onnx='it\'s a "folder"/$HOME/fp8.onnx')
    for command in (build_command(odd), package_command(odd) or ["true"], run_command(odd, 8)):
        assert shlex.split(shell_line(command).replace("\\\n", "")) == command
        printed = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {shell_line(command)}"], capture_output=True, text=True, check=True
        ).stdout
        assert printed.split("\0")[:-1] == command


@pytest.mark.parametrize("target", ["onnxruntime", "trtrtx-sm89"])
def test_the_command_builds_the_same_engine(target: str, demo_graph: Any, tmp_path: Path) -> None:
    """Byte for byte: with ONNX Runtime itself, and with Polygraphy's own command."""
    pytest.importorskip("tensorrt_rtx")
    ours = tmp_path / "ours.engine"
    graph = demo_graph("image", "fp8")
    build_in_child(Job(onnx=graph, engine=ours, target=target, profile=PROFILE))
    again = engine(target, onnx=str(graph), path=str(tmp_path / "again.engine"), inputs={"pixel_values": (3, 32, 32)})
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    command = package_command(again) or build_command(again)
    done = subprocess.run(
        ["bash", "-c", shell_line(command)], capture_output=True, text=True, env=own_environment(PATH=path)
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.engine").read_bytes() == ours.read_bytes()
