"""Printing what copying releases did."""

from __future__ import annotations

from pathlib import Path

from artifacts import number_words as words
from artifacts.copies.replica import Copied
from artifacts.manifest import Manifest
from deployments.printing.console import stdout


def print_packed(manifest: Manifest, file: Path, size: int) -> None:
    """Print the path and the size of an archive."""
    stdout().say(f"{manifest.ref}: {words.megabytes(size)} in {file}")


def print_arrived(ref: str, new: bool) -> None:
    """Print whether the release was new."""
    stdout().say((ref, "bold"), " (new)" if new else " (unchanged: it was here before)")


def print_copied(ref: str, copied: Copied) -> None:
    """Print the counts of a push or pull."""
    new = "new release" if copied.release else "release known already"
    text = f": {new}; {words.counted(copied.files, 'file')} copied ({words.megabytes(copied.bytes)})"
    text += f", {copied.skipped_files} there already ({words.megabytes(copied.skipped_bytes)})"
    if copied.signatures:
        text += f", {words.counted(copied.signatures, 'new signature')}"
    stdout().say((ref, "bold"), text)
