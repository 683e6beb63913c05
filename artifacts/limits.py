"""How large the records of a store may be, each number with its reason: what is larger is refused before it is parsed.

Whoever sends a release chooses its bytes. What is counted here is counted on those bytes, so that refusing costs little
memory and time however they were chosen. A release of the largest CLIP known, with engines for five targets, has a
manifest of about 0.6 MB: 1,500 rows in its tables, some hundred files and 25,000 values.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_NUMBER = 999_999_999
"""Of a version, an alias's entry, a signature: what the names of files hold, nine digits (`artifacts.store.layout`)."""
LARGEST_LEAP = 100_000
"""From the highest version here to that of a release that comes in: a nightly of ten variants publishes that many in 27
years, and ten thousand releases of this leap would have to come in before the numbers ran out."""
LARGEST_SEQUENCE = 10**15
"""Of releases in a store: only their order counts, so publishing goes on at the end of the numbers."""
LARGEST_SIZE = 2**63 - 1
"""Bytes of a file, and any number in a table: what file systems, Arrow and pandas hold, and plots can be drawn of."""
FILES = 10_000
"""Of a release: graphs, engines, evidence and the checkpoint are hundreds at most."""
GATES = 10_000
"""Results of gates: some for each encoder, target and metric, a hundred at most."""
ROWS = 30_000
"""Of one table: coverage, the longest, has a row per module, which is below 2,000 for every model published."""
CELL = 16 << 10
"""Characters in one cell: a builder's reason for refusing a graph is the longest, some hundred."""
OTHER_VALUES = 50_000
"""Values of a manifest outside its tables and files: parameters, packages, and a recipe of up to 1 MB."""
TEXT = 64 << 10
"""Characters in one text of a manifest outside its tables."""
DEPTH = 32
"""Lists and mappings inside each other: recipes, the deepest, have eight."""
SIGNATURES = 1_000
"""Of one release; also their highest number."""
PARQUET_ROWS = 2_000_000
"""Of a Parquet file of a release: samples of calibration and evaluation, of which ImageNet's validation has 50,000."""
PARQUET_BYTES = 512 << 20
"""What the columns of a Parquet file may unpack to: two million names of samples of 200 characters, and more."""
PARQUET_FOOTER = 4 << 20
"""What describes a Parquet file's columns: a few kB for tables of twenty columns."""
THUMBNAIL = 256 << 10
"""Characters of a picture in a report, as the text of a data URI: 3,000 as a rule."""
PICKLE = 8 << 20
"""Bytes of a `modelopt_state.pth` that is read as a pickle: that of ViT-L/14 has 0.4 MB."""
ARRAY_HEADER = 4 << 10
"""Bytes of the header of a `.npy` file: ours have 118."""
PARQUET_PAGES = 100_000
"""Pages of a Parquet file: one for each MB or 20,000 rows of a column."""
PARQUET_PARTS = 10_000
"""Column chunks of a Parquet file: row groups times columns."""


@dataclass(frozen=True)
class Limits:
    """Of one kind of record: its bytes, and the values (texts, numbers, lists, mappings) that those may hold.

    Each value but the first follows a comma or an opening bracket, so that these are counted instead: their number is
    known before anything is parsed. Those inside of texts are counted too.
    """

    bytes: int
    values: int


RECORD = Limits(bytes=1 << 20, values=100_000)
"""Headers, aliases' entries, tombstones, the ledger's entries: a dozen values, one of them a reason in words."""
MANIFEST = Limits(bytes=8 << 20, values=400_000)
SIGNATURE = Limits(bytes=8 << 20, values=400_000)
"""Its bundle is one text that names every file of a release, 300 bytes each."""
RESULT = MANIFEST
"""What a step returned: rows of tables, which a manifest has to hold."""
EVIDENCE = Limits(bytes=128 << 20, values=8_000_000)
"""Samples behind the tables as JSON: a cosine per sample and engine, an index or a text per embedding."""
INDEX = Limits(bytes=256 << 20, values=40_000_000)
"""Ours, and made anew when it is larger: 600 bytes a release."""
