"""The command that judges a published release by other gates, on its saved measurements: no model runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from artifacts.errors import GateFailed
from artifacts.release.gates import judge as judge_tables
from artifacts.report.gate_words import sentence
from artifacts.report.task_table import task_lines
from deployments.commands import panels
from deployments.commands.options import JsonOption, Ref, StoreOption, open_to_read, print_json
from deployments.printing import show
from deployments.printing.console import stdout
from deployments.server.prefect_settings import load_settings

app = typer.Typer()


@app.command(rich_help_panel=panels.COMPARE)
def judge(
    ref: Ref,
    gates: Annotated[Path, typer.Option(help="A YAML file with a `gates:` block, as for optimize.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Hold a release to other gates, on its saved embeddings and tables. Exits with 3 unless it passes all."""
    from flows.parameters import parse_gates, read_config

    load_settings()  # raises our own error for settings on which the import below would fail with one of Prefect's
    from tasks.evaluation.saved_accuracy import saved_accuracy

    wanted = parse_gates(read_config(gates), where=gates)
    opened = open_to_read(store)
    manifest = opened.find(ref)
    scored = saved_accuracy(opened, manifest)
    tables = dict(manifest.tables) if scored is None else manifest.tables | {"accuracy": tuple(scored)}
    results = judge_tables(wanted.gates(), tables)
    missed = [sentence(result) for result in results if result.rejects]
    basis = "tables" if scored is None else "embeddings"
    if as_json:
        found = [result.model_dump(mode="json") for result in results]
        print_json({"ref": manifest.ref, "accepted": not missed, "basis": basis, "gates": found})
    else:
        console = stdout()
        console.say((manifest.ref, "bold"), f", judged on its saved {basis}")
        show.print_gates(console, results)
        show.print_task(console, task_lines(tables))
    if missed:
        raise GateFailed.of(
            "\n".join([f"{manifest.ref} does not pass", *(f"  {text}" for text in missed)]),
            release=manifest.ref,
            new=False,
            where=gates,
            fix="evaluate on more samples where it is undecided; else keep layers in FP16 with a recipe",
        )
