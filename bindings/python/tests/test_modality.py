"""Images of another modality than the model's are doubted, and no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flare.modality import doubt

CT = {"channels": ["CT"], "normalization": ["CTNormalization"]}
NAMED_CT = {"channels": ["CT (portal venous)"], "normalization": ["ZScoreNormalization"]}
MR = {"channels": ["T2", "ADC"], "normalization": ["ZScoreNormalization"] * 2}
UNKNOWN = {"channels": ["0"], "normalization": ["ZScoreNormalization"]}
AIR, NONE = np.array([-1024, 50]), np.array([0, 50])


@pytest.mark.parametrize(
    ("description", "voxels", "modality", "says"),
    [
        (CT, AIR, "", ""),
        (CT, NONE, "", "lowest value of the image is 0. Is it a CT?"),
        (CT, NONE, "CT", ""),
        (CT, AIR, "MR", "modality is MR"),
        (NAMED_CT, AIR, "PT", "modality is PT"),
        (MR, NONE, "", ""),
        (MR, AIR, "", "for T2, ADC, but the image seems to be a CT"),
        (MR, NONE, "CT", "seems to be a CT"),
        (MR, AIR, "MR", ""),
        (UNKNOWN, AIR, "", ""),
        (UNKNOWN, AIR, "CT", ""),
    ],
)
def test_doubt(description: dict[str, Any], voxels: Any, modality: str, says: str) -> None:
    told = doubt(description, voxels, modality)
    assert says in told and bool(told) == bool(says)
