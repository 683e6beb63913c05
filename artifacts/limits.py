"""How large the records of a store may be, each number with its reason: larger ones are refused before they are parsed.

A sender may choose any bytes. These limits are counted on the bytes before parsing, so that a refusal costs little
memory and time whatever the bytes are. A release of the largest CLIP known, with engines for five targets, has a
manifest of about 0.6 MB: 1,500 rows in its tables, some hundred files and 25,000 values.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_NUMBER = 999_999_999
"""Largest number of a version, an alias's entry or a signature: file names hold nine digits (`store/layout.py`)."""
LARGEST_LEAP = 100_000
"""How far the version of an incoming release may be above the highest version here. A nightly run of ten variants
publishes that many in 27 years, and ten thousand such leaps would be needed before the numbers ran out."""
LARGEST_SEQUENCE = 10**15
"""Largest sequence number of a release in a store; only the order counts, so publishing goes on after the last one."""
LARGEST_SIZE = 2**63 - 1
"""Largest size of a file in bytes, and number in a table: file systems, Arrow, pandas and plots can handle it."""
FILES = 10_000
"""Files of a release: graphs, engines, evidence and the checkpoint are hundreds at most."""
GATES = 10_000
"""Results of gates: some for each encoder, target and metric, a hundred at most."""
ROWS = 30_000
"""Rows of one table: coverage, the longest, has a row per module, below 2,000 for every published model."""
CELL = 16 << 10
"""Characters in one cell: the longest, a builder's reason for refusing a graph, has some hundred."""
OTHER_VALUES = 50_000
"""Values of a manifest outside its tables and files: parameters, packages, and a recipe of up to 1 MB."""
TEXT = 64 << 10
"""Characters in one text of a manifest outside its tables."""
DEPTH = 32
"""Nesting depth of lists and mappings: recipes, the deepest, have eight levels."""
SIGNATURES = 1_000
"""Signatures of one release; also the highest number of one."""
PARQUET_ROWS = 2_000_000
"""Rows of a release's Parquet file: samples of calibration or evaluation; ImageNet's validation set has 50,000."""
PARQUET_BYTES = 512 << 20
"""Bytes that a Parquet file's columns may unpack to: enough for two million sample names of 200 characters."""
PARQUET_FOOTER = 4 << 20
"""Bytes of a Parquet file's footer: a few kB for tables of twenty columns."""
THUMBNAIL = 256 << 10
"""Characters of a thumbnail in a report, as a data URI: usually 3,000."""
PICKLE = 8 << 20
"""Bytes of the pickle in a `modelopt_state.pth`: that of ViT-L/14 has 0.4 MB."""
ARRAY_HEADER = 4 << 10
"""Bytes of the header of a `.npy` file: ours have 118."""
PARQUET_PAGES = 100_000
"""Pages of a Parquet file: one for each MB or 20,000 rows of a column."""
PARQUET_PARTS = 10_000
"""Column chunks of a Parquet file: row groups times columns."""


@dataclass(frozen=True)
class Limits:
    """Limits of one kind of record: its bytes, and the values (texts, numbers, lists, mappings) in it.

    Each value but the first follows a comma or an opening bracket, so commas and opening brackets are counted instead,
    those inside texts included: their number is known before anything is parsed.
    """

    bytes: int
    values: int


RECORD = Limits(bytes=1 << 20, values=100_000)
"""Headers, aliases' entries, tombstones, the ledger's entries: a dozen values, one of them a reason in words."""
MANIFEST = Limits(bytes=8 << 20, values=400_000)
SIGNATURE = Limits(bytes=8 << 20, values=400_000)
"""A signature's bundle is one text that names every file of a release, 300 bytes each."""
RESULT = MANIFEST
"""What a step returned: rows of tables, which a manifest has to hold."""
EVIDENCE = Limits(bytes=128 << 20, values=8_000_000)
"""Samples behind the tables as JSON: a cosine per sample and engine, an index or a text per embedding."""
INDEX = Limits(bytes=256 << 20, values=40_000_000)
"""The store's index, 600 bytes per release; a larger one is made anew."""
