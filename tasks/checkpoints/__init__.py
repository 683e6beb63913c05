"""A checkpoint as people have it: the pinned snapshot, its tokenizer and image processor, patience with the hub."""
