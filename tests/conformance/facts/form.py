"""How published folders are written down here: values in full size, in the form that their files have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from tests.conformance.vocabularies import BERT_SPECIAL, END, START

Json = dict[str, Any]
Kind = Literal["byte_level", "sentence_pieces", "gemma", "word_pieces", "xlm_roberta"]


@dataclass(frozen=True)
class Published:
    """A checkpoint's configuration files; `quick` ones are tested in every run."""

    name: str
    config: Json
    tokens: Kind
    tokenizer: Json | None
    processor: Json
    special: Json | None = None
    """`special_tokens_map.json`, which transformers 5 does not write any more."""
    nested: bool = False
    """The processor's settings are a section of `processor_config.json`, and there is no other file of them."""
    ends: Literal["\n", "\r\n"] = "\n"
    last_end: bool = True
    indent: int | str | None = 2
    weights: str = "float32"
    quick: bool = False


# --- what transformers of different years writes around the values ------------------------------------------

_LISTED = {
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "pruned_heads": {},
}
_NULL = (
    "architectures",
    "bad_words_ids",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "prefix",
    "problem_type",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
)
_FALSE = (
    "add_cross_attention",
    "do_sample",
    "early_stopping",
    "is_decoder",
    "is_encoder_decoder",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "remove_invalid_values",
    "return_dict_in_generate",
    "tie_encoder_decoder",
    "torchscript",
    "use_bfloat16",
)
_NUMBERS = {
    "chunk_size_feed_forward": 0,
    "diversity_penalty": 0.0,
    "encoder_no_repeat_ngram_size": 0,
    "length_penalty": 1.0,
    "max_length": 20,
    "min_length": 0,
    "no_repeat_ngram_size": 0,
    "num_beam_groups": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
}
_LATER = {
    "begin_suppress_tokens": None,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "tf_legacy_loss": False,
    "typical_p": 1.0,
}


def spoken(version: str, *, later: bool = False) -> Json:
    """What sections repeated before 2023: every setting of text generation, and the version inside of them."""
    names = {"_name_or_path": "", "return_dict": True, "tie_word_embeddings": True, "transformers_version": version}
    settings = dict.fromkeys(_NULL) | dict.fromkeys(_FALSE, False) | _NUMBERS | _LISTED | names
    return settings | (_LATER if later else {})


FIFTH: Json = {
    **dict.fromkeys(
        (
            "cross_attention_hidden_size",
            "decoder_start_token_id",
            "finetuning_task",
            "prefix",
            "sep_token_id",
            "task_specific_params",
            "tokenizer_class",
        )
    ),
    **dict.fromkeys(("add_cross_attention", "is_decoder", "tie_encoder_decoder", "torchscript", "use_bfloat16"), False),
    "pruned_heads": {},
    "tie_word_embeddings": True,
    "dropout": 0.0,
    "dtype": "float32",
}
"""What version 5 keeps of it in sections."""


def tower(hidden: int, mlp: int, heads: int, layers: int | None = None, **more: Any) -> Json:
    """The sizes of a section; without `layers`, the file leaves them to the default."""
    sizes = {"hidden_size": hidden, "intermediate_size": mlp, "num_attention_heads": heads}
    return sizes | ({} if layers is None else {"num_hidden_layers": layers}) | more


# --- tokenizers ---------------------------------------------------------------------------------------------

_STRICT = {"single_word": False, "lstrip": False, "rstrip": False}


def _token(
    content: str, *, normalized: bool = True, typed: bool = False, special: bool = False, strip: bool = False
) -> Json:
    made = {"content": content, **_STRICT, "normalized": normalized}
    made |= {"lstrip": True, "rstrip": True} if strip else {}
    return made | ({"__type": "AddedToken"} if typed else {}) | ({"special": True} if special else {})


_CLIP_ALWAYS = {
    "add_prefix_space": False,
    "errors": "replace",
    "do_lower_case": True,
    "tokenizer_class": "CLIPTokenizer",
}


def clip_2021(named: str, *, length: int = 77) -> Json:
    """Special tokens as dictionaries with their class, and the name of the folder that they were loaded from."""
    return _CLIP_ALWAYS | {
        "unk_token": _token(END, typed=True),
        "bos_token": _token(START, typed=True),
        "eos_token": _token(END, typed=True),
        "pad_token": END,
        "name_or_path": named,
        "model_max_length": length,
        "special_tokens_map_file": "./special_tokens_map.json",
    }


CLIP_MAP_2021 = {
    "bos_token": _token(START),
    "eos_token": _token(END),
    "unk_token": _token(END),
    "pad_token": END,
}


