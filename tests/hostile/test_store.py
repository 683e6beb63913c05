"""Bad inputs 28, 29, 31, 37 and 38: stores that cannot be written, names that are no names, aliases, file systems."""

from __future__ import annotations

import stat
import threading
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import (
    AliasMoved,
    AliasNotFound,
    BadName,
    ClipsmithError,
    NotEnoughSpace,
    ReleaseNotFound,
    UnsupportedFileSystem,
)
from artifacts.keeping.promotion import promote
from artifacts.names import check_alias, check_model_name, parse_reference
from artifacts.refs import FileEntry
from artifacts.store import mounts
from artifacts.store.store import Store
from tasks.data import open_dataset
from tasks.pipeline import disk_space
from tasks.pipeline.checkpoint import resolve
from tests.artifacts.support import add, digest, make_release
from tests.hostile.support import Bad, Workshop, check_complete, digits

Refuse = Callable[[Bad], None]
Usage = namedtuple("Usage", "total used free")


def test_28_read_only_store(shop: Workshop, refuse_as_a_user: Refuse) -> None:
    store = shop.root / "read-only"
    store.mkdir()
    store.chmod(stat.S_IRUSR | stat.S_IXUSR)
    refuse_as_a_user(
        Bad(["demo", "--targets", "onnxruntime"], "StoreReadOnly", [str(store)], store=store, complete=False)
    )
    assert list(store.iterdir()) == []


def test_29_disk_that_is_almost_full(shop: Workshop, refuse: Refuse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before any work is done: the store holds no object afterwards."""
    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _: Usage(10**12, 10**12 - 20_000_000, 20_000_000))
    words = ["20 MB are free, the run may need", "2 times the estimate", str(shop.root / "store")]
    refuse(Bad(digits(shop.clip()), "NotEnoughSpace", words))
    assert list((shop.root / "store" / "objects").glob("*/*")) == []


def test_29_twice_the_estimate_is_enough(active: Store, small_clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import CLIPModel

    snapshot = resolve(str(small_clip), None, active)
    parameters = sum(tensor.numel() for tensor in CLIPModel.from_pretrained(small_clip).state_dict().values())
    needed = 2 * disk_space.estimate_bytes(parameters, ("fp16", "fp8"), ("onnxruntime",))
    for free, enough in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _, free=free: Usage(10**12, 0, free))
        if enough:
            disk_space.require_space(active.root, snapshot, ("fp16", "fp8"), ("onnxruntime",))
        else:
            with pytest.raises(NotEnoughSpace) as caught:
                disk_space.require_space(active.root, snapshot, ("fp16", "fp8"), ("onnxruntime",))
            check_complete(caught.value, f"{parameters:,} parameters")


def test_29_estimate_is_near_what_the_demo_takes(demo_store: Path) -> None:
    used = sum(path.stat().st_size for path in (demo_store / "objects").rglob("*") if path.is_file())
    targets = ("onnxruntime", "trtrtx-sm89", "trtrtx-sm120")
    assert used <= disk_space.estimate_bytes(1_100_000, ("fp16", "fp8"), targets) <= 3 * used


def test_29_estimate_covers_full_size_models() -> None:
    """ViT-L/14 as in the README: ONNX files and SM89 engines of both encoders, and its FP32 checkpoint."""
    measured = 608.1 + 305.5 + 247.4 + 162.0 + 614.6 + 330.6 + 251.4 + 175.4 + 4 * 428
    estimate = disk_space.estimate_bytes(428_000_000, ("fp16", "fp8"), ("trtrtx-sm89",)) / 1e6
    assert measured <= estimate <= 1.5 * measured


BAD_NAMES = ["../x", "a\n", "-rf", "a\0b", "a" * 300, "", ".", "..", "a/b", "a\\b", "A", "a b", "é", "a..b", "\u202e"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_31_model_name(name: str) -> None:
    with pytest.raises(BadName) as caught:
        check_model_name(name)
    assert caught.value.expected


@pytest.mark.parametrize(
    "name", [*BAD_NAMES, "a@0", "a@1\n", "a@-1", "a@1.0", "a@", "@1", "a:", ":production", "a:b\n"]
)
def test_31_reference(name: str, active: Store) -> None:
    with pytest.raises(BadName) as caught:
        parse_reference(name)
    assert caught.value.expected
    with pytest.raises(BadName):
        active.find(name)


@pytest.mark.parametrize("name", ["../x", "a\n", "a\0b", "a" * 300, "", "/etc/passwd", "a//b", "./a", "a\\b", "a b"])
def test_31_path_inside_an_object(name: str) -> None:
    with pytest.raises(ValueError, match="path"):
        FileEntry(path=name, sha256="0" * 64, size=0)


@pytest.mark.parametrize("name", ["../x", "a\n", "-rf", "a\0b", "a" * 300, "", "datasets:", "datasets:\0", "~nobody/x"])
def test_31_model_and_data_source(name: str, active: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "above" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ClipsmithError) as caught:
        resolve(name, None, active)
    assert caught.value.expected
    with pytest.raises(ClipsmithError) as refused:
        open_dataset(name, "calibration")
    assert refused.value.expected
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [*BAD_NAMES, "1", "a_b", "a@1", "a:b", "a-", "Production"])
def test_31_alias(name: str) -> None:
    with pytest.raises(BadName) as caught:
        check_alias(name)
    assert caught.value.expected


# --- aliases and file systems ------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path) -> Store:
    """A store with `a@1` and `a@2`."""
    store = Store.open(tmp_path / "store")
    for number in (1, 2):
        make_release(store, "a", digest(str(number)), add(store, str(number).encode()))
    return store


def alias_files(store: Store) -> list[Path]:
    return [path for path in (store.root / "aliases").rglob("*") if path.is_file()]


@pytest.mark.parametrize("reference", ["a@3", "b@1", "b", "a:staging", "0" * 64])
def test_37_alias_to_an_unknown_version(reference: str, two: Store) -> None:
    with pytest.raises((ReleaseNotFound, AliasNotFound)) as caught:
        promote(two, reference, "production")
    check_complete(caught.value)
    assert alias_files(two) == []
    assert list((two.root / "staging").iterdir()) == []


def test_37_concurrent_promote(two: Store) -> None:
    """Both looked at the alias before either moved it: one wins, the other is told."""
    start, outcomes = threading.Barrier(2), []

    def move(reference: str) -> None:
        start.wait()
        try:
            outcomes.append(promote(two, reference, "production", seen=0).after.ref)
        except AliasMoved as error:
            assert error.what and error.expected and error.fix
            outcomes.append(type(error).__name__)

    threads = [threading.Thread(target=move, args=(f"a@{number}",)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (winner,) = (outcome for outcome in outcomes if outcome != "AliasMoved")
    assert "AliasMoved" in outcomes
    assert two.find("a:production").ref == winner
    assert len(alias_files(two)) == 1
    assert list((two.root / "staging").iterdir()) == []


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "fuse.sshfs"])
def test_38_store_on_a_network_file_system(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n40 22 0:40 / {tmp_path} rw - {kind} server:/export rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", table)
    with pytest.raises(UnsupportedFileSystem) as caught:
        Store.open(tmp_path / "store")
    check_complete(caught.value, kind, str(tmp_path / "store"), "flock", "clipsmith push")
    assert not (tmp_path / "store").exists()


def test_38_on_a_real_network_file_system() -> None:
    pytest.skip("omitted: mounting NFS needs a server and privileges")
