"""How much of a source is read, each number with its reason: more is refused, or left out and counted, by its bytes.

Whoever publishes a set chooses its bytes, and what they unpack to. What is counted here is counted before it is held.
"""

from __future__ import annotations

from artifacts.limits import Limits

PICTURE_BYTES = 256 << 20
"""Of one picture's file: 64 million pixels in 16-bit RGB without any compression are 384 MB, and no set has such."""
SCANS = 200
"""Of a JPEG: each is a pass over all pixels. Encoders write about ten, and a thumbnail has its own."""
TEXT_BYTES = 64 << 10
"""Of the text beside a picture, or one caption of a table: no text encoder takes more than some kB."""
CAPTIONS = 10_000
"""Of one picture: COCO has five, and the most that research sets have is some hundred."""
TABLE = Limits(bytes=256 << 20, values=32_000_000)
"""A table of captions or labels, COCO's document: 92 MB and 4 million values for its 600,000 captions."""
LINE = Limits(bytes=1 << 20, values=100_000)
"""A line of JSON: one picture, its captions and what is known of it."""
ROWS = 4_000_000
"""Of a table: CC3M has 3.3 million."""
NAMES_BYTES = 4 << 20
"""Of `classnames.txt` and `templates.txt`: the 21,841 names of ImageNet-21k are 0.5 MB."""
PROMPTS = 10_000_000
"""Class names times templates: ImageNet-21k with CLIP's 80 templates has 1.7 million."""
HEADER_BYTES = 1 << 20
"""Of one header of a tar file: a long name, or attributes; some hundred bytes."""
GLOBAL_HEADERS = 100
"""Attributes that a tar file states for all members to come, and tarfile copies for each: git writes one."""
MEMBERS = 8_000_000
"""Of all shards of a set: ImageNet's training set has 1.3 million pictures, each with its class."""
PARQUET_FOOTER = 16 << 20
"""What describes a Parquet file's columns: some kB, or a few MB with thousands of row groups."""
PARQUET_PARTS = 200_000
"""Column chunks of a Parquet file: row groups times columns."""
PARQUET_BYTES = 1 << 30
"""What the columns of a Parquet file that are read may unpack to: names, captions and labels."""
