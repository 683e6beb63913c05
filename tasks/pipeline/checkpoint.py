"""Step 1: resolve a model id or folder to a pinned snapshot, and refuse what cannot be trusted or is not CLIP."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prefect import task

from artifacts import limits, places
from artifacts.config_files import read_file
from artifacts.errors import (
    BadWeights,
    CheckpointChanged,
    CheckpointError,
    ConfigError,
    ObjectDamaged,
    ObjectMissing,
    UnsafeCheckpoint,
)
from artifacts.manifest import Manifest
from artifacts.names import model_name_from
from artifacts.records import read_bytes
from artifacts.refs import ArtifactRef, FileEntry, digest_file, digest_json
from artifacts.store import signatures
from artifacts.store.store import Store, active_store
from tasks.checkpoints.describing import OWN_FILES, adapter_found, describe, refuse_pickles, weight_files
from tasks.checkpoints.elsewhere import pinned_elsewhere
from tasks.checkpoints.hub_name import typed_name
from tasks.checkpoints.locating import BESIDES_WEIGHTS, CONFIGS, locate, names_at_hub
from tasks.checkpoints.model_name import folder_name
from tasks.checkpoints.preprocess import save_preprocess
from tasks.checkpoints.snapshot import AMAX_FILE, STATE_FILE, PinnedFile, Snapshot, sound_config
from tasks.checkpoints.tokenizer_costs import refuse_costly, refuse_costly_pieces
from tasks.clip.base import ImageSize
from tasks.clip.hugging_face import ClipFamily, encoder_prefixes
from tasks.clip.limits import TOKENIZER, check_files, check_numbers
from tasks.clip.weights import WeightReader
from tasks.families import family_named
from tasks.openclip.tokenizer import tokenizer_place
from tasks.quantizing.recipe import Recipe, owner_of
from tasks.runs.steps import StepOutput, cached_step, measured

if TYPE_CHECKING:
    from torch import nn

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")
_ADAPTER = re.compile(r"\blora(?:_|\b)|\.base_layer\.|\.modules_to_save\.|\b(?:ia3|oft|boft|hada|lokr|vera)_")
_UNSAFE_SWITCH = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"


class CheckedCheckpoint(StepOutput):
    """A snapshot whose tensors are complete and finite; `preprocess` is its tokenizer and image processor.

    `notes` say what in the files was left out or changed, one line each.
    """

    preprocess: ArtifactRef
    tensors: int
    parameters: int
    notes: tuple[str, ...] = ()


# --- resolve ---------------------------------------------------------------------------------------------------------


def resolve(
    model: str, revision: str | None, store: Store, name: str | None = None, image_size: ImageSize | None = None
) -> Snapshot:
    """Find `model` (`demo`, a folder, or a Hugging Face id at `revision`) and pin its content.

    `name` is the model's name in the store; by default it follows from `model`. `image_size` is for models that leave
    it open; None means the size that their position embeddings are stored for.

    Raises:
        ConfigError: `image_size` for a model that has its own, or one that is not made of whole patches.
        CheckpointNotFound: neither a folder nor a reachable hub id; or `revision` given for a folder.
        UnsafeCheckpoint: pickled weights only, a foreign ModelOpt state, or torch's safe loading switched off.
        NotClip, MissingEncoder: not a two-encoder model of a known family.
    """
    if os.environ.get(_UNSAFE_SWITCH, "").lower() in ("1", "y", "yes", "true"):
        raise UnsafeCheckpoint(f"{_UNSAFE_SWITCH} is set: torch would unpickle anything", fix=f"unset {_UNSAFE_SWITCH}")
    model = typed_name(model)
    folder, kind, commit = locate(model, revision, weights=False)
    if kind == "hub":  # refuse it before gigabytes of weights are fetched
        describe(folder, image_size, weights=False)
        if (names := names_at_hub(model, commit)) is not None:
            refuse_pickles(names, f"{model} at {commit}")
        folder, kind, commit = locate(model, commit)
    family, config, chosen = describe(folder, image_size)
    files = _pin(folder)
    digest = digest_json([*([file.path, file.sha256] for file in files), *pinned_elsewhere(config)])
    default = folder_name(folder) if kind == "folder" else model_name_from(model)
    parent: Manifest | None = None
    if (folder / STATE_FILE).exists():
        parent, vouched = _publisher(folder, files, store)
        kind, default = "published", parent.model
        if not vouched:
            files = tuple(file for file in files if file.path != STATE_FILE)
    return Snapshot(
        kind=kind,
        name=model,
        model=name or default,
        folder=str(folder),
        revision=commit or digest,
        digest=digest,
        family=family.name,
        stored_config=config,
        files=files,
        parents=() if parent is None else (parent.identity,),
        calibration=None if parent is None else parent.provenance.calibration,
        image_size=chosen,
    )


def _pin(folder: Path) -> tuple[PinnedFile, ...]:
    found = (path for pattern in BESIDES_WEIGHTS for path in folder.glob(pattern) if path.is_file())
    besides = [path for path in found if _PLAIN_NAME.fullmatch(path.name)]
    paths = sorted({*weight_files(folder), *besides})
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        digests = list(pool.map(digest_file, paths))
    return tuple(_pinned(path, digest) for path, digest in zip(paths, digests, strict=True))


def _pinned(path: Path, digest: str) -> PinnedFile:
    stat = path.stat()
    return PinnedFile(path=path.name, sha256=digest, size=stat.st_size, inode=stat.st_ino, mtime_ns=stat.st_mtime_ns)


def _publisher(folder: Path, files: tuple[PinnedFile, ...], store: Store) -> tuple[Manifest, bool]:
    """The release that recorded exactly this checkpoint, and whether this store vouches for it.

    `modelopt_state.pth` is a pickle. It is passed on only if a release that was made or signed in this store records
    its digest. Anyone could have written other records, such as the manifest beside an exported checkpoint: those only
    say which release this is, and the state is made again from the weights and the recorded amax.
    """
    digests = {places.within(places.CHECKPOINT, file.path): file.sha256 for file in files}

    def recorded_by(manifest: Manifest) -> bool:
        recorded = {file.path: file.sha256 for file in manifest.files}
        return all(recorded.get(path) == digest for path, digest in digests.items())

    known = [manifest for manifest in store.readable() if recorded_by(manifest)]
    for manifest in known:
        if signatures.vouched(store, manifest):
            return manifest, True
    for manifest in (*known, *filter(recorded_by, _exported_manifest(folder))):
        return manifest, False
    raise UnsafeCheckpoint(
        f"{STATE_FILE} is a pickle that no release vouches for",
        where=folder / STATE_FILE,
        expected="a checkpoint folder as `clipsmith export` wrote it, unchanged",
        fix=f"delete {STATE_FILE} to quantize the weights afresh, or give the --store that published it",
    )


def calibrated_on(snapshot: Snapshot, store: Store) -> set[str]:
    """The hashes of the images that a published checkpoint was calibrated on, from the lists in its release, in this
    store or beside the checkpoint; empty if there are none."""
    ours = [manifest for manifest in store.readable() if manifest.identity in snapshot.parents]
    paths = [store.read(manifest, path) for manifest in ours for path in calibration_samples(manifest)]
    for manifest in _exported_manifest(snapshot.root):
        exported = (snapshot.root.parent / path for path in calibration_samples(manifest))
        paths += [path for path in exported if path.is_file()]
    return image_hashes(paths)


def image_hashes(paths: Iterable[Path]) -> set[str]:
    """The hashes of the pictures in these `samples.parquet` files."""
    import pandas as pd

    return {digest for path in paths for digest in pd.read_parquet(path)["image_hash"]}


def calibration_samples(manifest: Manifest) -> list[str]:
    """The paths of a release's files that list its calibration samples."""
    files = manifest.files
    return [file.path for file in files if file.kind == "calibration" and file.member == places.SAMPLES]


