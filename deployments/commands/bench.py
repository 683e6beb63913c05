"""The command that times a release's encoders on this machine's GPU."""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from artifacts.copies import exporting
from artifacts.errors import ConfigError, DataError, ReleaseNotFound
from artifacts.exit_codes import ExitCode
from artifacts.manifest import Manifest
from artifacts.store.store import Store, activate
from deployments.commands import panels
from deployments.commands.listing_command import ListingCommand
from deployments.commands.options import JsonOption, StoreOption, answer, listed, open_to_read, store_path
from deployments.printing.console import stderr
from deployments.printing.show_bench import print_bench
from deployments.server.environment import prepare_prefect
from tasks.bench.gate import MIN_FP8_SHARE
from tasks.bench.proof import rejected

if TYPE_CHECKING:
    from tasks.bench.report import BenchReport
    from tasks.bench.settings import BenchSettings

app = typer.Typer()


@app.command(rich_help_panel=panels.COMPARE, cls=ListingCommand)
def bench(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|REF", help="A release, or a model as for optimize, which bench then optimizes first."
        ),
    ],
    batch: Annotated[str, typer.Option(help="Batch sizes to time, by commas.")] = "1,8,32,128",
    baselines: Annotated[str, typer.Option(help="FP16 baselines to time, by commas: {baselines}.")] = (
        "torch-eager,torch-compile"
    ),
    targets: Annotated[
        str, typer.Option(help="Targets to time, by commas: {bench_targets}.")
    ] = "tensorrt,trtrtx,torch-fp8",
    min_fp8_share: Annotated[
        float, typer.Option(min=0, max=1, help="Gate: the share of an FP8 row's matrix products that must run in FP8.")
    ] = MIN_FP8_SHARE,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time FP8 against FP16 on this machine's GPU. A row that cannot be measured says why; that is no error.

    Exits with 3 when an FP8 row is not proven to have run in FP8.
    """
    from tasks.bench.machine import why_no_gpu
    from tasks.bench.run import not_measured
    from tasks.bench.settings import BenchSettings

    command = shlex.join(["clipsmith", *sys.argv[1:]])
    settings = BenchSettings(
        batches=_sizes(batch),
        baselines=tuple(listed(baselines)),
        targets=tuple(listed(targets)),
        min_fp8_share=min_fp8_share,
    )
    reason = why_no_gpu()
    if reason is not None:
        report = not_measured(model, settings, reason, command)
    else:
        with contextlib.redirect_stdout(sys.stderr):
            report = _measure(model, settings, command, store)
    answer(as_json, asdict(report), print_bench, report)
    if rejected(report.rows):
        raise typer.Exit(ExitCode.GATE)


def _measure(model: str, settings: BenchSettings, command: str, store: Path | None) -> BenchReport:
    """Export the release and time it while holding the GPU's benchmark lock, as two benchmarks disturb each other."""
    from tasks.bench.run import bench as measure
    from tasks.device.device_turn import device_key, device_turn
    from tasks.engines import backend_for

    opened, manifest = _release(model, store)
    with tempfile.TemporaryDirectory(prefix="clipsmith-bench-") as work:
        folder = Path(work) / manifest.ref
        exporting.export(opened, manifest, folder)
        _add_evaluation(folder)
        with activate(opened), device_turn(device_key(backend_for("tensorrt").device())):
            return measure(folder, settings, command)


def _add_evaluation(folder: Path) -> None:
    """Add evaluation data to the exported folder, so that accuracy is measured too. If the data is gone, only latency
    is measured, and the reason is printed."""
    from tasks.serving.evaluation_file import write_evaluation

    try:
        write_evaluation(folder)
    except DataError as error:
        stderr().print(f"accuracy is not measured: {error}")


def _release(model: str, store: Path | None) -> tuple[Store, Manifest]:
    """The named release, or the release that `optimize` makes from the model."""
    if store_path(store).exists():
        with contextlib.suppress(ReleaseNotFound):
            opened = open_to_read(store)
            return opened, opened.find(model)
    prepare_prefect()
    from deployments.server.run_optimize import run_optimize
    from flows.parameters import parse_parameters

    values = {"model": model, "store": str(store_path(store)), "targets": []}
    published = run_optimize(parse_parameters(values, where="command line"))
    opened = open_to_read(store)
    return opened, opened.find(published.ref)


def _sizes(text: str) -> tuple[int, ...]:
    """Parse batch sizes that are separated by commas.

    Raises:
        ConfigError: one of them is not a whole number from 1.
    """
    sizes = tuple(int(name) if name.isdecimal() else 0 for name in listed(text))
    if not sizes or min(sizes) < 1:
        raise ConfigError(
            f"{text!r} is no list of batch sizes",
            where="--batch",
            expected="whole numbers from 1, by commas",
            fix="for example --batch 1,8,32,128",
        )
    return sizes
