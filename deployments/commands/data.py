"""The command that describes a source of data before a run uses it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from artifacts.exit_codes import ExitCode
from deployments.commands import panels
from deployments.commands.options import COLUMNS, JsonOption, answer
from deployments.printing import show_data
from deployments.printing.console import counting
from deployments.server.environment import prepare_prefect
from tasks.data.base import Role

app = typer.Typer()


@app.command(rich_help_panel=panels.MAKE)
def data(
    source: Annotated[
        str, typer.Argument(help="Data as for optimize: digits, a folder, datasets:NAME[:split] or wds:NAME[:split].")
    ],
    limit: Annotated[int | None, typer.Option(help="Look at this many samples, the same draw as a run's.")] = None,
    role: Annotated[Role, typer.Option(help="What a run would use it for: evaluation or calibration.")] = "evaluation",
    columns: Annotated[str | None, typer.Option(help=COLUMNS)] = None,
    against: Annotated[
        str | None, typer.Option(help="Another source, in the other role, which must not share pictures with it.")
    ] = None,
    against_limit: Annotated[int | None, typer.Option(help="How many samples of the other source a run uses.")] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a contact sheet: one page with small pictures.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Describe a source of data in seconds, and say why a run would refuse it. It reads headers, no pixels.

    Exits with 2 when a run would refuse the source; what is known of it is printed all the same.
    """
    from tasks.inspection.inspect_source import Question, inspect_source
    from tasks.inspection.sheet import check_place, write_sheet

    prepare_prefect()
    if page is not None:
        check_place(page)
    found = inspect_source(Question(source, role, limit, columns, against, against_limit), counting)
    holdings = found.holdings
    if page is not None and found.dataset is not None:
        write_sheet(found.dataset, holdings, page, counting)
        holdings = dataclasses.replace(holdings, page=str(page))
    answer(as_json, dataclasses.asdict(holdings), show_data.print_data, holdings)
    if holdings.refusals:
        raise typer.Exit(ExitCode.WRONG_INPUT)