def _exported_manifest(folder: Path) -> Iterator[Manifest]:
    path = folder.parent / places.MANIFEST
    if folder.name == places.CHECKPOINT and path.is_file():
        yield Manifest.from_bytes(read_bytes(path, limits.MANIFEST), where=path)


# --- check -----------------------------------------------------------------------------------------------------------


def check(snapshot: Snapshot) -> CheckedCheckpoint:
    """Check that the tensors match the configuration and are finite, and keep tokenizer and image processor.

    Raises:
        BadWeights: missing, extra, misshapen, NaN or Inf tensors; the message names the first and counts them.
        CheckpointError: no usable configuration, tokenizer or image processor.
    """
    with measured() as meter:
        folder = snapshot.open_folder()
        family = family_named(snapshot.family)
        check_json(snapshot)
        reader = snapshot.weights()
        expected, weight_notes = check_names(snapshot, reader)
        for name in expected:
            _check_finite(name, reader, folder)
        store = active_store()
        with store.staging() as staging:
            notes = save_preprocess(folder, family, snapshot.config, staging)
            preprocess = store.add(places.PREPROCESS, staging)
    return CheckedCheckpoint(
        preprocess=preprocess,
        tensors=len(expected),
        parameters=sum(math.prod(shape) for shape in expected.values()),
        notes=(*weight_notes, *notes),
        stats=meter.stats,
    )


