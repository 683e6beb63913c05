"""A user's checkpoint: the pinned snapshot, its tokenizer and image processor, and retries of hub requests."""
