"""The password of `up`: made once for each home, readable by its owner only, and sent to that server only."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import PrefectMisconfigured
from deployments.server import own_server
from deployments.server.own_server import CLIENT, SERVER, URL, agree_on_password, forgo_password, port_of_up, use_up
from deployments.server.prefect_settings import require_api
from deployments.server.up import _only_one

SECRET = "admin:hidden-word"


def test_one_password_for_all_who_ask_at_once(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    with ThreadPoolExecutor(8) as pool:
        said = set(pool.map(own_server.make_password, [tmp_path / "home"] * 8))
    assert said == {own_server.password(tmp_path / "home")}
    (kept,) = said
    assert kept.startswith("clipsmith:") and len(kept) > 50
    file = own_server.password_file(tmp_path / "home")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text() == f"{kept}\n"
    assert not list(file.parent.glob("*password-*")), "nothing is left of making it"
    assert own_server.new_password() != own_server.new_password()


def kept_in(home: Path, text: str = f"{SECRET}-and-more-of-it\n", mode: int = 0o600) -> Path:
    file = own_server.password_file(home)
    file.write_text(text)
    file.chmod(mode)
    return file


def as_link(home: Path) -> None:
    kept_in(home).rename(home / "elsewhere")
    own_server.password_file(home).symlink_to(home / "elsewhere")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda home: kept_in(home, mode=0o640), "others"),
        (lambda home: kept_in(home, mode=0o604), "others"),
        (as_link, "cannot be read"),
        (lambda home: os.mkfifo(own_server.password_file(home), 0o600), "not this user's"),
        (lambda home: own_server.password_file(home).mkdir(mode=0o700), "not this user's"),
        (lambda home: kept_in(home, ""), "something else"),
        (lambda home: kept_in(home, "a:b\n"), "something else"),
        (lambda home: kept_in(home, f"{SECRET}\n{SECRET}-and-more\n"), "something else"),
    ],
)
def test_a_file_that_is_not_ours_alone_is_refused(spoil: Callable[[Path], Any], problem: str, tmp_path: Path) -> None:
    assert own_server.password(tmp_path) is None
    spoil(tmp_path)
    for ask in (own_server.password, own_server.make_password):
        with pytest.raises(PrefectMisconfigured, match=problem) as refused:
            ask(tmp_path)
        assert refused.value.where == str(own_server.password_file(tmp_path))
        assert "hidden" not in str(refused.value)


def test_the_server_that_is_started_and_its_client_have_one_password(told: Any, tmp_path: Path) -> None:
    def agreed() -> set[str]:
        return {os.environ.pop(SERVER), os.environ.pop(CLIENT)}

    settings = told(PREFECT_HOME=str(tmp_path))
    agree_on_password(settings, kept=True)
    assert agreed() == {own_server.password(tmp_path)}
    agree_on_password(settings, kept=False)
    (once,) = agreed()
    assert once not in ("", own_server.password(tmp_path))
    agree_on_password(told(**{SERVER: "", CLIENT: ""}), kept=True)
    assert agreed() == {own_server.password(tmp_path)}, "an empty one is none"
    for variable in (SERVER, CLIENT):
        agree_on_password(told(**{variable: SECRET}), kept=True)
        assert agreed() == {SECRET}
    with pytest.raises(PrefectMisconfigured, match="do not match") as refused:
        agree_on_password(told(**{SERVER: SECRET, CLIENT: "another"}), kept=True)
    assert SECRET not in str(refused.value)


def test_without_a_password_only_where_none_was_told(told: Any) -> None:
    forgo_password(told(**{SERVER: ""}))
    assert SERVER not in os.environ
    with pytest.raises(PrefectMisconfigured, match="--no-auth"):
        forgo_password(told(**{SERVER: SECRET}))


@contextmanager
def up_on(port: int) -> Iterator[None]:
    """What others see of an `up` that runs in the current home."""
    with _only_one(port) as running:
        assert not running
        yield


def test_commands_find_the_up_of_their_home(told: Any, tmp_path: Path) -> None:
    kept = own_server.make_password(tmp_path)
    settings = told(PREFECT_HOME=str(tmp_path))
    use_up(settings)
    assert URL not in os.environ and CLIENT not in os.environ
    with up_on(4321):
        assert port_of_up(tmp_path) == 4321
        use_up(settings)
        assert (os.environ[URL], os.environ[CLIENT]) == ("http://127.0.0.1:4321/api", kept)
    assert port_of_up(tmp_path) is None, "its file stays"


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("http://127.0.0.1:4321/api", True),
        ("http://localhost:4321/api", True),
        ("http://127.0.0.1:4322/api", False),
        ("https://127.0.0.1:4321/api", False),
        ("http://10.0.0.1:4321/api", False),
        ("http://localhost:no/api", False),
    ],
)
def test_the_password_is_sent_to_no_other_server(url: str, sent: bool, told: Any, tmp_path: Path) -> None:
    kept = own_server.make_password(tmp_path)
    settings = told(PREFECT_HOME=str(tmp_path), PREFECT_API_URL=url)
    with up_on(4321):
        use_up(settings)
        assert os.environ.get(CLIENT) == (kept if sent else None)
        assert os.environ[URL] == url


def test_what_was_typed_stays(told: Any, tmp_path: Path) -> None:
    own_server.make_password(tmp_path)
    settings = told(PREFECT_HOME=str(tmp_path), PREFECT_API_AUTH_STRING=SECRET)
    with up_on(4321):
        use_up(settings)
        assert os.environ[CLIENT] == SECRET
        os.environ.pop(CLIENT)
        use_up(told(PREFECT_SERVER_API_AUTH_STRING=f"{SECRET}!"))
        assert os.environ[CLIENT] == f"{SECRET}!"


def test_a_message_says_where_the_password_came_from(told: Any, tmp_path: Path) -> None:
    own_server.make_password(tmp_path)
    settings = told(PREFECT_HOME=str(tmp_path))
    with up_on(4321):
        use_up(settings)
    said = own_server.source(CLIENT, settings)
    assert str(own_server.password_file(tmp_path)) in said
    with pytest.raises(Exception, match="that runs here"):
        require_api(told(PREFECT_API_URL="http://127.0.0.1:9/api"))
