"""What README and docs print to be typed is run as printed, page by page in a scratch folder; see `printed.py`."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tests.artifacts.support import key_pair
from tests.conftest import CLIPSMITH, MakeClip
from tests.docs.conftest import CopyDemo
from tests.docs.printed import PAGES, ROOT, Printed, everything, is_command, marks, name_of, printed
from tests.processes import own_environment

HUB_NAME = "openai/clip-vit-large-patch14"
PASSWORD = "correct horse"
WORDS: dict[str, str | list[str]] = {
    "REF": ["demo@1", "demo@2"],
    "MODEL": "demo",
    "MODEL|REF": "demo@1",
    "M": "demo",
    "N": "2",
    "FOLDER": "DIR",
    "/models": "models",
    "/srv/clipsmith/store": "srv",
}
"""What stands for the words that a reader replaces; of several, each in its turn where the word is again in a line."""
WORDS_OF: dict[str, dict[str, str | list[str]]] = {
    "clipsmith judge": {"FILE": "gates.yaml"},
    "clipsmith data": {"SOURCE": "digits"},
    "clipsmith optimize": {"MODEL": HUB_NAME, "R": "main", "N": "named", "M": "max"}
    | {
        "NAME|FILE": "fp8",
        "NAME": "auto",
        "T,T": "onnxruntime",
        "COLUMNS": "image=file,label=label",
        "SOURCE": ["./photos", "./holdout"],
        "DIR": ".clipsmith/store",
    },
}
CHECKS = {
    "docs/python.md": "assert images.shape == (2, 64) and made.accepted and (made.manifest.model, each.ref) == "
    "('demo', 'demo@1')",
    "docs/serving.md": "assert (images.shape, texts.shape) == ((2, 64), (1, 64))",
    "docs/releases.md": "assert any('quantizer' in name for name, _ in model.named_modules())",
    "docs/extending.md": "from tasks.families import FAMILIES; "
    "(own,) = (f for f in FAMILIES if f.name == MetaClip2.name); "
    "said = lambda of: {name: callable(value) or value for name, value in vars(of).items() if name[0] != '_'}; "
    "assert said(MetaClip2) == said(type(own)), 'this is all of it'",
}
"""What a page's Python must have done."""
GIVEN = {
    "docs/extending.md": "from tasks.families import FAMILIES\n"
    "ClipFamily = next(c for c in type(FAMILIES[0]).__mro__ if c.__name__ == 'ClipFamily')\n"
}
"""What stands above a page's Python in the file that it is from."""


def fates(path: Path) -> set[str]:
    return {each.fate for each in printed(path)}


def pages(fate: str) -> Any:
    found = [path for path in PAGES if fate in fates(path)]
    return pytest.mark.parametrize("path", found, ids=[name_of(path) for path in found])


def commands(line: str) -> list[list[str]]:
    """The words of every command that a line stands for: without what is in brackets and with it, and parted by `|`.

    `optimize` is told with all its options at once, less those that do not go with a model of one image size.
    """
    line = line.replace(" --image-size 256 256", "")
    lines = [line.replace("[", "").replace("]", "")]
    if "[" in line and "optimize" not in line:
        lines.insert(0, re.sub(r" *\[[^]]*\]", "", line))
    found = []
    for text in lines:
        program = text.split()[0]
        found += [shlex.split(part if at == 0 else f"{program} {part}") for at, part in enumerate(text.split(" | "))]
    return [filled(words) for words in found]


