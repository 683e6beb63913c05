"""Make `openclip/tokens.json.xz`: token ids of OpenCLIP's own tokenizer classes, of tiny vocabularies.

    oracle/bin/python tests/golden/make_openclip_tokens.py     # the environment is that of make_openclip.py

The file is a JSON object: `texts`, and under `cases` for each case the files of its tokenizer (as text), the
`text_cfg` and the ids (texts, context) that `open_clip.tokenizer` makes of the texts.
"""

from __future__ import annotations

import gzip
import json
import lzma
import string
import tempfile
from pathlib import Path
from typing import Any

import transformers
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer, bytes_to_unicode

HERE = Path(__file__).parent / "openclip"
CONTEXT = 24
TEXTS = [
    "",
    "a photo of a cat",
    "A Photo, of TWO cats!",
    "  white \t space\n\nof   many\u00a0kinds\u3000here ",
    "it's a cat\u2019s \u201cbig\u201d day_out, isn\u2018t it?",
    "cats &amp; dogs &lt;3 &amp;amp; more &quot;pets&quot;",
    "the cat&#39;s &ldquo;big&rdquo; day&nbsp;out &#8220;yes&#8221; &ndash; &#x27;no&#x27; &hellip; &rsquo; &apos;",
    "caf&eacute; &copy; 20&deg;C &amp;nbsp; &uuml;ber 2 &times; 3 &euro; &#034;",
    "the \ufb01rst o\ufb03ce \ufb02oor",
    "\uff21\uff22\uff23 \uff11\uff12\uff13\uff01 \uff37ide",
    "hy-phen under_score a.b.c (brackets) [more] {and} ~this~ `that` @home #1 50% 3^2 a|b",
    "caf\u00e9 cafe\u0301 \u00dcber \u0130stanbul \u00c5ngstr\u00f6m",
    "bell\x07 and\ufeff mark",
    "\u732b\u306e\u5199\u771f\u3002 \u0444\u043e\u0442\u043e \u041a\u043e\u0448\u043a\u0438",
    "a long text " * 20,
    "UPPER lower 0123456789",
]
LETTERS = sorted({*string.ascii_letters, *string.digits, *string.punctuation, *"".join(TEXTS).lower(), *"".join(TEXTS)})
LETTERS = [letter for letter in LETTERS if not letter.isspace()]
WORDS = ["a", "photo", "of", "cat", "cats", "two", "the", "it", "day", "first"]


def unigram(*special: str) -> list[tuple[str, float]]:
    """Pieces of sentencepiece's kind."""
    pieces = [*special, "\u2581", *(f"\u2581{word}" for word in WORDS), *LETTERS]
    return [(piece, -float(place)) for place, piece in enumerate(dict.fromkeys(pieces))]


def bert(folder: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(dict.fromkeys(words))}).save_pretrained(folder)


def t5(folder: Path) -> None:
    vocabulary = unigram("<pad>", "</s>", "<unk>")
    transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0, pad_token="</s>").save_pretrained(folder)


def xlm(folder: Path) -> None:
    vocabulary = unigram("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    transformers.XLMRobertaTokenizer(vocab=vocabulary).save_pretrained(folder)


def gemma(folder: Path) -> None:
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *LETTERS, "ca", "\u2581a"]
    pieces += [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    made = transformers.GemmaTokenizer(vocab=vocabulary, merges=[("c", "a"), ("\u2581", "a")], padding_side="right")
    made._tokenizer.post_processor = __import__("tokenizers").processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", 1)]
    )
    generic = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", padding_side="right"
    )
    generic.save_pretrained(folder)


MERGES = ["c a", "t h", "th e</w>", "ca t</w>"]


def clip(folder: Path) -> None:
    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(merge.split()) for merge in MERGES)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *MERGES, ""]))


def simple(folder: Path, **settings: Any) -> SimpleTokenizer:
    path = folder / "bpe.gz"
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *MERGES]).encode()))
    made = SimpleTokenizer(str(path), context_length=CONTEXT, **settings)
    path.unlink()
    return made


CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "clip": (clip, {}),
    "bert": (bert, {}),
    "clipa": (bert, {"strip_sep_token": True}),
    "siglip": (t5, {"clean": "canonicalize"}),
    "siglip2": (gemma, {"clean": "canonicalize"}),
    "worldwide": (xlm, {}),
    "worldwide_lower": (xlm, {"clean": "lower"}),
    "mt5": (t5, {"clean": "canonicalize"}),
}


def case(make: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """One tokenizer's files, its settings and its ids."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(folder)
        text = {"context_length": CONTEXT}
        if make is clip:
            tokenizer: Any = simple(folder, **settings)
        else:
            tokenizer = HFTokenizer(name, context_length=CONTEXT, **settings)
            text["hf_tokenizer_name"] = "org/elsewhere"
        text |= {"tokenizer_kwargs": settings} if settings else {}
        files = {path.name: path.read_text() for path in sorted(folder.iterdir())}
        return {"files": files, "text_cfg": text, "ids": tokenizer(TEXTS).tolist()}


def main() -> None:
    """Write the file."""
    cases = {name: case(*given) for name, given in CASES.items()}
    content = json.dumps({"texts": TEXTS, "cases": cases}).encode()
    packed = lzma.compress(content, preset=9 | lzma.PRESET_EXTREME)
    (HERE / "tokens.json.xz").write_bytes(packed)
    print(f"{len(packed)} bytes")


if __name__ == "__main__":
    main()
