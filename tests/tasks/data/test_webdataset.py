"""Shards in CLIP_benchmark's layout: what is read, and every malformed set refused with the sample or line at fault."""

from __future__ import annotations

import gzip
import hashlib
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub.utils import filter_repo_objects

from artifacts.errors import BadSample, ClipsmithError, ConfigError, DataError, DataNotFound
from tasks.data import open_dataset
from tasks.data.base import dataset_digest
from tasks.data.batches import stream_batches
from tasks.data.digits import CLASSES, Digits
from tasks.data.shards import MAX_TEXT_BYTES
from tasks.data.subset import whole_subset
from tasks.data.templates import DEFAULT_TEMPLATES
from tasks.data.webdataset import WebDataset
from tests.tasks.data.support import (
    Member,
    captioned,
    digits_zero_shot,
    labelled,
    noise,
    retrieval,
    write_tar,
    zero_shot,
)
from tests.wording import refusal


def two_shards() -> list[list[Member]]:
    pictures = [noise(n) for n in range(6)]
    return [labelled(pictures[:4], [0, 1, 0, 1]), labelled(pictures[4:], [1, 0], start=4)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return zero_shot(tmp_path / "set", two_shards())


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    texts = ["a cat\na tabby", "a dog\na hound\nan old dog"]
    return retrieval(tmp_path / "pairs", [captioned([noise(0), noise(1)], texts)])


# --- what is read ------------------------------------------------------------------------------------------


def test_zero_shot(root: Path) -> None:
    opened = open_dataset(str(root), "evaluation")
    assert isinstance(opened, WebDataset)
    assert opened.source == f"{root}:test"
    assert opened.classes is not None
    assert (opened.classes.names, opened.classes.templates) == (("cat", "dog"), ("a photo of a {}.", "a {}"))
    assert [sample.id for sample in opened.samples] == [f"s{n:07d}" for n in range(6)]
    assert [sample.label for sample in opened.samples] == [0, 1, 0, 1, 1, 0]
    assert opened.samples[1].caption == "a photo of a dog."
    assert [sample.image_hash for sample in opened.samples] == [hashlib.sha256(noise(n)).hexdigest() for n in range(6)]
    for index in range(6):
        np.testing.assert_array_equal(
            np.asarray(opened.image(index)), np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        )


def test_the_digits_are_those_of_the_built_in_source(tmp_path: Path) -> None:
    opened = open_dataset(f"wds:{digits_zero_shot(tmp_path / 'digits', 30, shard=13)}", "evaluation")
    built_in = Digits("evaluation", 30)
    assert opened.classes == CLASSES
    assert [sample.label for sample in opened.samples] == [sample.label for sample in built_in.samples]
    np.testing.assert_array_equal(np.asarray(opened.image(17)), np.asarray(built_in.image(17)))


def test_retrieval(captions: Path) -> None:
    opened = open_dataset(str(captions), "evaluation")
    assert opened.classes is None
    assert [(sample.id, sample.caption) for sample in opened.samples] == [
        ("s0000000", "a cat"),
        ("s0000000#2", "a tabby"),
        ("s0000001", "a dog"),
        ("s0000001#2", "a hound"),
        ("s0000001#3", "an old dog"),
    ]
    assert len({sample.image_hash for sample in opened.samples[:2]}) == 1


def test_ids_pass_over_a_key_that_looks_like_one(tmp_path: Path) -> None:
    shard = [("a.png", noise(0)), ("a.txt", b"one\ntwo"), ("a#2.png", noise(1)), ("a#2.txt", b"three")]
    opened = WebDataset(f"wds:{retrieval(tmp_path / 'pairs', [shard])}")
    assert [(sample.id, sample.caption) for sample in opened.samples] == [
        ("a", "one"),
        ("a#3", "two"),
        ("a#2", "three"),
    ]


def test_without_a_type_class_names_decide(root: Path, captions: Path) -> None:
    (captions / "dataset_type.txt").unlink()
    assert open_dataset(str(captions), "evaluation").classes is None
    (root / "zeroshot_classification_templates.txt").unlink()
    classes = open_dataset(str(root), "evaluation").classes
    assert classes is not None
    assert classes.templates == DEFAULT_TEMPLATES


def test_other_split_needs_its_name(root: Path) -> None:
    write_tar(root / "train" / "0.tar", labelled([noise(10), noise(11)], [0, 1]))
    opened = open_dataset(f"wds:{root}:train", "calibration")
    assert opened.source == f"{root}:train"
    assert len(opened.samples) == 2


def test_shards_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "test"
    for number in range(11):
        write_tar(folder / f"{number}.tar", captioned([noise(number)], [f"text {number}"], number))
    opened = open_dataset(str(folder.parent), "evaluation")
    assert [sample.caption for sample in opened.samples] == [f"text {number}" for number in range(11)]


def test_members_of_other_kinds_and_folders_are_passed_over(tmp_path: Path) -> None:
    members = [("README", b"x"), ("a/b.c/s1.JPG", noise(0)), ("a/b.c/s1.txt", b"text"), ("a/b.c/s1.json", b"{}")]
    opened = open_dataset(str(retrieval(tmp_path, [members])), "evaluation")
    assert [sample.id for sample in opened.samples] == ["a/b.c/s1"]


def test_limit_keeps_whole_pictures_and_only_they_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["\n".join(f"text {n} {m}" for m in range(1 + n % 5)) for n in range(40)]
    folder = str(retrieval(tmp_path, [captioned([noise(n) for n in range(40)], texts)]))
    whole = open_dataset(folder, "evaluation")
    hashed: list[bytes] = []
    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data=b"": (hashed.append(data), real(data))[1])
    part = open_dataset(folder, "evaluation", 30)
    kept = {sample.image_hash for sample in part.samples}
    assert 25 < len(part.samples) <= 30
    assert len(hashed) == len(kept)
    assert list(part.samples) == [sample for sample in whole.samples if sample.image_hash in kept]
    assert dataset_digest(open_dataset(folder, "evaluation", len(part.samples))) == dataset_digest(part)
    assert dataset_digest(open_dataset(folder, "evaluation", 10_000)) == dataset_digest(whole)


