"""`python -m tasks.bench FOLDER`: time an exported folder; write JSON to standard output, and optionally Markdown."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from artifacts.exit_codes import ExitCode
from artifacts.inert import visible
from tasks.bench.gpu_timing import TimingSettings
from tasks.bench.proof import rejected, rejection
from tasks.bench.report import markdown
from tasks.bench.run import bench
from tasks.bench.settings import BenchSettings


def main(arguments: list[str] | None = None) -> int:
    """Measure and write; return the exit code: 3 if the gate rejects rows, else 0, also if nothing could run (the
    report says why)."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    settings = BenchSettings(
        batches=options.batch,
        baselines=options.baselines,
        targets=options.targets,
        timing=TimingSettings(rounds=options.rounds, seconds=options.batch_seconds),
        min_fp8_share=options.min_fp8_share,
        seconds=options.seconds,
    )
    report = bench(options.folder, settings, f"python -m tasks.bench {shlex.join(given)}")
    if options.json is None:
        print(report.to_json())
    else:
        options.json.write_text(report.to_json())
    if options.markdown is not None:
        options.markdown.write_text(markdown(report))
    bad = rejected(report.rows)
    for row in bad:
        print(visible(rejection(row, settings.min_fp8_share)), file=sys.stderr)
    return ExitCode.GATE if bad else ExitCode.DONE


def _parser() -> argparse.ArgumentParser:
    default = BenchSettings()
    parser = argparse.ArgumentParser(prog="python -m tasks.bench", description="Time an exported folder on this GPU.")
    parser.add_argument("folder", type=Path, help="holds image/{fp16,fp8}.onnx and text/{fp16,fp8}.onnx")
    parser.add_argument("--batch", type=_numbers, default=default.batches, help="batch sizes, by commas")
    parser.add_argument("--baselines", type=_names, default=default.baselines, help="torch-eager,torch-compile")
    parser.add_argument("--targets", type=_names, default=default.targets, help="tensorrt,trtrtx,torch-fp8")
    parser.add_argument("--min-fp8-share", type=_share, default=default.min_fp8_share, help="the gate (%(default)s)")
    parser.add_argument("--rounds", type=int, default=default.timing.rounds, help="at most, for each batch size")
    parser.add_argument("--batch-seconds", type=float, default=default.timing.seconds, help="at most, likewise")
    parser.add_argument("--seconds", type=float, help="begin nothing new after so many seconds")
    parser.add_argument("--json", type=Path, help="file for the JSON (default: the standard output)")
    parser.add_argument("--markdown", type=Path, help="file for the same as Markdown")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text}: a share is between 0 and 1")
    return share


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _numbers(text: str) -> tuple[int, ...]:
    numbers = tuple(int(part) for part in _names(text))
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: batch sizes are whole numbers from 1")
    return numbers


if __name__ == "__main__":
    sys.exit(main())
