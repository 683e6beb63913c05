"""Variants: the models that the nightly run makes, one YAML file each."""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import Field, ValidationError, field_validator

from artifacts.errors import ClipsmithError, ConfigError
from artifacts.keeping.automatic_promotion import MAX_DROP
from artifacts.models import Complaint, Strict, all_complaints, problems
from artifacts.names import AliasName
from flows.parameters import OptimizeParameters, read_config
from flows.preflight import require_calibration_data
from tasks.quantizing.recipe import load_recipe

_PACKAGED = Path(__file__).parent.parent / "deployments" / "variants"
_SUFFIXES = (".yaml", ".yml")
_FIELDS = "five fields: minute, hour, day of the month, month, day of the week"


class Schedule(Strict):
    """When: a cron expression (five fields) and the time zone that it is read in."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, text: str) -> str:
        """Refuse a sixth field (seconds) and dates that never come: Prefect accepts both, and people mean neither."""
        from prefect.server.schemas.schedules import CronSchedule

        fields = text.split()
        if len(fields) > 5:
            raise ValueError(
                f"{text!r} has {len(fields)} fields, which would mean seconds, too: write {_FIELDS}, "
                "as '0 3 * * *' for every night at 3"
            )
        try:
            schedule = CronSchedule(cron=text)
        except ValueError as error:
            raise ValueError(f"{text!r} is not a cron expression: write {_FIELDS}, as '0 3 * * *'") from error
        start = datetime(2026, 1, 1, tzinfo=UTC)  # any start will do: the search covers decades
        try:
            with ThreadPoolExecutor(1) as thread:  # this thread may have an event loop
                thread.submit(lambda: asyncio.run(schedule.get_dates(n=1, start=start))).result()
        except ValueError as error:
            raise ValueError(f"{text!r} never comes: no month that it names has such a day") from error
        return text

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in available_timezones():
            raise ValueError(f"{name!r} is not a time zone, as Europe/Berlin or UTC")
        return name


class Variant(Strict):
    """One model that is made again whenever something it depends on has changed.

    `promote` is the alias that is moved to a new release; None leaves that to people. The alias is moved only if all
    gates pass, one of them on accuracy; if FP32 is above chance; and if FP8's top-1 or recall@1 is at most
    `max_drop_against_production` lower than that of the release it points to now, on the same samples.
    """

    name: str
    schedule: Schedule = Schedule()
    promote: AliasName | None = None
    max_drop_against_production: Annotated[float, Field(ge=0, le=1)] | None = MAX_DROP
    parameters: OptimizeParameters = Field(default=OptimizeParameters())


@dataclass(frozen=True)
class BadVariant:
    """A file that is not a valid variant, and why."""

    name: str
    error: ClipsmithError


def variants_folder() -> Path:
    """`CLIPSMITH_VARIANTS`, or the folder that comes with the package."""
    return Path(os.environ.get("CLIPSMITH_VARIANTS") or _PACKAGED)


def read_variants(folder: Path) -> list[Variant | BadVariant]:
    """Read every `*.yaml` and `*.yml` of a folder, sorted by name; a bad file gives a `BadVariant`.

    Hidden files and backup files of editors are skipped. Two files of one name (`a.yaml` and `a.yml`) are one bad
    variant, as it is unknown which one was meant.

    Raises:
        ConfigError: there is no such folder.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for path in _entries(folder):
        if path.suffix in _SUFFIXES:
            files[path.stem].append(path)
    return [_read(*paths) for _, paths in sorted(files.items())]


def not_variants(folder: Path) -> list[str]:
    """The names of other files in a folder of variants: a variant whose file has another ending is never made.

    Raises:
        ConfigError: there is no such folder.
    """
    return [path.name for path in _entries(folder) if path.suffix not in _SUFFIXES]


def warning(others: Sequence[str]) -> str:
    """A warning in one line about the files that `not_variants` has found."""
    return f"not read, because only .yaml and .yml files are variants: {', '.join(others)}"


def _entries(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ConfigError(
            "there is no folder of variants",
            where=folder,
            expected="a folder of YAML files, one variant each",
            fix="make it, or correct CLIPSMITH_VARIANTS",
        )
    return sorted(path for path in folder.iterdir() if path.name[0] not in ".#" and path.name[-1] != "~")


def _read(path: Path, *others: Path) -> Variant | BadVariant:
    if others:
        names = " and ".join(file.name for file in (path, *others))
        return BadVariant(
            path.stem,
            ConfigError(
                f"{names} are both the variant {path.stem}",
                where=path.parent,
                expected="one file for each name",
                fix="rename one of them, or remove it",
            ),
        )
    try:
        return Variant.model_validate(read_config(path) | {"name": path.stem})
    except ValidationError as error:
        return BadVariant(
            path.stem,
            ConfigError(
                f"wrong variant: {problems(Variant, error, own=('name',))}",
                where=path,
                expected="schedule, promote and parameters, as the README lists them",
                fix="correct the file",
            ),
        )
    except ClipsmithError as error:
        return BadVariant(path.stem, ConfigError(error.what, where=path, expected=error.expected, fix=error.fix))


def check_variant(path: Path) -> list[Complaint]:
    """Everything that is wrong with a variant's file: its name, its keys and values, an unknown recipe, and no
    calibration data for a model that needs it.

    Models and data themselves are not checked: they may be on other machines.
    """
    found = []
    if path.suffix not in _SUFFIXES:
        found.append(Complaint("", f"{path.name} is not read", expected="a name in .yaml or .yml", fix="rename it"))
    try:
        values = read_config(path) | {"name": path.stem}
    except ClipsmithError as error:
        return [*found, Complaint("", error.what, expected=error.expected, fix=error.fix)]
    found += all_complaints(Variant, values, own=("name",))
    parameters = values.get("parameters")
    recipe = parameters.get("recipe") if isinstance(parameters, dict) else None
    if isinstance(recipe, str) and recipe:
        try:
            load_recipe(recipe)
        except ClipsmithError as error:
            found.append(Complaint("parameters.recipe", error.what, expected=error.expected, fix=error.fix))
    with suppress(ValidationError, ClipsmithError):
        given = parameters if isinstance(parameters, dict) else {}
        asked = {name: given[name] for name in ("model", "revision", "precisions", "calibration") if name in given}
        found += _without_data(OptimizeParameters.model_validate(asked))
    return found


def _without_data(parameters: OptimizeParameters) -> Iterator[Complaint]:
    try:
        require_calibration_data(parameters)
    except ConfigError as error:
        yield Complaint("parameters.calibration.source", error.what, expected=error.expected, fix=error.fix)


def by_schedule(variants: Sequence[Variant | BadVariant]) -> dict[Schedule, list[str]]:
    """The names of variants by their schedule; a bad variant is run, and so reported, at the default time.

    Without any variant there is one run at the default time with an empty list, which means all: it makes variants that
    were added since, or fails, so that people notice an empty folder.
    """
    found: dict[Schedule, list[str]] = {} if variants else {Schedule(): []}
    for variant in variants:
        schedule = variant.schedule if isinstance(variant, Variant) else Schedule()
        found.setdefault(schedule, []).append(variant.name)
    return found
