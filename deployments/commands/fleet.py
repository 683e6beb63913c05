"""Commands that register the flows with a Prefect server: our own, or the one of a fleet."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from artifacts.errors import ConfigError
from deployments.commands import panels
from deployments.printing.console import stderr
from deployments.server.environment import prepare_prefect

app = typer.Typer()


YesOption = Annotated[
    bool,
    typer.Option("--yes", help="Change what a running server does at night, or whom it tells, unasked."),
]


def _ask(lines: list[str]) -> None:
    """Ask the user whether what the running server does may become another; `lines` describe the changes.

    Raises:
        ConfigError: it may not, or there is no terminal to ask on.
    """
    from flows.variants import variants_folder

    changes = "\n".join(f"    {line}" for line in lines)
    if sys.stdin.isatty():
        stderr().print(f"this changes what the running server does:\n{changes}")
        if typer.confirm("change it?", err=True):
            return
    raise ConfigError(
        f"what the running server does would change; nothing was changed\n{changes}",
        where=f"CLIPSMITH_VARIANTS ({variants_folder()}), CLIPSMITH_BUCKET and CLIPSMITH_WEBHOOK_URL of this shell",
        expected="what they were where the server was started",
        fix="set them as they were there, or give --yes",
    )


@app.command(rich_help_panel=panels.RUN)
def up(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the UI and the API, on 127.0.0.1.")] = 4200,
    no_auth: Annotated[
        bool,
        typer.Option("--no-auth", help="Ask nobody for a password: any user of the machine can run code as you."),
    ] = False,
    yes: YesOption = False,
) -> None:
    """Start a Prefect server with every flow, schedule and automation, and a worker. Ctrl-C ends them all."""
    from deployments.server.up import up as start_everything

    start_everything(port, auth=not no_auth, replace=None if yes else _ask)


@app.command(rich_help_panel=panels.RUN)
def deploy(
    pool: Annotated[
        str, typer.Option(help="Name of the work pool. Where there is none, deploy makes one of processes.")
    ] = "clipsmith",
    yes: YesOption = False,
) -> None:
    """Create or update pool, deployments, schedules and automations on the server of $PREFECT_API_URL, or of `up`."""
    prepare_prefect()
    from deployments.server import show_fleet
    from deployments.server.apply import apply_all, require_server

    url = require_server()
    show_fleet.print_deployed(url, pool, apply_all(pool, replace=None if yes else _ask))