def check_names(snapshot: Snapshot, reader: WeightReader) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """Check that all of the model's tensors are there; return their shapes by name, and notes on the others.

    No values are read.

    Raises:
        BadWeights: tensors are missing, of another shape, or would change embeddings and are not part of the model.
        UnsupportedVariant: there are tensors of an adapter.
    """
    model = _empty_model(snapshot)
    odd = family_named(snapshot.family).odd_tensors(snapshot.config, reader.stored)
    if odd is not None:
        raise BadWeights(
            odd,
            where=snapshot.root,
            expected="the tensors that the configuration describes",
            fix="check that weights and configuration belong together",
        )
    expected = _expected_tensors(snapshot, model, reader)
    unused = _check_names(reader, expected, _unused_by(family_named(snapshot.family), model), snapshot.root)
    return expected, list(_weight_notes(reader, unused))


def _weight_notes(reader: WeightReader, unused: list[str]) -> Iterator[str]:
    if reader.prefix:
        yield f"every tensor's name begins with {reader.prefix}, which is left out"
    if unused:
        yield f"tensors that transformers' model does not have are left out: {len(unused)}, such as {unused[0]}"


def check_json(snapshot: Snapshot) -> None:
    """Check the JSON files strictly: libraries silently use one of two equal keys, and not all of them the same one.

    Raises:
        CheckpointError: a file of the model, tokenizer or image processor is not sound JSON, or is too large.
    """
    size = family_named(snapshot.family).vocabulary(snapshot.config)
    folders = {snapshot.root, tokenizer_place(snapshot.root, snapshot.stored_config)}
    for place in folders:
        check_files(place)
    for path in sorted({path for place in folders for pattern in BESIDES_WEIGHTS for path in place.glob(pattern)}):
        if path.suffix == ".json":
            parse = partial(check_numbers, where=path) if path.name in CONFIGS else partial(refuse_costly, path, size)
            read_file(path, parse, what=path.name, error=CheckpointError, fix=OWN_FILES, limit=TOKENIZER)
        elif path.suffix in (".model", ".spm"):
            refuse_costly_pieces(path, size)


def _empty_model(snapshot: Snapshot) -> nn.Module:
    import torch

    with sound_config(snapshot.family, snapshot.root), torch.device("meta"):
        return family_named(snapshot.family).build(snapshot.config)


def _expected_tensors(snapshot: Snapshot, model: nn.Module, reader: WeightReader) -> dict[str, tuple[int, ...]]:
    """The shapes of tensors that embeddings need, and of the model's other tensors that are there (such as the loss's
    scale, which may be missing)."""
    family = family_named(snapshot.family)
    with sound_config(snapshot.family, snapshot.root):
        used = encoder_prefixes(family, snapshot.config)
    tensors = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return {name: shape for name, shape in tensors.items() if name.startswith(used) or name in reader}


def _unused_by(family: ClipFamily, model: nn.Module) -> Callable[[str], bool]:
    """A function that says whether an unexpected tensor may be left out."""
    modules = {name for name, _ in model.named_modules()}
    return lambda name: _harmless(name) or family.ignores(name, modules)


