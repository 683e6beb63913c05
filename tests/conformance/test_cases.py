"""Folders as people have them: each ends with the embeddings of plain transformers, or is refused by its reason."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import BadWeights, CheckpointError, MissingEncoder, NotClip, UnsafeCheckpoint
from artifacts.store.store import Store
from tasks.pipeline.checkpoint import check, resolve
from tasks.pipeline.parity import check_parity
from tests.conformance import oracle
from tests.conformance.folders import NAMES, edit, edit_section, random_model, save_tensors, tensors
from tests.conformance.ours import Ours
from tests.conformance.vocabularies import END, write_json
from tests.published import SWITCHES
from tests.tasks.families.support import ENCODERS, cosines, run_onnx

Change = Callable[[Path], Any]
SECTIONS = ("text_config", "vision_config")


OFTEN = {
    "nothing",
    "nothing-siglip2",
    "nothing-chinese_clip",
    "both sections twice",
    "tuples and no mappings",
    "every switch",
    "left padding stored",
    "the end token is really 2",
    "two paddings in two files",
    "squashing",
    "sizes as numbers, the old name",
    "nested",
    "CLIP's on SigLIP",
    "a crop of what was not resized",
    "prefix module.",
    "a classification head",
    "position buffers",
    "no logit scale",
    "two shards",
    "what a trainer leaves",
}
"""What is accepted of every kind: one or two are tested in every run, the others in the heavy one."""


@dataclass(frozen=True)
class Case:
    """A change of a sound folder.

    `family` names the sound one; `anew`: transformers is asked about the changed one; `words` are the reason of a
    refusal, or what is said of what was accepted. All but those in `OFTEN` and refusals are heavy.
    """

    name: str
    change: Change
    family: str = "clip"
    anew: bool = False
    words: str = ""
    error: type[CheckpointError] = CheckpointError

    def param(self) -> Any:
        return pytest.param(self, id=self.name, marks=[] if self.name in OFTEN else pytest.mark.heavy)


def case(name: str, change: Change, family: str = "clip", **rest: Any) -> Any:
    return Case(name, change, family, **rest).param()


def refused(name: str, change: Change, words: str, error: type[CheckpointError] = CheckpointError, **rest: Any) -> Any:
    return pytest.param(Case(name, change, words=words, error=error, **rest), id=name)


@pytest.fixture
def folder_of(sound: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """`folder_of(name)`: a copy to change."""

    def make(name: str) -> Path:
        return Path(shutil.copytree(sound(name), tmp_path / "model"))

    return make


def agree(made: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Of all pictures but the transparent one, of which a test of its own speaks."""
    for encoder, values in expected.items():
        rows = [place for place, name in enumerate(oracle.pictures()) if encoder == "text" or name != "transparent"]
        assert cosines(made[encoder][rows], values[rows]).min() >= 0.9999, encoder
        assert cosines(values, np.roll(values, 1, axis=0)).min() < 0.999, encoder


def damaged(name: str, content: bytes = b'{"a": NaN}') -> Change:
    return lambda folder: (folder / name).write_bytes(content)


# --- configurations -----------------------------------------------------------------------------------------


def everywhere(**keys: Any) -> Change:
    """Keys at the top and in both sections."""

    def change(folder: Path) -> None:
        edit(folder, "config.json", **keys)
        for section in SECTIONS:
            edit_section(folder, section, **keys)

    return change


def repeats(*sections: str, without: tuple[str, ...] = ()) -> Change:
    """Sections stand twice."""

    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        for section in sections:
            repeated = {key: value for key, value in content[section].items() if key not in without}
            edit(folder, "config.json", **{f"{section}_dict": repeated})

    return change


def disagreeing_sections(folder: Path) -> None:
    """Of a section that stands twice with other values, transformers takes those under the old name."""
    content = json.loads((folder / "config.json").read_text())
    changed = {
        "text_config": {"hidden_act": "gelu"},
        "vision_config": {"num_attention_heads": 4, "layer_norm_eps": 0.1},
    }
    edit(folder, "config.json", **{f"{name}_dict": content[name] | values for name, values in changed.items()})


def moved_sections(folder: Path) -> None:
    """Sections stand under their old names alone."""
    content = json.loads((folder / "config.json").read_text())
    edit(folder, "config.json", **{f"{s}_dict": content[s] for s in SECTIONS}, **dict.fromkeys(SECTIONS, ...))


def line_ends(folder: Path) -> None:
    for file in ("config.json", "preprocessor_config.json", "tokenizer_config.json"):
        text = (folder / file).read_text().rstrip("\n").replace("\n", "\r\n").replace("  ", "\t")
        (folder / file).write_bytes(text.encode())


