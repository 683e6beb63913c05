"""The user's settings of Prefect (its home, a server's URL, passwords), checked before anything is computed.

Settings come from the environment and from a profile in Prefect's home; Prefect's own merged result is what is checked.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import warnings
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import ValidationError

from artifacts.errors import NoServer, PrefectMisconfigured
from deployments.server.own_server import CLIENT, SERVER, URL, source

if TYPE_CHECKING:
    from prefect.settings import Settings

_CONNECT_S, _ANSWER_S = 5.0, 20.0
"""Time limits in seconds for connecting to a server, and for its answer: a busy server answers late."""
_API = "http://HOST:PORT/api of a running Prefect 3 server"
_LONGEST = 200  # characters of a library's message


def load_settings() -> Settings:
    """The settings as Prefect reads them.

    Raises:
        PrefectMisconfigured: Prefect cannot read one of them.
    """
    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")  # about a home that cannot be created: `require_home` raises our own error
            from prefect.settings import get_current_settings

            settings = get_current_settings()
        sys.stderr.write(said.getvalue())
        return settings
    except Exception as error:  # each kind of file and value raises other errors
        raise PrefectMisconfigured(
            f"Prefect's settings cannot be read: {_first_words(error)}",
            where="variables that begin with PREFECT_, and profiles.toml in $PREFECT_HOME (~/.prefect)",
            expected="values that Prefect takes: `prefect config view` shows them",
            fix="correct or unset what is named",
        ) from error


def require_home(settings: Settings) -> None:
    """Check that Prefect's home can be written.

    Raises:
        PrefectMisconfigured: it cannot.
    """
    try:
        settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.home):
            pass
    except OSError as error:
        raise PrefectMisconfigured(
            f"Prefect's home cannot be written: {error.strerror}",
            where=settings.home,
            expected="a folder that this user may write: its database is there",
            fix="set PREFECT_HOME to one, or correct HOME",
        ) from error


def require_api(settings: Settings) -> str:
    """Check that the configured server answers, is Prefect's and accepts the password; return its URL without secrets.

    Raises:
        PrefectMisconfigured: the URL is malformed or not that of a Prefect server, or the password is refused.
        NoServer: no server is configured, or it does not answer.
    """
    import httpx
    from prefect.client.base import ServerType
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    url = settings.api.url
    if not url:
        raise _no_server(f"{URL} is not set", None)
    where = f"{URL}={_without_password(url)} ({source(URL, settings)})"
    _require_url(url, where)
    timeout = httpx.Timeout(_ANSWER_S, connect=_CONNECT_S)
    try:
        with (
            temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
            get_client(sync_client=True, httpx_settings={"timeout": timeout}) as client,
        ):
            if client.server_type == ServerType.CLOUD:
                client.read_flows(limit=1)
            else:
                _require_version(client.api_version(), client.client_version(), where)
    except httpx.HTTPStatusError as error:
        raise _refused(error.response.status_code, where, settings) from error
    except (
        httpx.RemoteProtocolError,
        httpx.TooManyRedirects,
        httpx.DecodingError,
        httpx.InvalidURL,
        ValueError,
    ) as error:
        raise _not_prefect(where, url) from error
    except httpx.TimeoutException as error:
        raise _no_server("it does not answer", where) from error
    except (httpx.RequestError, OSError) as error:
        raise _no_server(_first_words(error), where) from error
    return _without_password(url)


def _require_url(url: str, where: str) -> None:
    """Refuse a text that is not the URL of a server.

    Raises:
        PrefectMisconfigured: it is not.
    """
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is not a number
        sound = False
    if sound:
        return
    bare = "://" not in url
    with_scheme = f"http://{_without_password(url).strip('/').removesuffix('/api')}/api"
    raise PrefectMisconfigured(
        f"{URL} {'does not begin with http:// or https://' if bare else 'is not the URL of a server'}",
        where=where,
        expected=_API,
        fix=f"for example {URL}={with_scheme}" if bare else "correct or unset it",
    )


def _require_version(theirs: object, ours: str, where: str) -> None:
    """Refuse a server whose major version differs from the client's.

    Raises:
        ValueError: `theirs` is not a version.
        PrefectMisconfigured: the major versions differ.
    """
    major = str(theirs).split(".")[0]
    if not isinstance(theirs, str) or not major.isdecimal():
        raise ValueError(theirs)
    if major != ours.split(".")[0]:
        raise PrefectMisconfigured(
            f"the Prefect server there is version {theirs[:40]}, and this is {ours}",
            where=where,
            expected=_API,
            fix="use a server of the same major version, or unset it: the command then brings its own",
        )


def _refused(status: int, where: str, settings: Settings) -> PrefectMisconfigured | NoServer:
    """The error to raise for an HTTP status that is an error."""
    if status in (401, 403):
        given = settings.api.auth_string is not None
        return PrefectMisconfigured(
            f"the Prefect server refuses the password of {CLIENT}"
            if given
            else f"the Prefect server asks for a password, and {CLIENT} is not set",
            where=f"{where}, {source(CLIENT, settings)}" if given else where,
            expected=f"USER:PASSWORD as in the server's own {SERVER}",
            fix=f"set {CLIENT} to it",
        )
    if 400 <= status < 500 and status not in (408, 425, 429):
        return _not_prefect(where, str(settings.api.url))
    return _no_server(f"it answers with status {status}", where)


def _not_prefect(where: str, url: str) -> PrefectMisconfigured:
    forgotten = not urlsplit(url).path.rstrip("/").endswith("/api")
    return PrefectMisconfigured(
        "what answers there is not the API of a Prefect server",
        where=where,
        expected=_API,
        fix=f"correct it: {'the path /api is missing' if forgotten else 'another program may listen there'}; "
        "or unset it: optimize then brings a server of its own",
    )


def _no_server(problem: str, where: str | None) -> NoServer:
    return NoServer(
        f"no Prefect server can be reached: {problem}",
        where=where,
        expected=_API,
        fix="start it, or correct the URL; `clipsmith up` starts one on this machine, and "
        "with no URL set optimize brings its own",
    )


def _without_password(url: str) -> str:
    before, at, host = url.rpartition("@")
    if not at:
        return url
    scheme, separator, _ = before.partition("://")
    return f"{scheme}{separator}...@{host}" if separator else f"...@{host}"


def _first_words(error: BaseException) -> str:
    """A library's message in one line, without the values that it quotes, as they may be passwords."""
    if isinstance(error, ValidationError):
        return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())[:_LONGEST]
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__
