"""Sets that were made to harm whoever opens them: each is refused or left out by what is counted on its bytes."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from artifacts.errors import BadSample, DataError
from artifacts.limits import Limits
from tasks.data import limits, open_dataset
from tasks.data.base import Classes
from tasks.data.images import decode_rgb
from tests.wording import refusal

HEADER = "file,caption\n"


def png(shade: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def captions(name: str, data: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(data())


def _table(**columns: object) -> Callable[[Path], object]:
    return lambda folder: parquet.write_table(pa.table(columns), folder / "captions.parquet")


def _repeated(folder: Path) -> None:
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 60_000]))
    parquet.write_table(pa.table({"file": ["0.png"] * 3000, "caption": text}), folder / "captions.parquet")


def _many_parts(folder: Path) -> None:
    columns = {f"c{number}": [1] * 10 for number in range(20)}
    table = pa.table({"file": ["0.png"] * 10, "caption": ["a"] * 10, **columns})
    parquet.write_table(table, folder / "captions.parquet", row_group_size=1)


def _sparse(name: str, size: int, start: bytes = b"") -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(start)
        os.truncate(folder / name, size)

    return make


def _large_picture(folder: Path) -> None:
    (folder / "captions.csv").write_text(f"{HEADER}0.png,a\n")
    os.truncate(folder / "0.png", 30 << 30)


def _beside(folder: Path) -> None:
    for number in range(10):
        (folder / f"{number}.txt").write_bytes(b"a" * 10**6)


def _shard(kind: bytes, size: int, times: int = 1) -> Callable[[Path], object]:
    """Headers that are followed by nothing but zeros, which take no room on the disk."""

    def make(folder: Path) -> None:
        member = tarfile.TarInfo("././@LongLink")
        member.type, member.size = kind, size
        block = member.tobuf(tarfile.GNU_FORMAT) + (b"a".ljust(512, b"\0") if times > 1 else b"")
        (folder / "0.tar").write_bytes(block * times)
        os.truncate(folder / "0.tar", len(block) * times + max(size, 1024))

    return make


def _globals(folder: Path) -> None:
    attributes = {f"k{number}": "v" for number in range(1000)}
    header = tarfile.TarInfo.create_pax_global_header(attributes)
    (folder / "0.tar").write_bytes(header + tarfile.TarInfo("0.txt").tobuf() * 10 + b"\0" * 1024)


@dataclass(frozen=True)
class Attack:
    """What is put beside ten pictures; `told` is in the message, a pattern."""

    name: str
    why: str
    told: str
    make: Callable[[Path], object]
    prefix: str = ""


_SIZE = "Held as a whole it takes all memory. No more is read than is taken."
_WAIT = "Whoever opens it waits for ever. Only plain files are opened."
ATTACKS = (
    Attack("large-table", _SIZE, "too large", _sparse("captions.csv", 20 << 30, HEADER.encode())),
    Attack("large-names", _SIZE, "no table", lambda folder: (folder / "captions.csv").symlink_to("/dev/zero")),
    Attack("pipe", _WAIT, "no table", lambda folder: os.mkfifo(folder / "captions.csv")),
    Attack(
        "rows", _SIZE, "there are 4,000,002 rows", captions("captions.csv", lambda: HEADER.encode() + b"\n" * 4_000_001)
    ),
    Attack("line", _SIZE, "line 2", captions("captions.csv", lambda: f"{HEADER}0.png,{'a' * 10**7}\n".encode())),
    Attack("json-line", _SIZE, "larger than", captions("captions.jsonl", lambda: b'{"file":"' + b"a" * 10**7 + b'"}')),
    Attack(
        "json-lists",
        "A list of lists is twenty times its bytes.",
        "values",
        captions("captions.jsonl", lambda: b'{"a":[' + b"[]," * 10**5 + b"1]}"),
    ),
    Attack(
        "json-deep",
        "Python's reader recurses.",
        "values|deeply",
        captions("captions.jsonl", lambda: b'{"a":' + b"[" * 10**5),
    ),
    Attack(
        "caption",
        "It is tokenized a thousand times.",
        "has 70,000 characters",
        captions("captions.csv", lambda: f"{HEADER}0.png,{'a' * 70_000}\n".encode()),
    ),
    Attack(
        "captions",
        _SIZE,
        "holds 20,000 texts",
        captions("captions.jsonl", lambda: b'{"file":"0.png","caption":[' + b'"a",' * 19_999 + b'"b"]}'),
    ),
    Attack(
        "coco",
        "Four bytes of it make a hundred in memory.",
        "values",
        captions("captions_x.json", lambda: b'{"images":[' + b"{}," * 6000 + b"{}]}"),
    ),
    Attack("beside", _SIZE, "too large", _beside),
    Attack(
        "picture",
        _SIZE,
        "picture's file is too large",
        _large_picture,
    ),
    Attack(
        "repeated",
        "One value 3,000 times takes no room in the file. It is counted as it comes out.",
        "columns are too large",
        _repeated,
    ),
    Attack("parts", "What describes the parts is larger than they are.", "too many parts", _many_parts),
    Attack(
        "footer",
        _SIZE,
        "footer has 20,000,000 bytes",
        captions("captions.parquet", lambda: b"PAR1" + b"\0" * 20_000_000 + struct.pack("<I", 20_000_000) + b"PAR1"),
    ),
    Attack(
        "long-name",
        "tarfile reads a header as a whole, whatever it says.",
        "a header of 6,442,450,944",
        _shard(b"L", 6 << 30),
        "wds:",
    ),
    Attack("attributes", "So it does with attributes.", "a header of 6,442,450,944", _shard(b"x", 6 << 30), "wds:"),
    Attack(
        "chain",
        "tarfile recurses for each header before a header.",
        "headers that belong to headers",
        _shard(b"L", 1, 5000),
        "wds:",
    ),
    Attack("for-all", "tarfile copies what is stated for all members for each.", "headers for all", _globals, "wds:"),
    Attack("set-pipe", _WAIT, "is a pipe", lambda folder: os.mkfifo(folder / "x.parquet"), "datasets:"),
)


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_it_is_refused_by_what_it_says(attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some limits are lowered, so that less has to be written than would do harm."""
    monkeypatch.setattr(limits, "PARQUET_BYTES", 16 << 20)
    monkeypatch.setattr(limits, "PARQUET_PARTS", 100)
    monkeypatch.setattr(limits, "TABLE", Limits(bytes=256 << 20, values=10_000))
    for number in range(10):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    attack.make(tmp_path)
    with pytest.raises(DataError) as caught:
        open_dataset(f"{attack.prefix}{tmp_path}", "evaluation")
    assert re.search(attack.told, str(caught.value)), str(caught.value)
    assert len(caught.value.what) < 700


