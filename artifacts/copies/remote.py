"""A folder on any file system that fsspec knows, with the operations that copy to and from it safely.

Files appear whole or not at all: object stores (S3) do that themselves; elsewhere a file is written under a temporary
name and moved. Transient errors are retried a few times (S3's library has also retried its own by then).
Lists are never taken from a cache.
"""

from __future__ import annotations

import errno
import hashlib
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from artifacts import fs, limits
from artifacts.errors import ClipsmithError, ConfigError, ReplicaError

CHUNK = 8 << 20  # bytes that are sent or fetched at once
_MAX_PARTS = 9_000  # S3 takes 10,000 parts
_RECORD_LIMIT = max(limits.MANIFEST.bytes, limits.SIGNATURE.bytes)  # bytes of a file that is read into memory
_ATTEMPTS = 4
_LONGEST_WAIT_S = 2.0
_STAGING = "staging"
_TRANSIENT = {
    *(errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETDOWN),
    *(errno.ENETRESET, errno.ENETUNREACH, errno.EPIPE, errno.EREMOTEIO, errno.ETIMEDOUT),
}
_NO_FOLDER = "give a folder: a file is in its place"
_TRY_AGAIN = "check the URL, the network and the credentials, then run the same command again: it goes on where it was"
T = TypeVar("T")


