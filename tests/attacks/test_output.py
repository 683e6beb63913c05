"""Text of others that tries to be more than text: in a terminal, in a log, in HTML, in markdown, in a plot, in JSON.

A model's name, a class, a caption, a file's name, a note in a table or another library's error may hold what a terminal
obeys (sequences that move the cursor, set the title, make a link), what Rich takes for a style, what Prefect's pages
take for a picture to fetch, and what a browser runs. It fails because text goes through one place for each medium, and
because nothing else writes there: the first is tested with such text in every field, the second by reading our sources.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import logging
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown_it import MarkdownIt

from artifacts import inert
from artifacts.errors import ConfigError, DataNotFound
from artifacts.inert import fenced, keep_logs_inert, markdown, visible
from artifacts.keeping.promotion import Move
from artifacts.keeping.repair import Repaired
from artifacts.manifest import GateResult, Manifest, Provenance
from artifacts.models import Complaint
from artifacts.release.comparison import Change, Comparison
from artifacts.release.evidence import Evidence
from artifacts.release.fastest import Choice
from artifacts.release.figures import Point
from artifacts.report import plots
from artifacts.report.gate_words import GateKind
from artifacts.report.history_plot import history_plot
from artifacts.report.markdown import precision_page, report_page
from artifacts.report.page import render_report
from artifacts.report.precision_map import precision_map_svg
from artifacts.schema import SCHEMAS
from artifacts.store.aliases import AliasEntry
from artifacts.store.garbage import Collected
from artifacts.store.signatures import SignatureRecord
from artifacts.store.verification import Verification
from deployments.commands.options import SCHEMA, print_json
from deployments.printing import console as terminal
from deployments.printing import (
    show,
    show_aliases,
    show_bench,
    show_comparison,
    show_copies,
    show_data,
    show_doctor,
    show_forecast,
    show_lists,
    show_models,
    show_releases,
    show_search,
    show_upkeep,
    show_variants,
)
from deployments.server import show_fleet
from deployments.server.apply import Applied
from flows.dry_run import Forecast
from flows.planned_steps import LastTimes, PlannedStep
from tasks.engines.available import Standing
from tasks.inspection.holdings import Holdings
from tasks.inspection.sheet import _Group, render_sheet
from tasks.pipeline.outline import Outline
from tests.artifacts.conftest import build_evidence, build_manifest, make_row
from tests.artifacts.report.test_page import Page
from tests.attacks.poison import CANARY, HOSTILE, TERMINAL, poisoned

SOURCES = Path(inert.__file__).parent.parent
SEEN = r"\x1b[2J"
"""How the start of what is for a terminal is shown."""
DECIDING = {
    "encoder",
    "precision",
    "reference",
    "metric",
    "kind",
    "expected",
    "actual",
    "status",
    "chosen",
    "more_helped",
}


# --- a release with such text ------------------------------------------------------------------------------------


def hostile_release(*, everywhere: bool) -> Manifest:
    """In every cell of text or, so that no row becomes another's, in those that decide nothing."""
    plain = build_manifest(measured=True)
    tables = {
        name: tuple(
            {key: _cell(key, value, everywhere and name != "latency") for key, value in row.items()} for row in rows
        )
        for name, rows in plain.tables.items()
    }
    provenance = poisoned(Provenance)
    gates = (poisoned(GateResult), poisoned(GateResult, status="undecided", value=None))
    changes = {"model": HOSTILE, "provenance": provenance, "gates": gates, "tables": tables, "created": HOSTILE}
    return plain.model_copy(update=changes)


def _cell(key: str, value: Any, everywhere: bool) -> Any:
    if not isinstance(value, str) or (key in DECIDING and not everywhere):
        return value
    return HOSTILE


def hostile_evidence() -> Evidence:
    answers = dict.fromkeys(("target", "sample", "truth", "fp32", "fp8"), HOSTILE)
    changed = {**answers, "thumbnail": None, "fp32_margin": 0.1, "fp8_margin": -0.1}
    classes = {"target": HOSTILE, "class": HOSTILE, "samples": 3, "fp32": 0.5, "fp16": 0.5, "fp8": 0.5}
    drawn = build_evidence()
    return Evidence(drawn.cosines, drawn.latencies_ms, drawn.convergence, [classes], [changed], [[HOSTILE, HOSTILE]])


RELEASES = [hostile_release(everywhere=False), hostile_release(everywhere=True)]


# --- the terminal ------------------------------------------------------------------------------------------------


