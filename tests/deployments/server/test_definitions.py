"""`prefect.yaml` defines every flow once, for every kind of pool; schedules that belong to people stay as they are."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule

from artifacts.errors import ConfigError
from deployments.server.automations import HEARTBEAT_S, MISSED
from deployments.server.definitions import PREFECT_FILE, Definition, form, read_definitions
from deployments.server.schedules import CronLine, merged, replaced, variant_schedules
from flows.defaults import default_store
from flows.variants import BadVariant, Schedule, Variant

FLOWS = Path(__file__).parents[3] / "flows"


def flow_modules() -> set[str]:
    """The modules that define a flow."""
    return {path.stem for path in FLOWS.glob("*.py") if "\n@described_flow(" in path.read_text(encoding="utf-8")}


def by_name() -> dict[str, Definition]:
    return {definition.name: definition for definition in read_definitions().deployments}


def test_every_flow_is_defined_once_under_its_own_name() -> None:
    names = [definition.name for definition in read_definitions().deployments]
    assert sorted(names) == sorted(flow_modules())


def test_every_definition_names_a_flow_that_is_there_and_needs_no_parameters() -> None:
    for name, definition in by_name().items():
        flow = definition.flow()
        assert (flow.name, list(flow.parameters.properties)) == (name, ["parameters"])
        assert flow.parameters.required == []
        described, _, of_parameters = (flow.fn.__doc__ or "").partition("\n\n    Args:")
        assert of_parameters, "the form shows it"
        assert flow.description == inspect.cleandoc(described)


def test_all_run_in_the_one_pool_of_the_others_and_say_that_they_live() -> None:
    for definition in by_name().values():
        assert definition.work_pool.name == "clipsmith"
        variables = definition.work_pool.job_variables["env"]
        assert variables["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_S)
        assert variables["ORT_DISABLE_TELEMETRY"] == "1"


def test_who_only_waits_holds_no_gpu() -> None:
    gpus = {name: definition.work_pool.job_variables.get("gpus") for name, definition in by_name().items()}
    assert gpus == {"optimize": None, "compare": None, "nightly": 0, "promote": 0, "maintain": 0}


def test_the_form_has_no_store_of_the_machine_that_deploys() -> None:
    """Who leaves it empty gets that of the machine that runs; the other defaults are shown."""
    found = []
    for definition in by_name().values():
        flow = definition.flow()
        default = flow.parameters.properties["parameters"].get("default", {})
        found.append(default.get("store"))
        shown = form(flow)["properties"]["parameters"].get("default", {})
        assert shown == {name: value for name, value in default.items() if name != "store"}
        fields = [
            one["properties"].get("store", {}) for one in form(flow)["definitions"].values() if "properties" in one
        ]
        assert [field.get("default") for field in fields if field] == [None]
    assert default_store() in found


def test_a_dead_run_is_noticed_within_two_minutes() -> None:
    looks_every_s = 10  # how often Prefect evaluates what has not happened
    assert HEARTBEAT_S * MISSED + 2 * looks_every_s < 120


def test_the_image_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    image = "registry.example/clipsmith@sha256:" + "0" * 64
    monkeypatch.setenv("CLIPSMITH_IMAGE", image)
    assert {definition.work_pool.job_variables["image"] for definition in by_name().values()} == {image}
    monkeypatch.delenv("CLIPSMITH_IMAGE")
    assert all("image" not in definition.work_pool.job_variables for definition in by_name().values())


def test_pull_steps_are_for_the_worker_to_fill_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIPSMITH_WORKDIR", "/of/the/deployer")
    assert read_definitions().pull == yaml.safe_load(PREFECT_FILE.read_text())["pull"]


def test_a_typo_in_the_file_is_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "prefect.yaml"
    wrong.write_text(PREFECT_FILE.read_text().replace("concurrency_limit", "concurency_limit", 1))
    with pytest.raises(ValueError, match="concurency_limit"):
        read_definitions(wrong)


NIGHT = CronLine(slug="clipsmith-night", cron="0 2 * * *", timezone="Europe/Berlin", parameters={"parameters": {}})


def existing(slug: str | None, *, active: bool) -> DeploymentSchedule:
    every_day = IntervalSchedule(interval=timedelta(days=1))
    return DeploymentSchedule(
        id=uuid4(), deployment_id=uuid4(), schedule=every_day, active=active, slug=slug, parameters={"mine": True}
    )


def test_a_new_deployment_gets_our_schedules() -> None:
    (made,) = merged([NIGHT], [])
    assert made.schedule == CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin")
    assert (made.slug, made.active, made.parameters) == ("clipsmith-night", True, {"parameters": {}})


def test_our_schedules_are_replaced_and_stay_paused() -> None:
    (made,) = merged([NIGHT], [existing("clipsmith-night", active=False), existing("clipsmith-gone", active=True)])
    assert (made.slug, made.active) == ("clipsmith-night", False)
    assert made.schedule == CronSchedule(cron="0 2 * * *", timezone="Europe/Berlin")


@pytest.mark.parametrize("slug", [None, "weekly"])
@pytest.mark.parametrize("active", [True, False])
def test_schedules_of_people_are_kept(slug: str | None, active: bool) -> None:
    kept, _ours = merged([NIGHT], [existing(slug, active=active)])
    assert kept.schedule == IntervalSchedule(interval=timedelta(days=1), anchor_date=kept.schedule.anchor_date)
    assert (kept.slug, kept.active, kept.parameters) == (slug, active, {"mine": True})


def test_variants_that_are_due_at_the_same_time_share_a_schedule() -> None:
    early, late = Schedule(cron="0 1 * * *"), Schedule(cron="0 1 * * *", timezone="Asia/Tokyo")
    due = [
        Variant(name="a", schedule=early),
        Variant(name="b", schedule=late),
        BadVariant("broken", ConfigError("wrong")),
        Variant(name="c", schedule=early),
    ]
    lines = variant_schedules(due)
    assert {(line.cron, line.timezone): line.parameters["parameters"]["variants"] for line in lines} == {
        ("0 1 * * *", "UTC"): ["a", "c"],
        ("0 1 * * *", "Asia/Tokyo"): ["b"],
        ("0 2 * * *", "UTC"): ["broken"],
    }
    slugs = [line.slug for line in lines]
    assert len(set(slugs)) == 3
    assert all(slug.startswith("clipsmith-") for slug in slugs)
    assert slugs == [line.slug for line in variant_schedules(due)]


def ours(cron: str, *names: str, timezone: str = "UTC") -> CronLine:
    return CronLine(slug=f"clipsmith-{cron}", cron=cron, timezone=timezone, parameters=due(*names))


def due(*names: str) -> dict[str, Any]:
    return {"parameters": {"variants": list(names)}}


def there(cron: str, *names: str, slug: str | None = None, timezone: str | None = "UTC") -> DeploymentSchedule:
    schedule = CronSchedule(cron=cron, timezone=timezone)
    slug = slug or f"clipsmith-{cron}"
    return DeploymentSchedule(id=uuid4(), deployment_id=uuid4(), schedule=schedule, slug=slug, parameters=due(*names))


def test_what_of_the_nights_would_be_replaced() -> None:
    at_two, at_three = "0 2 * * *", "0 3 * * *"
    assert replaced([ours(at_two, "a")], []) == [], "a new server"
    assert replaced([ours(at_two, "a")], [there(at_three, "mine", slug="mine")]) == [], "one of a person"
    assert replaced([ours(at_two, "a", "b")], [there(at_two, "a", "b", timezone=None)]) == []
    assert replaced([ours(at_two, "demo")], [there(at_two, "a"), there(at_three, "b", "c")]) == [
        "nightly at 0 2 * * * UTC: a -> demo",
        "nightly at 0 3 * * * UTC: b, c -> nothing",
    ]
    assert replaced([ours(at_two, timezone="Europe/Berlin")], [there(at_two)]) == [
        "nightly at 0 2 * * * Europe/Berlin: nothing -> all variants",
        "nightly at 0 2 * * * UTC: all variants -> nothing",
    ]
