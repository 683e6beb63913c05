"""The meaning of a shard member's name: the key of its sample, and whether it is a picture, a class or captions.

In webdataset a key ends at the first dot of the base name, but people also write keys with dots (`v1.5_s1.png`). Both
are supported: if a name ends in one of the endings below, everything before it is the key.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["picture", "class", "captions"]

_PICTURES = ("webp", "png", "jpg", "jpeg")  # those that CLIP_benchmark reads, in its order
_MORE_PICTURES = ("tif", "tiff", "bmp", "gif", "avif", "jp2", "ppm", "pgm", "jfif")
_INPUTS = ("", "image.", "img.", "input.")
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "picture": tuple(before + suffix for before in _INPUTS for suffix in (*_PICTURES, *_MORE_PICTURES)),
    "class": (
        *("cls", "class", "label", "cls.txt", "class.txt", "label.txt"),
        *(f"{before}.{after}" for before in ("output", "target") for after in ("cls", "class")),
    ),
    "captions": ("txt", "text", "caption", "captions", "caption.txt", "captions.txt", "text.txt", "output.txt"),
}
"""The endings of each kind, in lower case; if a sample has several, the first one is used."""
_KIND: dict[str, Kind] = {ending: kind for kind, endings in ENDINGS.items() for ending in endings}
_NAME = re.compile(r"(?P<folder>(?:.*/)?)(?P<base>[^./][^/]*\.[^/]+)", re.DOTALL)
_ARRAYS = ("npy", "npz", "pyd", "pkl", "pickle", "pt", "pth", "ten", "tenbin")


class MemberName(NamedTuple):
    """The parts of a member's name: `first_key` and `first_ending` around the first dot; `key` and `ending` around the
    dot before a known ending, if there is one."""

    first_key: str
    first_ending: str
    key: str
    ending: str | None

    @property
    def kind(self) -> Kind | None:
        """The kind of the member; None if its ending is not known."""
        return None if self.ending is None else _KIND[self.ending.lower()]


def take_apart(name: str) -> MemberName | None:
    """The parts of a name; None if the base name has no dot or begins with one, so that it belongs to no sample."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    folder, base = match["folder"], match["base"]
    first, _, rest = base.partition(".")
    for place in [place for place, character in enumerate(base) if character == "."][-2:]:
        if base[place + 1 :].lower() in _KIND:
            return MemberName(folder + first, rest, folder + base[:place], base[place + 1 :])
    return MemberName(folder + first, rest, folder + first, None)


def is_left_by_macos(name: str) -> bool:
    """Whether macOS added this member: AppleDouble (`._x`), `__MACOSX` or `.DS_Store`."""
    *folders, base = name.split("/")
    return base.startswith("._") or base == ".DS_Store" or "__MACOSX" in folders


def is_array(ending: str) -> bool:
    """Whether a member holds an array or a pickle, in which multi-label sets keep their labels."""
    return ending.lower().rpartition(".")[2] in _ARRAYS
