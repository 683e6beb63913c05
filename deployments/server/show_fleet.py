"""What `clipsmith up` and `clipsmith deploy` print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape

from artifacts.number_words import counted
from deployments.printing.console import stdout
from deployments.server.apply import Applied
from deployments.server.automations import WEBHOOK_VARIABLE
from deployments.server.own_server import SERVER, password, password_file

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_HINTS = """
  [bold]Run a flow[/]    {address}/deployments: choose optimize, press Run
                with nothing filled in it optimizes the built-in demo
  [bold]See results[/]   {address}/runs
"""


def print_starting(address: str) -> None:
    """That it takes a moment."""
    stdout().print(f"starting a Prefect server and a worker on {address} ...", style="dim")


def print_stopped() -> None:
    """That everything has ended."""
    stdout().print("everything has stopped", style="dim")


def print_orphans(runs: Sequence[FlowRun]) -> None:
    """Runs that died with an earlier server; nothing when there are none."""
    for run in runs:
        stdout().print(
            f"{escape(run.name)} died with an earlier server or machine: it is marked Crashed", style="yellow"
        )


def print_up(address: str, *, again: bool) -> None:
    """Where it is and what to press. `again`: it was running before."""
    console = stdout()
    console.print(f"\n[bold green]clipsmith is {'already ' if again else ''}up[/]  [bold]{address}[/]")
    console.print(_HINTS.format(address=address), end="")
    _print_login(console)
    console.print(f"  [bold]Store[/]         {escape(os.environ['CLIPSMITH_STORE'])}")
    _print_variants(console)
    if not os.environ.get(WEBHOOK_VARIABLE):
        console.print(f"  [bold]Alerts[/]        none: set ${WEBHOOK_VARIABLE} to be told of failures and regressions")
    end = "its definitions were applied again; it ends with Ctrl-C where it was started" if again else "Ctrl-C ends it"
    console.print(f"\n{end}\n")


def _print_login(console: Console) -> None:
    """How to log in; the password itself would stay in the logs of a service."""
    from prefect.settings import get_current_settings

    home, asked = get_current_settings().home, os.environ.get(SERVER)
    if not asked:
        how = "[red]nobody has to (--no-auth): every user of this machine can run code here as you[/]"
    elif asked == password(home):
        how = f"once in each browser, with the line in {escape(str(password_file(home)))}"
    else:
        how = "once in each browser, with the USER:PASSWORD that it was told"
    console.print(f"  [bold]Log in[/]        {how}", soft_wrap=True)


def print_deployed(url: str, pool: str, applied: Applied) -> None:
    """What the server has now."""
    console = stdout()
    deployments, automations = len(applied.deployments), len(applied.automations)
    console.print(f"{counted(deployments, 'deployment')} in work pool {escape(pool)}, at {escape(url)}:")
    for name in applied.deployments:
        console.print(f"  {escape(name)}")
    console.print(f"{counted(automations, 'automation')}:")
    for name in applied.automations:
        console.print(f"  {escape(name)}")
    _print_variants(console)


def _print_variants(console: Console) -> None:
    """What the nightly run makes, and when; a file that is no variant is named here, and again by every such run."""
    from flows.variants import Variant, not_variants, read_variants, variants_folder, warning

    folder = variants_folder()
    console.print(f"  [bold]Every night[/]   the variants in {escape(str(folder))}:", soft_wrap=True)
    variants = read_variants(folder)
    if not variants:
        console.print("                [red]none, and nightly fails until there is one[/]", soft_wrap=True)
    for variant in variants:
        if isinstance(variant, Variant):
            when = f"{variant.schedule.cron} {variant.schedule.timezone}"
            console.print(f"                {escape(variant.name)}  {escape(when)}", soft_wrap=True)
        else:
            console.print(
                f"                [red]{escape(variant.name)}: {escape(variant.error.what)}[/]", soft_wrap=True
            )
    if others := not_variants(folder):
        console.print(f"                [yellow]{escape(warning(others))}[/]", soft_wrap=True)
