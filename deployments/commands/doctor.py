"""The command that checks whether clipsmith can work on this machine."""

from __future__ import annotations

from dataclasses import asdict

import typer

from artifacts.exit_codes import ExitCode
from deployments.commands import panels
from deployments.commands.options import JsonOption, StoreOption, answer, store_path
from deployments.printing import show_doctor
from deployments.server.environment import prepare_prefect

app = typer.Typer()


@app.command(rich_help_panel=panels.RUN)
def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Check Python, packages, GPU, targets, store, port, server and worker. Exits with 1 when a run is not possible."""
    prepare_prefect()
    from deployments.commands.checkup import checks

    found = list(checks(store_path(store)))
    able = all(each.ok for each in found if each.needed)
    answer(as_json, {"able": able, "checks": [asdict(each) for each in found]}, show_doctor.print_checks, found)
    raise typer.Exit(ExitCode.DONE if able else ExitCode.FAILED)