def _found() -> Any:
    from flows.search import Found, SearchSettings
    from tasks.search.choice import Choice
    from tasks.search.plan import Trial
    from tasks.search.run import Measured
    from tasks.search.sensitivity import Sensitivity
    from tasks.search.units import Unit

    unit = poisoned(Unit)
    trial = Trial(
        poisoned(Choice, excluded=frozenset({unit}), by_channel=frozenset({unit})), 0.5, 0.9, (poisoned(GateResult),)
    )
    measured = poisoned(Measured, sensitivities=(poisoned(Sensitivity, unit=unit),), flops=3)
    return Found(trial, (trial,), (trial,), measured, poisoned(SearchSettings))


def _bench() -> Any:
    from tasks.bench.report import BenchReport, BenchRow, Machine
    from tasks.bench.stability import AGAIN, Stability

    named = {"encoder": HOSTILE, "target": HOSTILE, "precision": HOSTILE, "reference": "fp32", "samples": 3}
    named |= {"value": 0.9, "low": 0.8, "high": 0.95}
    cosines = [named | {"metric": f"cosine_{each}"} for each in ("mean", "min")]
    rows = [poisoned(BenchRow, status=status) for status in ("measured", "invalid", "not run")]
    return poisoned(
        BenchReport,
        machine=poisoned(Machine),
        rows=rows,
        accuracy=[*cosines, named | {"metric": "top1"}],
        stability=[poisoned(Stability, compared=AGAIN)],
        layers=[],
        evidence=[],
    )


def _comparison() -> Comparison:
    values: tuple[Any, ...] = (HOSTILE, {"sha256": HOSTILE, "size": 3}, [HOSTILE], None)
    changes = tuple(Change(HOSTILE, value, HOSTILE) for value in values)
    return poisoned(Comparison, sections={HOSTILE: changes})


def _summary() -> dict[str, Any]:
    numbers = {"gates": {HOSTILE: 1, "passed": 1}, "bytes": 3, "fp8_ratio": 0.5, "speedup": 1.5}
    return numbers | dict.fromkeys(("ref", "created", "status", "recipe"), HOSTILE) | {"aliases": [HOSTILE]}


class _Named(NamedTuple):
    name: str = HOSTILE
    covers: str = HOSTILE
    oracle: str = HOSTILE
    known: tuple[str, ...] = (HOSTILE,)


MOVES = [poisoned(AliasEntry), poisoned(AliasEntry, action="rollback", forced=False)]
STANDING = show.Standing(aliases=[HOSTILE], signatures=[poisoned(SignatureRecord)])
PRINTED: dict[Callable[..., Any], Callable[[], object]] = {
    terminal.print_error: lambda: terminal.print_error(ConfigError(HOSTILE.replace("\n", " "), where=HOSTILE)),
    terminal.print_errors: lambda: terminal.print_errors([DataNotFound("gone", where=HOSTILE)]),
    terminal.print_list: lambda: terminal.print_list(terminal.stdout(), ["a", ">b"], [[HOSTILE, "b"]]),
    show.print_exported: lambda: show.print_exported(
        RELEASES[0], [HOSTILE], Path(HOSTILE), [Choice(HOSTILE, "fp8", HOSTILE)]
    ),
    show.print_release: lambda: [show.print_release(each, None, standing=STANDING) for each in RELEASES],  # type: ignore[arg-type]
    show.print_gates: lambda: show.print_gates(terminal.stdout(), [poisoned(GateResult)]),
    show.print_task: lambda: show.print_task(terminal.stdout(), [poisoned(show.TaskLine)]),
    show_aliases.print_move: lambda: [show_aliases.print_move(Move(None, each, moved=True)) for each in MOVES],
    show_aliases.print_aliases: lambda: show_aliases.print_aliases(MOVES),
    show_bench.print_bench: lambda: show_bench.print_bench(_bench()),
    show_bench.print_accuracy: lambda: show_bench.print_accuracy(terminal.stdout(), _bench()),
    show_comparison.print_comparison: lambda: show_comparison.print_comparison(_comparison()),
    show_copies.print_packed: lambda: show_copies.print_packed(RELEASES[0], Path(HOSTILE), 3),
    show_copies.print_arrived: lambda: show_copies.print_arrived(HOSTILE, True),
    show_copies.print_copied: lambda: show_copies.print_copied(HOSTILE, poisoned(show_copies.Copied)),
    show_data.print_data: lambda: show_data.print_data(poisoned(Holdings)),
    show_doctor.print_checks: lambda: show_doctor.print_checks(
        [poisoned(show_doctor.Check, ok=ok) for ok in (True, False)]
    ),
    show_lists.print_targets: lambda: show_lists.print_targets([poisoned(Standing)]),
    show_lists.print_recipes: lambda: show_lists.print_recipes([(HOSTILE, HOSTILE, Path(HOSTILE))]),
    show_lists.print_gate_kinds: lambda: show_lists.print_gate_kinds([poisoned(GateKind)]),
    show_models.print_outline: lambda: show_models.print_outline(poisoned(Outline)),
    show_models.print_families: lambda: show_models.print_families([_Named()]),  # type: ignore[list-item]
    show_variants.print_written: lambda: show_variants.print_written(Path(HOSTILE)),
    show_variants.print_outcomes: lambda: show_variants.print_outcomes(
        [dict.fromkeys(("variant", "result", "release", "production", "why", "held"), HOSTILE) | {"alarms": [HOSTILE]}]
    ),
    show_variants.print_complaints: lambda: show_variants.print_complaints(
        {Path(HOSTILE): [poisoned(Complaint, valid=valid) for valid in ((), (HOSTILE,))]}
    ),
    show_forecast.print_forecast: lambda: show_forecast.print_forecast(
        Forecast([PlannedStep(HOSTILE)], frozenset(), LastTimes(HOSTILE, {}), None, 3)
    ),
    show_releases.print_releases: lambda: show_releases.print_releases([_summary()]),
    show_releases.print_history: lambda: show_releases.print_history(
        HOSTILE, [poisoned(Point)], Path(HOSTILE), Path(HOSTILE)
    ),
    show_search.print_found: lambda: show_search.print_found(_found()),
    show_upkeep.print_verification: lambda: show_upkeep.print_verification(poisoned(Verification), poisoned(Repaired)),
    show_upkeep.print_collected: lambda: show_upkeep.print_collected(
        poisoned(Collected, objects=("ab" * 32,)), Path("/no/such")
    ),
    show_fleet.print_orphans: lambda: show_fleet.print_orphans([_Named()]),  # type: ignore[list-item]
    show_fleet.print_up: lambda: show_fleet.print_up(HOSTILE, Applied((), ()), again=True),
    show_fleet.print_deployed: lambda: show_fleet.print_deployed(HOSTILE, HOSTILE, poisoned(show_fleet.Applied)),
    show_fleet.print_starting: lambda: show_fleet.print_starting(HOSTILE),
}