def filled(words: list[str]) -> list[str]:
    stand_ins = WORDS | WORDS_OF.get(" ".join(words[:2]).removeprefix(".venv/bin/"), {})
    found = []
    for at, word in enumerate(words):
        known = stand_ins.get(word, word)
        found.append(known if isinstance(known, str) else known[words[:at].count(word)])
    return found


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader may have it, with what pages name; without a store."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("CLIPSMITH_STORE", "CLIPSMITH_VARIANTS", "CLIPSMITH_WEBHOOK_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLIPSMITH_KEY_PASSWORD", PASSWORD)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("webbrowser.open", lambda _: False)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copytree(ROOT / "docker", folder / "docker")
    private, public = key_pair(folder, password=PASSWORD)
    private.rename(folder / "PRIVATE.pem")
    public.rename(folder / "PUBLIC.pem")
    (folder / "gates.yaml").write_text("gates: {min_cosine_mean: 0.9}\n")
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of a shell in the scratch folder: the programs of this environment, and this checkout."""
    path = f"{CLIPSMITH.parent}{os.pathsep}{os.environ['PATH']}"
    return own_environment(PATH=path, PYTHONPATH=str(ROOT), **more)


def run(*command: str, **more: str) -> None:
    """Run a program that asks for a password twice, or for nothing; without a terminal it reads that from stdin."""
    done = subprocess.run(
        command,
        input=f"{PASSWORD}\n" * 2,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,
        env=environment(**more),
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"


def make_ready(words: list[str], call: Callable[..., Any]) -> None:
    """What a reader would see to before typing a line, where lines above it were typed already."""
    if words[1] == "export":
        shutil.rmtree(words[3], ignore_errors=True)
    if words[1] == "pack":
        Path(words[3]).unlink(missing_ok=True)
    if words[1] == "data" and not Path("photos").exists():
        for name, role in (("photos", "calibration"), ("holdout", "evaluation")):
            write_pictures(Path(name), role)
    if words[1] == "rollback":
        for ref in ("demo@1", "demo@2", "demo@1"):
            assert call("promote", ref, "--alias", "production", "--force", "--why", "to have something")[0] == 0


@contextmanager
def as_in_a_new_shell() -> Iterator[None]:
    """What a command sets for its children does not stay."""
    from prefect.context import refresh_global_settings_context

    try:
        with patch.dict(os.environ):
            yield
    finally:
        refresh_global_settings_context()


def perform(each: Printed, call: Callable[..., Any]) -> None:
    if each.kind == "python":
        run(sys.executable, "-c", f"{GIVEN.get(each.page, '')}{each.text}\n{CHECKS[each.page]}")
        return
    if not each.text.startswith("clipsmith "):
        for words in commands(each.text):
            if words[0] == "openssl" and shutil.which("openssl") is None:
                pytest.skip("this machine has no openssl")
            run("bash", "-ec", " ".join(words))
        return
    for words in commands(each.text):
        make_ready(words, call)
        with as_in_a_new_shell():
            code, _, err = call(*words[1:])
        assert code == 0, f"{each.page}: {shlex.join(words)}\n{err}"


@pages("run")
def test_what_is_printed_runs(path: Path, call: Callable[..., Any], scratch: Path, two_releases: CopyDemo) -> None:
    from skimage import data, io

    two_releases(scratch / ".clipsmith" / "store")
    io.imsave("cat.jpg", data.cat())
    io.imsave("dog.jpg", data.astronaut())
    Path("REPORT.json").write_text(json.dumps(layers_report()))
    for each in printed(path):
        if each.fate == "run":
            perform(each, call)


def layers_report() -> dict[str, Any]:
    """A bench's report with one layer, as only a GPU gives it."""
    from tasks.bench.layers import LayerRow
    from tasks.bench.report import BenchReport, Machine

    machine = Machine("NVIDIA H200", "sm90", "580", "3.12", "2.11", "13.0")
    report = BenchReport("demo@1", machine, "clipsmith bench demo")
    module = "vision_model.encoder.layers.0.mlp.fc1"
    report.layers.append(LayerRow("image", "torch-fp8", 1, module, 2.0, 1.0, 2.0, None))
    return asdict(report)


@pytest.mark.heavy
def test_what_is_printed_and_slow_runs(scratch: Path, make_clip: MakeClip) -> None:
    """In one folder, so that what an earlier page made is there: a small model in the hub's cache, digits as photos."""
    hub = scratch / "hub"
    in_hub(hub, HUB_NAME, make_clip)
    for name, role in (("photos", "calibration"), ("holdout", "evaluation")):
        write_pictures(scratch / name, role)
    data = {"calibration": {"source": "photos"}, "evaluation": {"source": "holdout"}}
    Path("FILE.yaml").write_text(json.dumps({"model": HUB_NAME, **data}))
    for path in PAGES:
        for each in printed(path):
            for words in commands(each.text) if each.fate == "heavy" else ():
                begun = time.monotonic()
                run("bash", "-ec", shlex.join(words), HF_HUB_CACHE=str(hub))
                print(f"{time.monotonic() - begun:.1f} s: {shlex.join(words)}")


def in_hub(hub: Path, name: str, make_clip: MakeClip) -> None:
    """A small random CLIP as the hub's cache has models."""
    root, commit = hub / f"models--{name.replace('/', '--')}", "a" * 40
    shape = {"num_hidden_layers": 1}
    folder = make_clip(root / "snapshots" / commit, text=shape, vision=shape)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    files = {path.name: {"size": path.stat().st_size, "blob_id": "b" * 40} for path in folder.iterdir()}
    (root / "trees").mkdir()
    (root / "trees" / f"{commit}.json").write_text(json.dumps({"format_version": 1, "files": files}))


def write_pictures(folder: Path, role: Any) -> None:
    """64 of the digits, with their labels."""
    from tasks.data.digits import CLASSES, Digits

    digits = Digits(role, 64)
    folder.mkdir()
    lines = ["file,label"]
    for index, sample in enumerate(digits.samples):
        digits.image(index).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{CLASSES.names[sample.label]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def test_comments_of_pages_are_about_lines_that_are_there() -> None:
    for path in PAGES:
        for mark in marks(path):
            assert any(each.text.startswith(mark.begins) and each.fate == mark.fate for each in printed(path)), mark
        for comment in re.findall(r"<!--(.*?)-->", path.read_text(encoding="utf-8"), re.DOTALL):
            assert comment.startswith((" not run by the tests: ", " run by make test-heavy: ")), comment
            assert "--" not in comment, "GitHub shows a comment with two dashes in it"


def test_every_line_of_a_block_is_understood() -> None:
    """It is a command, goes on with one, lists files, or is a table of values."""
    for path in PAGES:
        text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        lines = [line for line in text.splitlines() if line.startswith("    ")]
        known = re.compile(r" {6,}|    (DIR/|file,caption$|cats/1.jpg,)")
        assert [line for line in lines if not is_command(f"{line}\n") and not known.match(line)] == [], name_of(path)


def test_what_is_not_run_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for each in everything():
        words = each.text.split()
        if words[0] == "make":
            assert words[1] in targets, each
        if words[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(words[2]) is not None, each
