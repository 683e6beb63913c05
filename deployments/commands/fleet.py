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
    bool, typer.Option("--yes", help="Replace the nightly schedule of a running server without being asked.")
]


def _ask(lines: list[str]) -> None:
    """Ask the user whether the running server's nightly schedule may be replaced; `lines` describe the changes.

    Raises:
        ConfigError: it may not be replaced, or there is no terminal to ask on.
    """
    from flows.variants import variants_folder

    changes = "\n".join(f"    {line}" for line in lines)
    if sys.stdin.isatty():
        stderr().print(f"this replaces the nightly schedule of the running server:\n{changes}")
        if typer.confirm("replace it?", err=True):
            return
    raise ConfigError(
        f"the nightly schedule of the running server would be replaced; nothing was changed\n{changes}",
        where=variants_folder(),
        expected="the folder of variants that the server was started with",
        fix="set CLIPSMITH_VARIANTS as it was there, or give --yes",
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
