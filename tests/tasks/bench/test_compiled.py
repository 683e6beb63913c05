"""Packages that a compiler makes which links C++'s library statically: they crashed the process that loaded them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.bench import compiled

STATIC = """#!/bin/sh
case " $* " in *" -shared "*) set -- "$@" -static-libstdc++;; esac
exec g++ "$@"
"""
LOAD = """
import sys
from pathlib import Path
import numpy as np, torch
from tasks.bench.compiled import load_package

package, inputs, outputs = map(Path, sys.argv[1:])
np.save(outputs, load_package(package)(torch.from_numpy(np.load(inputs))).numpy())
"""


@pytest.mark.heavy
def test_a_compiler_that_links_statically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "g++-static"
    compiler.write_text(STATIC)
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    torch.manual_seed(0)
    module, inputs = torch.nn.Linear(8, 4), torch.randn(3, 8)
    package, fed, got = (tmp_path / name for name in ("small.pt2", "in.npy", "out.npy"))
    compiled.package(module, [inputs], package, batches=(1, 2, 4))
    np.save(fed, inputs.numpy())
    command = [sys.executable, "-c", LOAD, *map(str, (package, fed, got))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        np.testing.assert_allclose(np.load(got), module(inputs).numpy(), rtol=1e-5, atol=1e-6)