def clip_2023(pad: str = END, **more: Any) -> Json:
    """Added tokens by their numbers."""
    added = {
        "49406": _token(START, special=True),
        "49407": _token(END, normalized=False, special=True),
    }
    if pad != END:
        added = {"0": _token(pad, normalized=False, special=True)} | added
    return _CLIP_ALWAYS | {
        "added_tokens_decoder": added,
        "bos_token": START,
        "clean_up_tokenization_spaces": True,
        "eos_token": END,
        "model_max_length": 77,
        "pad_token": pad,
        "unk_token": END,
        **more,
    }


def clip_map_2023(pad: str = END) -> Json:
    """The other file of that time."""
    return {
        "bos_token": _token(START),
        "eos_token": _token(END, normalized=False),
        "pad_token": _token(pad, normalized=False),
        "unk_token": _token(END, normalized=False),
    }


CLIP_5 = _CLIP_ALWAYS | {
    "backend": "tokenizers",
    "bos_token": START,
    "eos_token": END,
    "is_local": False,
    "model_max_length": 77,
    "pad_token": END,
    "unk_token": END,
}
"""Version 5 keeps plain names."""

SIGLIP: Json = {
    "added_tokens_decoder": {
        "1": _token("</s>", normalized=False, special=True, strip=True),
        "2": _token("<unk>", normalized=False, special=True, strip=True),
    },
    "additional_special_tokens": [],
    "clean_up_tokenization_spaces": True,
    "do_lower_case": True,
    "eos_token": "</s>",
    "model_input_names": ["input_ids"],
    "model_max_length": 64,
    "pad_token": "</s>",
    "processor_class": "SiglipProcessor",
    "sp_model_kwargs": {},
    "tokenizer_class": "SiglipTokenizer",
    "unk_token": "<unk>",
}
SIGLIP_MAP = {
    "eos_token": _token("</s>", normalized=False, strip=True),
    "pad_token": _token("</s>", normalized=False, strip=True),
    "unk_token": _token("<unk>", normalized=False, strip=True),
}
GEMMA: Json = {
    "tokenizer_class": "GemmaTokenizer",
    "add_bos_token": False,
    "add_eos_token": True,
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "processor_class": "SiglipProcessor",
}
BERT: Json = {
    "added_tokens_decoder": {
        str(number): _token(token, normalized=False, special=True) for token, number in BERT_SPECIAL.items()
    },
    "clean_up_tokenization_spaces": True,
    "cls_token": "[CLS]",
    "do_basic_tokenize": True,
    "do_lower_case": True,
    "mask_token": "[MASK]",
    "model_max_length": 1000000000000000019884624838656,
    "never_split": None,
    "pad_token": "[PAD]",
    "processor_class": "ChineseCLIPProcessor",
    "sep_token": "[SEP]",
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
    "unk_token": "[UNK]",
}
BERT_MAP = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")}
XLM_ROBERTA: Json = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": {"__type": "AddedToken", "content": "<mask>", **_STRICT, "lstrip": True, "normalized": True},
    "model_max_length": 512,
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "sp_model_kwargs": {},
    "special_tokens_map_file": None,
    "tokenizer_class": "XLMRobertaTokenizer",
    "unk_token": "<unk>",
}


# --- image processors ---------------------------------------------------------------------------------------

_OPENAI: Json = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
_HALF: Json = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
FACTOR = 0.00392156862745098


def extractor(side: int, **more: Any) -> Json:
    """The first form: an extractor, and sizes that are numbers."""
    settings = {"crop_size": side, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3}
    return settings | {"feature_extractor_type": "CLIPFeatureExtractor", "size": side} | _OPENAI | more


def cropping(side: int, named: str | None = "CLIPImageProcessor", **more: Any) -> Json:
    """Since version 4.27: sizes with their meaning, and everything that is done."""
    done: Json = dict.fromkeys(("do_center_crop", "do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), True)
    sizes: Json = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    settings = done | sizes | {"resample": 3, "rescale_factor": FACTOR, "image_processor_type": named}
    return settings | _OPENAI | more


def squashing(side: int, **more: Any) -> Json:
    """SigLIP's."""
    settings: Json = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "resample": 3,
        "rescale_factor": FACTOR,
    }
    settings |= {"image_processor_type": "SiglipImageProcessor", "processor_class": "SiglipProcessor"}
    return settings | {"size": {"height": side, "width": side}} | _HALF | more


def chinese(named: str, **more: Any) -> Json:
    """Squashed to a square; a crop is given and switched off."""
    square = {"height": 224, "width": 224}
    return cropping(224, named, size=square, crop_size=square, do_center_crop=False, **more)
