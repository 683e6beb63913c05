"""The server that `clipsmith up` runs in a Prefect home: its port, its password, and how commands find both.

The password is in a file of that home that only its owner can read; it is sent nowhere but to this server.
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
"""The names under which the servers that are started here can be asked; a page under any other name is not ours."""
URL, CLIENT, SERVER = "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"
FOUND: dict[str, str] = {}
"""Where variables come from that this process was not told: messages name that."""
UP_LOCK = "clipsmith-up.lock"
_PASSWORD_FILE = "clipsmith-api-password"
_SHORTEST = 20  # characters


def new_password() -> str:
    """USER:PASSWORD, as Prefect has it; nobody can guess it."""
    return f"clipsmith:{secrets.token_urlsafe(32)}"


def password_file(home: Path) -> Path:
    """Where the password of a home is, once there is one."""
    return home / _PASSWORD_FILE


def password(home: Path) -> str | None:
    """The password that is kept in a home, or None.

    Raises:
        PrefectMisconfigured: the file is somebody else's, others can read it, or it holds something else.
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
    """The password that is kept in a home, made where there is none yet.

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
    """Where this process was told no server, let it use the `clipsmith up` of its home; and where it was told no
    password for that server, let it use the one that is kept there.

    Returns: the settings that are in force then.

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
    """Let the server that is about to be started here, this process and its children use one password: the one that
    they were told, else the home's (`kept`), else one that nobody will know.

    Raises:
        PrefectMisconfigured: they were told two, or the file with the password cannot be used.
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
    """Let the server that is about to be started here ask nobody for a password.

    Raises:
        PrefectMisconfigured: it was told one.
    """
    if _given(settings.server.api.auth_string):
        raise PrefectMisconfigured(
            f"--no-auth, and {SERVER} is set",
            where=source(SERVER, settings),
            expected="one of them",
            fix="leave out --no-auth, or unset it",
        )
    os.environ.pop(SERVER, None)  # an empty one would let nobody in


def source(variable: str, settings: Settings) -> str:
    """Where a setting comes from; never its value."""
    if variable in FOUND:
        return f"{variable} {FOUND[variable]}"
    return f"{variable} of the environment" if variable in os.environ else f"a profile in {settings.profiles_path}"


def _given(secret: object) -> str | None:
    """What a secret says; an empty one says nothing."""
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
