"""What `clipsmith up` and `clipsmith deploy` print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from artifacts.number_words import counted
from deployments.printing.console import Terminal, stdout
from deployments.server.apply import Applied
from deployments.server.automations import TELL_OF_RUNS, WEBHOOK_VARIABLE
from deployments.server.own_server import SERVER, password, password_file

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

_COLUMN = 16  # characters: the width of the first column


def print_starting(address: str) -> None:
    """Say that the server is starting, which takes a moment."""
    stdout().say((f"starting a Prefect server and a worker on {address} ...", "dim"))


def print_stopped() -> None:
    """Say that everything has ended."""
    stdout().print("everything has stopped", style="dim")


def print_orphans(runs: Sequence[FlowRun]) -> None:
    """Name the runs that died with an earlier server; print nothing if there are none."""
    for run in runs:
        stdout().say((f"{run.name} died with an earlier server or machine: it is marked Crashed", "yellow"))


def print_up(address: str, applied: Applied, *, again: bool) -> None:
    """Print the UI's address, what to press there, and what is `applied`. `again`: the server was running before."""
    console = stdout()
    console.print()
    console.say((f"clipsmith is {'already ' if again else ''}up", "bold green"), "  ", (address, "bold"))
    console.print()
    _about(console, "Run a flow", f"{address}/deployments: choose optimize, press Run")
    _about(console, "", "with nothing filled in it optimizes the built-in demo")
    _about(console, "See results", f"{address}/runs")
    _print_login(console)
    _about(console, "Store", os.environ["CLIPSMITH_STORE"])
    _print_variants(console)
    if not os.environ.get(WEBHOOK_VARIABLE):
        told = TELL_OF_RUNS in applied.automations
        words = f"as before: ${WEBHOOK_VARIABLE} is not set here; set it to nothing to end them"
        how = words if told else f"none: set ${WEBHOOK_VARIABLE} to be told of failures and regressions"
        _about(console, "Alerts", how)
    end = "its definitions were applied again; it ends with Ctrl-C where it was started" if again else "Ctrl-C ends it"
    console.print(f"\n{end}\n")


def _print_login(console: Terminal) -> None:
    """Print how to log in, without the password, which would stay in the logs of a service."""
    from prefect.settings import get_current_settings

    home, asked = get_current_settings().home, os.environ.get(SERVER)
    how, style = "once in each browser, with the USER:PASSWORD that it was told", ""
    if not asked:
        how, style = "nobody has to (--no-auth): every user of this machine can run code here as you", "red"
    elif asked == password(home):
        how = f"once in each browser, with the line in {password_file(home)}"
    _about(console, "Log in", how, style)


def print_deployed(url: str, pool: str, applied: Applied) -> None:
    """Print what the server has now."""
    console = stdout()
    deployments, automations = len(applied.deployments), len(applied.automations)
    console.say(f"{counted(deployments, 'deployment')} in work pool {pool}, at {url}:")
    for name in applied.deployments:
        console.say(f"  {name}")
    console.print(f"{counted(automations, 'automation')}:")
    for name in applied.automations:
        console.say(f"  {name}")
    _print_variants(console)


def _print_variants(console: Terminal) -> None:
    """Print what the nightly run makes and when. Files that are not variants are named here and by every such run."""
    from flows.variants import Variant, not_variants, read_variants, variants_folder, warning

    folder = variants_folder()
    _about(console, "Every night", f"the variants in {folder}:")
    variants = read_variants(folder)
    if not variants:
        _about(console, "", "none, and nightly fails until there is one", "red")
    for variant in variants:
        if isinstance(variant, Variant):
            _about(console, "", f"{variant.name}  {variant.schedule.cron} {variant.schedule.timezone}")
        else:
            _about(console, "", f"{variant.name}: {variant.error.what}", "red")
    if others := not_variants(folder):
        _about(console, "", warning(others), "yellow")


def _about(console: Terminal, what: str, text: str, style: str = "") -> None:
    console.say("  ", (what, "bold"), " " * (_COLUMN - 2 - len(what)), (text, style))
