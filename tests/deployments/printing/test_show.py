"""What `show` prints of a release: the sentence of its report first, what counts after it, the rest on request."""

from __future__ import annotations

import pytest

from artifacts.manifest import Manifest
from artifacts.report.verdict import findings, verdict
from artifacts.store.store import Store
from tests.artifacts.conftest import make_row
from tests.deployments.conftest import MODEL, Call, accuracy, release


@pytest.fixture
def shown(call: Call, store: Store, releases: list[Manifest], monkeypatch: pytest.MonkeyPatch) -> Call:
    """`shown(columns, "--all")`: the lines that `show` prints of the second release, on paper so wide."""

    def show(columns: int, *options: str) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        code, out, err = call("show", releases[1].ref, *options, "--store", store.root)
        assert (code, err) == (0, "")
        return out.splitlines()

    return show


def titles(lines: list[str]) -> list[str]:
    """The tables, by the first word of their titles, in order."""
    known = ("gates", "accuracy", "sizes", "speed", "fidelity", "files")
    first = [line.split()[0] for line in lines if line and line[0] != " "]
    return [word for word in dict.fromkeys(first) if word in known]


def test_the_sentence_comes_first_and_fidelity_last(shown: Call, releases: list[Manifest]) -> None:
    lines = shown(100)
    of = releases[1]
    sentence = verdict(findings(of.tables, of.gates, of.provenance.notes))
    text = " ".join(" ".join(lines).split())
    assert sentence in text and text.index(sentence) < text.index("gates gate")
    assert titles(lines) == ["gates", "accuracy", "sizes", "speed", "fidelity"]
    assert "Rejected by min_cosine_mean" in sentence and "Gates: rejected. Results: 1 failed, 1 passed." in text
    assert "Checkpoint:" not in text, "a detail that needs no attention is told with --all"


def test_accuracy_and_speed_have_their_intervals(shown: Call, releases: list[Manifest]) -> None:
    text = "\n".join(shown(100))
    rows = releases[1].tables
    change = next(row for row in rows["accuracy"] if row["metric"] == "top1_difference" and row["reference"] == "fp16")
    low, high = (f"{float(change[end] or 0) * 100:+.2f}".replace("-", "\N{MINUS SIGN}") for end in ("low", "high"))
    assert f"({low} to {high})" in text and "; p " not in text
    timed = next(row for row in rows["latency"] if row["speedup"] is not None)
    assert f"{timed['speedup']:.2f}x ({timed['speedup_low']:.2f} to {timed['speedup_high']:.2f})" in text
    assert "p95" not in text


def test_fidelity_is_a_line_per_encoder_and_of_the_worst_target(shown: Call, releases: list[Manifest]) -> None:
    lines = shown(100)
    start = next(number for number, line in enumerate(lines) if line.startswith("fidelity"))
    told = {line.split()[0]: line.split()[1] for line in lines[start + 2 :] if line[:1].isalpha() and ":" not in line}
    rows = [
        row
        for row in releases[1].tables["accuracy"]
        if (row["metric"], row["precision"], row["reference"]) == ("cosine_mean", "fp8", "fp32")
    ]
    assert {name: told[name] for name in ("image", "text")} == {
        name: f"{min(float(row['value'] or 0) for row in rows if row['encoder'] == name):.6f}"
        for name in ("image", "text")
    }
    assert sum(line.startswith("image") for line in lines[start:]) == 1


def test_the_rest_is_shown_when_asked_for(shown: Call, releases: list[Manifest]) -> None:
    lines = shown(150, "--all")
    text = "\n".join(lines)
    assert titles(lines) == ["gates", "accuracy", "sizes", "speed", "fidelity", "files"]
    assert "cosine_mean" in text and "FP8 p99" in text and "; p " in text
    of = releases[1]
    for file in of.files:
        assert f"{file.path}" in text and file.sha256[:12] in text
    assert all(f"{name} {version}" in " ".join(text.split()) for name, version in of.provenance.packages.items())


@pytest.mark.parametrize("columns", [80, 100, 150])
@pytest.mark.parametrize("options", [(), ("--all",)])
def test_nothing_is_wider_than_the_paper_or_cut(columns: int, options: tuple[str, ...], shown: Call) -> None:
    lines = shown(columns, *options)
    paths = ("report: ",)  # a path stays whole, to be copied
    assert max(len(line.rstrip()) for line in lines if not line.startswith(paths)) <= columns
    assert "\N{HORIZONTAL ELLIPSIS}" not in "".join(lines)


def test_engines_are_told_of(call: Call, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    about = {"encoder": "image", "target": "trtrtx-sm120", "precision": "fp8", "launches": 1062, "unknown": 0}
    parts = {"attention": 24, "attention_fused": 23, "products": 145, "products_fp8": 144}
    release(store, 1, model="told", tables={"engines": (make_row("engines", **about, **parts),)})
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = call("show", "told", "--store", store.root)
    row = next(line.split() for line in out.splitlines() if "23/24" in line and "fp8" in line)
    assert row == ["image", "trtrtx-sm120", "fp8", "23/24", "144/145", "0", "1062"]


def test_a_release_of_one_precision(call: Call, store: Store, releases: list[Manifest]) -> None:
    fp16 = tuple(row for row in accuracy(1) if row["precision"] != "fp8")
    sizes = tuple(row for row in releases[0].tables["sizes"] if row["precision"] == "fp16")
    release(store, 4, model="other", tables={"accuracy": fp16, "sizes": sizes, "latency": (), "coverage": ()})
    code, out, _ = call("show", "other", "--store", store.root)
    assert code == 0 and "fidelity (FP16 against FP32" in out and "speed (" not in out
    assert MODEL not in out
