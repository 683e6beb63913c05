"""OpenCLIP's preprocessing of texts, expressed as tokenizers of transformers.

OpenCLIP cleans a text before tokenizing it (`src/open_clip/tokenizer.py`): it repairs characters with ftfy and HTML
entities, then collapses white space, and for some models lowers letters and removes punctuation. Here the cleaning is
part of the tokenizer itself, so that exported checkpoints need only transformers. From ftfy it has only the repairs of
single characters; wrongly decoded text is not repaired.
"""

from __future__ import annotations

import copy
import html
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from artifacts.errors import CheckpointError
from tasks.clip.processors import TOKENIZER_FILES, load_tokenizer, vocabularies
from tasks.openclip.document import TEXT_DEFAULTS, Document

TOKENIZER_KEYS = ("hf_tokenizer_name", "tokenizer_kwargs")
TOKENIZER_SOURCE = "openclip_tokenizer"
"""Keys in a stored `text_config`: the repository and the commit of a tokenizer that is not beside the weights."""
_CLIPS = "openai/clip-vit-base-patch32"
_CLEANINGS = ("canonicalize", "lower", "whitespace")
_KWARGS = {"clean", "strip_sep_token"}

_QUOTES = (("[\u2018-\u201b\u02bc]", "'"), ("[\u201c-\u201f]", '"'))
_CONTROLS = "[\x00-\x08\x0b\x0e-\x1f\x7f\u206a-\u206f\ufeff\ufff9-\ufffc]"
_ENTITIES = re.findall(
    r"\S+",
    "amp amp lt gt quot apos nbsp hellip ndash mdash lsquo rsquo ldquo rdquo bull middot deg copy reg trade times "
    "frac12 euro pound agrave aacute auml ccedil egrave eacute iacute ntilde oacute ouml szlig uacute uuml "
    "#34 #034 #38 #39 #039 #x27 #60 #62 #160 #8211 #8212 #8216 #8217 #8220 #8221 #8230",
)
"""Those of HTML's 2,231 entities that occur in captions; each costs one pass over every text."""
_LIGATURES = (
    ("\ufb00", "ff"),
    ("\ufb01", "fi"),
    ("\ufb02", "fl"),
    ("\ufb03", "ffi"),
    ("\ufb04", "ffl"),
    ("\ufb06", "st"),
)
_WIDE = tuple((chr(code + 0xFEE0), chr(code)) for code in range(0x21, 0x7F))
"""Fullwidth forms of ASCII."""
_PUNCTUATION = r"[!-/:-@\[-`{-~]"


def odd_tokenizer(document: Document) -> str | None:
    """The first unknown setting of the tokenizer; None if all are known."""
    settings = document.text["tokenizer_kwargs"] or {}
    for key, value in sorted(settings.items()):
        known = value in _CLEANINGS if key == "clean" else isinstance(value, bool) and key in _KWARGS
        if not known:
            return f"text_cfg.tokenizer_kwargs.{key} {value!r}"
    return None


def tokenizer_repository(document: Document) -> str | None:
    """The hub repository of a document's tokenizer: the named one, or CLIP's, which is OpenCLIP's default.

    None if no tokenizer is named and the vocabulary has another size than CLIP's.
    """
    name: str | None = document.text["hf_tokenizer_name"]
    if name is None and document.text["vocab_size"] == TEXT_DEFAULTS["vocab_size"]:
        return _CLIPS
    return name and name.removeprefix("hf-hub:")


