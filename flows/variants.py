"""Variants: what the nightly run makes, one YAML file each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import available_timezones

from pydantic import Field, ValidationError, field_validator

from artifacts.errors import ClipsmithError, ConfigError
from artifacts.models import Strict
from artifacts.names import AliasName
from flows.parameters import OptimizeParameters, problems, read_config

_PACKAGED = Path(__file__).parent.parent / "deployments" / "variants"


class Schedule(Strict):
    """When: a cron expression (five fields) and the time zone that it is read in."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, text: str) -> str:
        from prefect.server.schemas.schedules import CronSchedule

        CronSchedule(cron=text)
        return text

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name!r} is not a time zone, as Europe/Berlin or UTC")
        return name


class Variant(Strict):
    """One model that is made again whenever something it depends on has changed.

    `promote` is the alias that is moved to a new release whose gates all pass; None leaves that to people.
    """

    name: str
    schedule: Schedule = Schedule()
    promote: AliasName | None = None
    parameters: OptimizeParameters = Field(default=OptimizeParameters())


@dataclass(frozen=True)
class BadVariant:
    """A file that is none, and why."""

    name: str
    error: ClipsmithError


def variants_folder() -> Path:
    """`CLIPSMITH_VARIANTS`, or the folder that comes with the package."""
    return Path(os.environ.get("CLIPSMITH_VARIANTS") or _PACKAGED)


def read_variants(folder: Path) -> list[Variant | BadVariant]:
    """Every `*.yaml` of a folder, by name; a bad file does not hide the good ones.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(
            "there is no folder of variants",
            where=folder,
            expected="a folder of YAML files, one variant each",
            fix="make it, or correct CLIPSMITH_VARIANTS",
        )
    return [_read(path) for path in sorted(folder.glob("*.yaml"))]


def _read(path: Path) -> Variant | BadVariant:
    try:
        return Variant.model_validate(read_config(path) | {"name": path.stem})
    except ValidationError as error:
        return BadVariant(
            path.stem,
            ConfigError(
                f"wrong variant: {problems(error)}",
                where=path,
                expected="schedule, promote and parameters, as the README lists them",
                fix="correct the file",
            ),
        )
    except ClipsmithError as error:
        return BadVariant(path.stem, ConfigError(error.what, where=path, expected=error.expected, fix=error.fix))


def by_schedule(variants: Sequence[Variant | BadVariant]) -> dict[Schedule, list[str]]:
    """The names of the variants that run at the same times; a bad one runs, and is reported, at the default time."""
    found: dict[Schedule, list[str]] = {}
    for variant in variants:
        schedule = variant.schedule if isinstance(variant, Variant) else Schedule()
        found.setdefault(schedule, []).append(variant.name)
    return found
