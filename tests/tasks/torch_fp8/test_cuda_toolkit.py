"""What packages need of CUDA is found where it is: beside a wrapper of the compiler, in wheels, or loaded already."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tasks.torch_fp8 import cuda_toolkit
from tasks.torch_fp8.cuda_toolkit import CXX_LIBRARY, cuda_environment, cuda_home, linkable_libraries, why_no_toolkit


def toolkit(folder: Path) -> Path:
    (folder / "include" / "crt").mkdir(parents=True)
    for name in ("cuda.h", "cuda_runtime.h", "cuda_fp8.h", "crt/host_defines.h"):
        (folder / "include" / name).touch()
    return folder


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with no CUDA in its usual places, and a PATH of its own."""
    for name in ("CUDA_HOME", "CUDA_PATH", "CXX", "LIBRARY_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cuda_toolkit, "_USUAL", (tmp_path / "usual",))
    monkeypatch.setattr(cuda_toolkit.importlib.util, "find_spec", lambda _: None)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_nothing_there(bare: Path) -> None:
    assert cuda_home() is None and cuda_environment() == {}
    reason = why_no_toolkit()
    assert reason is not None and "headers" in reason and "CUDA_HOME" in reason
    (toolkit(bare / "usual") / "include" / "crt" / "host_defines.h").unlink()
    assert cuda_home() is None, "CUDA 13's runtime wheel alone has these headers without those that they include"


def test_a_compiler_is_needed(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit(bare / "usual")
    reason = why_no_toolkit()
    assert reason is not None and "no C++ compiler g++" in reason
    program(bare / "bin" / "g++")
    assert why_no_toolkit() is None
    monkeypatch.setenv("CXX", "another++")
    assert "another++" in (why_no_toolkit() or "")


def test_a_wrapper_far_from_its_toolkit_does_not_mislead(bare: Path) -> None:
    """PyTorch would take the folder above the wrapper's, which has no headers."""
    program(bare / "bin" / "nvcc")
    toolkit(bare / "usual")
    assert cuda_environment() == {"CUDA_HOME": str(bare / "usual")}


def test_a_link_leads_to_its_toolkit(bare: Path) -> None:
    home = toolkit(bare / "cuda-13.0")
    (bare / "bin" / "nvcc").symlink_to(program(home / "bin" / "nvcc"))
    assert cuda_home() == home


def test_pytorchs_wheels_bring_them(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        submodule_search_locations = (str(bare / "nvidia"),)

    monkeypatch.setattr(cuda_toolkit.importlib.util, "find_spec", lambda _: Spec)
    old = toolkit(bare / "nvidia" / "cuda_runtime")
    assert cuda_home() == old
    new = toolkit(bare / "nvidia" / "cu13")
    assert cuda_home() == new


def test_what_the_environment_names_comes_first(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toolkit(bare / "usual")
    monkeypatch.setenv("CUDA_PATH", str(toolkit(bare / "named")))
    assert cuda_home() == bare / "named"
    monkeypatch.setenv("CUDA_HOME", str(bare / "empty"))
    assert cuda_home() == bare / "named"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_the_driver_can_be_linked_by_its_short_name(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library stands for the driver's; the linker itself says whether it is found."""
    monkeypatch.setenv("PATH", os.defpath)

    def link() -> bool:
        command = ["g++", "-shared", "-o", str(bare / "x.so"), "-l:libcuda.so"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if link():
        pytest.skip("this machine has a libcuda.so where linkers look")
    (bare / "empty.cpp").touch()
    driver = bare / "a folder" / "libcuda.so.580.1"
    driver.parent.mkdir()
    subprocess.run(["g++", "-shared", "-o", str(driver), str(bare / "empty.cpp")], check=True)
    with linkable_libraries():
        assert not link(), "nothing is loaded yet"
    ctypes.CDLL(str(driver))
    with linkable_libraries():
        assert link()
    assert "LIBRARY_PATH" not in os.environ and not link()
    monkeypatch.setenv("LIBRARY_PATH", "/kept")
    with linkable_libraries():
        assert os.environ["LIBRARY_PATH"].startswith("/kept:") and link()
    assert os.environ["LIBRARY_PATH"] == "/kept"


def test_the_cpp_library_is_the_one_that_is_loaded() -> None:
    with linkable_libraries():
        link = Path(os.environ["LIBRARY_PATH"]) / CXX_LIBRARY
        assert str(link.readlink()) in Path("/proc/self/maps").read_text()
        assert ctypes.CDLL(str(link)).__cxa_demangle
    assert not link.exists()
