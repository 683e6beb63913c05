"""The table of exit codes: what the docs say is what the code says, and every error has its place in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from artifacts import errors
from artifacts.errors import ClipsmithError
from artifacts.exit_codes import MEANINGS, ExitCode

PAGE = Path(__file__).parents[2] / "docs" / "exit-codes.md"
CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, ClipsmithError)]
WRONG_INPUT = {
    *(
        "ConfigError",
        "UnknownTarget",
        "UnknownRecipe",
        "ProfileError",
        "BadName",
        "KeyUnusable",
        "PrefectMisconfigured",
    ),
    *("CheckpointError", "CheckpointNotFound", "NotClip", "UnsupportedVariant", "MissingEncoder", "UnsafeCheckpoint"),
    *("BadWeights", "DataError", "DataNotFound", "TooFewSamples", "DegenerateData", "CaptionTooLong", "DataOverlap"),
    *("EngineUnavailable", "Fp8Unavailable", "NotAStore", "StoreReadOnly", "UnsupportedFileSystem", "NotARelease"),
    "StoreOpenToOthers",
    *(
        "ReleaseNotFound",
        "AmbiguousReference",
        "AliasNotFound",
        "NothingToRollBack",
        "ExportTargetExists",
        "BadArchive",
    ),
}
"""Told before anything is computed. What may pass by itself, or is found in the middle of the work, is FAILED."""
GATE = {"GateFailed", "NoRecipe", "ReleaseRejected"}


def test_the_page_shows_the_table() -> None:
    rows = re.findall(r"^\| (\d) \| (.+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert rows == [(str(int(code)), MEANINGS[code]) for code in ExitCode]


def test_the_codes() -> None:
    assert [(code.name, int(code)) for code in ExitCode] == [
        ("DONE", 0),
        ("FAILED", 1),
        ("WRONG_INPUT", 2),
        ("GATE", 3),
    ]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_has_its_code(error: type[ClipsmithError]) -> None:
    name = error.__name__
    expected = ExitCode.WRONG_INPUT if name in WRONG_INPUT else ExitCode.GATE if name in GATE else ExitCode.FAILED
    assert error.exit_code is expected


def test_the_lists_name_no_class_that_is_gone() -> None:
    assert {error.__name__ for error in CLASSES} >= WRONG_INPUT | GATE
