"""Reading `prefect.yaml`, and applying it to a server: work pool, deployments and their schedules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from artifacts.config_files import mapping, read_file
from artifacts.errors import ConfigError
from deployments.server.schedules import CronLine, existing_schedules, merged, replaced, variant_schedules
from flows.variants import read_variants, variants_folder

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.flows import Flow

PREFECT_FILE = Path(__file__).parents[1] / "prefect.yaml"
POOL = "clipsmith"
POOL_TYPE = "process"
NIGHTLY = "nightly"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WorkPoolUse(_Strict):
    """The work pool of a deployment, and its job variables."""

    name: str
    job_variables: dict[str, Any] = {}


class ConcurrencyLimit(_Strict):
    """How many runs of a deployment may run at once, and what happens to further runs."""

    limit: int
    collision_strategy: str


class Definition(_Strict):
    """One deployment in the file."""

    name: str
    entrypoint: str
    tags: list[str] = []
    work_pool: WorkPoolUse
    concurrency_limit: ConcurrencyLimit | None = None
    schedules: list[CronLine] = []

    def flow(self) -> Flow:
        """The flow that the deployment runs."""
        from prefect.flows import load_flow_from_entrypoint

        return load_flow_from_entrypoint(self.entrypoint)


class PrefectFile(BaseModel):
    """`prefect.yaml`, with environment variables filled in."""

    pull: list[dict[str, Any]]
    deployments: list[Definition]


def read_definitions(path: Path = PREFECT_FILE) -> PrefectFile:
    """Read the file as `prefect deploy` does: `{{ $NAME }}` is an environment variable; empty ones are left out.

    Pull steps stay as they are: the worker fills them in.
    """
    from prefect.utilities.templating import apply_values

    content = read_file(path, mapping, what="the deployments", error=ConfigError)
    deployments = [Definition.model_validate(apply_values(entry, {})) for entry in content["deployments"]]
    for deployment in deployments:
        variables = deployment.work_pool.job_variables
        deployment.work_pool.job_variables = {name: value for name, value in variables.items() if value != ""}
    return PrefectFile(pull=content["pull"], deployments=deployments)


def apply_definitions(client: SyncPrefectClient, *, pool: str = POOL, environment: dict[str, str]) -> list[str]:
    """Create or update the pool, every deployment and its schedules; applying again changes nothing.

    `environment` holds variables that are added to the environment of flow runs.

    Returns: the full names of the deployments, `flow/deployment`.
    """
    _require_pool(client, pool)
    content = read_definitions()
    for definition in content.deployments:
        definition.work_pool.job_variables.setdefault("env", {}).update(environment)
    return [_apply(client, definition, content.pull, pool) for definition in content.deployments]


def _require_pool(client: SyncPrefectClient, name: str) -> None:
    """Create a process pool, unless a pool of that name and any type exists; an existing pool is not changed."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=name, type=POOL_TYPE))
    except ObjectAlreadyExists:
        return


def _schedules(definition: Definition) -> list[CronLine]:
    """The schedules of a deployment: from the file, or for the nightly run from the variants."""
    if definition.name != NIGHTLY:
        return definition.schedules
    return variant_schedules(read_variants(variants_folder()))


def replaced_nights(client: SyncPrefectClient) -> list[str]:
    """What applying would change in the server's nightly schedule, one line each: see `schedules.replaced`."""
    (nightly,) = [definition for definition in read_definitions().deployments if definition.name == NIGHTLY]
    return replaced(_schedules(nightly), existing_schedules(client, f"{NIGHTLY}/{NIGHTLY}"))


def form(flow: Flow[..., Any]) -> dict[str, Any]:
    """The schema of a flow's form, without the default of `store`, which the machine that runs the flow determines."""
    from prefect.utilities.callables import parameter_schema

    schema: dict[str, Any] = parameter_schema(flow).model_dump_for_openapi()
    for parameter in schema["properties"].values():
        parameter.get("default", {}).pop("store", None)
    for definition in schema["definitions"].values():
        definition.get("properties", {}).get("store", {}).pop("default", None)
    return schema


def _apply(client: SyncPrefectClient, definition: Definition, pull: list[dict[str, Any]], pool: str) -> str:
    from prefect.client.schemas.objects import ConcurrencyOptions

    flow = definition.flow()
    full_name = f"{flow.name}/{definition.name}"
    limit = definition.concurrency_limit
    # The API replaces an existing deployment and its schedules, so nothing is duplicated.
    client.create_deployment(
        flow_id=client.create_flow_from_name(flow.name),
        name=definition.name,
        entrypoint=definition.entrypoint,
        description=flow.description,
        version=flow.version,
        tags=definition.tags,
        work_pool_name=pool,
        job_variables=definition.work_pool.job_variables,
        pull_steps=pull,
        schedules=merged(_schedules(definition), existing_schedules(client, full_name)),
        concurrency_limit=limit.limit if limit else None,
        concurrency_options=ConcurrencyOptions.model_validate(limit.model_dump(exclude={"limit"})) if limit else None,
        parameter_openapi_schema=form(flow),
        enforce_parameter_schema=True,
    )
    return full_name