def test_every_function_that_prints_is_tried() -> None:
    rooms = [
        terminal,
        show,
        show_aliases,
        show_bench,
        show_comparison,
        show_copies,
        show_data,
        show_models,
        show_lists,
        show_doctor,
    ]
    rooms += [show_forecast, show_releases, show_search, show_upkeep, show_fleet, show_variants]
    known = {getattr(room, name) for room in rooms for name in vars(room) if name.startswith("print_")}
    assert known - set(PRINTED) == {show_fleet.print_stopped}  # it has nothing to say about anything


@pytest.mark.parametrize("printed", PRINTED, ids=lambda each: each.__name__)
def test_a_terminal_shows_it(
    printed: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / "\x1b[2J[red]variants"
    folder.mkdir()
    (folder / "a\x1b[2J[red].yaml").write_text("parameters: 3")
    monkeypatch.setenv("CLIPSMITH_STORE", TERMINAL.replace("\0", ""))
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(folder))
    monkeypatch.setattr(terminal, "_WIDTH", 100_000)  # nothing is cut
    PRINTED[printed]()
    said = "".join(capsys.readouterr())
    assert visible(said, lines=True) == said
    assert SEEN in said.replace("\n", "") and "\n# heading" not in said and "\n- item" not in said
    assert "\N{BUG}" not in said


@pytest.mark.parametrize("text", ["[bold]b[/bold]", "[/]", "\\[red]", "end\\", ":bug:", "[link=http://x]y[/link]"])
def test_a_terminal_has_no_language(text: str) -> None:
    stream = io.StringIO()
    terminal.Terminal(file=stream, width=80).say(text, (text, "bold"))
    table = terminal.plain_table(text, text)
    table.add_row(text)
    terminal.Terminal(file=stream, width=80).print(table)
    assert stream.getvalue().split("\n")[0] == text * 2
    assert [line.strip() for line in stream.getvalue().split("\n")[1:4]] == [text] * 3


def test_styles_are_the_only_sequences_on_a_real_terminal() -> None:
    stream = io.StringIO()
    shown = terminal.Terminal(file=stream, width=80, force_terminal=True, color_system="standard")
    shown.say((TERMINAL, "bold"), TERMINAL)
    assert re.sub(r"\x1b\[(0|1)m", "", stream.getvalue()).rstrip("\n") == visible(TERMINAL) * 2


