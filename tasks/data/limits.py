"""How much of a source is read, each number with its reason: more is refused, or left out and counted.

The publisher of a set may choose any bytes, and what they unpack to. So everything is counted before it is loaded.
"""

from __future__ import annotations

from artifacts.limits import Limits

PICTURE_BYTES = 256 << 20
"""Bytes of a picture's file: 64 million pixels in uncompressed 16-bit RGB have 384 MB, and no set has such pictures."""
SCANS = 200
"""Scans of a JPEG, each a pass over all pixels: encoders write about ten, and a thumbnail has its own."""
TEXT_BYTES = 64 << 10
"""Bytes of the text beside a picture, or of one caption in a table: no text encoder uses more than some kB."""
CAPTIONS = 10_000
"""Captions of one picture: COCO has five, and other research sets have some hundred at most."""
TABLE = Limits(bytes=256 << 20, values=32_000_000)
"""A table of captions or labels, COCO's document: 92 MB and 4 million values for its 600,000 captions."""
LINE = Limits(bytes=1 << 20, values=100_000)
"""A line of JSON: one picture with its captions and metadata."""
ROWS = 4_000_000
"""Rows of a table: CC3M has 3.3 million."""
NAMES_BYTES = 4 << 20
"""Bytes of `classnames.txt` and `templates.txt`: the 21,841 names of ImageNet-21k have 0.5 MB."""
PROMPTS = 10_000_000
"""Prompts, which are class names times templates: ImageNet-21k with CLIP's 80 templates has 1.7 million."""
HEADER_BYTES = 1 << 20
"""Bytes of one header of a tar file, such as a long name or attributes: usually some hundred."""
GLOBAL_HEADERS = 100
"""Attributes that a tar file sets for all later members, and which tarfile copies for each of them: git writes one."""
MEMBERS = 8_000_000
"""Members of all shards of a set: ImageNet's training set has 1.3 million pictures, each with a class."""
PARQUET_FOOTER = 16 << 20
"""Bytes of a Parquet file's footer: some kB, or a few MB with thousands of row groups."""
PARQUET_PARTS = 200_000
"""Column chunks of a Parquet file: row groups times columns."""
PARQUET_BYTES = 1 << 30
"""Bytes that the columns that are read from a Parquet file (names, captions, labels) may unpack to."""
