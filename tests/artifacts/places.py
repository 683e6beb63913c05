"""Folders and buckets that releases are copied to or shared through, looked at with something that is not ours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """A copy, looked at with something else than what made it: pathlib, a dictionary, boto3."""

    url: str
    files: Callable[[], dict[str, bytes]]
    write: Callable[[str, bytes], object]
    remove: Callable[[str], object]


def in_folder(folder: Path) -> Place:
    """A folder of this machine."""

    def files() -> dict[str, bytes]:
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    def write(path: str, data: bytes) -> None:
        (folder / path).unlink(missing_ok=True)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)

    return Place(f"file://{folder}", files, write, lambda path: (folder / path).unlink())


def in_bucket(client: Any, bucket: str) -> Place:
    """A folder in an S3 bucket."""
    client.create_bucket(Bucket=bucket)

    def files() -> dict[str, bytes]:
        found = client.list_objects_v2(Bucket=bucket, Prefix="some/folder/").get("Contents", [])
        bodies = {item["Key"]: client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read() for item in found}
        return {key.removeprefix("some/folder/"): body for key, body in bodies.items()}

    return Place(
        f"s3://{bucket}/some/folder",
        files,
        lambda path, data: client.put_object(Bucket=bucket, Key=f"some/folder/{path}", Body=data),
        lambda path: client.delete_object(Bucket=bucket, Key=f"some/folder/{path}"),
    )
