"""Secrets in the environment, or typed into a parameter, stay there: in no output, store, export or database."""

from __future__ import annotations

import base64
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import yaml

from artifacts.errors import ConfigError
from tests.conftest import CommandResult, run_clipsmith
from tests.flows.conftest import small_parameters

AUTH = "canary-user:canary-server-password"
SECRETS = {
    "HF_TOKEN": "hf_CanaryTokenOfTheHubAAAAAAAAAAAAAA",
    "AWS_ACCESS_KEY_ID": "AKIACANARYKEYIDXXXXX",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+secret/access/key/0123456789ab",
    "PREFECT_SERVER_API_AUTH_STRING": AUTH,
    "PREFECT_API_AUTH_STRING": AUTH,
}
TYPED = "canary-password-in-a-url"
CANARIES = [*SECRETS.values(), "canary-server-password", base64.b64encode(AUTH.encode()).decode(), TYPED]


def text_in(path: Path) -> Iterator[bytes]:
    """What a file says, as it is and with its format undone: parquet is compressed, databases split long values."""
    content = path.read_bytes()
    yield content
    if content.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            yield "\n".join(database.iterdump()).encode()
    elif path.suffix == ".parquet":
        yield pd.read_parquet(path).to_csv().encode()


def leaks(folder: Path) -> list[tuple[str, str]]:
    """Where below a folder which canary is."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [
        (str(path.relative_to(folder)), canary)
        for path in files
        for text in text_in(path)
        for canary in CANARIES
        if canary.encode() in text
    ]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    """Or the test below would prove nothing."""
    pd.DataFrame({"a": [TYPED] * 100}).to_parquet(tmp_path / "table.parquet", compression="zstd")
    with closing(sqlite3.connect(tmp_path / "prefect.db")) as database:
        database.execute("create table log (message text)")
        database.execute("insert into log values (?)", ["x" * 3000 + SECRETS["HF_TOKEN"] + "x" * 9000])
        database.commit()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "out.txt").write_text(f"Authorization: Basic {base64.b64encode(AUTH.encode()).decode()}")
    assert {name for name, _ in leaks(tmp_path)} == {"table.parquet", "prefect.db", "sub/out.txt"}


@pytest.mark.parametrize("path", ["model", "recipe", "store", "calibration.source", "evaluation.source"])
def test_a_password_in_a_parameter_is_refused_and_not_repeated(path: str) -> None:
    from flows.parameters import parse_parameters

    section, _, name = path.rpartition(".")
    for url in (f"https://user:{TYPED}@example.com/m", f"datasets:s3://:{TYPED}@bucket/x"):
        values = {section: {name: url}} if section else {name: url}
        with pytest.raises(ConfigError, match=f"{path}: .*holds a password") as caught:
            parse_parameters(values, where="command line")
        assert TYPED not in str(caught.value)


@pytest.mark.heavy
def test_no_secret_leaves_the_environment(small_clip: Path, tmp_path: Path) -> None:
    """A run that succeeds, one that fails, and one that is told a password; logs go to Prefect's database as well."""
    seen = tmp_path / "seen"
    seen.mkdir()

    def run(name: str, *arguments: object) -> CommandResult:
        settings = {"PREFECT_HOME": str(seen / "prefect"), "PREFECT_LOGGING_TO_API_ENABLED": "true"}
        done = run_clipsmith(*arguments, **SECRETS, **settings)
        (seen / f"{name}.out").write_text(done.out)
        (seen / f"{name}.err").write_text(done.err)
        return done

    def optimize(name: str, **changes: object) -> CommandResult:
        config = tmp_path / f"{name}.yaml"
        config.write_text(
            yaml.safe_dump(small_parameters(str(changes.pop("model", small_clip)), seen / "store", **changes))
        )
        return run(name, "optimize", "--config", config, "--json")

    done = optimize("success")
    assert done.code == 0, done.err
    assert run("export", "export", "small@1", seen / "export", "--store", seen / "store").code == 0
    assert "DataNotFound" in optimize("refusal", calibration__source=str(tmp_path / "none")).err
    broken = Path(shutil.copytree(small_clip, tmp_path / "broken"))
    (broken / "model.safetensors").write_bytes(bytes(100))
    assert "BadWeights" in optimize("failure", model=str(broken)).err
    for name in ("model", "calibration__source", "evaluation__source", "recipe"):
        refused = optimize(name, **{name: f"https://user:{TYPED}@example.invalid/m"})
        assert (refused.code, "holds a password" in refused.err) == (2, True)
    with closing(sqlite3.connect(seen / "prefect" / "prefect.db")) as database:
        runs = database.execute("select count(*) from flow_run").fetchone()[0]
        lines = database.execute("select count(*) from log").fetchone()[0]
    assert runs >= 2 and lines > 29
    assert leaks(seen) == []
