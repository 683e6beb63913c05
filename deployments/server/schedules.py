"""The schedules of deployments: ours are updated; schedules and pauses that people made in the UI are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from flows.variants import BadVariant, Variant, by_schedule

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.objects import DeploymentSchedule

PREFIX = "clipsmith-"
"""The prefix of our schedules' slugs; all other schedules belong to people."""


class CronLine(BaseModel):
    """One schedule of a deployment."""

    model_config = ConfigDict(extra="forbid")

    slug: str
    cron: str
    timezone: str = "UTC"
    parameters: dict[str, Any] = {}


def variant_schedules(variants: Sequence[Variant | BadVariant]) -> list[CronLine]:
    """One schedule for each cron time of the variants, with the names of the variants that are due then."""
    return [
        CronLine(
            slug=PREFIX + sha256(f"{schedule.cron} {schedule.timezone}".encode()).hexdigest()[:8],
            cron=schedule.cron,
            timezone=schedule.timezone,
            parameters={"parameters": {"variants": names}},
        )
        for schedule, names in by_schedule(variants).items()
    ]


def existing_schedules(client: SyncPrefectClient, deployment: str) -> list[DeploymentSchedule]:
    """The server's schedules of a deployment (`flow/deployment`); empty if there is no such deployment."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(deployment).schedules
    except ObjectNotFound:
        return []


def replaced(ours: Sequence[CronLine], existing: Iterable[DeploymentSchedule]) -> list[str]:
    """The changes to our existing schedules, one line each: the time, and the variants that are due then.

    Empty if the server has no schedules of ours yet.
    """
    from prefect.client.schemas.schedules import CronSchedule

    have = {
        f"{schedule.schedule.cron} {schedule.schedule.timezone or 'UTC'}": _names(schedule.parameters)
        for schedule in existing
        if (schedule.slug or "").startswith(PREFIX) and isinstance(schedule.schedule, CronSchedule)
    }
    want = {f"{line.cron} {line.timezone}": _names(line.parameters) for line in ours}
    return [
        f"nightly at {time}: {have.get(time, 'nothing')} -> {want.get(time, 'nothing')}"
        for time in sorted(have.keys() | want.keys())
        if have and have.get(time) != want.get(time)
    ]


def _names(parameters: dict[str, Any]) -> str:
    return ", ".join(parameters.get("parameters", {}).get("variants", ())) or "all variants"


def merged(ours: Sequence[CronLine], existing: Iterable[DeploymentSchedule]) -> list[DeploymentScheduleCreate]:
    """The schedules to set: ours, still paused if somebody has paused them, and those that people have added."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    existing = list(existing)
    paused = {schedule.slug for schedule in existing if not schedule.active}
    kept = [
        DeploymentScheduleCreate(
            schedule=schedule.schedule, active=schedule.active, slug=schedule.slug, parameters=schedule.parameters
        )
        for schedule in existing
        if not (schedule.slug or "").startswith(PREFIX)
    ]
    return kept + [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=line.cron, timezone=line.timezone),
            active=line.slug not in paused,
            slug=line.slug,
            parameters=line.parameters,
        )
        for line in ours
    ]
