"""The published models of all families."""

from __future__ import annotations

from tests.conformance.facts.clip import CLIP
from tests.conformance.facts.multilingual import ALTCLIP, CHINESE_CLIP, METACLIP_2
from tests.conformance.facts.siglip import SIGLIP_1_AND_2

ALL = (*CLIP, *METACLIP_2, *SIGLIP_1_AND_2, *CHINESE_CLIP, *ALTCLIP)