CONFIGURATIONS = [
    case("nothing", lambda _: None),
    *(case(f"nothing-{name}", lambda _: None, name) for name in NAMES if name != "clip"),
    case("both sections twice", repeats(*SECTIONS)),
    case("the vision section twice", repeats("vision_config")),
    case("sections twice, null", partial(edit, file="config.json", text_config_dict=None, vision_config_dict=None)),
    case("sections under their old names alone", moved_sections),
    case("ChineseCLIP's sections twice", repeats(*SECTIONS), "chinese_clip"),
    case("tuples and no mappings", everywhere(return_dict=False)),
    case("attentions and hidden states", everywhere(output_attentions=True, output_hidden_states=True)),
    case("attentions asked of SigLIP", everywhere(output_attentions=True, output_hidden_states=True), "siglip"),
    case("flash attention", everywhere(_attn_implementation="flash_attention_2")),
    case("flash attention by its other key", everywhere(attn_implementation="flash_attention_3")),
    case("flash attention of SigLIP", everywhere(_attn_implementation="flash_attention_2"), "siglip"),
    case("eager attention", everywhere(_attn_implementation="eager", _attn_implementation_autoset=True)),
    case("dropout", everywhere(attention_dropout=0.1)),
    case("torchscript", everywhere(torchscript=True, use_cache=True, gradient_checkpointing=True)),
    case(
        "a quantization that the weights do not have", everywhere(quantization_config={"quant_method": "bitsandbytes"})
    ),
    case("code beside a known family", everywhere(auto_map={"AutoModel": "modeling.Other"}, architectures=["Other"])),
    case("half precision named", everywhere(torch_dtype="float16", dtype="bfloat16")),
    case("labels", everywhere(id2label={"0": "a", "1": "b"}, label2id={"a": 0, "b": 1}, problem_type=None)),
    case("every switch", everywhere(**SWITCHES)),
    case("every switch of ChineseCLIP", everywhere(**SWITCHES), "chinese_clip"),
    case("lines end as on Windows", line_ends),
    case(
        "projection_dim in sections that disagrees", lambda f: [edit_section(f, s, projection_dim=7) for s in SECTIONS]
    ),
    case(
        "MetaCLIP 2's sections disagree",
        lambda f: [edit_section(f, s, projection_dim=7) for s in SECTIONS],
        "metaclip_2",
    ),
    case(
        "ChineseCLIP's sections disagree", lambda f: edit_section(f, "vision_config", projection_dim=7), "chinese_clip"
    ),
    case("unknown keys", everywhere(layers=12, heads=8, direct_kd=False, use_square_size=None)),
]


def test_sections_that_stand_twice_and_disagree(folder_of: Any, plain: Any, active: Store) -> None:
    folder = folder_of("clip")
    disagreeing_sections(folder)
    made, expected = Ours.of(folder, active).embeddings(), oracle.embeddings(folder)
    agree(made, expected)
    assert all(cosines(plain("clip")[encoder], expected[encoder]).min() < 0.9999 for encoder in ENCODERS)


def end_of(**text: Any) -> Change:
    return lambda folder: edit_section(folder, "text_config", **text)


def switch(**keys: Any) -> Any:
    """One kind of key as somebody wrote it, in a form that transformers does not read."""
    return pytest.param("clip", keys, id=",".join(keys))


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        *(
            pytest.param(name, SWITCHES, id=name, marks=[] if name == "altclip" else pytest.mark.heavy)
            for name in NAMES
        ),
        switch(torch_dtype="torch.float16", dtype="auto"),
        switch(quantization_config="int8"),
        switch(return_dict="false", use_return_dict=False),
        switch(id2label=["a", "b"], problem_type="nonsense"),
        switch(architectures="CLIPModel", transformers_version=[4]),
    ],
)
def test_parity_is_asked_without_switches(name: str, keys: Any, folder_of: Any, active: Store) -> None:
    """Some of them transformers refuses together, others it does not read in forms of its past."""
    folder = folder_of(name)
    everywhere(**keys)(folder)
    snapshot = resolve(str(folder), None, active)
    found = check_parity(snapshot, check(snapshot).preprocess)
    assert all(float(row["cosine"] or 0) >= 0.9999 for row in found.rows)


UNUSABLE = [
    refused("a padding id beyond the table", end_of(pad_token_id=9999), "Padding_idx", family="chinese_clip"),
    refused("no padding id", end_of(pad_token_id=None), "does not describe a model", family="altclip"),
    refused("heads below zero", end_of(num_attention_heads=-2), "does not describe a model"),
    refused("an epsilon of null", end_of(layer_norm_eps=None), "does not describe a model"),
]


@pytest.mark.parametrize("each", UNUSABLE)
def test_what_no_library_can_run_is_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    with pytest.raises(each.error, match=each.words) as caught:
        snapshot = resolve(str(folder), None, active)
        check_parity(snapshot, check(snapshot).preprocess)
    assert caught.value.where and caught.value.expected


def test_a_padding_row_that_transformers_sets_to_zero(folder_of: Any, plain: Any, active: Store) -> None:
    """BERT's files have values for [PAD], which no text sees."""
    folder = folder_of("chinese_clip")
    weights = tensors(folder)
    weights["text_model.embeddings.word_embeddings.weight"][0] = 1
    save_tensors(folder, weights)
    snapshot = resolve(str(folder), None, active)
    check_parity(snapshot, check(snapshot).preprocess)
    agree(Ours.of(folder, active).embeddings(), plain("chinese_clip"))


