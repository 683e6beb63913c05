"""How OpenCLIP prepares texts, in the words of transformers' tokenizers."""

from __future__ import annotations

from tasks.clip.openclip_document import Document

TOKENIZER_KEYS = ("hf_tokenizer_name", "tokenizer_kwargs")


def odd_tokenizer(document: Document) -> str | None:
    """A setting of the tokenizer that is not known."""
    del document
    return None
