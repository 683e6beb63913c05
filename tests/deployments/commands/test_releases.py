"""Commands that look at releases: the list, one, two, and all of them over time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts.exit_codes import ExitCode
from artifacts.keeping import promotion
from artifacts.manifest import Manifest
from artifacts.store import aliases, layout, signatures
from artifacts.store.store import Store
from tests.artifacts.support import key_pair, rewrite
from tests.deployments.conftest import MODEL, Call, release

# --- the list --------------------------------------------------------------------------------------------------------


def test_the_list_is_newest_first_with_what_people_choose_by(
    call: Call, store: Store, releases: list[Manifest]
) -> None:
    promotion.promote(store, f"{MODEL}@1", "production")
    promotion.promote(store, f"{MODEL}@3", "canary")
    code, out, err = call("releases", "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, err, document["damaged"]) == (0, "", [])
    found = [(item["version"], item["status"], item["gates"], item["aliases"]) for item in document["releases"]]
    assert found == [
        (3, "accepted", {"undecided": 1}, ["canary"]),
        (2, "rejected", {"failed": 1, "passed": 1}, []),
        (1, "accepted", {"passed": 1}, ["production"]),
    ]
    first = document["releases"][0]
    assert first["speedup"] == 1.61
    sizes = [row for row in releases[0].tables["sizes"] if row["target"] == "onnx"]
    fp8, fp16 = (sum(row["bytes"] for row in sizes if row["precision"] == name) for name in ("fp8", "fp16"))
    assert first["fp8_ratio"] == pytest.approx(fp8 / fp16)
    assert first["bytes"] == sum(file.size for file in releases[2].files)


@pytest.mark.usefixtures("releases")
def test_the_list_for_people(call: Call, store: Store) -> None:
    promotion.promote(store, f"{MODEL}@1", "production")
    code, out, err = call("releases", "--store", store.root)
    lines = out.splitlines()[-3:]
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in lines] == [f"{MODEL}@{n}" for n in (3, 2, 1)]
    assert "1 undecided" in lines[0] and "rejected  1 failed, 1 passed" in lines[1] and "production" in lines[2]
    assert all("1.61x" in line and "50.6 %" in line and "fp8-attention" in line for line in lines)


def test_the_list_of_one_model(call: Call, store: Store, releases: list[Manifest]) -> None:
    release(store, 1, model="other")
    code, out, _ = call("releases", "--model", "other", "--store", store.root, "--json")
    assert (code, [item["ref"] for item in json.loads(out)["releases"]]) == (0, ["other@1"])
    assert len(json.loads(call("releases", "--store", store.root, "--json")[1])["releases"]) == 1 + len(releases)
    assert call("releases", "--model", "../x", "--store", store.root)[0] == 2
    code, out, _ = call("releases", "--model", "othe", "--store", store.root)
    there = f"no release of othe. Did you mean other? There are releases of: other, {MODEL}"
    assert (code, " ".join(out.split())) == (0, there)


def test_an_empty_store_has_no_releases(call: Call, store: Store) -> None:
    code, out, _ = call("releases", "--store", store.root, "--json")
    assert (code, json.loads(out)) == (ExitCode.DONE, {"schema": 1, "releases": [], "damaged": []})
    code, out, _ = call("releases", "--store", store.root)
    assert (code, "no releases yet" in out) == (0, True)


@pytest.mark.usefixtures("releases")
def test_damaged_manifests_are_named_and_the_others_listed(call: Call, store: Store) -> None:
    path = layout.manifest_path(store.root, MODEL, 2)
    rewrite(path, path.read_bytes().replace(b'"rows"', b'"sows"').replace(b"fp8", b"fp9"))
    code, out, err = call("releases", "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, [item["version"] for item in document["releases"]]) == (1, [3, 1])
    assert document["damaged"] == [str(path)]
    assert err.startswith("DamagedManifest: ") and str(path) in err
    assert call("releases", "--store", store.root)[0] == 1
    release(store, 1, model="other")
    assert call("releases", "--model", "other", "--store", store.root)[0] == 0


# --- one -------------------------------------------------------------------------------------------------------------


def test_show_tells_where_a_release_stands(call: Call, store: Store, releases: list[Manifest], tmp_path: Path) -> None:
    promotion.promote(store, f"{MODEL}@3", "production")
    signatures.sign(store, releases[2], key_pair(tmp_path)[0], None)
    code, out, _ = call("show", f"{MODEL}:production", "--store", store.root, "--json")
    document = json.loads(out)
    assert (code, document["ref"], document["aliases"]) == (0, f"{MODEL}@3", ["production"])
    assert [(item["number"], item["who"]) for item in document["signatures"]] == [
        (1, signatures.signatures(store.root, MODEL, 3)[0].who)
    ]
    assert [result["status"] for result in document["gates"]] == ["undecided"]
    code, out, _ = call("show", f"{MODEL}:production", "--store", store.root)
    assert code == 0
    assert "aliases: production" in out and "signature 1: " in out and "undecided" in out


@pytest.mark.usefixtures("releases")
def test_an_alias_that_is_not_there_is_named(call: Call, store: Store) -> None:
    code, out, err = call("show", f"{MODEL}:production", "--store", store.root)
    assert (code, out) == (2, "")
    assert err.startswith("AliasNotFound: ")
    assert aliases.names(store.root) == []


# --- two -------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("releases")
def test_diff_of_a_release_with_itself_is_empty(call: Call, store: Store) -> None:
    code, out, _ = call("diff", f"{MODEL}@1", f"{MODEL}@1", "--store", store.root, "--json")
    assert (code, json.loads(out)) == (
        0,
        {"schema": 1, "before": f"{MODEL}@1", "after": f"{MODEL}@1", "changes": {}, "metrics": []},
    )
    assert "nothing differs" in call("diff", f"{MODEL}@1", f"{MODEL}@1", "--store", store.root)[1]


@pytest.mark.usefixtures("releases")
def test_diff_names_what_differs_and_nothing_else(call: Call, store: Store) -> None:
    code, out, _ = call("diff", f"{MODEL}@1", f"{MODEL}@2", "--store", store.root, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["changes"].keys() == {"gates", "graph", "files"}
    (module,) = document["changes"]["graph"]
    assert module["name"].endswith("vision_model.encoder.layers.1.mlp.fc2 linear actual")
    assert (module["before"], module["after"]) == ("fp8", "fp16")
    (file,) = document["changes"]["files"]
    assert file["name"] == "image/fp8.onnx" and file["before"]["sha256"] != file["after"]["sha256"]
    cosines = [row for row in document["metrics"] if row["table"] == "accuracy"]
    assert {row["metric"] for row in cosines} == {"cosine_mean"}
    assert all(row["change"] == pytest.approx(-1e-5) for row in cosines)
    code, out, _ = call("diff", f"{MODEL}@1", f"{MODEL}@2", "--all", "--store", store.root)
    assert code == 0
    for text in ("gates", "graph", "files", "accuracy", "@1", "@2", "cosine_mean against fp32", "0.999200"):
        assert text in out
    assert "packages" not in out and "latency" not in out
    (row,) = [row for row in cosines if (row["encoder"], row["precision"]) == ("image", "fp8")]
    (line,) = [line for line in out.splitlines() if line.startswith("image, fp8") and "cosine_mean" in line]
    assert line.index(f"{row['before']['value']:.6f}") < line.index(f"{row['after']['value']:.6f}")


# --- over time -------------------------------------------------------------------------------------------------------


def test_history_is_a_table_here_and_all_numbers_in_files(
    call: Call, store: Store, releases: list[Manifest], tmp_path: Path
) -> None:
    arguments = ("history", "--model", MODEL, "--out", tmp_path / "out", "--store", store.root)
    code, out, err = call(*arguments, "--json")
    document = json.loads(out)
    assert (code, err, document["model"]) == (0, "", MODEL)
    assert [(item["version"], item["status"]) for item in document["releases"]] == [
        (manifest.version, manifest.status) for manifest in releases
    ]
    frame = pd.read_parquet(document["table"])
    assert set(frame["version"]) == {1, 2, 3}
    cosine = document["releases"][1]["figures"]["image cosine"]["value"]
    rows = frame[(frame["version"] == 2) & (frame["metric"] == "cosine_mean") & (frame["precision"] == "fp8")]
    assert rows[rows["encoder"] == "image"]["value"].tolist() == [cosine]
    assert Path(document["plot"]).read_text().startswith("<svg")
    code, out, _ = call(*arguments)
    assert code == 0
    for version, item in zip((1, 2, 3), document["releases"], strict=True):
        (line,) = [line for line in out.splitlines() if line.startswith(f"@{version} ")]
        assert f"{item['figures']['image cosine']['value']:.6f}" in line
    assert document["table"] in out and document["plot"] in out


@pytest.mark.usefixtures("releases")
def test_history_goes_to_a_folder_of_its_model(
    call: Call, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call("history", "--model", MODEL, "--store", store.root)[0] == 0
    assert sorted(path.name for path in (tmp_path / ".clipsmith" / "history" / MODEL).iterdir()) == [
        "history.parquet",
        "history.svg",
    ]


@pytest.mark.usefixtures("releases")
def test_history_of_nothing_and_of_damage(call: Call, store: Store, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out", "--store", store.root)
    code, printed, err = call("history", "--model", "other", *out)
    assert (code, printed) == (2, "")
    assert err.startswith("ReleaseNotFound: ")
    assert call("history", "--model", "*", *out)[0] == 2
    assert not (tmp_path / "out").exists()
    path = layout.manifest_path(store.root, MODEL, 2)
    rewrite(path, path.read_bytes()[:-1])
    code, printed, err = call("history", "--model", MODEL, *out, "--json")
    assert (code, [item["version"] for item in json.loads(printed)["releases"]]) == (1, [1, 3])
    assert err.startswith("DamagedManifest: ")


def test_export_lists_provenance_and_signatures(
    call: Call, store: Store, releases: list[Manifest], tmp_path: Path
) -> None:
    signatures.sign(store, releases[0], key_pair(tmp_path)[0], None)
    code, out, _ = call("export", f"{MODEL}@1", tmp_path / "out", "--store", store.root, "--json")
    names = {"manifest.json", "provenance.intoto.json", "README.md", "signatures/1.json", "image/fp8.onnx"}
    assert (code, set(json.loads(out)["files"])) == (0, names)
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert found == names
    assert "5 files in" in call("export", f"{MODEL}@1", tmp_path / "more", "--store", store.root)[1]


@pytest.mark.parametrize(
    "arguments",
    [(), ("a", "--to", "b"), ("a", "--layout", "no-such"), ("a", "--target", "tensorrt"), ("a", "--precision", "fp8")],
)
def test_export_refuses_what_makes_no_sense(
    arguments: tuple[str, ...], call: Call, store: Store, releases: list[Manifest], monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    code, _, err = call("export", releases[0].ref, *arguments, "--store", store.root)
    assert code == 2 and err
    assert set(tmp_path.iterdir()) == before
