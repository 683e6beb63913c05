"""Keep a store sound and small: verify, repair and garbage collection, from the UI or on a schedule."""

from __future__ import annotations

from typing import Annotated

from prefect.runtime import flow_run
from pydantic import Field, model_validator

from artifacts.prefect_forms import FormModel, NullAs
from artifacts.store.verification import Verification
from flows.defaults import STORE, default_store
from flows.described_flow import described_flow
from flows.parameters import Recorded
from tasks.prefect_ui.upkeep import collect_task, repair_task, require_sound, verify_task


class MaintainParameters(FormModel):
    """What to do with the store."""

    verify: bool = Field(
        default=True, description="Hash every file and read every record again; the run fails if something is damaged."
    )
    repair: bool = Field(default=False, description="Restore what can be restored, and set aside the rest.")
    collect: bool = Field(default=True, description="Remove what no release, alias or running process needs.")
    keep: Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, NullAs("all")] = Field(
        default=None, description="Retire all but this many of each model's releases; those with an alias stay."
    )
    dry_run: bool = Field(default=False, description="Only tell what would be removed or repaired.")
    store: Recorded = Field(default_factory=default_store, min_length=1, description=STORE)

    @model_validator(mode="after")
    def _consistent(self) -> MaintainParameters:
        if not (self.verify or self.collect):
            raise ValueError("nothing to do: set verify or collect")
        if self.repair and not self.verify:
            raise ValueError("repair needs verify")
        if self.keep is not None and not self.collect:
            raise ValueError("keep needs collect")
        return self


DEFAULTS = MaintainParameters()


def _run_name() -> str:
    parameters = flow_run.parameters["parameters"]
    parts = [name for name in ("verify", "repair", "collect") if getattr(parameters, name)]
    return " ".join([*parts, *(["(dry run)"] if parameters.dry_run else [])])


@described_flow(_run_name)
def maintain(parameters: MaintainParameters = DEFAULTS) -> None:
    """Verify the store, repair it if told to, and remove what nothing needs.

    A store that is damaged fails the run; nothing is removed from it then.

    Args:
        parameters: What to do.
    """
    if parameters.verify:
        found: Verification = verify_task(parameters.store)
        if found.problems and parameters.repair and not parameters.dry_run:
            found = repair_task(parameters.store).after
        require_sound(found, parameters.store)
    if parameters.collect:
        collect_task(parameters.store, parameters.keep, parameters.dry_run)
