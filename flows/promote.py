"""Point an alias, such as `production`, to a release: after a person has approved it, or as soon as its gates hold."""

from __future__ import annotations

from typing import Annotated

from prefect import get_run_logger
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from artifacts.copies.opening import open_store
from artifacts.errors import NotApproved
from artifacts.prefect_forms import FormModel, NullAsBlank
from flows.defaults import STORE, default_store
from flows.described_flow import described_flow
from flows.parameters import Recorded
from tasks.prefect_ui.approval import Promoted, Proposal, promote_task, propose

ReleaseReference = Annotated[
    str, Field(min_length=1, max_length=170, pattern=r"^[a-z0-9][a-z0-9._-]*([@:][a-z0-9-]+)?$")
]
"""A reference to a release; the pattern is for the form, and `artifacts.names.parse_reference` decides."""
_HOUR = 3600
_POLL_S = 5
"""How often a paused run checks whether somebody has answered, in seconds."""


class PromoteParameters(FormModel):
    """What to promote, and whether to ask a person first."""

    release: ReleaseReference = Field(
        default="demo",
        description="Which release: MODEL (its newest), MODEL@VERSION, MODEL:ALIAS, or a digest's start.",
    )
    alias: str = Field(
        default="production",
        max_length=50,
        pattern=r"^[a-z]([a-z0-9-]*[a-z0-9])?$",
        description="The alias to move: a-z, 0-9 and -, a letter first.",
    )
    approval: bool = Field(
        default=True, description="Pause the run until somebody has looked at the release and approved it."
    )
    approval_timeout_hours: int = Field(
        default=24, ge=1, le=168, description="How long to wait for the approval; without one the run fails."
    )
    why: Annotated[Annotated[Recorded, Field(max_length=500)] | None, NullAsBlank()] = Field(
        default=None, description="The reason, kept with the alias."
    )
    store: Recorded = Field(default_factory=default_store, min_length=1, description=STORE)


class Approval(RunInput):
    """What a person answers."""

    approve: bool = Field(default=False, description="Whether the alias may move.")
    reason: str = Field(default="", max_length=500, description="Why, or why not; kept with the alias.")


DEFAULTS = PromoteParameters()


def _run_name() -> str:
    parameters = flow_run.parameters["parameters"]
    return f"{parameters.release} to {parameters.alias}"


@described_flow(_run_name)
def promote(parameters: PromoteParameters = DEFAULTS) -> Promoted:
    """Point an alias to a release whose gates hold, once somebody has approved it if so configured.

    A rejected release is refused before anybody is asked. If the alias moves while a person makes up their mind, the
    promotion is refused: what they saw is no longer so.

    Args:
        parameters: The release, the alias, and whether to ask.
    """
    proposal = propose(open_store(parameters.store), parameters.release, parameters.alias)
    why = parameters.why
    if parameters.approval and proposal.now != proposal.release:
        why = reason_of(_ask(proposal, parameters.approval_timeout_hours * _HOUR), proposal, why)
    promoted = promote_task(parameters.store, proposal, why)
    get_run_logger().info("%s points to %s, before: %s", promoted.alias, promoted.release, promoted.before or "nothing")
    return promoted


def _ask(proposal: Proposal, timeout_s: int) -> Approval:
    """Pause until somebody answers.

    Raises:
        NotApproved: nobody answered in time.
    """
    try:
        answer: Approval = pause_flow_run(
            wait_for_input=Approval.with_initial_data(description=proposal.text),
            timeout=timeout_s,
            poll_interval=_POLL_S,
        )
    except FlowPauseTimeout as error:
        raise NotApproved(
            f"nobody approved {proposal.release} for {proposal.alias} within {timeout_s // _HOUR} h",
            expected="Resume on the run's page, with an answer",
            fix="run promote again when somebody is there, or with a longer approval_timeout_hours",
        ) from error
    return answer


def reason_of(answer: Approval, proposal: Proposal, why: str | None) -> str | None:
    """Why the alias moves: the reasons of the person who asked and of the person who approved.

    Raises:
        NotApproved: the promotion was refused.
    """
    said = answer.reason.strip()
    if not answer.approve:
        raise NotApproved(
            f"the promotion of {proposal.release} to {proposal.alias} was refused: {said or 'no reason given'}",
            fix="promote another release, or this one once the reason is gone",
        )
    return "; ".join(part for part in (why, f"approved: {said}" if said else "approved") if part)
