"""No checkpoint keeps anybody waiting, takes the memory that it asks for, or runs a line of its own."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import CheckpointError
from artifacts.store.store import Store, activate
from tasks.checkpoints.tokenizer_costs import _explosive
from tasks.demo import SNAPSHOT
from tasks.pipeline.checkpoint import check, resolve
from tests.attacks.checkpoints import ATTACKS, Attack, edit

named = pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
CODE = """
import resource, sys
from pathlib import Path
from artifacts.errors import CheckpointError
from artifacts.store.store import Store, activate
from tasks.pipeline.checkpoint import check, resolve
store = Store.open(Path(sys.argv[1]))
for folder in sys.argv[2:]:
    try:
        with activate(store):
            check(resolve(folder, None, store))
    except CheckpointError as error:
        print(Path(folder).name, type(error).__name__, flush=True)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound checkpoint that may be changed."""
    return copied(tmp_path / "model")


def copied(place: Path) -> Path:
    shutil.copytree(SNAPSHOT, place)
    for path in place.iterdir():
        path.chmod(0o644)
    return place


@named
def test_it_is_refused_by_what_it_says(
    attack: Attack, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = Store.open(tmp_path / "store")
    attack.make(folder)
    with activate(store), pytest.raises(CheckpointError) as caught:
        check(resolve(str(folder), None, store))
    assert re.search(attack.told, str(caught.value)), str(caught.value)
    assert len(caught.value.what) < 500 and "\n" not in caught.value.what
    assert "panicked" not in capfd.readouterr().err


def test_code_in_the_folder_is_never_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration may name code of its own, which libraries import on request. It is never asked for."""
    canary = tmp_path / "canary"
    for name in ("evil", "modeling_evil", "tokenization_evil", "configuration_evil", "sitecustomize", "transformers"):
        (folder / f"{name}.py").write_text(f"open({str(canary)!r}, 'w')\n")
    for name, classes in (
        ("config.json", ("AutoConfig", "AutoModel")),
        ("tokenizer_config.json", ("AutoTokenizer",)),
        ("preprocessor_config.json", ("AutoImageProcessor", "AutoProcessor")),
    ):
        edit(name, lambda c, classes=classes: c.update(auto_map=dict.fromkeys(classes, "evil.Evil")))(folder)
    edit("config.json", lambda content: content.update(quantization_config={"quant_method": "evil"}))(folder)
    monkeypatch.chdir(folder)
    store = Store.open(tmp_path / "store")
    with activate(store):
        assert check(resolve(str(folder), None, store)).tensors
    assert not canary.exists()


def test_weights_may_lie_elsewhere_and_a_link_inside_is_a_file(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").rename(tmp_path / "weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "weights")
    (folder / "config.json").rename(folder / "kept.json")
    (folder / "config.json").symlink_to("kept.json")
    store = Store.open(tmp_path / "store")
    with activate(store):
        assert check(resolve(str(folder), None, store)).tensors


@pytest.mark.parametrize(
    "pattern",
    [
        r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",  # CLIP
        r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",  # GPT-2
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}]*[\p{Ll}\p{M}]+(?i:'s|'t)?|\p{N}{1,3}| ?[^\s\p{L}]+[\r\n/]*|\s*[\r\n]+|\s+",
        r"'(?i:[sdmt]|ll)|[^\r\n\p{L}\p{N}]?+\p{L}+| ?[^\s\p{L}\p{N}]++[\r\n]*|\s+(?!\S)",  # cl100k
        r"(?:\r?\n)+",
        r"[!-/:-@\[-`{-~]",
        r" {2,}",
    ],
)
def test_patterns_of_published_tokenizers_are_taken(pattern: str) -> None:
    assert _explosive(pattern) is None


@pytest.mark.heavy
def test_all_of_them_take_less_memory_than_two_gigabytes_more(tmp_path: Path) -> None:
    """One process looks at all, and its peak is asked of the kernel; so is that of looking at a sound one."""
    folders = [copied(tmp_path / attack.name) for attack in ATTACKS]
    for attack, folder in zip(ATTACKS, folders, strict=True):
        attack.make(folder)
    large = copied(tmp_path / "large")
    (large / "tokenizer.json").write_text(json.dumps({"a": ["x" * 20] * 3_900_000 + ["\U0001f600"]}))
    command = [
        sys.executable,
        "-P",
        "-c",
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{CODE}",
    ]
    peaks = []
    for asked in ([SNAPSHOT], [*folders, large]):
        program = subprocess.Popen([*command, tmp_path / "store", *asked], stdout=subprocess.PIPE, text=True)
        assert program.stdout is not None
        refused = program.stdout.read().split()
        assert program.wait() == 0
        peaks.append(int(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))  # kB, of the largest child so far
    assert len(refused) == 2 * (len(ATTACKS) + 1)
    assert peaks[1] - peaks[0] < 2 << 20