@pytest.mark.parametrize("each", CONFIGURATIONS)
def test_what_changes_no_embedding(each: Case, folder_of: Any, plain: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    agree(Ours.of(folder, active).embeddings(), plain(each.family))


REFUSED_CONFIGURATIONS = [
    refused("one channel", lambda f: rebuilt(f, "vision_config", num_channels=1), "channel"),
    refused("four channels", lambda f: rebuilt(f, "vision_config", num_channels=4), "channel"),
    refused("one channel of SigLIP", lambda f: rebuilt(f, "vision_config", num_channels=1), "channel", family="siglip"),
    refused("end token left out, the default is another's", end_of(eos_token_id=...), "end token 49407"),
    refused("end token that no text has", end_of(eos_token_id=5), "end token 5"),
    refused("end token null", end_of(eos_token_id=None), "eos_token_id|end token"),
    refused("end token null, MetaCLIP 2", end_of(eos_token_id=None), "eos_token_id|end token", family="metaclip_2"),
    refused("a list of end tokens", end_of(eos_token_id=[521]), "eos_token_id|end token"),
    refused(
        "projection_dim left out", partial(edit, file="config.json", projection_dim=...), "shape|projection", BadWeights
    ),
    refused(
        "projection_dim of another model", partial(edit, file="config.json", projection_dim=32), "shape", BadWeights
    ),
    refused("heads that do not divide the width", end_of(num_attention_heads=5), "does not describe a model"),
    refused("a number as text", end_of(hidden_size="32"), "does not describe a model"),
    refused("room for one token", lambda f: rebuilt(f, "text_config", max_position_embeddings=1), "token|position"),
    refused("another activation's name", end_of(hidden_act="swish_of_mine"), "hidden_act|swish_of_mine"),
    refused(
        "a tower alone", partial(edit, file="config.json", model_type="clip_vision_model"), "no text", MissingEncoder
    ),
    refused(
        "a projected tower", partial(edit, file="config.json", model_type="clip_text_model"), "no image", MissingEncoder
    ),
    refused("no text section", partial(edit, file="config.json", text_config=...), "no text", MissingEncoder),
    refused("no vision section", partial(edit, file="config.json", vision_config=...), "no image", MissingEncoder),
    refused(
        "SigLIP without sections",
        partial(edit, file="config.json", text_config=..., vision_config=...),
        "_config",
        family="siglip",
    ),
]


def rebuilt(folder: Path, section: str, **changes: Any) -> None:
    """The configuration and the weights of a model of other sizes."""
    from transformers import AutoConfig

    edit_section(folder, section, **changes)
    content = json.loads((folder / "config.json").read_text())
    written = (folder / "config.json").read_bytes()
    random_model(AutoConfig.for_model(**content)).save_pretrained(folder)
    (folder / "config.json").write_bytes(written)


@pytest.mark.parametrize("each", REFUSED_CONFIGURATIONS)
def test_configurations_that_are_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    refuse(each, folder, active)


def refuse(each: Case, folder: Path, active: Store) -> None:
    """One error of ours that names the reason, says where it is and what to do."""
    with pytest.raises(each.error, match=each.words) as caught:
        Ours.of(folder, active)
    assert caught.value.where and caught.value.expected
    assert "\n" not in caught.value.what


# --- tokenizers ---------------------------------------------------------------------------------------------


def pad_added(folder: Path, token: str = "<|pad|>") -> None:
    """A padding token after all others, and a row of the table for it."""
    from transformers import AutoTokenizer

    rebuilt(folder, "text_config", vocab_size=523, eos_token_id=2, bos_token_id=0, pad_token_id=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": token})
    tokenizer.save_pretrained(folder)


def stored_padding(folder: Path, side: str = "Right") -> None:
    """`tokenizer.json` brings a truncation to eight tokens and padding to eight."""
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    padding = {"strategy": {"Fixed": 8}, "direction": side, "pad_to_multiple_of": None, "pad_id": 521, "pad_type_id": 0}
    truncation = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    edit(folder, "tokenizer.json", padding=padding | {"pad_token": END}, truncation=truncation)


def really_two(folder: Path) -> None:
    """The vocabulary's end token is 2, which transformers takes for the sign of old files."""
    words = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    back = {number: token for token, number in words.items()}
    words |= {back[0]: 520, back[2]: 521, "<|startoftext|>": 0, END: 2}
    (folder / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    end_of(eos_token_id=2, bos_token_id=0, pad_token_id=1)(folder)


def fast_only(folder: Path) -> None:
    from transformers import AutoTokenizer

    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    for file in ("vocab.json", "merges.txt", "vocab.txt", "spiece.model"):
        (folder / file).unlink(missing_ok=True)


def both_forms(folder: Path) -> None:
    from transformers import AutoTokenizer

    written = (folder / "tokenizer_config.json").read_bytes()
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_bytes(written)


def typed_tokens(folder: Path) -> None:
    """Special tokens as dictionaries with their class's name, in both of the files that name them."""
    token = {"content": END, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    typed = token | {"__type": "AddedToken"}
    edit(folder, "tokenizer_config.json", eos_token=typed, unk_token=typed, name_or_path="openai/clip-vit-base-patch32")
    content = {"eos_token": token, "unk_token": token, "bos_token": token | {"content": "<|startoftext|>"}}
    write_json(folder / "special_tokens_map.json", content | {"pad_token": END})


def settings(**changes: Any) -> Change:
    return lambda folder: edit(folder, "tokenizer_config.json", **changes)


def pad_in_the_other_file(folder: Path) -> None:
    settings(pad_token=None)(folder)
    write_json(folder / "special_tokens_map.json", {"pad_token": END, "eos_token": END, "unk_token": END})


def added(folder: Path) -> None:
    """A token that somebody added, and its row in the table."""
    from transformers import AutoTokenizer

    rebuilt(folder, "text_config", vocab_size=523)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["bench"])
    tokenizer.save_pretrained(folder)


def two_paddings(folder: Path) -> None:
    """As in Stable Diffusion 2.1: each of the two files says another."""
    write_json(folder / "special_tokens_map.json", {"pad_token": "!", "eos_token": END, "unk_token": END})


TOKENIZERS = [
    case("left padding with the end token", settings(padding_side="left")),
    *(case(f"left padding-{name}", settings(padding_side="left"), name) for name in NAMES if name != "clip"),
    case("padding and truncation stored", stored_padding),
    case("left padding stored", partial(stored_padding, side="Left")),
    case("the end token is really 2", really_two, anew=True),
    case("the end token 2 of old files", end_of(eos_token_id=2, bos_token_id=0, pad_token_id=1), anew=True),
    case("tokenizer.json alone", fast_only),
    case("tokenizer.json alone, ChineseCLIP", fast_only, "chinese_clip"),
    case("spiece.model and tokenizer.json", both_forms, "siglip"),
    case("vocab.json and tokenizer.json", both_forms),
    case(
        "tokenizer.json of no class", lambda f: [fast_only(f), settings(tokenizer_class="PreTrainedTokenizerFast")(f)]
    ),
    case("a token more in both", added, anew=True),
    case("tokens as dictionaries", typed_tokens),
    case("no padding named, the class knows one", settings(pad_token=...)),
    case("no longest length", settings(model_max_length=...)),
    case("longest length 1e30", settings(model_max_length=10**30)),
    case("longest length as text", settings(model_max_length="77")),
    case("a shorter longest length", settings(model_max_length=16)),
    case("no tokenizer_config.json", lambda folder: (folder / "tokenizer_config.json").unlink()),
    case("no tokenizer_config.json, ChineseCLIP", lambda f: (f / "tokenizer_config.json").unlink(), "chinese_clip"),
    case("no class named", settings(tokenizer_class=...)),
    case("the class's fast form named", settings(tokenizer_class="CLIPTokenizerFast")),
    case("padding with the first token", settings(pad_token="!"), anew=True),
    case("two paddings in two files", two_paddings, anew=True),
    case("texts lose their beginning", settings(truncation_side="left"), anew=True),
    case("248 positions", lambda f: rebuilt(f, "text_config", max_position_embeddings=248), anew=True),
    case("16 positions", lambda f: rebuilt(f, "text_config", max_position_embeddings=16), anew=True),
]
REFUSED_TOKENIZERS = [
    refused("padding above the end token that is pooled", pad_added, "pooled at its padding"),
    refused("padding above it by another name", partial(pad_added, token="[PAD]"), "pooled at its padding"),
    refused("padding on no side", settings(padding_side="middle"), "padding_side is 'middle'"),
    refused("padding on a null side", settings(padding_side=None), "padding_side is None"),
    refused("padding null", settings(pad_token=None), "no padding token"),
    refused("tokenizer.json alone, SigLIP", fast_only, "tokenizer", family="siglip"),
    refused("a token more than the table", lambda f: rebuilt(f, "text_config", vocab_size=521), "token 521"),
    refused(
        "no vocabulary", lambda f: [(f / n).unlink() for n in ("vocab.json", "merges.txt")], "vocabulary|tokenizer"
    ),
    refused("no vocabulary, SigLIP", lambda f: (f / "spiece.model").unlink(), "vocabulary|tokenizer", family="siglip"),
    refused("a damaged vocabulary", damaged("vocab.json", b'{"a": "b"}'), "tokenizer"),
    refused("damaged merges", damaged("merges.txt", b"x y z w\n"), "tokenizer"),
    refused("a damaged tokenizer.json", damaged("tokenizer.json", b"{}"), "tokenizer"),
    refused("a damaged spiece.model", damaged("spiece.model", b"nonsense"), "tokenizer", family="siglip"),
    refused("an empty vocab.txt", damaged("vocab.txt", b""), "tokenizer", family="chinese_clip"),
    refused("a list in tokenizer_config.json", damaged("tokenizer_config.json", b"[]"), "tokenizer"),
    refused("a list in special_tokens_map.json", damaged("special_tokens_map.json", b"[]"), "tokenizer"),
    refused("a class of the folder's own code", settings(tokenizer_class="MyTokenizer"), "MyTokenizer|tokenizer"),
]


@pytest.mark.parametrize("each", TOKENIZERS)
def test_tokenizers(each: Case, folder_of: Any, plain: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    agree(Ours.of(folder, active).embeddings(), oracle.embeddings(folder) if each.anew else plain(each.family))


@pytest.mark.parametrize("each", REFUSED_TOKENIZERS)
def test_tokenizers_that_are_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    refuse(each, folder, active)


def test_padding_in_the_other_file(folder_of: Any, plain: Any, active: Store) -> None:
    """Where transformers reads it there, it counts; where it does not, there is none."""
    from transformers import AutoTokenizer

    folder = folder_of("clip")
    pad_in_the_other_file(folder)
    if AutoTokenizer.from_pretrained(folder).pad_token_id is None:
        refuse(Case("", lambda _: None, words="no padding token"), folder, active)
    else:
        agree(Ours.of(folder, active).embeddings(), plain("clip"))


# --- image processors ---------------------------------------------------------------------------------------


def processor(**changes: Any) -> Change:
    return lambda folder: edit(folder, "preprocessor_config.json", **changes)


def nested(folder: Path, **changes: Any) -> None:
    """As transformers 5 saves it: a section of the processor's file, and no file of its own."""
    content = json.loads((folder / "preprocessor_config.json").read_text()) | changes
    (folder / "preprocessor_config.json").unlink()
    write_json(folder / "processor_config.json", {"image_processor": content, "processor_class": "CLIPProcessor"})


SQUARE = {"height": 32, "width": 32}
SQUASH = {"image_processor_type": "ViTImageProcessor", "size": SQUARE, "crop_size": ..., "do_center_crop": ...}
OLD = {"image_processor_type": ..., "feature_extractor_type": "CLIPFeatureExtractor", "size": 32, "crop_size": 32}


def disagreeing_processors(folder: Path) -> None:
    """As where somebody saved the model again into its old folder: the newer file counts."""
    content = json.loads((folder / "preprocessor_config.json").read_text()) | {
        "image_mean": [0.9, 0.2, 0.1],
        "resample": 0,
    }
    write_json(folder / "processor_config.json", {"image_processor": content, "processor_class": "CLIPProcessor"})


PROCESSORS = [
    case("squashing", processor(**SQUASH, resample=2)),
    case("squashing by the old name", processor(**SQUASH | {"image_processor_type": "ViTFeatureExtractor"})),
    case("squashing by the fast name", processor(**SQUASH | {"image_processor_type": "ViTImageProcessorFast"})),
    case(
        "squashing, sizes left to the class",
        processor(**SQUASH | {"size": 32}),
    ),
    case("another family's that crops", processor(image_processor_type="BitImageProcessor")),
    case("DeiT's", processor(image_processor_type="DeiTImageProcessor", size=SQUARE, crop_size=SQUARE)),
    case("SigLIP's on CLIP", processor(**SQUASH | {"image_processor_type": "SiglipImageProcessor"})),
    case(
        "CLIP's on SigLIP",
        processor(
            image_processor_type="CLIPImageProcessor", size={"shortest_edge": 32}, crop_size=SQUARE, do_center_crop=True
        ),
        "siglip",
    ),
    case(
        "CLIP's on ChineseCLIP",
        processor(
            image_processor_type="CLIPImageProcessor", size={"shortest_edge": 32}, do_center_crop=True, crop_size=SQUARE
        ),
        "chinese_clip",
    ),
    case(
        "ChineseCLIP's old name, crop given and off",
        processor(image_processor_type="ChineseCLIPFeatureExtractor", crop_size=SQUARE),
        "chinese_clip",
    ),
    case("sizes as numbers, the old name", processor(**OLD, do_rescale=..., rescale_factor=..., do_convert_rgb=...)),
    case("the old name within the new key", processor(image_processor_type="CLIPFeatureExtractor")),
    case("both keys", processor(feature_extractor_type="CLIPFeatureExtractor", use_square_size=False)),
    case("the fast name", processor(image_processor_type="CLIPImageProcessorFast")),
    case("no name", processor(image_processor_type=...)),
    case("no name, SigLIP", processor(image_processor_type=...), "siglip"),
    case("nested", nested),
    case(
        "nested, the fast name",
        partial(nested, image_processor_type="CLIPImageProcessorFast", data_format="channels_first"),
    ),
    case("nested, squashing", lambda f: [processor(**SQUASH, resample=2)(f), nested(f)]),
    case(
        "both files, the processor's without a section",
        lambda f: write_json(f / "processor_config.json", {"processor_class": "CLIPProcessor"}),
    ),
    case("both files, and they disagree", disagreeing_processors),
    case("CLIP's own class, squashing", processor(size=SQUARE, do_center_crop=False, crop_size=...)),
    case("a factor cut short", processor(rescale_factor=0.00392156862)),
    case("bilinear, other means", processor(resample=2, image_mean=[0.5] * 3, image_std=[0.5] * 3)),
    case("one mean for all channels", processor(image_mean=0.5, image_std=0.25)),
    case("not normalised", processor(do_normalize=False)),
    case("not scaled", processor(do_rescale=False)),
    case("colours left alone", processor(do_convert_rgb=None)),
    case("a crop larger than the picture", processor(size={"shortest_edge": 20})),
    case("a crop of what was not resized", processor(do_resize=False)),
    case("keys of a processor that checks them", processor(_valid_processor_keys=["images", "do_resize"])),
]
REFUSED_PROCESSORS = [
    refused("no crop and no square", processor(do_center_crop=False), "size|shape|crop"),
    refused(
        "no crop, by SigLIP's class",
        processor(image_processor_type="SiglipImageProcessor", size={"shortest_edge": 32}),
        "size|shape|crop",
        family="siglip",
    ),
    refused("neither resized nor cropped", processor(do_resize=False, do_center_crop=False), "size|shape|resize"),
    refused("not resized, SigLIP", processor(do_resize=False), "size|shape|resize", family="siglip"),
    refused("the longest edge", processor(size={"longest_edge": 32}, do_center_crop=False), "size|shape|edge|makes"),
    refused("no square", processor(crop_size={"height": 32, "width": 40}), "32 x 40"),
    refused("another size", processor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}), "64 x 64"),
    refused("one channel", processor(image_mean=[0.5], image_std=[0.5]), "channel|mean"),
    refused(
        "a class that is unknown", processor(image_processor_type="SatelliteImageProcessor"), "SatelliteImageProcessor"
    ),
    refused(
        "patches, no size",
        processor(image_processor_type="Siglip2ImageProcessor", size=..., max_num_patches=16, patch_size=8),
        "Siglip2ImageProcessor|patches",
        family="siglip",
    ),
    refused("no file", lambda f: (f / "preprocessor_config.json").unlink(), "image processor"),
    refused("a list", damaged("preprocessor_config.json", b"[]"), "image processor|preprocessor_config"),
    refused("a deviation of zero", processor(image_std=[0.0, 0.2, 0.2]), "finite|NaN|Inf|image_std"),
    refused("a size that no memory holds", processor(size={"shortest_edge": 10**6}), "shortest_edge=1000000"),
    refused(
        "a square that no memory holds", processor(size={"height": 10**5, "width": 10**5}), "100000", family="siglip"
    ),
    refused("an empty mean", processor(image_mean=[], image_std=[]), "channel|mean"),
]


@pytest.mark.parametrize("each", PROCESSORS)
def test_image_processors(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    agree(Ours.of(folder, active).embeddings(), oracle.embeddings(folder))


@pytest.mark.parametrize("each", REFUSED_PROCESSORS)
def test_image_processors_that_are_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    refuse(each, folder, active)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("clip", "siglip2") else pytest.mark.heavy) for name in NAMES]
)
def test_what_is_transparent_is_what_the_processor_makes_of_it(
    name: str, sound: Any, plain: Any, active: Store
) -> None:
    made = Ours.of(sound(name), active).embeddings()
    assert cosines(made["image"], plain(name)["image"]).min() >= 0.9999


