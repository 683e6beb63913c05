"""Encoders as AOTInductor packages: `python -m tasks.torch_fp8.aot build ONNX FILE`, and `time FILE`, by hand.

A package knows its inputs and its output by the names, types and shapes of the ONNX file it was made of.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.torch_fp8.cuda_toolkit import cuda_environment
from tasks.torch_fp8.onnx_graph import Port

if TYPE_CHECKING:
    import torch

DEVICE = "cuda"
_PORTS = "clipsmith.ports"
_FIRST_FP8 = (8, 9)
_HOPPER = (9, 0)
_SUFFIX = ".pt2"
_ROUNDS = 100


def build_package(onnx: Path, path: Path, batches: tuple[int, int, int], device: str = DEVICE) -> None:
    """Compile an exported ONNX file for the smallest, the usual and the largest batch size, and write it to `path`.

    Raises:
        UnknownOperator: the graph has a node that clipsmith's export does not write.
    """
    import torch

    from tasks.torch_fp8.compiled import package
    from tasks.torch_fp8.onnx_graph import random_inputs
    from tasks.torch_fp8.torch_graph import load

    loaded = load(onnx, device, kernels=own_kernels(device))
    example = [torch.from_numpy(values).to(device) for values in random_inputs(loaded.graph, 1, seed=0).values()]
    ports = [asdict(port) for port in (*loaded.graph.inputs, loaded.graph.outputs[0])]
    made = path.with_name(path.name + _SUFFIX)  # PyTorch requires this suffix
    package(loaded.module, example, made, batches=batches, metadata={_PORTS: json.dumps(ports)})
    made.rename(path)


def own_kernels(device: str) -> bool:
    """Whether our Triton kernels are used: on Hopper and later; elsewhere only PyTorch's own operators are."""
    import torch

    return device != "cpu" and torch.cuda.get_device_capability(device) >= _HOPPER


def ports(package: Any) -> tuple[tuple[Port, ...], Port]:
    """The inputs and the output of a package that `build_package` wrote."""
    *inputs, output = (
        Port(item["name"], item["dtype"], tuple(item["shape"])) for item in json.loads(package.get_metadata()[_PORTS])
    )
    return tuple(inputs), output


def why_no_fp8() -> str | None:
    """Why this machine's GPU cannot compute in FP8; None if it can. PyTorch must see a CUDA device."""
    import torch

    capability = torch.cuda.get_device_capability()
    return "sm{}{} has no FP8 arithmetic (8.9 or newer has)".format(*capability) if capability < _FIRST_FP8 else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Build or time one package."""
    options = _parser().parse_args(arguments)
    if options.command == "build":
        os.environ |= cuda_environment()
        build_package(options.onnx, options.package, (options.min, options.opt, options.max))
    else:
        print(f"{_median_ms(options.package, options.batch):.3f} ms, median of {_ROUNDS} batches of {options.batch}")


def _median_ms(path: Path, batch: int) -> float:
    """The median time of a batch on the device in ms, by CUDA events; inputs are on the device already."""
    import torch

    from tasks.torch_fp8.compiled import load_package

    package = load_package(path)
    feed = [_random(port, batch) for port in ports(package)[0]]
    for _ in range(10):
        package(*feed)
    event: Any = torch.cuda.Event  # PyTorch has no type hints for it
    pairs = [[event(enable_timing=True) for _ in range(2)] for _ in range(_ROUNDS)]
    for start, end in pairs:
        start.record()
        package(*feed)
        end.record()
    torch.cuda.synchronize()
    return float(np.median([start.elapsed_time(end) for start, end in pairs]))


def _random(port: Port, batch: int) -> torch.Tensor:
    import torch

    shape = (batch, *port.shape)
    if port.dtype.startswith("float"):
        return torch.randn(shape, device=DEVICE).to(getattr(torch, port.dtype))
    if port.name == "input_ids":
        return torch.randint(1, 100, shape, device=DEVICE)
    return torch.ones(shape, dtype=torch.int64, device=DEVICE)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tasks.torch_fp8.aot", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="compile an ONNX file for this GPU")
    build.add_argument("onnx", type=Path)
    build.add_argument("package", type=Path)
    for name, batch in (("min", 1), ("opt", 8), ("max", 32)):
        build.add_argument(f"--{name}", type=int, default=batch, help="batch size (%(default)s)")
    time = commands.add_parser("time", help="time a package on this GPU")
    time.add_argument("package", type=Path)
    time.add_argument("--batch", type=int, default=8, help="(%(default)s)")
    return parser


if __name__ == "__main__":
    main()
