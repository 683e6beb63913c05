"""What `clipsmith up` says about the variants that it has scheduled."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployments.server.apply import Applied
from deployments.server.automations import TELL_OF_RUNS
from deployments.server.show_fleet import print_up

APPLIED = Applied(deployments=("optimize/optimize",), automations=())


def test_variants_are_named_with_their_times_and_a_wrong_file_with_its_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shop-search.yaml").write_text('schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}\n')
    (tmp_path / "typo.yaml").write_text('shedule: {cron: "0 3 * * *"}\n')
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))
    monkeypatch.setenv("CLIPSMITH_STORE", "/srv/store")
    print_up("http://127.0.0.1:4200", APPLIED, again=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert f"Every night   the variants in {tmp_path}:" in lines
    assert "shop-search  0 3 * * * Europe/Berlin" in lines
    assert any(line.startswith("typo: wrong variant: shedule") for line in lines)


def test_files_that_are_no_variants_are_named_and_an_empty_folder_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "shop.yaml.bak").touch()
    monkeypatch.setenv("CLIPSMITH_VARIANTS", str(tmp_path))
    monkeypatch.setenv("CLIPSMITH_STORE", "/srv/store")
    print_up("http://127.0.0.1:4200", APPLIED, again=False)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "none, and nightly fails until there is one" in lines
    assert "not read, because only .yaml and .yml files are variants: notes.txt, shop.yaml.bak" in lines


@pytest.mark.parametrize(("told", "words"), [((), "none: set"), ((TELL_OF_RUNS,), "as before:")])
def test_whether_anybody_is_told_is_what_the_server_does_and_not_what_the_shell_says(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], told: tuple[str, ...], words: str
) -> None:
    monkeypatch.setenv("CLIPSMITH_STORE", "/srv/store")
    monkeypatch.delenv("CLIPSMITH_WEBHOOK_URL", raising=False)
    print_up("http://127.0.0.1:4200", Applied((), told), again=False)
    assert f"Alerts        {words}" in capsys.readouterr().out
