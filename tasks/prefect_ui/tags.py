"""Names and tags by which people find a run in the UI: tags are the variant and the targets."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext

from artifacts.inert import visible

VARIANT, TARGET = "variant:", "target:"


def tag_run(variant: str, targets: Sequence[str]) -> None:
    """Add tags to the current flow run; if it was started with a variant's tag, that one is kept."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    tags = set(context.flow_run.tags) | {TARGET + visible(target) for target in targets}
    if not any(tag.startswith(VARIANT) for tag in tags):
        tags.add(VARIANT + visible(variant))
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, tags=sorted(tags))


def name_run(name: str) -> None:
    """Set the name of the current flow run; the variant is put in front where the nightly run has started it."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    variants = [tag.removeprefix(VARIANT) + ": " for tag in context.flow_run.tags if tag.startswith(VARIANT)]
    name = visible("".join(variants[:1]) + name)
    if context.flow_run.name == name:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(context.flow_run.id, name=name)