class Remote:
    """The folder at `url`: a path, `s3://bucket/folder`, or whatever fsspec has a file system for.

    Paths are relative to it. Every method may be called from several threads. When the file system fails, also after
    retries of errors that may be transient, it raises ReplicaError. `name` is how messages call the folder.
    """

    def __init__(self, url: str, name: str = "copy") -> None:
        from fsspec.core import url_to_fs
        from fsspec.implementations.local import LocalFileSystem

        _refuse_credentials(url)
        self.url = redact(url).rstrip("/")
        self.name = name
        self._userinfo = _userinfo(url)
        try:
            self._fs, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            fix = "pip install 'clipsmith[s3]' for s3://; for others, the package that is named above"
            raise ReplicaError(f"this kind of URL needs a package: {error}", where=self.url, fix=fix) from error
        except ValueError as error:
            expected = "a folder, s3://bucket/folder, or another URL that fsspec knows"
            raise ReplicaError(self._redacted(error), where=self.url, expected=expected) from error
        self._root = root.rstrip("/")
        self._folder = Path(root) if isinstance(self._fs, LocalFileSystem) else None
        self._is_s3 = "s3" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def where(self, path: str) -> str:
        """How messages name a file."""
        return f"{self.url}/{path}"

    @property
    def is_exclusive(self) -> bool:
        """Whether only one of several processes that `create` a file at once succeeds, also on different hosts."""
        return self._folder is not None or self._is_s3

    def holds_a_store(self, header: str) -> bool:
        """Whether the folder is a store on this machine, which others may be using right now."""
        return self._folder is not None and (self._folder / header).exists()

    # --- reading -------------------------------------------------------------------------------------------

    def sizes(self, folder: str) -> dict[str, int]:
        """Every file below a folder by its path below it, with its size in bytes; none when there is no such folder."""
        place = self._place(folder)

        def find() -> dict[str, int]:
            try:
                found: dict[str, dict[str, Any]] = self._fs.find(place, detail=True)
            except FileNotFoundError:
                return {}
            return {name.removeprefix(f"{place}/"): info["size"] for name, info in found.items() if info}

        return self._call("listed", folder, find)

    def read(self, path: str) -> bytes | None:
        """A small file; None when it is not there."""
        place = self._place(path)

        def fetch() -> bytes | None:
            try:
                size = self._fs.info(place)["size"]
                if size > _RECORD_LIMIT:
                    raise ReplicaError(f"{size} bytes where a small file should be", where=self.where(path))
                return self._fs.cat_file(place, start=0, end=size) if size else b""
            except FileNotFoundError:
                return None

        return self._call("read", path, fetch)

    def chunks(self, path: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of a file, piece by piece; fewer when it is shorter."""
        place = self._place(path)
        for start in range(0, size, CHUNK):
            end = min(start + CHUNK, size)
            yield self._call("read", path, partial(self._fs.cat_file, place, start=start, end=end))

    def digest(self, path: str, size: int) -> str:
        """Hex sha256 of the first `size` bytes of a file, read back from where it is."""
        digest = hashlib.sha256()
        for chunk in self.chunks(path, size):
            digest.update(chunk)
        return digest.hexdigest()

    # --- writing -------------------------------------------------------------------------------------------

    def upload(self, path: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        """Write a file, replacing one that is there. When `chunks` raises, nothing is left of it."""
        self._call("written", path, lambda: self._upload(self._place(path), size, chunks))

    def create(self, path: str, data: bytes) -> bool:
        """Write a small file where there is none; False when there is one. Exclusive here and on S3."""
        place = self._place(path)

        def write() -> bool:
            try:
                if self._folder is not None:
                    fs.make_folders(self._folder)
                    for folder in (Path(place).parent, self._folder / _STAGING):
                        fs.durable_folder(folder, self._folder)
                    fs.write_exclusive(Path(place), data, self._folder / _STAGING)
                elif self._is_s3:
                    self._fs.pipe_file(place, data, mode="create")
                elif self._fs.exists(place):
                    return False
                else:
                    self._upload(place, len(data), lambda: [data])
            except FileExistsError:
                return False
            return True

        return self._call("written", path, write)

    def remove(self, path: str) -> None:
        """Remove a file; one that is gone already is fine."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._place(path))

        self._call("removed", path, remove)

    def settle(self, folder: str) -> None:
        """Make a folder that was written durable, if it is on a local file system (others do that themselves)."""
        if self._folder is not None:
            self._call("flushed", folder, lambda: fs.keep(Path(self._place(folder)), Path(self._root)))

    def _upload(self, place: str, size: int, chunks: Callable[[], Iterable[bytes]]) -> None:
        if not self._is_s3:
            self._upload_and_move(place, chunks())
        elif size <= CHUNK:
            self._fs.pipe_file(place, b"".join(chunks()))
        else:
            self._upload_parts(place, size, chunks())

    def _upload_and_move(self, place: str, chunks: Iterable[bytes]) -> None:
        temporary = self._place(f"{_STAGING}/{uuid.uuid4().hex}")
        for path in (place, temporary):
            self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        try:
            with self._fs.open(temporary, "wb") as stream:
                for chunk in chunks:
                    stream.write(chunk)
            self._fs.mv(temporary, place)
        except BaseException:
            with suppress(OSError):
                self._fs.rm_file(temporary)
            raise

    def _upload_parts(self, place: str, size: int, chunks: Iterable[bytes]) -> None:
        block = max(CHUNK, -(-size // _MAX_PARTS))
        stream = self._fs.open(place, "wb", block_size=block, autocommit=False)
        try:
            for chunk in chunks:
                stream.write(chunk)
            stream.close()
            stream.commit()
        except BaseException:
            stream.closed = True  # else garbage collection would close it, and so complete the upload
            stream.discard()
            raise

    # --- errors --------------------------------------------------------------------------------------------

    def _place(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _call(self, what: str, path: str, action: Callable[[], T]) -> T:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        retrying = Retrying(
            retry=retry_if_exception(_is_transient),
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=_LONGEST_WAIT_S),
            reraise=True,
        )
        try:
            return retrying(action)
        except ClipsmithError:
            raise
        except Exception as error:
            raise ReplicaError(
                f"a file of the {self.name} cannot be {what}: {self._redacted(error)}",
                where=self.where(path),
                fix=_NO_FOLDER if isinstance(error, NotADirectoryError) else _TRY_AGAIN,
            ) from error

    def _redacted(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        return text.replace(f"{self._userinfo}@", "***@") if self._userinfo else text


def _is_transient(error: BaseException) -> bool:
    return isinstance(error, ConnectionError | TimeoutError) or (
        isinstance(error, OSError) and error.errno in _TRANSIENT
    )


# --- URLs --------------------------------------------------------------------------------------------------


def redact(url: str) -> str:
    """The URL without user, password and query, for messages."""
    userinfo = _userinfo(url)
    shown = url.replace(userinfo, "***", 1) if userinfo else url
    return re.sub(r"\?.*", "?***", shown, flags=re.DOTALL) if _has_query(url) else shown


def _refuse_credentials(url: str) -> None:
    if "::" in url:
        raise ConfigError("chained URLs are not for copies", where=redact(url), expected="a plain URL, without `::`")
    if ":" in _userinfo(url) or _has_query(url):
        raise ConfigError(
            "the URL holds credentials or a query, which end up in shell histories and logs",
            where=redact(url),
            expected="a URL without password and query, as s3://bucket/folder",
            fix="give credentials in the environment, as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in a profile "
            "(AWS_PROFILE), or as fsspec's FSSPEC_<PROTOCOL>_PASSWORD",
        )


def _userinfo(url: str) -> str:
    """`user` or `user:password`: all up to the last @, because not everybody quotes an @ or / in a password."""
    _, scheme, rest = url.partition("://")
    before, at, _ = rest.rpartition("@")
    if not scheme or not at or ("/" in before and ":" not in before):
        return ""  # an @ in a folder's name
    return "" if re.match(r"[^/:@]+:[0-9]+/", before) else before


def _has_query(url: str) -> bool:
    return "://" in url and not url.startswith(("file://", "local://")) and "?" in url