def test_a_saved_set_that_lies_about_where_its_texts_are(tmp_path: Path) -> None:
    """Arrow takes offsets on trust, and reads beyond the file: the process dies of it. They are validated first."""
    import datasets

    texts = [f"caption {number}" for number in range(10)]
    datasets.Dataset.from_dict({"image": [png(n) for n in range(10)], "caption": texts}).save_to_disk(
        str(tmp_path / "a")
    )
    file = next((tmp_path / "a").glob("*.arrow"))
    offsets = np.arange(0, 9 * 11, 9, dtype=np.int32)
    lying = offsets.copy()
    lying[-1] = 2**30
    data = file.read_bytes()
    assert data.count(offsets.tobytes()) == 1
    file.write_bytes(data.replace(offsets.tobytes(), lying.tobytes()))
    with pytest.raises(DataError, match="binary offsets"):
        open_dataset(str(tmp_path / "a"), "evaluation")


def test_more_prompts_than_anybody_embeds() -> None:
    with refusal(DataError):
        Classes(("a",) * (limits.PROMPTS // 5000 + 1), ("a {}",) * 5000)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _scans() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * limits.SCANS + b"\xff\xd9"


def _frame() -> bytes:
    stream = io.BytesIO()
    Image.new("P", (8, 8)).save(stream, "GIF")
    data = bytearray(stream.getvalue())
    place = data.index(b",")
    data[place + 5 : place + 9] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


@pytest.mark.parametrize(
    ("why", "told", "make"),
    [
        ("Each scan is a pass over all pixels.", "JPEG of 2", _scans),
        ("A frame may be larger than the picture that it is of.", "bomb", _frame),
        (
            "Pillow's time for a comment grows with its square.",
            "a header that does not end",
            lambda: b"P6\n#" + b"x" * 10**6 + b"\n8 8\n255\n" + b"\0" * 192,
        ),
        (
            "A text unpacks to a thousand times its bytes.",
            "too large",
            lambda: png()[:33] + _chunk(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 10**7)) + png()[33:],
        ),
    ],
    ids=["scans", "frame", "comment", "text"],
)
def test_a_picture_is_left_out(why: str, told: str, make: Callable[[], bytes]) -> None:
    assert why
    with pytest.raises(BadSample, match=told):
        decode_rgb(make(), "x")


def test_a_picture_with_a_comment_and_one_of_many_scans_are_read() -> None:
    assert decode_rgb(b"P6\n# made by hand\n8 8\n255\n" + b"\0" * 192, "x").size == (8, 8)
    stream = io.BytesIO()
    Image.new("RGB", (64, 64)).save(stream, "JPEG", progressive=True)
    assert decode_rgb(stream.getvalue(), "x").size == (64, 64)
