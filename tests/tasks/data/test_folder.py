"""A folder with a table: every layout is read, every malformed row is refused with its place."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet
from skimage import data as pictures

from artifacts.errors import BadSample, DataError, DataNotFound
from tasks.data.base import dataset_digest
from tasks.data.folder import Folder
from tasks.data.pictures import picture_places
from tasks.data.templates import DEFAULT_TEMPLATES

Rows = list[dict[str, object]]


def _csv(path: Path, rows: Rows) -> None:
    pd.DataFrame(rows).to_csv(path.with_suffix(".csv"), index=False)


def _jsonl(path: Path, rows: Rows) -> None:
    path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _parquet(path: Path, rows: Rows) -> None:
    pd.DataFrame(rows).to_parquet(path.with_suffix(".parquet"))


WRITERS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}


@pytest.fixture(params=sorted(WRITERS))
def write(request: pytest.FixtureRequest) -> Callable[[Path, Rows], None]:
    return WRITERS[request.param]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three photographs: a.png, b.jpg, sub/c.png."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(pictures.astronaut()[::8, ::8]).save(folder / "a.png")
    Image.fromarray(pictures.coffee()[::8, ::8]).save(folder / "b.jpg")
    Image.fromarray(pictures.chelsea()[::8, ::8]).save(folder / "sub" / "c.png")
    return folder


CAPTIONS: Rows = [
    {"file": "a.png", "caption": "an astronaut"},
    {"file": "b.jpg", "caption": 'a cup, of "coffee"\nand a spoon'},
    {"file": "sub/c.png", "caption": "eine Katze — 猫\u2028"},
]


def text(root: Path, content: str | bytes, name: str = "captions.csv") -> Path:
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


# --- what is read ------------------------------------------------------------------------------------------


def test_captions(root: Path, write: Callable[[Path, Rows], None]) -> None:
    write(root / "captions", CAPTIONS)
    folder = Folder(root)
    assert folder.source == str(root.resolve())
    assert folder.classes is None
    assert [sample.id for sample in folder.samples] == ["a.png", "b.jpg", "sub/c.png"]
    assert [sample.caption for sample in folder.samples] == [row["caption"] for row in CAPTIONS]
    assert folder.samples[1].image_hash == hashlib.sha256((root / "b.jpg").read_bytes()).hexdigest()
    assert folder.samples[0].label is None


def test_images(root: Path) -> None:
    _csv(root / "captions", CAPTIONS)
    np.testing.assert_array_equal(np.asarray(Folder(root).image(2)), pictures.chelsea()[::8, ::8])


def test_opening_decodes_nothing(root: Path) -> None:
    (root / "a.png").write_bytes(b"noise")
    _csv(root / "captions", CAPTIONS)
    folder = Folder(root)
    with pytest.raises(BadSample, match=r"a\.png"):
        folder.image(0)


@pytest.mark.parametrize("column", ["caption", "text"])
def test_hugging_face_metadata(root: Path, write: Callable[[Path, Rows], None], column: str) -> None:
    write(root / "metadata", [{"file_name": row["file"], column: row["caption"], "other": 1} for row in CAPTIONS])
    assert [sample.caption for sample in Folder(root).samples] == [row["caption"] for row in CAPTIONS]


def test_labels_get_classes_and_filled_templates(root: Path, write: Callable[[Path, Rows], None]) -> None:
    names = ["person", "cup", "cat"]
    write(root / "labels", [{"file": row["file"], "label": name} for row, name in zip(CAPTIONS, names, strict=True)])
    folder = Folder(root)
    assert folder.classes is not None
    assert folder.classes.names == ("cat", "cup", "person")
    assert folder.classes.templates == DEFAULT_TEMPLATES
    assert [sample.label for sample in folder.samples] == [2, 1, 0]
    assert folder.samples[0].caption == "a photo of a person."


def test_captions_with_labels(root: Path) -> None:
    _csv(root / "captions", [{**row, "label": "thing"} for row in CAPTIONS])
    folder = Folder(root)
    assert folder.samples[0].caption == "an astronaut"
    assert {sample.label for sample in folder.samples} == {0}


def test_a_labelled_picture_counts_once_however_many_captions_it_has(root: Path) -> None:
    rows = [*CAPTIONS, {"file": "a.png", "caption": "a person"}]
    _csv(root / "captions", [{**row, "label": "thing"} for row in rows])
    folder = Folder(root)
    assert [sample.id for sample in folder.samples] == ["a.png", "b.jpg", "sub/c.png", "a.png#2"]
    assert picture_places(folder) == [0, 1, 2]


def test_metadata_with_labels_only(root: Path) -> None:
    _csv(root / "metadata", [{"file_name": "a.png", "label": "person"}])
    assert Folder(root).samples[0].caption == "a photo of a person."


def test_templates_file(root: Path) -> None:
    _csv(root / "labels", [{"file": "a.png", "label": "{x}"}])
    text(root, "\ufeffa drawing of {}\n\n  {} in space  \n", "templates.txt")
    folder = Folder(root)
    assert folder.classes is not None
    assert folder.classes.templates == ("a drawing of {}", "{} in space")
    assert folder.samples[0].caption == "a drawing of {x}"


def test_limit_draws_from_all_rows_and_keeps_the_classes(root: Path) -> None:
    """Folders are often listed class by class: the first rows would be of one class."""
    rows: Rows = [{"file": "a.png", "label": name} for name in "abcd" for _ in range(25)]
    for number, row in enumerate(rows):
        row["file"] = f"{number}.png"
        (root / f"{number}.png").write_bytes(str(number).encode())
    _csv(root / "labels", rows)
    folder = Folder(root, limit=20)
    assert len(folder.samples) == 20
    assert folder.classes is not None
    assert folder.classes.names == ("a", "b", "c", "d")
    assert {sample.label for sample in folder.samples} == {0, 1, 2, 3}
    assert [sample.id for sample in folder.samples] == [sample.id for sample in Folder(root, limit=20).samples]


def test_empty_table_is_an_empty_set(root: Path) -> None:
    assert len(Folder(text(root, "file,caption\n")).samples) == 0


def test_empty_json_lines_is_an_empty_set(root: Path) -> None:
    assert len(Folder(text(root, "\n", "captions.jsonl")).samples) == 0


def test_byte_order_mark_and_windows_line_ends(root: Path) -> None:
    folder = Folder(text(root, "\ufefffile,caption\r\na.png,an astronaut\r\n\r\n"))
    assert folder.samples[0].caption == "an astronaut"


def test_five_captions_per_image_have_distinct_ids(root: Path, write: Callable[[Path, Rows], None]) -> None:
    write(root / "captions", [{"file": "./a.png" if n == 3 else "a.png", "caption": f"caption {n}"} for n in range(5)])
    samples = Folder(root).samples
    assert [sample.id for sample in samples] == ["a.png", "a.png#2", "a.png#3", "a.png#4", "a.png#5"]
    assert len({sample.image_hash for sample in samples}) == 1


def test_ids_step_over_files_of_that_name(root: Path) -> None:
    (root / "a.png#2").write_bytes((root / "a.png").read_bytes())
    folder = Folder(text(root, "file,caption\na.png,one\na.png,two\na.png#2,three\na.png,four\n"))
    assert [sample.id for sample in folder.samples] == ["a.png", "a.png#3", "a.png#2", "a.png#4"]


def test_links_inside_the_folder_are_followed(root: Path) -> None:
    (root / "link.png").symlink_to("sub/c.png")
    folder = Folder(text(root, "file,caption\nlink.png,a cat\n"))
    assert folder.samples[0].id == "link.png"
    assert folder.image(0).size == (57, 38)


def test_parquet_columns_that_are_not_needed_are_not_read(root: Path) -> None:
    table = pa.table({"file_name": ["a.png"], "text": ["x"], "label": pa.nulls(1), "blob": [b"\xff"]})
    parquet.write_table(table.drop_columns(["label"]), root / "metadata.parquet")
    assert len(Folder(root).samples) == 1


def test_digest_is_that_of_the_content(root: Path) -> None:
    _csv(root / "captions", CAPTIONS)
    first = dataset_digest(Folder(root))
    (root / "captions.csv").unlink()
    _jsonl(root / "captions", CAPTIONS)
    assert dataset_digest(Folder(root)) == first
    Image.fromarray(pictures.coffee()[::4, ::4]).save(root / "b.jpg")
    assert dataset_digest(Folder(root)) != first


# --- what is refused ---------------------------------------------------------------------------------------


def refused(root: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        Folder(root)
    for part in parts:
        assert part in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound, match="no such folder"):
        Folder(tmp_path / "nothing")


def test_no_table(root: Path) -> None:
    with pytest.raises(DataNotFound, match=r"captions\.csv"):
        Folder(root)


def test_two_tables(root: Path) -> None:
    _csv(root / "captions", CAPTIONS)
    _csv(root / "labels", [{"file": "a.png", "label": "x"}])
    refused(root, "captions.csv, labels.csv", "exactly one")


def test_invalid_utf8_names_the_line(root: Path) -> None:
    refused(text(root, b"file,caption\na.png,ok\nb.jpg,caf\xe9\n"), "UTF-8", "captions.csv, line 3", "0xe9")


def test_invalid_utf8_in_json_lines(root: Path) -> None:
    refused(text(root, b'{"file":"a.png","caption":"\xff"}\n', "captions.jsonl"), "captions.jsonl, line 1")


def test_invalid_utf8_in_parquet(root: Path) -> None:
    broken = pa.array([b"ok", b"\xff\xfe"]).view(pa.string())
    parquet.write_table(pa.table({"file": ["a.png", "b.jpg"], "caption": broken}), root / "captions.parquet")
    refused(root, "UTF-8", "captions.parquet, row 2")


def test_invalid_utf8_in_templates(root: Path) -> None:
    _csv(root / "labels", [{"file": "a.png", "label": "x"}])
    refused(text(root, b"a {}\n\xff {}\n", "templates.txt"), "templates.txt, line 2")


def test_missing_column(root: Path, write: Callable[[Path, Rows], None]) -> None:
    write(root / "captions", [{"photograph": "a.png", "words": "x"}])
    refused(root, "missing column: file, caption", "found photograph, words", "--columns image=COLUMN")


def test_missing_label_column(root: Path) -> None:
    refused(text(root, "file,caption\na.png,x\n", "labels.csv"), "missing column: label")


@pytest.mark.parametrize("caption", ["", "   "])
def test_empty_caption(root: Path, caption: str) -> None:
    refused(text(root, f"file,caption\na.png,x\nb.jpg,{caption}\n"), "empty caption", "captions.csv, line 3")


def test_absent_caption(root: Path, write: Callable[[Path, Rows], None]) -> None:
    write(root / "captions", [{"file": "a.png", "caption": "x"}, {"file": "b.jpg", "caption": None}])
    refused(root, "empty caption")


def test_line_of_a_row_after_a_caption_of_two_lines(root: Path) -> None:
    refused(text(root, 'file,caption\na.png,"one\ntwo"\nb.jpg,\n'), "captions.csv, line 4")


@pytest.mark.parametrize("caption", ["7", "[7]", '"\\ud800"', "{}"])
def test_caption_that_is_no_text(root: Path, caption: str) -> None:
    refused(text(root, f'{{"file": "a.png", "caption": {caption}}}', "captions.jsonl"), "caption is", "line 1")


@pytest.mark.parametrize("line", ["[1]", "{", '{"file": "a", "file": "b"}', "[" * 100_000])
def test_malformed_json(root: Path, line: str) -> None:
    refused(text(root, f'{{"file": "a.png", "caption": "x"}}\n{line}\n', "captions.jsonl"), "captions.jsonl, line 2")


@pytest.mark.parametrize("line", ["a.png", "a.png,x,y", 'a.png,"x', 'a.png,"x"y'])
def test_malformed_csv(root: Path, line: str) -> None:
    refused(text(root, f"file,caption\n{line}\n"), "captions.csv, line 2")


@pytest.mark.parametrize("header", ["", "file,caption,caption"])
def test_malformed_header(root: Path, header: str) -> None:
    refused(text(root, f"{header}\n"), "captions.csv, line 1")


def test_malformed_parquet(root: Path) -> None:
    refused(text(root, b"PAR1 noise", "captions.parquet"), "Parquet")


def test_truncated_parquet(root: Path) -> None:
    stream = io.BytesIO()
    pd.DataFrame(CAPTIONS).to_parquet(stream)
    refused(text(root, stream.getvalue()[:-20], "captions.parquet"), "Parquet")


def test_listed_file_that_is_not_there(root: Path) -> None:
    refused(text(root, "file,caption\na.png,x\nnope.png,y\n"), "'nope.png' does not exist", "captions.csv, line 3")


@pytest.mark.parametrize("name", ["sub", "x" * 300])
def test_listed_name_that_is_no_file(root: Path, name: str) -> None:
    refused(text(root, f"file,caption\n{name},x\n"), name)


@pytest.mark.parametrize("name", ["../secret.png", "sub/../../secret.png", "/etc/passwd", "sub/../a.png", "a\0.png"])
def test_paths_that_are_not_plain(root: Path, name: str) -> None:
    (root.parent / "secret.png").write_bytes((root / "a.png").read_bytes())
    refused(text(root, f"file,caption\n{name},x\n"), "plain relative path", "captions.csv, line 2")


def test_link_out_of_the_folder(root: Path) -> None:
    secret = root.parent / "secret.png"
    secret.write_bytes((root / "a.png").read_bytes())
    (root / "link.png").symlink_to(secret)
    refused(text(root, "file,caption\nlink.png,x\n"), "leaves the folder", "line 2")


def test_linked_folder_out_of_the_folder(root: Path) -> None:
    (root.parent / "other").mkdir()
    (root.parent / "other" / "d.png").write_bytes((root / "a.png").read_bytes())
    (root / "other").symlink_to(root.parent / "other")
    refused(text(root, "file,caption\nother/d.png,x\n"), "leaves the folder")


def test_table_that_is_a_link_out_of_the_folder(root: Path) -> None:
    text(root.parent, "file,caption\na.png,x\n")
    (root / "captions.csv").symlink_to(root.parent / "captions.csv")
    refused(root, "leaves the folder")


def test_link_loop(root: Path) -> None:
    (root / "loop.png").symlink_to("loop.png")
    refused(text(root, "file,caption\nloop.png,x\n"), "loop.png")


def test_same_file_and_caption_twice_is_one_sample(root: Path) -> None:
    opened = Folder(text(root, "file,caption\na.png,x\n./a.png,x\na.png,y\n"))
    assert [(sample.picture, sample.caption) for sample in opened.samples] == [("a.png", "x"), ("a.png", "y")]


def test_same_file_and_label_twice_is_one_sample(root: Path) -> None:
    assert len(Folder(text(root, "file,label\na.png,x\na.png,x\n", "labels.csv")).samples) == 1


def test_white_space_around_a_label_is_no_part_of_it(root: Path) -> None:
    table = "file,label\na.png,zero\nb.jpg,zero \nsub/c.png,\u00a0 one\n"
    opened = Folder(text(root, table, "labels.csv"))
    assert opened.classes is not None and opened.classes.names == ("one", "zero")
    assert [sample.label for sample in opened.samples] == [1, 1, 0]


@pytest.mark.parametrize("other", ["Hot dog", "hot  dog", "\uff48ot dog", "HOT DOG", "hot\u00a0dog"])
def test_labels_that_read_alike_are_refused_by_both_names(root: Path, other: str) -> None:
    made = text(root, f"file,label\na.png,hot dog\nb.jpg,{other}\n", "labels.csv")
    refused(made, "'hot dog'", repr(other), "case, Unicode form or white space", "labels.csv")


def test_labels_with_other_letters_are_two_classes(root: Path) -> None:
    opened = Folder(text(root, "file,label\na.png,resume\nb.jpg,r\u00e9sum\u00e9\nsub/c.png,hotdog\n", "labels.csv"))
    assert opened.classes is not None and len(opened.classes.names) == 3


@pytest.mark.parametrize(
    "line",
    [
        "lambda c: f'a photo of a {}.',",
        "'a photo of a {}.',",
        '"a {}"',
        "['a {}',",
        "'a {}'],",
        "f'a {}',",
    ],
)
def test_templates_that_are_python_source(root: Path, line: str) -> None:
    made = text(root, "file,label\na.png,x\nb.jpg,y\n", "labels.csv")
    (made / "templates.txt").write_text(f"a {{}}\n    {line}\n")
    refused(made, "Python source", "templates.txt, line 2")


@pytest.mark.parametrize("line", ["a photo of a {}'s tail", '"{}" in words', "a sign that says '{}'.", "lambda {}"])
def test_quotes_inside_a_template_are_its_own(root: Path, line: str) -> None:
    made = text(root, "file,label\na.png,x\nb.jpg,y\n", "labels.csv")
    (made / "templates.txt").write_text(f"{line}\n")
    opened = Folder(made)
    assert opened.classes is not None and opened.classes.templates == (line,)


def test_two_labels_of_one_file(root: Path) -> None:
    refused(text(root, "file,caption,label\na.png,x,cat\na.png,y,dog\n"), "two labels", "'cat' and 'dog'")


@pytest.mark.parametrize("content", ["", "a photo\n", "{} and {}\n"])
def test_malformed_templates(root: Path, content: str) -> None:
    _csv(root / "labels", [{"file": "a.png", "label": "x"}])
    refused(text(root, content, "templates.txt"), "template", "templates.txt")


def test_file_that_changed_after_opening(root: Path) -> None:
    _csv(root / "captions", CAPTIONS)
    folder = Folder(root)
    (root / "a.png").write_bytes((root / "sub" / "c.png").read_bytes())
    with pytest.raises(DataError, match="changed"):
        folder.image(0)
    (root / "a.png").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        folder.image(0)
