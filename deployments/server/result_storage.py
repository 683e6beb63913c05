"""Prefect's result storage when hosts share a bucket: results of cached steps are kept in the bucket, beside releases.

Runs ask the server for the storage, so nothing has to be configured where they run. The storage block holds only the
bucket's URL: credentials are in the environment of each process that uses it (AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL ...).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import UUID

from artifacts.store.store import BUCKET_VARIABLE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.filesystems import WritableFileSystem

BLOCK = "clipsmith-results"
_FOLDER = "results"


def apply(client: SyncPrefectClient) -> dict[str, str]:
    """Make the bucket in $CLIPSMITH_BUCKET the server's default result storage, or undo that if none is set.

    Returns the environment variables that flow runs need in addition to the credentials.
    """
    url = os.environ.get(BUCKET_VARIABLE)
    now = client.read_server_default_result_storage().default_result_storage_block_id
    if not url:
        if now is not None and client.read_block_document(now).name == BLOCK:
            client.clear_server_default_result_storage()
        return {}
    from artifacts.copies.bucket import Bucket

    Bucket(url)  # refuses URLs with credentials, and buckets that cannot be reached
    block = _block(url).save(BLOCK, overwrite=True)
    assert isinstance(block, UUID)  # inside an event loop it would be a coroutine
    if block != now:
        client.update_server_default_result_storage(block)
    return {BUCKET_VARIABLE: url}


def _block(url: str) -> WritableFileSystem:
    from prefect.filesystems import LocalFileSystem, RemoteFileSystem

    if urlsplit(url).scheme in ("", "file", "local"):
        folder = Path(url.partition("://")[2] or url).absolute()
        return LocalFileSystem(basepath=str(folder / _FOLDER))
    return RemoteFileSystem(basepath=f"{url.rstrip('/')}/{_FOLDER}", settings={"use_listings_cache": False})
