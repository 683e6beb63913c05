"""What flow runs need of the bucket that hosts share, and what versions before told the server of it.

Results of steps are in the bucket because the store is its working copy (`artifacts.store.results`). Versions before
made the bucket the server's own place for results, so that Prefect's records were read from it as they came.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from artifacts.store.store import BUCKET_VARIABLE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

BLOCK = "clipsmith-results"
_DEPLOYMENT = "optimize/optimize"  # all deployments are given the same bucket


def replaced(client: SyncPrefectClient) -> list[str]:
    """What applying would change of the bucket that the server's runs use, as one line; empty if it has no runs yet."""
    from prefect.exceptions import ObjectNotFound

    try:
        deployment = client.read_deployment_by_name(_DEPLOYMENT)
    except ObjectNotFound:
        return []
    have = deployment.job_variables.get("env", {}).get(BUCKET_VARIABLE) or "none"
    want = os.environ.get(BUCKET_VARIABLE) or "none"
    return [] if have == want else [f"bucket of the store: {have} -> {want}"]


def apply(client: SyncPrefectClient) -> dict[str, str]:
    """Undo what versions before told the server, and return the environment variables that flow runs need.

    Raises:
        ConfigError: the URL of the bucket holds credentials.
        ReplicaError: it cannot be reached.
    """
    now = client.read_server_default_result_storage().default_result_storage_block_id
    if now is not None and client.read_block_document(now).name == BLOCK:
        client.clear_server_default_result_storage()
    url = os.environ.get(BUCKET_VARIABLE)
    if not url:
        return {}
    from artifacts.copies.bucket import Bucket

    Bucket(url)
    return {BUCKET_VARIABLE: url}
