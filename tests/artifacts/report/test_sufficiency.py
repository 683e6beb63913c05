"""The sentence on whether more calibration samples would help."""

from __future__ import annotations

import pytest

from artifacts.manifest import Row
from artifacts.report.sufficiency import sentences
from artifacts.schema import check_rows


def curve(encoder: str, *helped: str | None) -> list[Row]:
    """A point for each, of 10, 20, 40 and so on samples; each brings a thousandth of cosine."""
    return [
        {
            "encoder": encoder,
            "samples": 10 * 2**step,
            "method": "max",
            "cosine_mean": 0.99 + step / 1000,
            "snr_db": None,
            "amax_change": 0.2 if more == "yes" else 0.0,
            "quantizer": "fc1.input_quantizer",
            "more_helped": more,
        }
        for step, more in enumerate(helped)
    ]


@pytest.mark.parametrize(
    ("helped", "sentence"),
    [
        (("yes", "no", "no", None), "more data stopped helping at 20 of 80 samples."),
        (("no", "no", None), "more data stopped helping at 10 of 40 samples."),
        # An early plateau that ends counts for nothing.
        (("no", "yes", "no", None), "more data stopped helping at 40 of 80 samples."),
        ((None,), "too few samples (10) to say whether more would help."),
        (
            ("no", "yes", None),
            "not yet enough: from 20 to 40 samples the held-out cosine changed by +0.001 "
            "and the amax of fc1.input_quantizer by 20.0 %.",
        ),
    ],
    ids=str,
)
def test_the_sentence(helped: tuple[str | None, ...], sentence: str) -> None:
    rows = curve("image", *helped)
    check_rows("sufficiency", rows)
    assert sentences(rows) == [f"image: {sentence}"]


def test_every_encoder_has_its_own() -> None:
    found = sentences([*curve("image", "no", None), *curve("text", "yes", None)])
    assert [sentence.split()[:2] for sentence in found] == [["image:", "more"], ["text:", "not"]]


def test_nothing_asked_nothing_said() -> None:
    assert sentences([]) == []
