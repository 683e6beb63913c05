"""Identifying the model in a folder by its configuration and the names of its files, and finding its weight files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artifacts.config_files import SOUND_JSON, mapping, read_file
from artifacts.errors import BadWeights, NotClip, UnsafeCheckpoint, UnsupportedVariant
from tasks.checkpoints.elsewhere import with_tokenizer
from tasks.checkpoints.locating import ADAPTERS, INDEX, SINGLE
from tasks.checkpoints.snapshot import sound_config
from tasks.clip.base import ImageSize
from tasks.clip.hugging_face import ClipFamily
from tasks.clip.limits import CONFIG, HEADER, check_files, check_numbers
from tasks.families import family_for
from tasks.openclip import identify
from tasks.openclip.document import in_openclip_layout, weights_file

OWN_FILES = "download the checkpoint again, or save it with save_pretrained"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


def describe(
    folder: Path, image_size: ImageSize | None, *, weights: bool = True
) -> tuple[ClipFamily, dict[str, Any], ImageSize | None]:
    """The family of the model in a folder, its stored configuration, and the image size if it was left open.

    Only the names of weight files are checked, and not even those without `weights`, as before a download.

    Raises:
        The errors of `resolve`, except those about the content of weights.
    """
    check_files(folder)
    _refuse_adapters(folder)
    with sound_config("CLIP", folder):
        family, config = _identify(folder, weights=weights)
    if weights:  # refuse before anything is fetched
        refuse_pickles([path.name for path in folder.iterdir()], folder)
    with sound_config(family.name, folder):
        family.refuse_foreign_code(config, where=folder / "config.json")
        config, chosen = family.at_size(config, image_size, where=folder)
    native = in_openclip_layout(folder, weights=weights)
    return family, with_tokenizer(folder, config) if native else config, chosen


def _identify(folder: Path, *, weights: bool) -> tuple[ClipFamily, dict[str, Any]]:
    """The family, and the stored configuration in the form of a `config.json`."""
    if in_openclip_layout(folder, weights=weights):
        return identify(folder)
    config = _read_config(folder)
    check_numbers(config, where=folder / "config.json")
    return family_for(config, where=folder / "config.json"), config


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise _no_config(folder)
    return read_file(path, mapping, what=path.name, error=NotClip, fix=OWN_FILES, limit=CONFIG)


def _no_config(folder: Path) -> NotClip:
    """The error about a folder without config.json. Collections (sentence-transformers, diffusers, training runs) have
    their models in subfolders, which the message names."""
    inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
    if (folder / "model_index.json").is_file():
        return NotClip(
            f"a diffusers pipeline, not a CLIP checkpoint: its encoders are apart ({', '.join(inside[:4]) or 'none'})",
            where=folder,
            expected="a checkpoint with both encoders in one model",
            fix="give the CLIP model that the pipeline's text encoder was taken from",
        )
    if inside:
        return NotClip(
            f"not a CLIP checkpoint: there is no config.json here, but one in {', '.join(inside[:4])}",
            where=folder,
            expected="the folder that save_pretrained wrote",
            fix=f"give {folder / inside[0]}",
        )
    return NotClip(
        "not a CLIP checkpoint: there is no config.json",
        where=folder,
        expected="a folder as save_pretrained writes it",
        fix=OWN_FILES,
    )


def _refuse_adapters(folder: Path) -> None:
    """Refuse a folder with an adapter: it changes what the base computes, and loading the base would ignore it."""
    found = [name for name in ADAPTERS if (folder / name).is_file()]
    if found:
        raise adapter_found(f"there is a PEFT adapter in the folder ({found[0]})", folder)


def adapter_found(what: str, folder: Path) -> UnsupportedVariant:
    """The error about a PEFT adapter that is not merged."""
    return UnsupportedVariant(
        what,
        where=folder,
        expected="weights that hold everything the model has learned",
        fix="merge it first: PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(folder)",
    )


def refuse_pickles(names: Iterable[str], where: Path | str) -> None:
    """Refuse a set of files, in a folder or on the hub, without weights in safetensors.

    Raises:
        UnsafeCheckpoint: there are only pickled weights.
        BadWeights: there are no weights.
    """
    names = sorted(name for name in names if "/" not in name)
    if any(name.endswith(".safetensors") for name in names):
        return
    pickles = [name for name in names if name.endswith(_PICKLES)]
    if pickles:
        raise UnsafeCheckpoint(
            f"the weights are pickles ({', '.join(pickles[:3])}), which run code when they are loaded",
            where=where,
            expected="model.safetensors",
            fix="convert them once in a sandbox: AutoModel.from_pretrained(...).save_pretrained(..., "
            "safe_serialization=True), or take the safetensors revision",
        )
    raise BadWeights("there are no weights", where=where, expected="model.safetensors (or its shards)")


def weight_files(folder: Path) -> list[Path]:
    """The files that the model's library would load: one file, or the shards that an index names."""
    if in_openclip_layout(folder):
        return [weights_file(folder)]
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        others = sorted(path.name for path in folder.glob("*.safetensors"))
        raise BadWeights(
            f"there is no {SINGLE} and no {INDEX}, only {', '.join(others[:3]) or 'other files'}",
            where=folder,
            expected=f"{SINGLE}, or shards and their index",
            fix=f"rename the file to {SINGLE}, or save the model again without a variant",
        )
    names = read_file(
        index,
        lambda content: sorted(set(content["weight_map"].values())),
        what="the index",
        error=BadWeights,
        expected=f"{SOUND_JSON}, with a weight_map",
        fix=OWN_FILES,
        limit=HEADER,
    )
    for name in names:
        if Path(str(name)).name != name or not (folder / name).is_file():
            raise BadWeights(f"the index names {name!r}", where=index, expected="a shard in the same folder")
    return [folder / name for name in names]
