"""By what people find a run in the UI: its name, and the tags of its variant and its targets."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from artifacts.inert import visible

VARIANT, TARGET = "variant:", "target:"


def tag_run(variant: str, targets: Sequence[str]) -> None:
    """Tag the flow run this is called in, besides the tags it has; the variant that it was started with stays."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = set(context.flow_run.tags) | {TARGET + visible(target) for target in targets}
    if not any(tag.startswith(VARIANT) for tag in tags):
        tags.add(VARIANT + visible(variant))
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def name_run(name: str) -> None:
    """Name the flow run this is called in."""
    name = visible(name)
    context = FlowRunContext.get()
    if context is None or context.flow_run is None or context.flow_run.name == name:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=name)