def _check_names(
    reader: WeightReader, expected: dict[str, tuple[int, ...]], unused: Callable[[str], bool], folder: Path
) -> list[str]:
    """Check the tensors' names; return those that are left out, except index buffers and quantizers."""
    adapters = [name for name in reader if _ADAPTER.search(name)]
    if adapters:
        raise adapter_found(f"{len(adapters)} tensors belong to a PEFT adapter, the first is {adapters[0]}", folder)
    missing = [name for name in expected if name not in reader]
    others = [name for name in reader if name not in expected]
    extra = [name for name in others if not unused(name)]
    wrong = [name for name, shape in expected.items() if name in reader and reader.shape(name) != shape]
    elsewhere = next((name for name in others if missing and name.endswith(f".{missing[0]}")), None)
    if elsewhere is not None:
        raise BadWeights(
            f"{len(missing)} tensors are missing, the first is {missing[0]}; there is only {elsewhere}",
            where=folder,
            expected="the names that transformers' model has, or one of the usual prefixes before all of them",
            fix=f"save the model without what wraps it, or drop {elsewhere.removesuffix(missing[0])} from the names",
        )
    for problem, names in (("missing", missing), ("not part of the model", extra), ("of another shape", wrong)):
        if names:
            raise BadWeights(
                f"{len(names)} tensors are {problem}, the first is {names[0]}",
                where=folder,
                expected="the tensors that config.json describes",
                fix="check that weights and config.json belong together",
            )
    return [name for name in others if not _harmless(name)]


def _harmless(name: str) -> bool:
    """Whether a tensor is an index buffer of an old checkpoint, or an amax buffer of a ModelOpt checkpoint."""
    return name.endswith(("position_ids", "token_type_ids")) or "_quantizer." in name


def _check_finite(name: str, reader: WeightReader, folder: Path) -> None:
    bad = sum(rows.size - int(np.isfinite(rows).sum()) for _, rows in reader.parts(name))
    if bad:
        raise BadWeights(
            f"tensor {name} has {bad} NaN or Inf values of {math.prod(reader.shape(name))}",
            where=folder,
            expected="finite weights",
            fix="train or download the checkpoint again",
        )


def check_recipe(snapshot: Snapshot, recipe: Recipe) -> None:
    """Refuse a recipe that does not quantize everything that a published checkpoint quantizes.

    Raises:
        ConfigError.
    """
    import pandas as pd

    names = pd.read_parquet(snapshot.root / AMAX_FILE)["quantizer"]
    foreign = [name for name in names if recipe.rule_for(name, owner_of(name)) is None]
    if foreign:
        raise ConfigError(
            f"the checkpoint was calibrated for another recipe: {recipe.name!r} leaves {foreign[0]} off",
            where=snapshot.root,
            fix="give the --recipe that made the checkpoint, or start from the original weights",
        )


def keep_published(snapshot: Snapshot) -> ArtifactRef:
    """Copy a published checkpoint folder into the store unchanged."""
    store = active_store()
    entries = [FileEntry(path=file.path, sha256=file.sha256, size=file.size) for file in snapshot.files]
    ref = ArtifactRef.of(places.CHECKPOINT, entries)
    try:
        store.check(ref)
    except (ObjectMissing, ObjectDamaged):
        with store.staging() as staging:
            for file in snapshot.files:
                shutil.copyfile(snapshot.root / file.path, staging / file.path)
            if store.add(places.CHECKPOINT, staging) != ref:  # compared by digest, not by size and times
                raise CheckpointChanged(
                    "the checkpoint changed while it was being used",
                    where=snapshot.root,
                    fix="run again once it is complete",
                ) from None
    return ref


# --- tasks -----------------------------------------------------------------------------------------------------------


@task(name="resolve", persist_result=False)
def resolve_task(model: str, revision: str | None, name: str | None, image_size: ImageSize | None) -> Snapshot:
    """Not cached: a name can mean another content tomorrow."""
    return resolve(model, revision, active_store(), name, image_size)


check_task = cached_step("check", version=5, packages=("transformers", "tokenizers"))(check)
# Uncached: it only copies what is not in the store yet.
keep_published_task = task(name="keep-published", persist_result=False)(keep_published)
