"""Numbers in words, against what people expect to read."""

from __future__ import annotations

import pytest

from artifacts import number_words as words

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (words.megabytes(0), "0.0 MB"),
        (words.megabytes(12_345), "0.012 MB"),
        (words.megabytes(1_234_567_890), "1,234.6 MB"),
        (words.megabytes(2_000_000, 2), "2.00 MB"),
        (words.megabytes(19_600_000, 0), "20 MB"),
        (words.millions(151_277_313), "151.3 M"),
        (words.counted(1, "release"), "1 release"),
        (words.counted(0, "release"), "0 releases"),
        (words.moment("2026-02-03T04:05:06+00:00"), "2026-02-03 04:05"),
        (words.about(0.2), "1 s"),
        (words.about(59.4), "59 s"),
        (words.about(100), "2 min"),
        (words.about(3 * 3600 + 125), "3 h 2 min"),
        (words.given(None, "{:.2f} ms"), "-"),
        (words.given(None, "{:.2f} ms", ""), ""),
        (words.given(0.0, "{:.2f} ms"), "0.00 ms"),
        (words.interval(0.5, 1.25, "{:.2f}"), " (0.50 to 1.25)"),
        (words.interval(0.5, 1.25, "{:.1f}", "95 % interval "), " (95 % interval 0.5 to 1.2)"),
        (words.interval(None, 1.25, "{:.2f}"), ""),
        (words.percent(0.1234), "12.3 %"),
        (words.percent(-0.5, 0), f"{MINUS}50 %"),
        (words.percent_change(0.5), "+50.0 %"),
        (words.percent_change(-0.015), f"{MINUS}1.5 %"),
        (words.points(0.0312, 2), "+3.12 points"),
        (words.points(-0.00001), "0.0 points"),
        (words.points_range(-0.01, 0.02), f"{MINUS}1.0 to +2.0"),
        (words.loss(-0.012), f"{MINUS}1.20 points"),
        (words.loss(-0.0), "0.00 points"),
        (words.quantity(None), words.NONE),
        (words.quantity(True), "yes"),
        (words.quantity(2_500_000, "bytes"), "2.5 MB"),
        (words.quantity(0.5, "ms"), "0.5000"),
        (words.quantity(1234.0, "ms"), "1,234"),
        (words.quantity(1.5, "ratio"), "1.50x"),
        (words.metric("top1", 0.98765), "98.77 %"),
        (words.metric("top1_difference", -0.01), f"{MINUS}1.00 points"),
        (words.metric("cosine_mean", 0.99991234), "0.999912"),
        (words.metric("top1_mcnemar_p", 0.0123), "0.012"),
        (words.metric("snr_db", None), words.NONE),
    ],
)
def test_what_people_read(said: str, expected: str) -> None:
    assert said == expected
