"""Commands that move aliases and show where they point."""

from __future__ import annotations

from typing import Annotated

import typer

from artifacts.errors import ConfigError, DamagedAlias
from artifacts.exit_codes import ExitCode
from artifacts.keeping.promotion import Move
from artifacts.keeping.promotion import promote as move_to
from artifacts.keeping.promotion import rollback as move_back
from artifacts.names import check_model_name
from artifacts.store import aliases as alias_log
from artifacts.store.aliases import AliasEntry
from artifacts.store.store import Store
from deployments.commands import completing, panels
from deployments.commands.options import (
    AliasOption,
    JsonOption,
    ModelOption,
    Ref,
    StoreOption,
    WhyOption,
    answer,
    open_to_change,
    open_to_read,
)
from deployments.printing import show_aliases
from deployments.printing.console import print_errors

app = typer.Typer()


@app.command(rich_help_panel=panels.RELEASE)
def promote(
    ref: Ref,
    alias: AliasOption,
    force: Annotated[bool, typer.Option("--force", help="Promote it although a gate rejects it. Needs --why.")] = False,
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias of the release's model to the release."""
    _print(move_to(open_to_change(store), ref, alias, force=force, why=why), as_json)


@app.command(rich_help_panel=panels.RELEASE)
def rollback(
    alias: AliasOption,
    name: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="The model. You need it when the store has several.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The same, as an option.")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="A release that it pointed to earlier. Unless given, the one before, and again the one before that.",
            metavar="REF",
            autocompletion=completing.refs,
        ),
    ] = None,
    why: WhyOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Point an alias back to the release it pointed to before, or to an earlier one."""
    opened = open_to_change(store)
    goal = None if to is None else opened.find(to)
    named = [each for each in (name, model, None if goal is None else goal.model) if each is not None]
    if len(set(named)) > 1:
        raise ConfigError(f"two models: {' and '.join(map(repr, named))}", expected="one", fix="give one of them")
    owner = check_model_name(named[0] if named else _only_model(opened))
    _print(move_back(opened, owner, alias, to=None if goal is None else goal.version, why=why), as_json)


@app.command(rich_help_panel=panels.RELEASE)
def aliases(
    model: ModelOption = None,
    history: Annotated[bool, typer.Option("--history", help="Show every move.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where each alias points, since when, who moved it and why."""
    opened = open_to_read(store)
    wanted = None if model is None else check_model_name(model)
    entries: list[AliasEntry] = []
    damaged: list[DamagedAlias] = []
    for owner, alias in alias_log.names(opened.root):
        if wanted in (None, owner):
            try:
                if history:
                    entries += alias_log.history(opened.root, owner, alias)
                else:
                    entries.append(alias_log.current(opened.root, owner, alias))
            except DamagedAlias as error:
                damaged.append(error)
    document = {"aliases": [show_aliases.entry_document(entry) for entry in entries]}
    answer(as_json, document, show_aliases.print_aliases, entries)
    print_errors(damaged)
    raise typer.Exit(ExitCode.FAILED if damaged else ExitCode.DONE)


def _only_model(store: Store) -> str:
    known, _ = store.summaries()
    models = sorted({summary["model"] for summary in known})
    if len(models) != 1:
        raise ConfigError(
            "rollback needs a model: the store has " + ("several" if models else "no releases"),
            where=store.root,
            expected=f"one of: {', '.join(models)}" if models else None,
            fix="name it: `clipsmith rollback MODEL --alias NAME`",
        )
    return models[0]


def _print(move: Move, as_json: bool) -> None:
    answer(as_json, show_aliases.move_document(move), show_aliases.print_move, move)
