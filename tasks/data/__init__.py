"""Calibration and evaluation data: sources opened by name, and the checks a set has to pass before it is used."""

from __future__ import annotations

from pathlib import Path

from artifacts.errors import ConfigError, DataError, DataNotFound, DataOverlap, DegenerateData, TooFewSamples
from tasks.data.base import Dataset, Role, Source

_SHOWN = 5


def open_dataset(spec: str, role: Role, limit: int | None = None, columns: str | None = None) -> Source:
    """Open a source: `digits` (built in), `datasets:PLACE[:SPLIT]`, `wds:PLACE[:SPLIT]`, or a folder.

    `limit` keeps a seeded draw of that many samples. `columns` chooses columns of a table, such as
    `image=jpg,label=fine_label`.

    Raises:
        ConfigError: a limit below 1, a malformed `datasets:` or `wds:` source, or columns of a source without any.
        DataNotFound: there is no source of that name.
        DataError: the source is malformed, or a name of it is not UTF-8.
    """
    dataset = _opened(spec, role, limit, columns)
    _refuse_names_that_are_not_utf_8(dataset)
    return dataset


def _opened(spec: str, role: Role, limit: int | None, columns: str | None) -> Source:
    from tasks.data import wds_source
    from tasks.data.columns import BY_NAME, parse_columns
    from tasks.data.hf_source import PREFIX, is_saved_folder

    if limit is not None and limit < 1:
        raise ConfigError(f"a limit of {limit} samples", expected="a whole number of at least 1, or no limit")
    chosen = parse_columns(columns)
    if spec == "digits":
        from tasks.data.digits import Digits

        return Digits(role, limit)
    folder = _folder(spec)
    if spec.startswith(PREFIX) or (folder is not None and is_saved_folder(folder)):
        from tasks.data.hf import HfDataset

        return HfDataset(spec, limit, chosen)
    if spec.startswith(wds_source.PREFIX) or (folder is not None and wds_source.is_webdataset(folder)):
        from tasks.data.webdataset import WebDataset

        if chosen != BY_NAME:
            raise ConfigError(
                "shards have no columns to choose from",
                where=spec,
                expected="a table or a set of the datasets library",
                fix="leave --columns out; a file of parameters has `columns` for each source",
            )
        return WebDataset(spec, limit)
    if folder is not None:
        from tasks.data.folder import Folder

        return Folder(folder, limit, chosen)
    whole, split, _ = spec.rpartition(":")
    raise DataNotFound(
        f"no data source {spec!r}",
        expected="digits, an existing folder of images or shards, or datasets:FOLDER_OR_HUB_ID[:SPLIT], or wds:...",
        fix=f"a split is named with a prefix: {PREFIX}{spec}" if split and _folder(whole) else "check the path",
    )


def _refuse_names_that_are_not_utf_8(dataset: Source) -> None:
    """Raise DataError for a name that no table or report could hold: of a file, a folder, or in an archive."""
    names = [dataset.source, *(dataset.classes.names if dataset.classes else ()), *(one.id for one in dataset.samples)]
    try:
        "".join(names).encode()
    except UnicodeEncodeError as error:
        from tasks.data.captions import is_unicode

        other = next(name for name in names if not is_unicode(name))
        raise DataError(
            f"the name {other!r} is not UTF-8",
            where=dataset.source,
            expected="names of files and folders in UTF-8",
            fix="rename it; for many names there is `convmv`",
        ) from error


def check_enough(dataset: Dataset, minimum: int = 8) -> None:
    """Raise TooFewSamples when the set has fewer samples than a sound result needs."""
    found = len(dataset.samples)
    if found < minimum:
        raise TooFewSamples(
            "the data set is empty" if found == 0 else f"the data set has only {found} of {minimum} samples",
            where=dataset.source,
            expected=f"at least {minimum} samples; some hundreds are usual",
            fix="add samples or raise the limit",
        )


def check_distinct(dataset: Dataset) -> None:
    """Raise DegenerateData when all images are one image, or all captions of a set without classes are one caption.

    The ranges measured on such a set say nothing about real inputs. With classes, captions are class names, and
    one class may be all there is.
    """
    samples = dataset.samples
    if len(samples) < 2:
        return
    same_image = len({sample.image_hash for sample in samples}) == 1
    same_caption = dataset.classes is None and len({sample.caption for sample in samples}) == 1
    if same_image or same_caption:
        raise DegenerateData(
            f"all {len(samples)} {'images' if same_image else 'captions'} are identical",
            where=dataset.source,
            expected="samples that differ, as the inputs of the deployed model will",
            fix="use a sample of real inputs",
        )


def check_classes(evaluation: Dataset) -> None:
    """Raise DegenerateData when a labelled set to evaluate on has samples of one class only: any answer that is always
    the same scores 100 % or 0 %."""
    if evaluation.classes is None:
        return
    found = {sample.label for sample in evaluation.samples if sample.label is not None}
    if len(found) == 1:
        raise DegenerateData(
            f"all {len(evaluation.samples)} samples are of one class, {evaluation.classes.names[found.pop()]!r}",
            where=evaluation.source,
            expected="samples of at least two classes",
            fix="add samples of other classes, or raise the limit",
        )


def check_disjoint(calibration: Dataset, evaluation: Dataset) -> None:
    """Raise DataOverlap when an image of the evaluation set was also calibrated on."""
    check_unseen({sample.image_hash for sample in calibration.samples}, evaluation, calibration.source)


def check_unseen(calibrated: set[str], evaluation: Dataset, where: str) -> None:
    """Raise DataOverlap when an image hash of the evaluation set is in `calibrated`; `where` is their origin."""
    shared = [sample.id for sample in evaluation.samples if sample.image_hash in calibrated]
    if shared:
        raise DataOverlap(
            f"{len(shared)} of {len(evaluation.samples)} evaluation samples are calibration samples too: "
            f"{', '.join(shared[:_SHOWN])}{', ...' if len(shared) > _SHOWN else ''}",
            where=f"{where} and {evaluation.source}",
            expected="no image in both sets",
            fix="remove the shared images from one of the sets",
        )


def _folder(spec: str) -> Path | None:
    """The folder a spec names, or None; a text that cannot be a path (too long, NUL) names nothing."""
    try:
        return Path(spec) if spec and Path(spec).is_dir() else None
    except (OSError, ValueError):
        return None
