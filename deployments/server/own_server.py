"""The server that `clipsmith up` runs in a Prefect home: its port, its password, and how commands find both.

The password is in a file in that home that only its owner can read; it is sent only to this server.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from artifacts.errors import PrefectMisconfigured
from deployments.server.home_lock import home_lock

if TYPE_CHECKING:
    from prefect.settings import Settings

HOST = "127.0.0.1"
LOOPBACK = (HOST, "localhost")
"""The host names of servers that we start; a page under any other name is not ours."""
URL, CLIENT, SERVER = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
FOUND: dict[str, str] = {}
"""The origin of variables that this process set itself, by name; messages show it."""
UP_LOCK = "clipsmith-up.lock"
_PASSWORD_FILE = "clipsmith-api-password"
_SHORTEST = 20  # characters


def new_password() -> str:
    """A random USER:PASSWORD, in Prefect's form."""
    return f"clipsmith:{secrets.token_urlsafe(32)}"


def password_file(home: Path) -> Path:
    """The path of a home's password file."""
    return home / _PASSWORD_FILE


def password(home: Path) -> str | None:
    """The password in a home's file, or None if there is no file.

    Raises:
        PrefectMisconfigured: the file belongs to another user, others can read it, or its content is not a password.
    """
    path = password_file(home)
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    try:
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise _unusable(path, "is not this user's")
        if about.st_mode & 0o077:
            raise _unusable(path, "can be read by others, who may have read it")
        kept = os.read(number, 1000).decode(errors="replace").removesuffix("\n")
    finally:
        os.close(number)
    if len(kept) < _SHORTEST or not kept.isprintable() or " " in kept or ":" not in kept:
        raise _unusable(path, "holds something else")
    return kept


def make_password(home: Path) -> str:
    """The password in a home's file, which is created if there is none.

    Raises:
        PrefectMisconfigured: the file cannot be used.
    """
    with home_lock("password"):
        kept = password(home)
        if kept is None:
            kept = new_password()
            number, name = tempfile.mkstemp(dir=home, prefix=f"{_PASSWORD_FILE}-")  # its mode is 0600
            with os.fdopen(number, "w", encoding="utf-8") as file:
                file.write(f"{kept}\n")
                file.flush()
                os.fsync(number)
            Path(name).replace(password_file(home))
    return kept


def port_of_up(home: Path) -> int | None:
    """The port of the `clipsmith up` that runs in a home, or None."""
    try:
        with (home / UP_LOCK).open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                told = lock.read()
                return int(told) if told.isdecimal() else None
    except OSError:
        pass
    return None


def use_up(settings: Settings) -> Settings:
    """If no server is configured, use the `clipsmith up` of this Prefect home; if no password is configured for that
    server, use the one in the home's file.

    Returns: the settings that apply then.

    Raises:
        PrefectMisconfigured: the file with the password cannot be used.
    """
    port = port_of_up(settings.home)
    if port is None or (settings.api.url and not _is_at(settings.api.url, port)):
        return settings
    if not settings.api.url:
        os.environ[URL], FOUND[URL] = f"http://{HOST}:{port}/api", "of the `clipsmith up` that runs here"
    if not _given(settings.api.auth_string):
        told = _given(settings.server.api.auth_string)
        found = told or password(settings.home)
        if found is not None:
            os.environ[CLIENT] = found
            FOUND[CLIENT] = SERVER if told else str(password_file(settings.home))
    from prefect.context import refresh_global_settings_context
    from prefect.settings import get_current_settings

    refresh_global_settings_context()
    return get_current_settings()


def agree_on_password(settings: Settings, *, kept: bool) -> None:
    """Set one password for the server that is about to be started, this process and its children: the configured one,
    else the one in the home's file (if `kept`), else a random one.

    Raises:
        PrefectMisconfigured: two different passwords are configured, or the password file cannot be used.
    """
    server, client = _given(settings.server.api.auth_string), _given(settings.api.auth_string)
    if server and client and server != client:
        raise PrefectMisconfigured(
            f"{SERVER} and {CLIENT} do not match",
            where=f"{source(SERVER, settings)}, {source(CLIENT, settings)}",
            expected=f"one password, USER:PASSWORD, for the server and its clients; or {SERVER} alone",
            fix=f"set both to the same value, or unset {CLIENT}",
        )
    agreed = server or client or (make_password(settings.home) if kept else new_password())
    os.environ[SERVER] = os.environ[CLIENT] = agreed


def forgo_password(settings: Settings) -> None:
    """Let the server that is about to be started ask for no password.

    Raises:
        PrefectMisconfigured: a password is configured for it.
    """
    if _given(settings.server.api.auth_string):
        raise PrefectMisconfigured(
            f"--no-auth, and {SERVER} is set",
            where=source(SERVER, settings),
            expected="one of them",
            fix="leave out --no-auth, or unset it",
        )
    os.environ.pop(SERVER, None)  # an empty password would refuse everybody


def source(variable: str, settings: Settings) -> str:
    """Where a setting comes from, for messages, without its value."""
    if variable in FOUND:
        return f"{variable} {FOUND[variable]}"
    return f"{variable} of the environment" if variable in os.environ else f"a profile in {settings.profiles_path}"


def _given(secret: object) -> str | None:
    """The text of a secret; None for an empty one."""
    from pydantic import SecretStr

    return (secret.get_secret_value() or None) if isinstance(secret, SecretStr) else None


def _is_at(url: str, port: int) -> bool:
    try:
        parts = urlsplit(url)
        return (parts.scheme, parts.hostname in LOOPBACK, parts.port) == ("http", True, port)
    except ValueError:
        return False


def _unusable(path: Path, problem: str) -> PrefectMisconfigured:
    return PrefectMisconfigured(
        f"the file with the password of `clipsmith up` {problem}",
        where=path,
        expected="a file that only this user can read (mode 0600), as `clipsmith up` makes it",
        fix="remove it: the next `clipsmith up` makes another, and browsers ask for that once",
    )