def test_logs_are_text(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    try:
        keep_logs_inert()
        log = logging.getLogger("clipsmith.attack")
        try:
            raise ValueError(TERMINAL)
        except ValueError:
            log.exception("read %s", TERMINAL)
        log.warning(TERMINAL)
    finally:
        logging.setLogRecordFactory(before)
    assert visible(caplog.text, lines=True) == caplog.text and caplog.text.count(SEEN) >= 3


# --- documents ---------------------------------------------------------------------------------------------------


def test_json_is_exact_and_a_terminal_obeys_nothing_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    document = {HOSTILE: [HOSTILE, asdict(poisoned(Holdings))], "ä": "日本"}
    print_json(document)
    said = capsys.readouterr().out
    assert json.loads(said) == json.loads(json.dumps({"schema": SCHEMA} | document))
    assert visible(said, lines=True) == said and "日本" in said


def check_page(html: str) -> None:
    """No script, no handler (see `Page`), and nothing from elsewhere."""
    page = Page(html)
    assert not {"script", "iframe", "foreignobject", "object", "embed", "base", "form", "link"} & set(page.tags)
    assert all(load.startswith("data:") for load in page.loads)
    assert visible(html, lines=True) == html
    assert CANARY in page.text and "{{ 7 * 7 }}" in page.text and SEEN in page.text
    for load in page.loads:
        check_svg(base64.b64decode(load.partition(",")[2]).decode())


def check_svg(svg: str) -> None:
    """It is XML that draws, and does nothing else."""
    assert visible(svg, lines=True) == svg
    for each in ET.fromstring(svg).iter():
        assert each.tag.rpartition("}")[2] not in ("script", "foreignObject", "a", "image", "animate", "set")
        for name, value in each.attrib.items():
            local = name.rpartition("}")[2]
            assert not local.startswith("on")
            assert local != "href" or value.startswith("#")
            assert "url(" not in value or "url(#" in value


@pytest.mark.parametrize("release", RELEASES, ids=["free text", "everywhere"])
def test_the_report_shows_it(release: Manifest) -> None:
    check_page(render_report(release, hostile_evidence()))


def test_the_contact_sheet_shows_it() -> None:
    check_page(render_sheet(poisoned(Holdings), [poisoned(_Group, pictures=())]))


def test_plots_show_it() -> None:
    rows = [make_row("stages", step=HOSTILE, target=HOSTILE, wall_s=1.0, peak_rss_mb=1.0)]
    drawn = [plots.stages_plot(rows), plots.sizes_plot([make_row("sizes", encoder=HOSTILE, target=HOSTILE, bytes=3)])]
    found = [base64.b64decode(str(uri).partition(",")[2]).decode() for uri in drawn]
    found.append(precision_map_svg([make_row("coverage", module=f"layers.1.{HOSTILE}", kind=HOSTILE)]))
    found.append(history_plot([poisoned(Point, figures={})]))
    for svg in found:
        check_svg(svg)


FOLDED = ("<details><summary>By hand, in the exported folder</summary>\n", "</details>\n")
"""The one thing in HTML that a page of ours has."""


def check_markdown(page: str) -> None:
    """Pictures are our own, and there is no link, no HTML, and no address that a dialect makes a link of."""
    assert visible(page, lines=True) == page
    bare = page
    for token in _tokens(page):
        assert token.type not in ("html_inline", "html_block", "link_open") or token.content in FOLDED, token
        if token.type == "image":
            assert str(token.attrs["src"]).startswith("data:image/svg+xml;base64,")
            bare = bare.replace(str(token.attrs["src"]), "")
        assert token.type != "fence" or token.info == ""
        if token.type == "fence":
            bare = bare.replace(token.content, "")
    assert not re.search(r"(?<!\\)://|www\.|[\w]@[\w-]+\.", bare)


def _tokens(page: str) -> Iterator[Any]:
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(page):
        yield token
        yield from token.children or ()


@pytest.mark.parametrize("release", RELEASES, ids=["free text", "everywhere"])
def test_markdown_shows_it(release: Manifest) -> None:
    check_markdown(report_page(release, render_report(release, hostile_evidence())))
    check_markdown(precision_page(release))


def test_what_prefect_is_given_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from artifacts.store.verification import Problem
    from tasks.bench.report import markdown as bench_page
    from tasks.prefect_ui import approval, comparison_artifacts, nightly_summary, pages, upkeep

    made: list[dict[str, Any]] = []
    monkeypatch.setattr(pages, "create_markdown_artifact", lambda **given: made.append(given))
    monkeypatch.setattr(pages, "create_table_artifact", lambda **given: made.append(given))
    latency = {"encoder": HOSTILE, "target": HOSTILE, "batch": 1, "status": HOSTILE, "note": HOSTILE, "speedup": None}
    accuracy = {"metric": HOSTILE, "target": HOSTILE, "before": 0.1, "after": 0.1, "low": 0.1, "high": 0.2}
    comparison_artifacts.show_comparison_task.fn(HOSTILE, HOSTILE, [accuracy], [latency], [HOSTILE])
    outcomes = [poisoned(nightly_summary.Outcome, error=error, figures={}, before={}) for error in (None, HOSTILE)]
    nightly_summary.show_summary_task.fn(outcomes)
    upkeep._table("key", [upkeep.problem_row(poisoned(Problem))], HOSTILE)
    upkeep._table("key", [], HOSTILE)
    proposal = poisoned(approval.Proposal, text=markdown(HOSTILE))
    monkeypatch.setattr(approval, "open_store", lambda store: store)
    monkeypatch.setattr(approval, "carry_out", lambda *_: poisoned(approval.Promoted))
    approval.promote_task.fn(HOSTILE, proposal, HOSTILE)
    assert len(made) == 8
    for given in made:
        cells = [
            text for row in given.get("table", ()) for pair in row.items() for text in pair if isinstance(text, str)
        ]
        for text in (given.get("markdown"), given.get("description"), *cells):
            check_markdown(str(text or ""))
    check_markdown(bench_page(_bench()))


@pytest.mark.parametrize(
    "text", ["1. one", "- dash", "> quote", "# heading", "===", "---", "~~~", "```", "    code", "+"]
)
def test_a_line_of_markdown_starts_nothing(text: str) -> None:
    kinds = [token.type for token in MarkdownIt("commonmark").parse(markdown(text))]
    assert kinds == ["paragraph_open", "inline", "paragraph_close"]
    kinds = [token.type for token in MarkdownIt("commonmark").parse(f"above\n{markdown(text)}")]
    assert kinds == ["paragraph_open", "inline", "paragraph_close"]


@pytest.mark.parametrize("text", [HOSTILE, "a_b_c demo@1 12:00", "1. x", "`", "``` x", "````\n~~~"])
def test_markdown_says_what_the_text_says(text: str) -> None:
    (inline,) = [token for token in MarkdownIt("commonmark").parse(markdown(text)) if token.type == "inline"]
    assert "".join(each.content for each in inline.children or ()) == visible(" ".join(text.split()))
    (block,) = MarkdownIt("commonmark").parse(fenced(text))
    assert block.type == "fence" and block.content.rstrip("\n") == visible(text, lines=True).rstrip("\n")


# --- nothing else writes -----------------------------------------------------------------------------------------

OWN = {
    # Who may use what makes output; everybody else goes through them.
    "rich.console": {"deployments/printing/console.py"},
    "rich.markup": set(),
    "prefect.artifacts": {"tasks/prefect_ui/pages.py", "tasks/runs/progress.py"},
    "jinja2": {"artifacts/report/html_page.py"},
    "matplotlib.figure": {"artifacts/report/canvas.py"},
}
PROGRAMS = {
    # Started by hand, or by ourselves and read by ourselves; what they print are numbers and our own words.
    "tasks/torch_fp8/aot.py",
    "tasks/engines/child.py",
    "tasks/demo/train.py",
    "tasks/bench/__main__.py",
    "tasks/bench/layer_plot.py",
}
SAYS = {
    # JSON of ASCII; the one document of a command; what Prefect says of its own settings
    "typer.echo": {"deployments/commands/bench.py"},
    "sys.stdout.write": {"deployments/commands/options.py"},
    "sys.stderr.write": {"deployments/server/prefect_settings.py"},
    "print": PROGRAMS,
    "csv.writer": set(),
    "csv.DictWriter": set(),
}


def test_nothing_writes_beside_the_seams() -> None:
    found: dict[str, set[str]] = {name: set() for name in (*OWN, *SAYS)}
    for top in ("artifacts", "tasks", "flows", "deployments"):
        for path in sorted((SOURCES / top).rglob("*.py")):
            for name in _used(ast.parse(path.read_text(encoding="utf-8"))) & found.keys():
                found[name].add(path.relative_to(SOURCES).as_posix())
    assert {name: places - (OWN | SAYS)[name] for name, places in found.items() if places - (OWN | SAYS)[name]} == {}


def _used(tree: ast.Module) -> set[str]:
    """Modules that are imported, and functions that are called by their full names."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.Call):
            names.add(ast.unparse(node.func))
    return names


def test_tables_have_no_columns_that_nobody_tries() -> None:
    assert {column.name for schema in SCHEMAS.values() for column in schema.columns} >= DECIDING
