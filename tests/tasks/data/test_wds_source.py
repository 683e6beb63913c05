"""Where shards lie: CLIP_benchmark's splits, img2dataset's folders, the hub's cache; what is missing or compressed."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from artifacts.errors import ClipsmithError, ConfigError, DataError, DataNotFound
from tasks.data import open_dataset
from tasks.data.wds_source import find_webdataset, is_webdataset
from tests.tasks.data.support import captioned, labelled, noise, write_tar, zero_shot
from tests.wording import refusal


def shard(path: Path, number: int = 0) -> None:
    write_tar(path, labelled([noise(number)], [number % 2], number))


def classes(root: Path) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "classnames.txt").write_text("cat\ndog\n")
    return root


def img2dataset(root: Path, names: tuple[str, ...] = ("00000", "00001")) -> Path:
    """Shards as that tool writes them."""
    for place, name in enumerate(names):
        members = captioned([noise(2 * place), noise(2 * place + 1)], ["a cat", "a dog"], 10_000 * place)
        write_tar(root / f"{name}.tar", [*members, (f"s{10_000 * place:07d}.json", b"{}")])
        (root / f"{name}.parquet").write_bytes(b"x")
        (root / f"{name}_stats.json").write_text("{}")
    return root


def test_shards_of_img2dataset_lie_at_the_top(tmp_path: Path) -> None:
    root = img2dataset(tmp_path / "laion")
    for spec in (str(root), f"wds:{root}"):
        opened = open_dataset(spec, "calibration")
        assert opened.source == str(root)
        assert [sample.caption for sample in opened.samples] == ["a cat", "a dog"] * 2
        assert [sample.id for sample in opened.samples][2:] == ["s0010000", "s0010001"]
        assert opened.classes is None
        assert root / "00001.tar" in opened.files


def test_failed_downloads_leave_gaps(tmp_path: Path) -> None:
    found = find_webdataset(f"wds:{img2dataset(tmp_path, ('00000', '00003'))}")
    assert [path.name for path in found.shards] == ["00000.tar", "00003.tar"]


def test_files_of_macos_beside_shards_are_no_shards(tmp_path: Path) -> None:
    (img2dataset(tmp_path) / "._00000.tar").write_bytes(b"\0\5\x16\7")
    assert len(find_webdataset(f"wds:{tmp_path}").shards) == 2


def test_a_folder_with_a_table_is_no_webdataset(tmp_path: Path) -> None:
    root = img2dataset(tmp_path)
    (root / "metadata.parquet").write_bytes(b"x")  # LAION's, of all shards
    assert is_webdataset(root)
    (root / "captions.csv").write_text("file,caption\n")
    assert not is_webdataset(root)


def test_the_only_split_need_not_be_named(tmp_path: Path) -> None:
    shard(classes(tmp_path) / "val" / "0.tar")
    for spec in (str(tmp_path), f"wds:{tmp_path}"):
        assert open_dataset(spec, "evaluation").source == f"{tmp_path}:val"
    shard(tmp_path / "train" / "0.tar", 1)
    with refusal(ConfigError):
        open_dataset(str(tmp_path), "evaluation")
    assert open_dataset(f"wds:{tmp_path}:val", "evaluation").source == f"{tmp_path}:val"
    shard(tmp_path / "test" / "0.tar", 2)
    assert open_dataset(str(tmp_path), "evaluation").source == f"{tmp_path}:test"


def test_a_folder_in_parts(tmp_path: Path) -> None:
    img2dataset(tmp_path / "part-00")
    assert open_dataset(str(tmp_path), "calibration").source == f"{tmp_path}:part-00"


def test_a_text_that_cannot_be_a_path() -> None:
    with refusal(DataNotFound):
        open_dataset("wds:/" + "x" * 4000, "evaluation")


def test_shards_at_the_top_and_in_a_split(tmp_path: Path) -> None:
    shard(img2dataset(tmp_path) / "val" / "0.tar")
    with refusal(ConfigError):
        open_dataset(str(tmp_path), "evaluation")


def test_the_other_splits_are_named(tmp_path: Path) -> None:
    shard(classes(tmp_path) / "val" / "0.tar")
    with refusal(DataNotFound, "tset"):
        open_dataset(f"wds:{tmp_path}:tset", "evaluation")


@pytest.mark.parametrize(
    ("names", "count", "reason"),
    [
        (("0.tar",), "1", None),
        (("00000.tar", "00001.tar"), "2", None),
        (("1.tar", "2.tar"), "2", None),
        (("0.TAR",), "1", None),
        (("test-000000.tar", "test-000001.tar"), "2", None),
        (("0.tar", "1.tar"), "1", "there are 2 shards, 0.tar to 1.tar, and nshards.txt counts 1"),
        (("0.tar",), "3", "the shard 1.tar is missing"),
        (("0.tar", "2.tar"), "2", "the shard 1.tar is missing"),
        (("1.tar",), "2", "the shard 0.tar is missing"),
        (("test-0.tar",), "3", "2 shards are missing"),
    ],
)
def test_the_number_of_shards(tmp_path: Path, names: tuple[str, ...], count: str, reason: str | None) -> None:
    for number, name in enumerate(names):
        shard(classes(tmp_path) / "test" / name, number)
    (tmp_path / "test" / "nshards.txt").write_text(count)
    if reason is None:
        assert len(open_dataset(str(tmp_path), "evaluation").samples) == len(names)
        return
    with pytest.raises(DataError, match=reason):
        open_dataset(str(tmp_path), "evaluation")


@pytest.mark.parametrize(
    ("name", "pack", "fix"),
    [
        ("0.tar.xz", lzma.compress, "unxz 0.tar.xz"),
        ("0.tar.bz2", bytes, "mv 0.tar.bz2 0.tar"),
        ("0.tar", bz2.compress, "mv 0.tar 0.tar.bz2 && bunzip2 0.tar.bz2"),
        ("0.tar", lzma.compress, "mv 0.tar 0.tar.xz && unxz 0.tar.xz"),
    ],
)
@pytest.mark.parametrize("split", ["test", ""])
def test_compressed_shards(tmp_path: Path, split: str, name: str, pack: Callable[[bytes], bytes], fix: str) -> None:
    folder = classes(tmp_path) / split
    shard(folder / "plain.tar")
    data = (folder / "plain.tar").read_bytes()
    (folder / "plain.tar").unlink()
    (folder / name).write_bytes(pack(data))
    for spec in (str(tmp_path), f"wds:{tmp_path}"):
        with pytest.raises(DataError, match="compressed") as caught:
            open_dataset(spec, "evaluation")
        assert caught.value.fix == fix


@pytest.mark.parametrize(
    ("name", "pack"),
    [("0.tar.gz", gzip.compress), ("0.TGZ", gzip.compress), ("0.tar", gzip.compress), ("0.tar.gz", bytes)],
)
@pytest.mark.parametrize("split", ["test", ""])
def test_shards_in_gzip_are_read(tmp_path: Path, split: str, name: str, pack: Callable[[bytes], bytes]) -> None:
    folder = classes(tmp_path) / split
    shard(folder / "0.tar")
    plain = open_dataset(str(tmp_path), "evaluation")
    data = (folder / "0.tar").read_bytes()
    (folder / "0.tar").unlink()
    (folder / name).write_bytes(pack(data))
    for spec in (str(tmp_path), f"wds:{tmp_path}"):
        opened = open_dataset(spec, "evaluation")
        assert opened.samples == plain.samples
        assert opened.image(0).size


def test_a_shard_is_counted_once(tmp_path: Path) -> None:
    folder = classes(tmp_path) / "test"
    shard(folder / "10.tar", 10)
    shard(folder / "9.tar", 9)
    (folder / "9.tar.gz").write_bytes(gzip.compress((folder / "9.tar").read_bytes()))
    with refusal(DataError, "test"):
        open_dataset(str(tmp_path), "evaluation")
    (folder / "9.tar").unlink()
    assert open_dataset(str(tmp_path), "evaluation").samples[0].id == "s0000009"


@pytest.mark.parametrize(
    ("data", "reason", "fix"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer", "git lfs pull"),
        (b"PK\3\4" + bytes(600), "a zip archive", "tar"),
        (b"<!DOCTYPE html><html></html>", "a web page", "download"),
        (b"", "empty file", "copy"),
    ],
)
def test_shards_that_are_something_else(tmp_path: Path, data: bytes, reason: str, fix: str) -> None:
    (classes(tmp_path) / "0.tar").write_bytes(data)
    with pytest.raises(DataError, match=reason) as caught:
        open_dataset(str(tmp_path), "evaluation")
    assert fix in (caught.value.fix or "")


def test_a_snapshot_in_the_hubs_cache_is_made_of_links(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--a--wds_b"
    snapshot, blobs = repository / "snapshots" / "0123", repository / "blobs"
    blobs.mkdir(parents=True)
    plain = zero_shot(tmp_path / "plain", [labelled([noise(0), noise(1)], [0, 1])])
    for number, path in enumerate(path for path in sorted(plain.rglob("*")) if path.is_file()):
        path.rename(blobs / str(number))
        link = snapshot / path.relative_to(plain)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    for spec in (str(snapshot), f"wds:{snapshot}"):
        opened = open_dataset(spec, "evaluation")
        assert [sample.label for sample in opened.samples] == [0, 1]
        assert opened.image(1).size == (8, 8)
    with pytest.raises(DataNotFound, match=f"repository in the hub's cache(?s:.*){snapshot}"):
        open_dataset(f"wds:{repository}", "evaluation")
    (snapshot / "test" / "0.tar").unlink()
    (snapshot / "test" / "0.tar").symlink_to("../../../elsewhere/0.tar")
    with pytest.raises(DataError, match="is missing"):
        open_dataset(str(snapshot), "evaluation")
    shard(repository / "elsewhere" / "0.tar")
    with pytest.raises(DataError, match="leaves the folder"):
        open_dataset(str(snapshot), "evaluation")


@pytest.mark.parametrize("name", ["00000.tar", "{00000..00001}.tar"])
def test_one_shard_or_a_pattern_is_told_to_be_no_folder(tmp_path: Path, name: str) -> None:
    img2dataset(tmp_path)
    with pytest.raises(ClipsmithError, match=f"name the folder: wds:{tmp_path}"):
        open_dataset(f"wds:{tmp_path}/{name}", "evaluation")
