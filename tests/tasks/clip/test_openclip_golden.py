"""Kinds that are run by transformers' classes compute what OpenCLIP and timm compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.clip import openclip
from tests.tasks.clip.openclip_golden import golden, shrink
from tests.tasks.families.support import cosines

KINDS = {
    "siglip": "openclip_siglip",
    "siglip2": "openclip_siglip",
    "worldwide": "openclip_metaclip2",
    "layer_scale": "openclip",
}


@pytest.mark.parametrize("exposed", [False, True])
@pytest.mark.parametrize("name", KINDS)
def test_fp32_is_openclips(name: str, exposed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden(name, tmp_path)
    shrink(model.folder, monkeypatch)
    kind, stored = openclip.identify(model.folder)
    assert kind.name == KINDS[name]
    loaded = kind.load(model.folder, kind.resolve_config(stored), "eager")
    if exposed:
        kind.expose(loaded)
    with torch.no_grad():
        for encoder, given, expected in (("image", model.pixels, model.image), ("text", model.ids, model.text)):
            got = kind.encode(loaded, encoder, torch.from_numpy(given)).numpy()
            assert cosines(got, expected).min() >= 0.999999
            assert np.abs(got - expected).max() < 5e-6
