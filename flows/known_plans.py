"""Which release a plan led to, remembered where Prefect keeps results: what shares them shares this."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore, get_default_result_storage
from prefect.serializers import JSONSerializer

from artifacts.store import Store
from tasks.publish import Published


def remember(store: Store, plan: str, run: object, published: Published) -> None:
    """Keep that `plan` led to this release, and that the flow run of this id made it."""
    results, entry = _results(), published.model_dump()
    for key in (_plan_key(store, plan), _run_key(run)):
        results.write(entry, key=key)


def known(store: Store, plan: str) -> Published | None:
    """The release that `plan` led to before, in this store."""
    return _read(_plan_key(store, plan))


def made_by(run: object) -> Published | None:
    """The release that a flow run led to."""
    return _read(_run_key(run))


def _results() -> ResultStore:
    """Where results are kept by default; not the flow's own, which keeps none."""
    read_storage = cast("Callable[..., WritableFileSystem]", get_default_result_storage)
    storage = read_storage(_sync=True)
    return ResultStore(result_storage=storage, serializer=JSONSerializer(), cache_result_in_memory=False)


def _plan_key(store: Store, plan: str) -> str:
    return f"plan-{store.id[:16]}-{plan}"


def _run_key(run: object) -> str:
    return f"release-of-{run}"


def _read(key: str) -> Published | None:
    results = _results()
    return Published.model_validate(results.read(key).result) if results.exists(key) else None
