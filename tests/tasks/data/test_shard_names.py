"""What a member is by its name, in webdataset's reading of a key and in that of keys with dots."""

from __future__ import annotations

import pytest

from tasks.data.shard_names import is_array, is_left_by_macos, take_apart


@pytest.mark.parametrize(
    ("name", "key", "ending", "kind"),
    [
        ("s1.png", "s1", "png", "picture"),
        ("s1.JPEG", "s1", "JPEG", "picture"),
        ("a/b.c/s1.Cls", "a/b.c/s1", "Cls", "class"),
        ("./s1.tif", "./s1", "tif", "picture"),
        ("s1.image.png", "s1", "image.png", "picture"),
        ("s1.input.jpg", "s1", "input.jpg", "picture"),
        ("s1.output.cls", "s1", "output.cls", "class"),
        ("s1.class", "s1", "class", "class"),
        ("s1.cls.txt", "s1", "cls.txt", "class"),
        ("s1.txt", "s1", "txt", "captions"),
        ("s1.caption.txt", "s1", "caption.txt", "captions"),
        ("v1.5_s1.png", "v1.5_s1", "png", "picture"),
        ("v1.5.2_s1.cls.txt", "v1.5.2_s1", "cls.txt", "class"),
        ("s1.json", "s1", None, None),
        ("s1.mask.json", "s1", None, None),
        ("s1.png.txt", "s1.png", "txt", "captions"),
    ],
)
def test_names(name: str, key: str, ending: str | None, kind: str | None) -> None:
    found = take_apart(name)
    assert found is not None
    assert (found.key, found.ending, found.kind) == (key, ending, kind)
    assert f"{found.first_key}.{found.first_ending}" == name


@pytest.mark.parametrize("name", ["README", "a.b/README", ".hidden.png", "a/._s1.png", "s1.", "s1/"])
def test_names_of_no_sample(name: str) -> None:
    assert take_apart(name) is None


@pytest.mark.parametrize(
    ("name", "so"),
    [
        ("._s1.png", True),
        ("a/._s1.png", True),
        ("__MACOSX/a/s1.png", True),
        ("a/.DS_Store", True),
        ("s._1.png", False),
        ("MACOSX/s1.png", False),
    ],
)
def test_files_of_macos(name: str, so: bool) -> None:
    assert is_left_by_macos(name) is so


def test_arrays() -> None:
    assert [is_array(ending) for ending in ("npy", "cls.NPY", "pth", "json", "npy.txt")] == [
        True,
        True,
        True,
        False,
        False,
    ]
