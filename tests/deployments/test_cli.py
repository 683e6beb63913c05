"""The command line: what it fills in, what it prints, and its exit codes."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

from artifacts.copies.opening import open_store
from artifacts.manifest import GateResult, Manifest
from deployments import cli
from deployments.printing import show
from deployments.server.embedded_api import EmbeddedApi

Clipsmith = Callable[..., Any]


def test_json_is_all_there_is_on_stdout(demo_store: Path) -> None:
    text = (demo_store.parent / "result.json").read_text()
    document, end = json.JSONDecoder().raw_decode(text)
    assert text[end:].strip() == ""
    assert text[0] == "{"
    assert document["ref"] == "demo@1"
    assert document["new"] is True
    assert document["tables"].keys() == {
        *("parity", "encoders", "sizes", "coverage", "engines", "accuracy", "latency", "stages")
    }


def test_a_second_run_is_quick_cached_and_the_same(clipsmith: Clipsmith, demo_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(demo_store, tmp_path / "store"))
    done = clipsmith("optimize", "demo", "--store", store, "--json")
    assert done.code == 0, done.err
    first = json.loads((demo_store.parent / "result.json").read_text())
    assert done.document["new"] is False
    assert done.document | {"new": True} == first
    assert "(cached)" in done.err
    assert len(list((store / "releases").rglob("*.json"))) == 1


def test_releases(call: Any, demo_store: Path) -> None:
    code, out, _ = call("releases", "--store", demo_store, "--json")
    assert code == 0
    (release,) = json.loads(out)["releases"]
    manifest = json.loads((demo_store / "releases" / "demo" / "1.json").read_bytes())
    assert (release["ref"], release["identity"]) == ("demo@1", manifest["identity"])
    assert release["bytes"] == sum(file["size"] for file in manifest["files"])
    code, out, _ = call("releases", "--store", demo_store)
    assert (code, "demo@1" in out) == (0, True)


@pytest.mark.parametrize("reference", ["demo", "demo@1", "digest"])
def test_show(reference: str, call: Any, demo_store: Path, demo_document: dict[str, Any]) -> None:
    reference = demo_document["release"]["identity"][:10] if reference == "digest" else reference
    code, out, _ = call("show", reference, "--store", demo_store, "--json")
    assert code == 0
    expected = {key: value for key, value in demo_document.items() if key != "new"}
    assert json.loads(out) == expected | {"aliases": [], "signatures": []}


def test_show_prints_the_numbers_that_matter(call: Any, demo_store: Path, demo_document: dict[str, Any]) -> None:
    code, out, _ = call("show", "demo", "--store", demo_store)
    assert code == 0
    for row in demo_document["tables"]["accuracy"]:
        if row["metric"] == "cosine_mean" and (row["precision"], row["reference"]) == ("fp8", "fp32"):
            assert f"{row['value']:.6f}" in out
        if row["metric"] == "top1":
            assert f"{row['value'] * 100:.2f} %" in out
    for row in demo_document["tables"]["sizes"]:
        assert f"{row['bytes'] / 1e6:.2f} MB" in out
    assert "emulated" in out
    assert "built, not run" in out


def test_report(call: Any, demo_store: Path, demo_export: Path) -> None:
    code, out, _ = call("report", "demo@1", "--store", demo_store, "--json")
    path = Path(json.loads(out)["report"])
    assert code == 0
    assert path.read_bytes() == (demo_export / "report.html").read_bytes()
    assert Path(call("report", "demo@1", "--store", demo_store)[1].strip()) == path


@pytest.mark.parametrize("there_is_one", [True, False])
def test_the_report_is_opened_where_there_is_a_browser(
    there_is_one: bool, call: Any, demo_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or there_is_one)
    code, out, err = call("report", "demo", "--store", demo_store, "--open")
    assert (code, opened) == (0, [Path(out.strip()).as_uri()])
    assert err == ("" if there_is_one else "there is no browser here that could be started: open the file in one\n")
    assert json.loads(call("report", "demo", "--store", demo_store, "--open", "--json")[1])["opened"] == there_is_one
    assert json.loads(call("report", "demo", "--store", demo_store, "--json")[1])["opened"] is False
    assert len(opened) == 2


def test_after_a_run_the_next_commands_are_told(
    demo_store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(demo_store, writable=False)
    manifest = store.find("demo")

    def last_lines(of: Manifest, new: bool | None) -> list[str]:
        show.print_release(of, store, new=new)
        return capsys.readouterr().out.splitlines()[-3 if new is False else -2 :]

    place = f" --store {shlex.quote(str(demo_store))}"
    told = ["next: clipsmith promote demo@1 --alias production", "      clipsmith export demo@1 DIR"]
    known = "nothing new: this run's work is demo@1, published before"
    assert last_lines(manifest, new=False) == [*(f"{line}{place}" for line in told), known]
    monkeypatch.setenv("CLIPSMITH_STORE", str(demo_store))
    assert last_lines(manifest, new=True) == told
    failed = GateResult(name="min_cosine_mean", status="failed", min=0.9, value=0.1)
    for of, new in ((manifest, None), (manifest.model_copy(update={"gates": (failed,)}), True)):
        assert not any("next" in line for line in last_lines(of, new))


def test_export_lists_what_it_wrote(call: Any, demo_store: Path, tmp_path: Path) -> None:
    code, out, _ = call("export", "demo", tmp_path / "out", "--store", demo_store, "--json")
    assert code == 0
    found = {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert set(json.loads(out)["files"]) == found
    code, out, err = call("export", "demo", tmp_path / "out", "--store", demo_store)
    assert (code, out) == (2, "")
    assert err.startswith("ExportTargetExists: ")


@pytest.mark.parametrize("command", ["show", "report"])
@pytest.mark.parametrize(
    ("reference", "error"),
    [("demo@2", "ReleaseNotFound"), ("other", "ReleaseNotFound"), ("../demo", "BadName"), ("demo@1\n", "BadName")],
)
def test_references_that_name_nothing(command: str, reference: str, error: str, call: Any, demo_store: Path) -> None:
    code, out, err = call(command, reference, "--store", demo_store, "--json")
    assert (code, out) == (2, "")
    assert err.startswith(f"{error}: ")


def test_a_missing_store_is_not_made(call: Any, tmp_path: Path) -> None:
    code, out, err = call("releases", "--store", tmp_path / "none", "--json")
    assert (code, out) == (2, "")
    assert err.startswith("NotAStore: ")
    assert not (tmp_path / "none").exists()


def test_a_damaged_report_is_not_shown(call: Any, demo_store: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(demo_store, tmp_path / "store"))
    path = Path(call("report", "demo", "--store", store)[1].strip())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    code, out, err = call("report", "demo", "--store", store)
    assert (code, out) == (1, "")
    assert err.startswith("ObjectDamaged: ")


def parameters_of(call: Any, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> Any:
    """What the flow is called with."""
    import flows.optimize

    seen: list[Any] = []

    def stop(parameters: Any) -> None:
        seen.append(parameters)
        raise SystemExit(7)

    monkeypatch.setattr(flows.optimize, "optimize", stop)
    monkeypatch.setattr("flows.preflight.check_ahead", lambda _parameters, **_: None)
    monkeypatch.setattr(EmbeddedApi, "start", lambda: None)
    assert call("optimize", *arguments)[0] == 7
    return seen[0]


def test_options_fill_the_parameters(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    options = ["m/x", "--revision", "abc", "--encoders", "text", "--precisions", "fp8", "--recipe", "fp8-no-attention"]
    options += ["--targets", "onnxruntime, trtrtx-sm89", "--calibration", "c", "--calibration-samples", "9"]
    options += ["--evaluation", "e", "--evaluation-samples", "10", "--store", str(tmp_path)]
    options += ["--image-size", "384", "256", "--columns", "image=jpg,label=fine_label"]
    parameters = parameters_of(call, monkeypatch, *options)
    assert parameters.model_dump(
        include={"model", "revision", "encoders", "precisions", "recipe", "targets", "store"}
    ) == {
        "model": "m/x",
        "revision": "abc",
        "encoders": ["text"],
        "precisions": ["fp8"],
        "recipe": "fp8-no-attention",
        "targets": ["onnxruntime", "trtrtx-sm89"],
        "store": str(tmp_path),
    }
    assert (parameters.calibration.source, parameters.calibration.samples) == ("c", 9)
    assert (parameters.evaluation.source, parameters.evaluation.samples) == ("e", 10)
    assert parameters.calibration.columns == parameters.evaluation.columns == "image=jpg,label=fine_label"
    assert (parameters.image_size, parameters.chosen_size) == ([384, 256], (384, 256))


@pytest.mark.parametrize(
    ("option", "image", "text"),
    [("mse", "mse", "mse"), ("image=percentile,text=auto", "percentile", "auto"), ("text=mse", "max", "mse")],
)
def test_the_calibration_method_is_for_both_encoders_or_each(
    option: str, image: str, text: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--calibration-method", option, "--calibration-percentile", "99.5", "--sufficiency"]
    calibration = parameters_of(call, monkeypatch, "demo", *options).calibration
    assert (calibration.image.method, calibration.text.method) == (image, text)
    assert calibration.image.percentile == calibration.text.percentile == 99.5
    assert calibration.sufficiency is True


@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_starts_nothing_and_changes_nothing(
    there: bool, call: Any, demo_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedApi, "start", lambda: pytest.fail("a server is started"))
    store = demo_store if there else tmp_path / "none"
    before = sorted(store.rglob("*"))
    code, out, err = call("optimize", "demo", "--targets", "onnxruntime", "--dry-run", "--store", store)
    assert code == 0 and err.startswith("optimize demo: ")
    assert out.splitlines()[-1] == "nothing was started" and "30 steps" in out and "MB are free" in out
    code, out, _ = call("optimize", "demo", "--targets", "onnxruntime", "--dry-run", "--store", store, "--json")
    document = json.loads(out)
    assert (code, len(document["steps"])) == (0, 30)
    assert all(step["cached"] is there for step in document["steps"])
    assert (document["times_of"], document["seconds"]) == (("demo@1", 0) if there else (None, None))
    assert 0 < document["needed_bytes"] < document["free_bytes"]
    assert sorted(store.rglob("*")) == before


def test_a_dry_run_refuses_what_a_run_would(call: Any, tmp_path: Path) -> None:
    code, out, err = call("optimize", "demo", "--targets", "nope", "--dry-run", "--store", tmp_path / "none")
    assert (code, out) == (2, "") and "UnknownTarget" in err


@pytest.mark.parametrize("option", ["picture=jpg", "jpg", "label="])
def test_columns_that_are_no_choice_are_refused(option: str, call: Any) -> None:
    code, out, err = call("optimize", "demo", "--columns", option)
    assert (code, out) == (2, "")
    assert err.startswith(f"ConfigError: columns: {option!r} is not KEY=COLUMN")


@pytest.mark.parametrize("option", ["entropy", "audio=max", "median"])
def test_a_method_that_is_not_offered_is_refused(option: str, call: Any) -> None:
    code, out, err = call("optimize", "demo", "--calibration-method", option)
    assert (code, out) == (2, "")
    assert err.startswith("ConfigError: wrong parameters: calibration.")


def test_options_win_over_the_file(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: file\nrecipe: fp8-no-attention\ncalibration: {source: s, samples: 64, batch: 2}\n")
    parameters = parameters_of(call, monkeypatch, "option", "--config", config, "--calibration-samples", "9")
    assert (parameters.model, parameters.recipe) == ("option", "fp8-no-attention")
    calibration = parameters.calibration
    assert (calibration.source, calibration.samples, calibration.batch) == ("s", 9, 2)


def test_the_store_may_come_from_the_environment(call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CLIPSMITH_STORE", str(tmp_path / "mine"))
    assert parameters_of(call, monkeypatch, "demo").store == str(tmp_path / "mine")


def test_the_version_is_the_packages_in_a_line(call: Any) -> None:
    assert call("--version") == (0, f"clipsmith {version('clipsmith')}\n", "")


def test_unknown_options_and_commands_are_refused(call: Any) -> None:
    for arguments in (["optimize", "demo", "--calibrate", "x"], ["publish"], ["optimize", "a", "b"]):
        code, out, err = call(*arguments)
        assert (code, out) == (2, "")
        assert err


def test_every_command_on_releases_takes_a_store_and_prints_json(call: Any) -> None:
    names = set(typer.main.get_command(cli.app).commands)
    assert {"optimize", "releases", "promote", "verify", "sign"} <= names
    # Some are about a server, and print for people; some about names, models and data, which are in no store.
    for command in names - {
        "up",
        "deploy",
        "check",
        "models",
        "data",
        "targets",
        "recipes",
        "gates",
        "init",
        "variants",
    }:
        code, out, _ = call(command, "--help")
        assert code == 0
        assert "--store" in out
        assert "--json" in out


def test_help_groups_the_commands_by_what_people_do(call: Any) -> None:
    code, out, _ = call("--help")
    assert code == 0
    groups = [line.split()[1] for line in out.splitlines() if line.startswith("╭─")]
    assert sorted(groups) == sorted(["Options", "Make", "Look", "Compare", "Release", "Keep", "Serve", "Run"])


def test_help_names_the_recipes_that_there_are(call: Any) -> None:
    from tasks.quantizing.recipe import builtin_names

    _, out, _ = call("optimize", "--help")
    words = " ".join(out.replace("│", " ").split())  # Typer may have read the width of the terminal before this test
    assert len(builtin_names()) >= 3
    assert f"({', '.join(builtin_names())})" in words


def test_what_is_wrong_at_once_is_told_before_anything_starts(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EmbeddedApi, "start", lambda: pytest.fail("a server was started"))
    for arguments, words in (
        (["/no/such"], "CheckpointNotFound: no model '/no/such'"),
        (["demo", "--recipe", "fp9"], "UnknownRecipe: no recipe 'fp9'"),
        (["demo", "--evaluation", "/no/such"], "DataNotFound: no data source '/no/such'"),
    ):
        code, out, err = call("optimize", *arguments, "--store", tmp_path / "store")
        assert (code, out) == (2, "")
        first, rest = err.split("\n", 1)
        assert first.startswith(f"optimize {arguments[0]}: fp16 and fp8 for ")
        assert rest.startswith(words)
    assert not (tmp_path / "store").exists()
