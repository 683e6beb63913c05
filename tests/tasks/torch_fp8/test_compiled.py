"""Packages from compilers of several kinds, and what is compiled to load one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tasks.torch_fp8 import compiled

STATIC = """#!/bin/sh
echo "$@" >> {log}
case " $* " in *" -shared "*) set -- "$@" -static-libstdc++;; esac
exec g++ "$@"
"""
BUILD = """
import sys
from pathlib import Path
import numpy as np, torch
from tasks.torch_fp8.compiled import no_vector_probes, package

path, inputs, outputs = map(Path, sys.argv[1:])
module, example = torch.nn.Linear(8, 4), torch.randn(3, 8)
with no_vector_probes():  # as for a GPU
    package(module, [example], path, batches=(1, 2, 4))
np.save(inputs, example.numpy())
np.save(outputs, module(example).detach().numpy())
"""
LOAD = """
import sys
from pathlib import Path
import numpy as np, torch
from tasks.torch_fp8.compiled import load_package

path, inputs, outputs = map(Path, sys.argv[1:])
np.save(outputs, load_package(path)(torch.from_numpy(np.load(inputs))).numpy())
"""


def python(code: str, *arguments: Path, **environment: str) -> None:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    env = os.environ | environment
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.heavy
def test_a_compiler_that_links_statically(tmp_path: Path) -> None:
    """What it made crashed the process that loaded it."""
    compiler, calls = tmp_path / "g++-static", tmp_path / "calls"
    compiler.write_text(STATIC.format(log=calls))
    compiler.chmod(0o755)
    package, fed, wanted, got = (tmp_path / name for name in ("small.pt2", "in.npy", "wanted.npy", "got.npy"))
    python(BUILD, package, fed, wanted, CXX=str(compiler))
    assert "-shared" in calls.read_text() and "-mavx" not in calls.read_text()
    python(LOAD, package, fed, got)
    np.testing.assert_allclose(np.load(got), np.load(wanted), rtol=1e-5, atol=1e-6)


@pytest.mark.heavy
def test_a_processors_instructions_are_not_probed_for_a_gpu() -> None:
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    usual = pick_vec_isa()
    assert usual
    with compiled.no_vector_probes():
        assert not pick_vec_isa()
    assert pick_vec_isa() == usual, "what is compiled for the processor afterwards has them again"


def test_no_kind_of_instructions_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """AMX keeps its first answer for the rest of the process, whatever the setting is by then."""
    from torch._inductor import cpu_vec_isa

    asked = []

    class Kind(cpu_vec_isa.VecAVX2):
        def __str__(self) -> str:
            return ""  # what /proc/cpuinfo must have for it

        def __bool__(self) -> bool:
            asked.append(self)
            return True

    kind = Kind()
    monkeypatch.setattr(cpu_vec_isa, "supported_vec_isa_list", [kind])
    with compiled.no_vector_probes():
        assert kind not in cpu_vec_isa.valid_vec_isa_list() and not asked
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
    assert cpu_vec_isa.valid_vec_isa_list() == [kind] and asked
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
