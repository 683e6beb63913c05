"""Lets AOTInductor find CUDA's headers, the driver's library and the C++ library when it compiles and links a package.

PyTorch looks for the headers two folders above the `nvcc` on the PATH, which may be a wrapper far away from its
toolkit, and never in the packages that come with its own wheels. So this module sets variables that PyTorch and the
linker read.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HEADERS = ("cuda.h", "cuda_runtime.h", "cuda_fp8.h", "crt/host_defines.h")
_NAMED = ("CUDA_HOME", "CUDA_PATH")
_USUAL = (Path("/usr/local/cuda"), Path("/usr"))
CXX_LIBRARY = "libstdc++.so.6"
"""The shared C++ library that PyTorch uses. If a compiler has only the static one, a package gets its own copy, which
shares some symbols with PyTorch's and not others: then the package's first regular expression crashes the process."""


def why_no_toolkit() -> str | None:
    """Why packages cannot be compiled for a GPU here; None if they can."""
    if cuda_home() is None:
        return "CUDA's headers are not found: install CUDA's toolkit, or set CUDA_HOME to where it is"
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        return f"there is no C++ compiler {compiler}: install one, or name it in CXX"
    return None


def cuda_environment() -> dict[str, str]:
    """Variables for a process that compiles packages; they must be set before it imports torch."""
    home = cuda_home()
    return {} if home is None else {"CUDA_HOME": str(home)}


@contextmanager
def linkable_libraries() -> Iterator[None]:
    """Inside the block, let the linker also find libraries that this process has loaded, after its own ones.

    They are the driver's (without a toolkit's stubs there may be no `libcuda.so`) and `CXX_LIBRARY`.
    """
    before = os.environ.get("LIBRARY_PATH")
    with tempfile.TemporaryDirectory(prefix="clipsmith-link-") as folder:
        for name in ("libcuda.so", CXX_LIBRARY):
            if (path := _loaded(name)) is not None:
                (Path(folder) / name).symlink_to(path)
        os.environ["LIBRARY_PATH"] = folder if not before else f"{before}{os.pathsep}{folder}"
        try:
            yield
        finally:
            if before is None:
                del os.environ["LIBRARY_PATH"]
            else:
                os.environ["LIBRARY_PATH"] = before


def _loaded(name: str) -> str | None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    return next((line[line.index("/") :] for line in lines if f"/{name}" in line), None)


def cuda_home() -> Path | None:
    """The CUDA folder whose `include` has what a package needs; the one in the environment comes first."""
    return next((home for home in _candidates() if all((home / "include" / name).exists() for name in _HEADERS)), None)


def _candidates() -> Iterator[Path]:
    yield from (Path(os.environ[name]) for name in _NAMED if os.environ.get(name))
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        yield Path(nvcc).resolve().parent.parent
    yield from _USUAL
    wheels = importlib.util.find_spec("nvidia")
    for folder in [] if wheels is None else wheels.submodule_search_locations or []:
        yield from sorted(Path(folder).glob("cu[0-9]*"), reverse=True)
        yield Path(folder) / "cuda_runtime"