def cleaning_tokenizer(folder: Path, document: Document, config: dict[str, Any] | None) -> Any:
    """The tokenizer of a model in OpenCLIP's layout; it pads on the right and cleans texts as OpenCLIP does.

    `config` is the model's; its `text_config` names the repository of a tokenizer that is not in the folder.

    Raises:
        OSError, ValueError: there is no tokenizer, or it cannot be loaded.
        CheckpointError: it was pinned, but is no longer in the hub's cache.
    """
    from transformers import CLIPTokenizerFast

    settings = document.text["tokenizer_kwargs"] or {}
    place = tokenizer_place(folder, config)
    if not vocabularies(place):
        raise OSError(f"no tokenizer beside the weights, such as tokenizer.json, in {place}")
    if document.text["hf_tokenizer_name"]:
        given = load_tokenizer(place, padding_side="right")
        cleaning = settings.get("clean", "whitespace")
    else:
        given = CLIPTokenizerFast.from_pretrained(place, local_files_only=True, padding_side="right")
        cleaning = settings.get("clean", "lower")
    if len(given) <= len(given.all_special_tokens):
        raise OSError(f"the tokenizer in {place} has no words")
    return _prepared(given, cleaning, strip_separator=bool(settings.get("strip_sep_token")))


def tokenizer_place(folder: Path, config: dict[str, Any] | None) -> Path:
    """The folder of the tokenizer's files: beside the weights, or the pinned one of another repository.

    Raises:
        CheckpointError: the pinned files are no longer in the hub's cache.
    """
    source = ((config or {}).get("text_config") or {}).get(TOKENIZER_SOURCE)
    if source is None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository, commit = source["repository"], source["commit"]
    try:
        found = snapshot_download(repository, revision=commit, allow_patterns=[*TOKENIZER_FILES], local_files_only=True)
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"the tokenizer of {repository}, commit {commit[:12]}, is no longer in the hub's cache",
            where=folder,
            fix="start the run again: it is fetched when the model is resolved",
        ) from error
    return Path(found)


def _prepared(given: Any, cleaning: str, *, strip_separator: bool) -> Any:
    """The tokenizer as transformers' generic class, which is the only one that keeps a custom normalizer."""
    from tokenizers import normalizers
    from transformers import PreTrainedTokenizerFast

    backend = copy.deepcopy(given.backend_tokenizer)
    backend.no_padding()
    backend.no_truncation()
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*_normalizers(cleaning), *own])
    if strip_separator:
        _replace_separator(backend, given)
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side="right",
        model_max_length=given.model_max_length,
        model_input_names=given.model_input_names,
        clean_up_tokenization_spaces=False,
        **given.special_tokens_map,
    )
    made.vocab_files_names = {}  # so that `vocabularies` does not look for files
    return made


def _normalizers(cleaning: str) -> Iterable[Any]:
    from tokenizers import Regex
    from tokenizers.normalizers import NFC, Lowercase, Replace, Strip

    yield from (Replace(f"&{name};", html.unescape(f"&{name};")) for name in _ENTITIES)
    yield from (Replace(old, new) for old, new in (*_LIGATURES, *_WIDE))
    yield from (Replace(Regex(old), new) for old, new in _QUOTES)
    yield Replace(Regex(_CONTROLS), "")
    yield NFC()
    if cleaning == "canonicalize":
        yield from (Replace("_", " "), Replace(Regex(_PUNCTUATION), ""))
    if cleaning in ("canonicalize", "lower"):
        yield Lowercase()
    yield from (Replace(Regex(r"\s+"), " "), Strip())


def _replace_separator(backend: Any, given: Any) -> None:
    """Replace the separator at a text's end by the token with id 0 (`strip_sep_token`).

    Raises:
        ValueError: the tokenizer does not put one token before a text and the separator after it.
    """
    from tokenizers.processors import TemplateProcessing

    ids = given("").input_ids
    if len(ids) != 2 or ids[1] != given.sep_token_id:
        raise ValueError(f"strip_sep_token of a tokenizer that makes {ids} of an empty text")
    start, end = given.convert_ids_to_tokens(ids[0]), given.convert_ids_to_tokens(0)
    backend.post_processor = TemplateProcessing(single=f"{start} $A {end}", special_tokens=[(start, ids[0]), (end, 0)])
