"""Classes by number or name, and captions, one a line: right, or refused with the reason."""

from __future__ import annotations

import pytest

from artifacts.errors import DataError
from tasks.data.shard_texts import places_of, read_captions, read_class

NAMES = places_of(("cat", "dog", "", "Caf\u00e9", "dog", "10"))


@pytest.mark.parametrize(
    ("data", "label"),
    [
        (b"3", 3),
        (b" 3\r\n", 3),
        (b"+3", 3),
        (b"-1", -1),
        (b"3.0", 3),
        (b"3.", 3),
        (b"3.000000e+00", 3),
        (b"\xef\xbb\xbf3", 3),
        (b"cat\n", 0),
        ("Cafe\u0301".encode(), 3),
        (b"10", 10),
    ],
)
def test_a_class(data: bytes, label: int) -> None:
    assert read_class(data, "0.tar, s1.cls", NAMES) == label


def test_names_match_in_either_unicode_form() -> None:
    decomposed = places_of(("cat", "Cafe\u0301"))
    assert {read_class(text.encode(), "s1.cls", decomposed) for text in ("Caf\u00e9", "Cafe\u0301")} == {1}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is not a class"),
        (b"3.5", "is not a class"),
        (b"Cat", "is not a class"),
        (b'{"label": 3}', "is not a class"),
        (b"\x80\x04K\x03.", "is not a class"),
        (b"dog", "two classes have the name 'dog'"),
        (b"1 2", "several, as a multi-label set"),
        (b"[0, 1, 0]", "several, as a multi-label set"),
        (b"1\n2", "several, as a multi-label set"),
    ],
)
def test_no_class(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_class(data, "0.tar, s1.cls", NAMES)
    assert caught.value.where == "0.tar, s1.cls"


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        ("a cat", ("a cat",)),
        ("a cat\r\na tabby\r\n\r\n", ("a cat", "a tabby")),
        ("a cat\na cat \na dog\n \n\u3000\n", ("a cat", "a dog")),
        ("\ufeffa cat\n", ("a cat",)),
        ("\u732b\u3000\u72ac\n\u732b", ("\u732b\u3000\u72ac", "\u732b")),
        ("", ()),
        ("\n \n", ()),
    ],
)
def test_captions(text: str, captions: tuple[str, ...]) -> None:
    assert read_captions(text.encode(), "s1.txt") == captions


@pytest.mark.parametrize(
    ("data", "reason", "fix"),
    [
        ("a cat\ncaf\u00e9".encode("latin1"), "as Latin-1 it reads 'a cat.*caf\u00e9'", "iconv -f latin1"),
        ("caf\u00e9".encode("utf-16"), "as UTF-16 it reads", "iconv -f utf-16"),
    ],
)
def test_captions_in_another_encoding(data: bytes, reason: str, fix: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_captions(data, "s1.txt")
    assert fix in (caught.value.fix or "")


def test_a_blank_line_before_a_caption() -> None:
    with pytest.raises(DataError, match=r"s1\.txt, line 2"):
        read_captions(b"a\n\nb", "s1.txt")
