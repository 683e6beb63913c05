"""Commands that bring flows to a Prefect server: one of our own, or the one of a fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands import panels
from deployments.server.environment import prepare_prefect

app = typer.Typer()


@app.command(rich_help_panel=panels.RUN)
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI and the API, on 127.0.0.1.")] = 4200,
    no_auth: Annotated[
        bool,
        typer.Option("--no-auth", help="Ask nobody for a password: any user of the machine can run code as you."),
    ] = False,
) -> None:
    """Start a Prefect server with every flow, schedule and automation, and a worker. Ctrl-C ends them all."""
    from deployments.server.up import up as start_everything

    start_everything(port, auth=not no_auth)


@app.command(rich_help_panel=panels.RUN)
def deploy(
    pool: Annotated[
        str, typer.Option(help="Name of the work pool. Where there is none, deploy makes one of processes.")
    ] = "clipsmith",
) -> None:
    """Create or update pool, deployments, schedules and automations on the server of $PREFECT_API_URL, or of `up`."""
    prepare_prefect()
    from deployments.server import show_fleet
    from deployments.server.apply import apply_all, require_server

    url = require_server()
    show_fleet.print_deployed(url, pool, apply_all(pool))