# --- weights ------------------------------------------------------------------------------------------------


def state(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    return lambda folder: save_tensors(folder, change(tensors(folder)))


def prefixed(prefix: str, *more: str) -> Change:
    return state(lambda s: {prefix + name: values for name, values in s.items()} | {n: torch.ones(2, 32) for n in more})


def prefixed_with(prefix: str, *more: str) -> Change:
    """The same, of these tensors too."""
    return lambda folder: [extra(*more)(folder), prefixed(prefix)(folder)]


def extra(*names: str) -> Change:
    return state(lambda s: s | {name: torch.randn(32, 32) for name in names})


def positions(folder: Path) -> None:
    """The buffers of checkpoints that were saved before 2023."""
    numbers = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    numbers["vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    state(lambda s: s | numbers)(folder)


def without(*names: str) -> Change:
    return state(lambda s: {name: values for name, values in s.items() if name not in names})


def cast(dtype: torch.dtype) -> Change:
    return state(lambda s: {name: values.to(dtype) for name, values in s.items()})


def shards(folder: Path, *dtypes: torch.dtype) -> None:
    """Two shards, each in its own type."""
    weights = tensors(folder)
    names = sorted(weights)
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    index: dict[str, str] = {}
    for number, (part, dtype) in enumerate(zip(parts, dtypes, strict=True), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        save_tensors(folder, {name: weights[name].to(dtype) for name in part}, file)
        index |= dict.fromkeys(part, file)
    (folder / "model.safetensors").unlink()
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": 1}, "weight_map": index})


def plain_file(folder: Path) -> None:
    """Saved without transformers: no metadata."""
    from safetensors.torch import save_file

    save_file(tensors(folder), folder / "model.safetensors")


def huge(folder: Path) -> None:
    def change(s: dict[str, Any]) -> dict[str, Any]:
        s["vision_model.encoder.layers.0.mlp.fc1.weight"][0, 0] = 1e5
        return {name: values.bfloat16() for name, values in s.items()}

    state(change)(folder)


def in_fp8(folder: Path) -> None:
    state(lambda s: {n: v.to(torch.float8_e4m3fn) if ".mlp." in n and v.ndim == 2 else v for n, v in s.items()})(folder)


def zeros(*parts: str) -> Change:
    """Tensors whose names have one of these parts."""
    return state(lambda s: {n: torch.zeros_like(v) if any(part in n for part in parts) else v for n, v in s.items()})


def another_layer(folder: Path) -> None:
    """As where somebody cut `num_hidden_layers` in the file alone."""
    weights, last = tensors(folder), "vision_model.encoder.layers.1."
    layer = {name.replace(".1.", ".2.", 1): values.clone() for name, values in weights.items() if name.startswith(last)}
    save_tensors(folder, weights | layer)


def a_classifier(folder: Path) -> None:
    """The image encoder with a head, under the whole model's configuration."""
    edit(folder, "config.json", architectures=["CLIPForImageClassification"])
    weights = {name: values for name, values in tensors(folder).items() if name.startswith("vision_model.")}
    save_tensors(folder, weights | {"classifier.weight": torch.ones(2, 32), "classifier.bias": torch.ones(2)})


Q = "vision_model.encoder.layers.1.self_attn.q_proj"
POOLER = ("text_model.pooler.dense.weight", "text_model.pooler.dense.bias")
WEIGHTS = [
    case("no metadata", plain_file),
    case("position buffers", positions),
    case("position buffers, bare", prefixed("", "text_model.embeddings.position_ids")),
    *(
        case(f"prefix {prefix}", prefixed(prefix), words=rf"begins with {re.escape(prefix)}")
        for prefix in ("module.", "model.", "clip.", "_orig_mod.", "clip_model.")
    ),
    case("two prefixes", prefixed("_orig_mod.module."), words=r"_orig_mod\.module\."),
    case("prefix module. of SigLIP", prefixed("module."), "siglip", words=r"module\."),
    *(
        case(f"prefix {name}. of transformers", prefixed(f"{name}."), name, words=rf"begins with {name}\.")
        for name in ("siglip", "chinese_clip", "altclip", "metaclip_2")
    ),
    *(
        case(f"prefix {prefix}", prefixed(prefix), words=rf"begins with {re.escape(prefix)}")
        for prefix in ("_fsdp_wrapped_module.", "base_model.model.", "model._orig_mod.module.")
    ),
    case("numbers of token types", extra("text_model.embeddings.token_type_ids"), "chinese_clip"),
    case("prefix module. of AltCLIP", prefixed("module."), "altclip", words=r"module\."),
    case("a prefix and a head", prefixed("clip.", "classifier.weight"), words=r"left out: 1.*classifier\.weight"),
    case("a prefix before the head too", prefixed_with("model.", "head.weight"), words=r"left out: 1.*head\.weight"),
    case("a classification head", extra("classifier.weight", "classifier.bias"), words="left out: 2"),
    case("a pooler that nothing uses", extra(*POOLER), "chinese_clip", words="left out: 2"),
    case(
        "a pooler that nothing uses, AltCLIP",
        extra("text_model.roberta.pooler.dense.weight"),
        "altclip",
        words="left out: 1",
    ),
    case("a bias of logits", extra("logit_bias"), words="left out: 1.*logit_bias"),
    case("a teacher's projection", extra("teacher_projection.weight"), words="left out: 1.*teacher"),
    case("no logit scale", without("logit_scale")),
    case("no logit scale and bias, SigLIP", without("logit_scale", "logit_bias"), "siglip"),
    case("FP64", cast(torch.float64)),
    case("two shards", lambda f: shards(f, torch.float32, torch.float32)),
    case("a shard of FP64 and one of FP32", lambda f: shards(f, torch.float64, torch.float32)),
]
ROUNDED = [
    case("FP16", cast(torch.float16)),
    case("bfloat16", cast(torch.bfloat16)),
    case("a shard of FP16 and one of bfloat16", lambda f: shards(f, torch.float16, torch.bfloat16)),
    case(
        "a projection of zeros",
        zeros(f"{Q}.weight", f"{Q}.bias"),
    ),
    case("a layer of zeros", zeros(".layers.1.")),
]
REFUSED_WEIGHTS = [
    refused(
        "a prefix on one tower",
        state(lambda s: {n.replace("text_model.", "module.text_model.", 1): v for n, v in s.items()}),
        r"there is only module\.text_model",
        BadWeights,
    ),
    refused("a prefix that nobody knows", prefixed("mine."), r"there is only mine\.", BadWeights),
    refused("an adapter of another kind", extra(f"{Q}.ia3_l"), "adapter"),
    refused("FP8 already", in_fp8, "F8_E4M3", BadWeights),
    refused(
        "pickles alone",
        lambda f: [torch.save({}, f / "pytorch_model.bin"), (f / "model.safetensors").unlink()],
        "pickle",
        UnsafeCheckpoint,
    ),
    refused("a tensor is missing", without(f"{Q}.weight"), f"missing.*{Q}.weight", BadWeights),
    refused(
        "a tensor is missing behind a prefix",
        lambda f: [without(f"{Q}.weight")(f), prefixed("module.")(f)],
        rf"missing.*{Q}.weight",
        BadWeights,
    ),
    refused("a layer more than the configuration says", another_layer, "not part of the model", BadWeights),
    refused("a bias that the projection has not", extra("visual_projection.bias"), "not part of the model", BadWeights),
    refused(
        "an embedding more",
        extra("text_model.embeddings.token_type_embeddings.weight"),
        "not part of the model",
        BadWeights,
    ),
    refused("a parameter more in a block", extra(f"{Q}.scale"), "not part of the model", BadWeights),
    refused("a classifier of pictures, without texts", a_classifier, "CLIPForImageClassification|text"),
    refused("no weights", lambda f: (f / "model.safetensors").unlink(), "no weights", BadWeights),
    refused(
        "an adapter that was never merged",
        state(
            lambda s: (
                {n.replace("q_proj.", "q_proj.base_layer."): v for n, v in s.items()}
                | {f"{Q}.lora_A.default.weight": torch.ones(2, 32), f"{Q}.lora_B.default.weight": torch.ones(32, 2)}
            )
        ),
        "lora|adapter",
    ),
]


@pytest.mark.parametrize("each", WEIGHTS)
def test_weights(each: Case, folder_of: Any, plain: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    ours = Ours.of(folder, active)
    agree(ours.embeddings(), plain(each.family))
    assert re.search(each.words, "\n".join(ours.checked.notes))
    assert each.words or not ours.checked.notes


@pytest.mark.parametrize("each", ROUNDED)
def test_weights_of_other_values(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    agree(Ours.of(folder, active).embeddings(), oracle.embeddings(folder))


@pytest.mark.parametrize("each", REFUSED_WEIGHTS)
def test_weights_that_are_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    refuse(each, folder, active)


@pytest.mark.heavy
def test_values_beyond_fp16_are_refused_when_they_are_written(folder_of: Any, active: Store) -> None:
    from tasks.pipeline.onnx_export import export_fp16, trace_encoder

    folder = folder_of("clip")
    huge(folder)
    snapshot = Ours.of(folder, active).snapshot
    skeleton = trace_encoder("clip", snapshot.stored_config, "image").skeleton
    with pytest.raises(BadWeights, match=r"vision_model.encoder.layers.0.mlp.fc1.weight"):
        export_fp16(snapshot, skeleton, "image")


ZEROS = [
    case("of a projection", zeros(f"{Q}.weight", f"{Q}.bias")),
    case("of a value projection", zeros(f"{Q.replace('q_proj', 'v_proj')}.weight")),
    case("of a feed-forward", zeros(".layers.1.mlp.fc2.weight", ".layers.1.mlp.fc1.weight")),
    case("of a layer, but for its norms", zeros("layers.1.self_attn.", "layers.1.mlp.")),
    case("of SigLIP's pooling", zeros("head.attention.in_proj_weight"), "siglip"),
]


@pytest.mark.parametrize("each", ZEROS)
def test_zeros_are_weights_in_fp8(each: Case, folder_of: Any, active: Store) -> None:
    """What was pruned has an amax of 0, and a product of 0 whatever the scale."""
    from tasks.data.pinned import pin_data
    from tasks.pipeline.calibration import calibrate
    from tasks.pipeline.onnx_export import export_fp8, trace_encoder
    from tasks.quantizing.recipe import load_recipe

    folder = folder_of(each.family)
    each.change(folder)
    ours, recipe = Ours.of(folder, active), load_recipe("fp8")
    expected = oracle.embeddings(folder)
    data, _ = pin_data("digits", "calibration", 16)
    for encoder in ENCODERS:
        table = calibrate(ours.snapshot, ours.checked.preprocess, data, recipe, encoder, 8).table
        skeleton = trace_encoder(ours.snapshot.family, ours.snapshot.stored_config, encoder).skeleton
        exported = export_fp8(ours.snapshot, skeleton, encoder, recipe, table).onnx
        feed = ours.feeds[encoder]
        if encoder == "image":
            feed = {"pixel_values": feed["pixel_values"][:4].astype(np.float16)}
        made = run_onnx(active.path(exported, "fp8.onnx"), feed)
        assert np.isfinite(made).all()
        assert cosines(made, expected[encoder][: len(made)]).min() >= 0.9


# --- folders ------------------------------------------------------------------------------------------------


def trainer(folder: Path) -> None:
    """What a trainer leaves beside the weights."""
    (folder / "trainer_state.json").write_text('{"log_history": [{"grad_norm": NaN, "loss": Infinity, "step": 1}]}')
    (folder / "all_results.json").write_text('{"eval_loss": NaN}')
    for file in ("optimizer.pt", "scheduler.pt", "training_args.bin", "rng_state.pth", "rng_state_0.pth"):
        torch.save({}, folder / file)


def adapter(folder: Path, weights: str = "adapter_model.safetensors") -> None:
    """An adapter beside the base that it was trained on."""
    found = {
        f"base_model.model.{Q}.lora_A.weight": torch.ones(2, 32),
        f"base_model.model.{Q}.lora_B.weight": torch.ones(32, 2),
    }
    if weights.endswith(".bin"):
        torch.save(found, folder / weights)
    else:
        save_tensors(folder, found, weights)
    write_json(folder / "adapter_config.json", {"peft_type": "LORA", "r": 2, "base_model_name_or_path": "base"})


def adapter_alone(folder: Path) -> None:
    adapter(folder)
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()


def into(folder: Path, name: str) -> None:
    """Everything moves into a sub-folder."""
    (folder / name).mkdir()
    for path in list(folder.iterdir()):
        if path.name != name:
            path.rename(folder / name / path.name)


def sentences(folder: Path, listed: bool = True) -> None:
    into(folder, "0_CLIPModel")
    if listed:
        modules = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "sentence_transformers.models.CLIPModel"}]
        write_json(folder / "modules.json", modules)
        write_json(folder / "config_sentence_transformers.json", {"__version__": {"sentence_transformers": "2.0.0"}})


def diffusers(folder: Path) -> None:
    into(folder, "text_encoder")
    write_json(
        folder / "model_index.json",
        {"_class_name": "StableDiffusionPipeline", "text_encoder": ["transformers", "CLIPTextModel"]},
    )


def checkpoints(folder: Path) -> None:
    into(folder, "checkpoint-500")
    shutil.copytree(folder / "checkpoint-500", folder / "checkpoint-1000")


def two_forms(folder: Path) -> None:
    """The same weights as a pickle, as in many repositories."""
    torch.save(tensors(folder), folder / "pytorch_model.bin")
    (folder / "flax_model.msgpack").write_bytes(b"\x80")
    (folder / "onnx").mkdir()


STALE = b'{"metadata": {}, "weight_map": {"logit_scale": "model-00001-of-00002.safetensors"}}'
FOLDERS = [
    case("what a trainer leaves", trainer),
    case("NaN in a log", damaged("results.json")),
    case("NaN in generation_config.json", damaged("generation_config.json")),
    case("a key twice in another's file", damaged("modelcard.json", b'{"a": 1, "a": 2}')),
    case("other forms of the weights", two_forms),
    case("an index of shards that are gone", damaged("model.safetensors.index.json", STALE)),
    case("another variant's weights", lambda f: shutil.copyfile(f / "model.safetensors", f / "model.fp16.safetensors")),
    case("files of other tools", damaged("args.json", b"\xff\xfe not JSON")),
]
REFUSED_FOLDERS = [
    refused("an adapter beside its base", adapter, "adapter"),
    refused("an adapter as a pickle", partial(adapter, weights="adapter_model.bin"), "adapter"),
    refused("an adapter alone", adapter_alone, "adapter"),
    refused("sentence-transformers", sentences, "0_CLIPModel"),
    refused("sentence-transformers, unlisted", partial(sentences, listed=False), "0_CLIPModel"),
    refused("diffusers", diffusers, "text_encoder|diffusers"),
    refused("checkpoints in sub-folders", checkpoints, "checkpoint-1000|checkpoint-500", NotClip),
    refused(
        "a variant's weights alone",
        lambda f: (f / "model.safetensors").rename(f / "model.fp16.safetensors"),
        "model.safetensors",
        BadWeights,
    ),
    refused(
        "a byte order mark",
        lambda f: (f / "config.json").write_bytes(b"\xef\xbb\xbf" + (f / "config.json").read_bytes()),
        "config.json.*BOM",
    ),
    refused(
        "UTF-16",
        lambda f: (f / "preprocessor_config.json").write_bytes(
            (f / "preprocessor_config.json").read_text().encode("utf-16")
        ),
        "preprocessor_config.json.*utf-8",
    ),
    refused("NaN in config.json", lambda f: edit(f, "config.json", initializer_range=float("nan")), "NaN"),
    refused(
        "NaN in preprocessor_config.json",
        lambda f: edit(f, "preprocessor_config.json", rescale_factor=float("nan")),
        "NaN",
    ),
]


@pytest.mark.parametrize("each", FOLDERS)
def test_folders(each: Case, folder_of: Any, plain: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    agree(Ours.of(folder, active).embeddings(), plain(each.family))


@pytest.mark.parametrize("each", REFUSED_FOLDERS)
def test_folders_that_are_refused(each: Case, folder_of: Any, active: Store) -> None:
    folder = folder_of(each.family)
    each.change(folder)
    refuse(each, folder, active)


def test_a_folder_of_links(sound: Any, plain: Any, tmp_path: Path, active: Store) -> None:
    """As the hub's cache keeps a snapshot: links with the files' names to blobs without."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sound("clip").iterdir()):
        shutil.copyfile(path, blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    agree(Ours.of(snapshot, active).embeddings(), plain("clip"))


@pytest.mark.parametrize("name", ["checkpoint-500", "final model (2)", "модель", "snapshots"])
def test_names_of_folders(name: str, sound: Any, plain: Any, tmp_path: Path, active: Store) -> None:
    folder = Path(shutil.copytree(sound("clip"), tmp_path / name))
    agree(Ours.of(folder, active).embeddings(), plain("clip"))


def test_equal_names_of_two_runs_are_two_models(sound: Any, tmp_path: Path, active: Store) -> None:
    """`run1/checkpoint` and `run2/checkpoint` would share one history."""
    folders = [Path(shutil.copytree(sound("clip"), tmp_path / run / "checkpoint")) for run in ("run1", "run2")]
    first, second = (Ours.of(folder, active).snapshot.model for folder in folders)
    assert first != second
