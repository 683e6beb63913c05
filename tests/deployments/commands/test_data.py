"""`clipsmith data` tells what a source holds, for people and programs, and exits with 2 where a run would refuse it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.exit_codes import ExitCode
from tests.deployments.conftest import Call
from tests.tasks.data.support import labelled, noise, zero_shot
from tests.tasks.inspection.support import messy_folder

ROOT = Path(__file__).parents[3]


def test_the_digits_in_a_dozen_lines(call: Call) -> None:
    code, out, err = call("data", "digits", "--against", "digits")
    assert (code, err) == (ExitCode.DONE, "")
    assert "digits  500 samples of 500 pictures, as the evaluation set" in out
    assert re.search(r"^classes +10 of a published list, 7 prompt templates\n +50 samples in each$", out, re.MULTILINE)
    assert re.search(r"^size +32 x 32 pixels, all of them$", out, re.MULTILINE)
    assert re.search(r"^overlap +no picture is also in digits \(1,297 samples\)$", out, re.MULTILINE)
    assert re.search(r"^taken +a run takes it", out, re.MULTILINE)
    assert len(out.splitlines()) <= 12


def test_a_refusal_is_told_with_the_facts(call: Call, tmp_path: Path) -> None:
    source = messy_folder(tmp_path / "messy")
    code, out, err = call("data", source, "--page", tmp_path / "sheet.html")
    assert (code, err) == (ExitCode.WRONG_INPUT, "")
    for line in (
        r"modes +RGB 3, L 3, ",
        r"copies +2 pictures more than once, 4 in all",
        r" +1\.jpg \(dog\) = elsewhere\.jpg \(cat\)",
        r"left out +1 sample that cannot be decoded",
        r"not read +1 picture file in no sample: unlisted\.JPG",
        r"refused +1 of 16 samples \(6\.2%\) cannot be decoded",
        r" +next: repair or remove them",
    ):
        assert re.search(f"^{line}", out, re.MULTILINE), line
    assert "taken" not in out and (tmp_path / "sheet.html").is_file()


def test_what_is_asked_for_twice_is_refused_by_a_run(call: Call, tmp_path: Path) -> None:
    source = zero_shot(tmp_path / "set", [labelled([noise(n) for n in range(9)], [n % 2 for n in range(9)])])
    code, out, _ = call("data", source, "--against", source, "--role", "calibration", "--json")
    found = json.loads(out)
    assert (code, found["role"]) == (ExitCode.WRONG_INPUT, "calibration")
    assert [each["error"] for each in found["refusals"]] == ["DataOverlap"]
    assert (found["overlap"]["samples"], len(found["overlap"]["first"])) == (9, 5)


def test_columns_are_chosen_as_for_a_run(call: Call, tmp_path: Path) -> None:
    lines = [f"{n}.png,{'ab'[n % 2]},{'xyz'[n % 3]}" for n in range(9)]
    (tmp_path / "labels.csv").write_text("\n".join(["file,fine_label,coarse_label", *lines]))
    for n in range(9):
        (tmp_path / f"{n}.png").write_bytes(noise(n))
    code, out, _ = call("data", tmp_path, "--json")
    (refusal,) = json.loads(out)["refusals"]
    assert code == ExitCode.WRONG_INPUT and "fine_label" in refusal["what"] + refusal["fix"]
    code, out, _ = call("data", tmp_path, "--columns", "label=coarse_label", "--json")
    assert code == ExitCode.DONE
    assert [each["name"] for each in json.loads(out)["classes"]["counts"]] == ["x", "y", "z"]


def test_a_source_that_cannot_be_opened_has_no_page(call: Call, tmp_path: Path) -> None:
    code, out, _ = call("data", tmp_path / "none", "--page", tmp_path / "a.html", "--json")
    found = json.loads(out)
    assert (code, found["samples"], found["page"]) == (ExitCode.WRONG_INPUT, None, None)
    assert found["refusals"][0]["error"] == "DataNotFound" and not (tmp_path / "a.html").exists()
    code, out, _ = call("data", tmp_path / "none")
    assert code == ExitCode.WRONG_INPUT and "cannot be opened as the evaluation set" in out


def test_where_the_page_goes_is_asked_before_anything_is_read(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.inspection.inspect_source.open_dataset", lambda *_: pytest.fail("a source is opened"))
    code, out, err = call("data", "digits", "--page", "photo.jpg")
    assert (code, out) == (ExitCode.WRONG_INPUT, "") and "no page can be written" in err


@pytest.mark.parametrize(
    "options", [("--limit", "0"), ("--page", "photo.jpg"), ("--role", "training"), ("--against-limit", "x")]
)
def test_wrong_options_print_nothing(options: tuple[str, str], call: Call) -> None:
    code, out, err = call("data", "digits", *options, "--json")
    assert (code, out) == (ExitCode.WRONG_INPUT, "") and err


def test_names_cannot_move_the_cursor_and_lines_fit_the_terminal(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "[red]set[bold]"
    source.mkdir()
    labels = ["\x1b[2Jcat", "dog \u202e[bold]", "w" * 300]
    for number in range(9):
        (source / f"{number}.png").write_bytes(noise(number % 8))  # the first is there twice, under two labels
    rows = "".join(f'{number}.png,"{labels[(0, 1, 1, 2, 2, 2, 1, 2, 1)[number]]}"\n' for number in range(9))
    (source / "labels.csv").write_text("file,label\n" + rows)
    (source / ("n" * 200 + ".png")).write_bytes(noise(1))
    monkeypatch.setattr("deployments.printing.console._WIDTH", 100)
    monkeypatch.chdir(tmp_path)
    code, out, _ = call("data", source.name, "--against", source.name)
    assert code == ExitCode.WRONG_INPUT and source.name in out
    assert all(f"({name[1:4]}" in out.replace(r"\x1b", "") for name in ("-[2J", "-dog", "-www"))
    assert all(letter.isprintable() or letter == "\n" for letter in out)
    assert max(map(len, out.splitlines())) <= 100


def test_neither_torch_nor_prefect_is_loaded(tmp_path: Path) -> None:
    source = messy_folder(tmp_path / "messy")
    code = "import sys\nfrom deployments.cli import app\n"
    code += f"app(['data', {str(source)!r}, '--page', {str(tmp_path / 'a.html')!r}], standalone_mode=False)\n"
    code += "print(*sorted({name.split('.')[0] for name in sys.modules}))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=ROOT
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "PIL" in loaded
    assert loaded & {"torch", "prefect", "transformers", "onnx", "pandas", "datasets", "sklearn"} == set()
