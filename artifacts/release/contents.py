"""Whether the files of a release agree with its manifest: checked before anything reads them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from artifacts import array_files, parquet_files, places
from artifacts.errors import ReleaseDiffers
from artifacts.manifest import Manifest, ReleaseFile
from artifacts.release import evidence
from artifacts.release.identity import pickle_content
from artifacts.schema import number, present

_ROUNDED = 1e-6  # cosines are kept with seven digits
_CHUNK = 4096  # rows
_TABLES = f"{places.TABLES}/"


PathOf = Callable[[ReleaseFile], Path]


def check_contents(manifest: Manifest, path_of: PathOf) -> None:
    """Check tables, arrays, evidence and pickles of a release; the caller has checked the digests of their bytes.

    Cosines must follow from the embeddings, and the table's mean and least cosine from the cosines. The accuracy
    table's other figures (top-1, recalls, intervals) are not computed again here, and graphs are not opened.

    Raises:
        ReleaseDiffers: something does not follow from the rest; the message names it.
        TableError: a file is not what clipsmith writes, or would take more room than ours do.
    """
    tables = {file.path for file in manifest.files if file.path.startswith(_TABLES)}
    if odd := sorted(tables - {f"{_TABLES}{name}.parquet" for name in present(manifest.tables)}):
        raise _differs(manifest, odd[0], "of no table of its manifest")
    seen: set[tuple[str, str, str]] = set()
    series: dict[str, list[float]] = {}
    for file in manifest.files:
        table = file.path.removeprefix(_TABLES).removesuffix(".parquet") if file.path in tables else None
        form = next((suffix for suffix in (".parquet", ".npy") if file.path.endswith(suffix)), "")
        if not form and evidence.is_evidence(file.member):
            form = Path(file.member).name
        # A file that has several paths is checked once.
        if (not form and file.content is None) or (key := (file.sha256, form, table or "")) in seen:
            continue
        seen.add(key)
        path, name = path_of(file), f"{manifest.ref}: {file.path}"
        if form == ".parquet":
            parquet_files.check(path, name, table, manifest.tables.get(table or "", ()))
        elif form == ".npy":
            array_files.check(path, name)
        elif form:
            content = evidence.load_json(path, file.member, name)
            series |= content if form == places.COSINES else {}
        elif pickle_content(path) != file.content:
            raise _differs(manifest, file.path, "a pickle of another content than its manifest says")
    _check_cosines(manifest, path_of, series)


def _check_cosines(manifest: Manifest, path_of: PathOf, series: Mapping[str, Sequence[float]]) -> None:
    """Check that the cosines follow from kept embeddings, and the table's mean and minimum from the cosines."""
    for row in manifest.tables.get("accuracy", ()):
        cosines = series.get(f"{row['encoder']} {row['precision']} {row['target']}")
        if not cosines or row["reference"] != "fp32" or row["metric"] not in ("cosine_mean", "cosine_min"):
            continue
        value, found = number(row, "value"), min(cosines)
        if row["metric"] == "cosine_mean":
            found = math.fsum(cosines) / len(cosines)
        if value is None or abs(value - found) > _ROUNDED or row["samples"] != len(cosines):
            raise _differs(manifest, "table accuracy", f"not what its cosines make of {row['metric']}, {found:.7f}")
    files = {file.path: file for file in manifest.files}
    for label, cosines in series.items():
        of = evidence.parse_key(label)
        folders = [places.evidence("embeddings", of.encoder, *which) for which in (of[1:3], ("fp32", "pytorch"))]
        paths = [f"{folder}/{name}" for name in (places.KEYS, places.EMBEDDINGS) for folder in folders]
        if not files.keys() >= set(paths) or files[paths[0]].sha256 != files[paths[1]].sha256:
            continue  # embeddings were not kept, or are of other samples
        if not _follows([path_of(files[path]) for path in paths[2:]], cosines):
            raise _differs(manifest, paths[2], f"not what the cosines of {label[:80]} come from")


def _follows(arrays: Sequence[Path], cosines: Sequence[float]) -> bool:
    """Whether these are the cosines of two tables of embeddings, row by row."""
    import numpy as np

    one, other = (np.load(path, mmap_mode="r", allow_pickle=False) for path in arrays)
    if one.shape != other.shape or len(one) != len(cosines):
        return False
    for start in range(0, len(one), _CHUNK):
        first, second = (array[start : start + _CHUNK].astype(np.float64) for array in (one, other))
        products = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        found = np.sum(first * second, axis=1) / np.where(products == 0, np.nan, products)
        if not np.allclose(found, cosines[start : start + _CHUNK], rtol=0, atol=_ROUNDED):
            return False
    return True


def _differs(manifest: Manifest, path: str, what: str) -> ReleaseDiffers:
    return ReleaseDiffers(
        f"{manifest.ref} is not what it says: {path} is {what}",
        where=path,
        expected="files that follow from the manifest",
        fix="do not use it; ask whoever made it for the release as it was published",
    )
