"""The nearest of known names, and the question about it."""

from __future__ import annotations

from artifacts.nearest import meant, nearest


def test_the_nearest_of_names() -> None:
    assert nearest("trtrtx-sm88", ("onnxruntime", "trtrtx-sm89")) == "trtrtx-sm89"
    assert nearest("x", ("onnxruntime",)) is None
    assert (meant("a"), meant(None)) == ("did you mean a? ", "")