def test_whole_subset() -> None:
    sizes = [3, 1, 4, 1, 5, 9, 2, 6]
    for limit in range(1, 40):
        kept = whole_subset(sizes, limit)
        total = sum(sizes[place] for place in kept)
        assert kept == sorted(set(kept))
        assert total <= limit
        assert whole_subset(sizes, total or 1) == kept
    assert whole_subset([], 3) == []


def test_hub_id(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **rest: asked.update(rest, name=name) or str(root)
    )
    opened = open_dataset("wds:clip-benchmark/wds_cats@v1:test", "evaluation")
    assert len(opened.samples) == 6
    assert (asked["name"], asked["revision"], asked["repo_type"]) == ("clip-benchmark/wds_cats", "v1", "dataset")
    assert asked["allow_patterns"] == ["*.txt", "test/*"]


class Hub:
    """A data set on the hub: `allowed` says what was asked for; its files are those of a folder here."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.allowed = folder, []
        monkeypatch.setattr(huggingface_hub, "snapshot_download", self._download)
        monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda *_, **__: self.files())

    def files(self) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]

    def _download(self, _name: str, *, allow_patterns: list[str], **_rest: object) -> str:
        self.allowed.append(allow_patterns)
        snapshot = self.folder.parent / f"snapshot-{len(self.allowed)}"
        for name in filter_repo_objects(self.files(), allow_patterns=allow_patterns):
            (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (snapshot / name).write_bytes((self.folder / name).read_bytes())
        snapshot.mkdir(exist_ok=True)
        return str(snapshot)


def test_a_split_of_another_name_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = captioned([noise(n) for n in range(4)], ["a", "b", "c", "d"])
    write_tar(tmp_path / "hub" / "val" / "0.tar", members)
    hub = Hub(tmp_path / "hub", monkeypatch)
    opened = open_dataset("wds:somebody/pairs", "evaluation")
    assert (len(opened.samples), opened.source) == (4, "wds:somebody/pairs:val")
    write_tar(tmp_path / "hub" / "train" / "0.tar", members)
    with pytest.raises(ConfigError, match="name the split") as caught:
        open_dataset("wds:somebody/pairs", "evaluation")
    assert caught.value.fix == "wds:somebody/pairs:train"
    hub.allowed.clear()
    assert len(open_dataset("wds:somebody/pairs:train", "evaluation").samples) == 4
    assert hub.allowed == [["*.txt", "train/*"]]


def test_shards_at_the_top_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for shard in (0, 1):
        members = captioned([noise(2 * shard + n) for n in range(2)], ["a", "b"], start=2 * shard)
        write_tar(tmp_path / "hub" / f"0000{shard}.tar", members)
    (tmp_path / "hub" / "00000.parquet").write_bytes(b"x")
    hub = Hub(tmp_path / "hub", monkeypatch)
    opened = open_dataset("wds:somebody/laion", "evaluation")
    assert (len(opened.samples), opened.source) == (4, "wds:somebody/laion")
    assert sorted(hub.allowed[-1]) == ["*.txt", "00000.tar", "00001.tar"]


# --- what is refused ---------------------------------------------------------------------------------------


def refused(root: Path, *parts: str, kind: type[DataError] = DataError) -> None:
    with pytest.raises(kind) as caught:
        open_dataset(f"wds:{root}", "evaluation")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("spec", ["wds:", "wds:a\0b"])
def test_malformed_spec(spec: str) -> None:
    with pytest.raises(ConfigError, match="not a data source"):
        open_dataset(spec, "evaluation")


def test_nothing_of_that_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> str:
        raise OSError("no such repository")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(DataNotFound, match="no such repository"):
        open_dataset("wds:nobody/nothing", "evaluation")
    with refusal(DataNotFound):
        open_dataset("wds:/no/such/folder", "evaluation")
    with refusal(DataNotFound, "val"):
        open_dataset(f"wds:{root}:val", "evaluation")


def test_broken_image_names_the_sample(tmp_path: Path) -> None:
    members = [*labelled([noise(n) for n in range(9)], [0, 1, 0, 1, 0, 1, 0, 1, 0])]
    members[6] = (members[6][0], noise(3)[:60])
    opened = open_dataset(str(zero_shot(tmp_path, [members])), "evaluation")
    with pytest.raises(BadSample, match=r"0\.tar, s0000003\.png"):
        opened.image(3)

    class Plain:
        def image(self, picture: Any) -> np.ndarray:
            return np.asarray(picture, np.float32).transpose(2, 0, 1)

        def text(self, captions: list[str]) -> tuple[np.ndarray, None]:
            return np.zeros((len(captions), 2), np.int64), None

    with refusal(BadSample):
        list(stream_batches(opened, Plain(), 4))


@pytest.mark.parametrize("text", ["2", "-1", "1000000"])
def test_class_out_of_range(tmp_path: Path, text: str) -> None:
    members = labelled([noise(0), noise(1)], [0, 1])
    members[3] = (members[3][0], text.encode())
    refused(zero_shot(tmp_path, [members]), f"class {text} is out of range", "0.tar, s0000001.cls", "0 to 1")


@pytest.mark.parametrize("text", [b"", b"horse", b"1.5", b"\xff", b"1 2", b"99999999999"])
def test_class_that_is_no_number(tmp_path: Path, text: bytes) -> None:
    refused(zero_shot(tmp_path, [[("a.png", noise(0)), ("a.cls", text)]]), "is not a class", "0.tar, a.cls")


def test_a_class_without_samples_is_a_prompt(tmp_path: Path) -> None:
    folder = zero_shot(tmp_path, [labelled([noise(0), noise(1)], [0, 2])], names="cat\ndog\nhorse\n")
    opened = open_dataset(str(folder), "evaluation")
    assert opened.classes is not None and opened.classes.names == ("cat", "dog", "horse")
    assert [sample.label for sample in opened.samples] == [0, 2]


def test_two_classes_of_one_name(tmp_path: Path) -> None:
    opened = open_dataset(str(zero_shot(tmp_path, [labelled([noise(0)], [1])], names="cat\ncat\n")), "evaluation")
    assert opened.classes is not None and opened.classes.published and opened.classes.names == ("cat", "cat")
    assert opened.samples[0].label == 1


@pytest.mark.parametrize(("labels", "theirs"), [([0, 2], 0), ([0, 1, 2, 1], 2)])
def test_a_class_without_a_name_keeps_its_number_and_is_said(tmp_path: Path, labels: list[int], theirs: int) -> None:
    members = labelled([noise(n) for n in range(len(labels))], labels)
    opened = open_dataset(str(zero_shot(tmp_path, [members], names="cat\n\ndog\n\n")), "evaluation")
    assert opened.classes is not None and opened.classes.names == ("cat", "", "dog")
    assert [sample.label for sample in opened.samples] == labels
    (note,) = opened.notes
    assert (
        note.startswith("1 of 3 classes have no name in classnames.txt (1)") and f"samples of theirs: {theirs}" in note
    )


@pytest.mark.parametrize("key", ["s0000000", "s0000004"])
def test_duplicate_ids(tmp_path: Path, key: str) -> None:
    shards = two_shards()
    shards[1] += [(f"{key}.png", noise(9)), ("between.png", noise(8)), ("between.cls", b"0"), (f"{key}.cls", b"1")]
    shards[1].insert(0, shards[1].pop(-4))  # apart from the sample of that name that it belongs to
    refused(zero_shot(tmp_path, shards), repr(key))


def test_id_of_another_shard(tmp_path: Path) -> None:
    shards = two_shards()
    shards[1] += [("s0000002.png", noise(9)), ("s0000002.cls", b"0")]
    refused(zero_shot(tmp_path, shards), "'s0000002' comes twice", "0.tar and", "1.tar")


def test_part_that_comes_twice(tmp_path: Path) -> None:
    members = [("a.png", noise(0)), ("a.PNG", noise(1)), ("a.cls", b"0")]
    refused(zero_shot(tmp_path, [members]), "'a.png' and 'a.PNG'", "0.tar")


@pytest.mark.parametrize(
    ("line", "number"), [("a photo", 2), ("a {}", 2), ("a {c} {}", 2), ("a {C}", 2), ("a {c} }", 2), ("a {{c}}", 2)]
)
def test_templates_without_the_class(root: Path, line: str, number: int) -> None:
    (root / "zeroshot_classification_templates.txt").write_text(f"a {{c}}\n{line}\n")
    refused(root, "is not a template", f"templates.txt, line {number}", "{c}")


def test_no_template(root: Path) -> None:
    (root / "zeroshot_classification_templates.txt").write_text("\n\n")
    refused(root, "holds no template", "{c}")


def test_no_class_names(root: Path) -> None:
    (root / "classnames.txt").unlink()
    refused(root, "no class names", "classnames.txt", kind=DataNotFound)


@pytest.mark.parametrize("missing", ["png", "txt"])
def test_captions_missing(tmp_path: Path, missing: str) -> None:
    members = [m for m in captioned([noise(0), noise(1)], ["one", "two"]) if m[0] != f"s0000001.{missing}"]
    what = "no captions" if missing == "txt" else "no picture"
    refused(retrieval(tmp_path, [members]), what, "0.tar, sample 's0000001'")


def test_class_missing(tmp_path: Path) -> None:
    refused(zero_shot(tmp_path / "a", [labelled([noise(0)], [0])[:1]]), "no class", "sample 's0000000'")
    members = labelled([noise(0)] * 200, [0, 1] * 100)
    refused(zero_shot(tmp_path / "b", [members[:-1]]), "no class", "sample 's0000199'")


def test_empty_captions(tmp_path: Path) -> None:
    refused(retrieval(tmp_path / "a", [captioned([noise(0)], ["a\n\nb"])]), "empty caption", "s0000000.txt, line 2")
    refused(retrieval(tmp_path / "b", [captioned([noise(0)], [" \n\n"])]), "captions are blank", "'s0000000'")


def test_a_few_samples_without_captions_are_left_out_and_said(tmp_path: Path) -> None:
    members = captioned([noise(n) for n in range(200)], [f"text {n}" for n in range(200)])
    members = [(name, b"\n" if name == "s0000007.txt" else data) for name, data in members if name != "s0000009.txt"]
    opened = open_dataset(str(retrieval(tmp_path / "few", [members])), "evaluation")
    assert len(opened.samples) == 198
    assert opened.notes == ("2 of 200 samples have no picture or no captions, and are left out",)
    refused(retrieval(tmp_path / "many", [members[:300]]), "captions are blank", "'s0000007'")


def test_same_caption_twice_of_one_picture_is_one_pair(tmp_path: Path) -> None:
    opened = open_dataset(str(retrieval(tmp_path, [captioned([noise(0)], ["a\nb\na"])])), "evaluation")
    assert [sample.caption for sample in opened.samples] == ["a", "b"]


def test_invalid_utf8(tmp_path: Path, root: Path) -> None:
    refused(retrieval(tmp_path / "r", [[("a.png", noise(0)), ("a.txt", b"caf\xe9")]]), "UTF-8", "a.txt")
    (root / "classnames.txt").write_bytes(b"cat\n\xff\n")
    refused(root, "UTF-8", "classnames.txt, line 2")


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "1.5"])
def test_number_of_shards_that_is_none(root: Path, text: str) -> None:
    (root / "test" / "nshards.txt").write_text(text)
    refused(root, "not a number of shards", "nshards.txt, line 1")


def test_missing_shard(root: Path) -> None:
    (root / "test" / "0.tar").unlink()
    refused(root, "the shard 0.tar is missing")


def test_other_types_of_data_sets(root: Path) -> None:
    (root / "dataset_type.txt").write_text("multilabel")
    refused(root, "'multilabel'", "dataset_type.txt, line 1")


@pytest.mark.parametrize("cut", [0, 100, 700, -10_240, -11_000])
def test_truncated_shard(root: Path, cut: int) -> None:
    """Cut in a header, in a content, and at the end of a member, where tarfile itself notices nothing."""
    shard = root / "test" / "1.tar"
    data = shard.read_bytes()
    assert data.rstrip(b"\0")
    with tarfile.open(shard) as tar:
        end = max(member.offset_data + 512 * -(-member.size // 512) for member in tar)
    shard.write_bytes(data[: cut if cut >= 0 else end + cut + 10_240])
    refused(root, "1.tar", "complete tar file")


@pytest.mark.parametrize("place", [1024, -1])
def test_damaged_header_or_more_after_the_end(root: Path, place: int) -> None:
    shard = root / "test" / "1.tar"
    data = bytearray(shard.read_bytes())
    data[place] ^= 0xFF
    with tarfile.open(shard) as tar:
        second = tar.getmembers()[1].offset
    if place > 0:
        data = bytearray(shard.read_bytes())
        data[second + 20] ^= 0xFF
    shard.write_bytes(bytes(data))
    refused(root, "damaged header, or data after the end", "1.tar")


def test_negative_size(root: Path) -> None:
    """tarfile would go round for ever: CVE-2025-8194."""
    info = tarfile.TarInfo("README")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024).to_bytes(2, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    shard = root / "test" / "1.tar"
    with tarfile.open(shard) as tar:
        end = tar.getmembers()[1].offset
    shard.write_bytes(shard.read_bytes()[:end] + header + b"\0" * 1024)
    refused(root, "1.tar", "a member of -1,024 bytes")


def test_name_that_is_not_utf8(root: Path) -> None:
    write_tar(root / "test" / "1.tar", [(b"caf\xe9.png".decode("utf-8", "surrogateescape"), noise(9))])
    refused(root, "is not UTF-8", "1.tar")


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_to_a_shard_is_noticed_or_harmless(root: Path, seed: int) -> None:
    """Bytes flipped, cut out or put in anywhere: an error of ours, or the samples as they were."""
    sound = open_dataset(str(root), "evaluation")
    shard, rng = root / "test" / "1.tar", np.random.default_rng(seed)
    whole = shard.read_bytes()
    for _ in range(120):
        data, place = bytearray(whole), int(rng.integers(3500))
        match rng.integers(3):
            case 0:
                data[place] ^= 1 << int(rng.integers(8))
            case 1:
                del data[place : place + int(rng.integers(1, 600))]
            case _:
                data[place:place] = rng.bytes(int(rng.integers(1, 600)))
        shard.write_bytes(bytes(data))
        try:
            opened = open_dataset(str(root), "evaluation")
            dataset_digest(opened)
            same = [s for s, t in zip(opened.samples, sound.samples, strict=False) if s.image_hash == t.image_hash]
            for number in range(len(opened.samples)):
                opened.image(number)
        except ClipsmithError:
            continue
        assert len(same) >= 4  # those of the other shard


def test_a_shard_in_gzip_that_is_cut_off(root: Path) -> None:
    shard = root / "test" / "1.tar"
    shard.write_bytes(gzip.compress(shard.read_bytes())[:-20])
    refused(root, "1.tar", "cannot be unpacked", "plain or compressed with gzip")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_members_that_are_no_files(root: Path, kind: bytes) -> None:
    with tarfile.open(root / "test" / "1.tar", "a") as tar:
        link = tarfile.TarInfo("s0000009.png")
        link.type, link.linkname = kind, "/etc/passwd"
        tar.addfile(link)
    refused(root, "'s0000009.png' is a link", "1.tar")


def test_sizes_are_limited(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tarfile.open(root / "test" / "1.tar", "a") as tar:
        text = tarfile.TarInfo("s0000009.cls")
        text.size = MAX_TEXT_BYTES + 1
        with Path("/dev/zero").open("rb") as zeros:
            tar.addfile(text, zeros)
    refused(root, "'s0000009.cls' has 65,537 bytes")
    monkeypatch.setattr("tasks.data.shards.MAX_PART_BYTES", 100)
    refused(root, "'s0000000.png'", "at most 100")


def test_shard_that_is_a_link_out_of_the_folder(root: Path) -> None:
    shard = root / "test" / "1.tar"
    shard.rename(root.parent / "elsewhere.tar")
    shard.symlink_to(root.parent / "elsewhere.tar")
    refused(root, "leaves the folder", "1.tar")


def test_shard_that_changed_after_opening(root: Path) -> None:
    opened = open_dataset(str(root), "evaluation")
    shards = two_shards()
    shards[1][0] = (shards[1][0][0], noise(99))
    write_tar(root / "test" / "1.tar", shards[1])
    with pytest.raises(DataError, match="changed"):
        opened.image(4)
    (root / "test" / "1.tar").write_bytes(b"")
    with pytest.raises(DataError, match="ends inside a member"):
        opened.image(4)
    (root / "test" / "1.tar").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        opened.image(4)


# --- as other tools and people write shards ----------------------------------------------------------------


def pairs(picture: str = "png", label: str = "cls", stem: str = "s{}") -> list[Member]:
    """Three samples whose members are named so."""
    return [
        member
        for n in range(3)
        for member in ((f"{stem.format(n)}.{picture}", noise(n)), (f"{stem.format(n)}.{label}", str(n % 2).encode()))
    ]


@pytest.mark.parametrize(
    "members",
    [
        pairs("image.png"),
        pairs("input.png", "output.cls"),
        pairs(label="cls.txt"),
        pairs("PNG", "CLS"),
        pairs(label="class"),
        pairs(label="json") + pairs(label="cls")[1::2],
        pairs(stem="v1.5_s{}"),
        pairs("image.png", "cls.txt", "v1.5.0/v1.5_s{}"),
        sorted(pairs(), key=lambda member: member[0][-3:], reverse=True),
        [*pairs(), ("s0.mask.png", noise(9)), ("s1.left.cls", b"1"), ("notes.md", b"x"), ("LICENSE", b"x")],
        [*pairs(), ("s1.jpg", b"the second choice of CLIP_benchmark")],
    ],
    ids=lambda members: members[-1][0],
)
def test_members_by_any_of_their_names(tmp_path: Path, members: list[Member]) -> None:
    opened = open_dataset(str(zero_shot(tmp_path, [members])), "evaluation")
    wanted = {hashlib.sha256(noise(n)).hexdigest(): n % 2 for n in range(3)}
    assert {sample.image_hash: sample.label for sample in opened.samples} == wanted
    assert len(opened.samples) == 3
    opened.image(2)


def test_tiff_is_read_too(tmp_path: Path) -> None:
    opened = open_dataset(str(zero_shot(tmp_path, [pairs("tif")])), "evaluation")
    assert len(opened.samples) == 3


@pytest.mark.parametrize("more", [("s0.5.png", "s0.5.cls"), ("s0.crop.png", "s0.crop.cls")])
def test_a_key_with_a_dot_that_has_two_readings_is_refused(tmp_path: Path, more: tuple[str, str]) -> None:
    members = [*pairs(), (more[0], noise(9)), (more[1], b"1")]
    refused(zero_shot(tmp_path, [members]), repr(more[0].removesuffix(".png")), "more of 's0'", "without dots")


def test_a_sample_with_several_pictures_of_other_names_lists_them(tmp_path: Path) -> None:
    members = [("s0.cls", b"1"), ("s0.left.png", noise(0)), ("s0.right.png", noise(1))]
    refused(zero_shot(tmp_path, [members]), "no picture", "it has .cls, .left.png, .right.png")


def test_files_of_macos_are_passed_over_and_said(tmp_path: Path) -> None:
    members = [("._s0.png", b"x"), *pairs(), ("__MACOSX/s1.png", b"x"), ("a/.DS_Store", b"x")]
    opened = open_dataset(str(zero_shot(tmp_path, [members])), "evaluation")
    assert len(opened.samples) == 3
    assert opened.notes == ("members that macOS leaves in archives (._*, __MACOSX, .DS_Store) are passed over: 3",)


def test_labels_by_name_and_as_floats(tmp_path: Path) -> None:
    members = [("a.png", noise(0)), ("a.cls", b"dog\n"), ("b.png", noise(1)), ("b.cls", b"0.0")]
    opened = open_dataset(str(zero_shot(tmp_path, [members])), "evaluation")
    assert [sample.label for sample in opened.samples] == [1, 0]


def test_labels_that_count_from_one(tmp_path: Path) -> None:
    refused(zero_shot(tmp_path / "a", [labelled([noise(0), noise(1)], [2, 1])]), "count from 1", "s0000000.cls")
    names = "cat\ndog\nhorse"
    opened = open_dataset(str(zero_shot(tmp_path / "b", [labelled([noise(0), noise(1)], [2, 1])], names)), "evaluation")
    assert "if the labels count from 1" in opened.notes[0]
    named = [("a.png", noise(0)), ("a.cls", b"dog"), ("b.png", noise(1)), ("b.cls", b"horse")]
    assert open_dataset(str(zero_shot(tmp_path / "c", [named], names)), "evaluation").notes == ()


@pytest.mark.parametrize("ending", ["npy", "cls.npy", "pyd"])
def test_labels_in_arrays_are_refused_by_name(tmp_path: Path, ending: str) -> None:
    refused(zero_shot(tmp_path, [pairs(label=ending)]), f"an array (.{ending}), as multi-label sets have it")


def test_captions_of_a_set_that_looks_like_classes(tmp_path: Path) -> None:
    refused(zero_shot(tmp_path, [pairs(label="txt")]), "no class", "write retrieval into dataset_type.txt")


def test_classes_of_a_set_without_names(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", pairs())
    refused(tmp_path, "no class names", "classnames.txt", kind=DataNotFound)


def test_shards_of_something_else(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", [("a.mp4", b"x"), ("a.json", b"{}")])
    refused(tmp_path, "no member of the shards is a picture", ".mp4, .json")


def test_what_is_kept_in_memory_does_not_grow_with_captions(tmp_path: Path) -> None:
    """Of all samples their places alone are kept: texts are read again for those that the limit keeps."""
    members = captioned([noise(0)] * 100, [f"{n} " + "x" * 30_000 for n in range(100)])
    folder = str(retrieval(tmp_path, [members[n : n + 20] for n in range(0, 200, 20)]))
    tracemalloc.start()
    opened = open_dataset(folder, "evaluation", 2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(opened.samples) == 2
    assert peak < 80 * 30_000  # those of a shard or two and a megabyte of padding, not those of all ten
