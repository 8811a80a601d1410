"""Goldens for segment/preprocess: what nnU-Net 2.8.1's DefaultPreprocessor makes of
small images with zero borders.

Run in a scratch environment with nnunetv2==2.8.1:  python make_goldens.py
"""

import functools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape

here = Path(__file__).parent
CT = {"mean": 83.7, "std": 144.8, "percentile_00_5": -200.0, "percentile_99_5": 291.0}
CASES = {  # name: dtype, shape, spacing, target spacing, transpose, schemes
    "ct": ("int16", (10, 14, 12), (2.0, 0.7, 0.7), (2.5, 1.4, 1.4), (0, 1, 2), ["CTNormalization"]),
    "zscore": ("float32", (10, 14, 12), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0, 1, 2), ["ZScoreNormalization"]),
    "two_channels": ("uint16", (10, 9, 12), (1.0, 1.2, 1.0), (1.5, 1.0, 1.0), (1, 2, 0),
                     ["RescaleTo01Normalization", "ZScoreNormalization"]),
    "none": ("float64", (6, 14, 12), (6.0, 1.0, 1.0), (4.0, 1.5, 1.0), (0, 1, 2), ["NoNormalization"]),
    "rgb": ("uint8", (3, 14, 12), (1.0, 1.0, 1.0), (1.0, 1.5, 1.5), (2, 0, 1), ["RGBTo01Normalization"]),
    "masked": ("float32", (12, 14, 13), (1.0, 1.2, 1.0), (1.3, 1.0, 1.0), (2, 0, 1), ["ZScoreNormalization", "CTNormalization"]),
    "masked_same": ("int16", (12, 14, 13), (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0, 1, 2), ["ZScoreNormalization"]),
    "flat": ("int32", (10, 14, 12), (1.0, 1.0, 1.0), (1.0, 1.5, 1.0), (0, 1, 2), ["CTNormalization"]),
}
rng = np.random.default_rng(7)
index = []
for name, (dtype, shape, spacing, target, transpose, schemes) in CASES.items():
    channels = len(schemes)
    image = rng.normal(60, 120, size=(channels, *shape))
    if dtype in ("uint8", "uint16"):
        image = np.abs(image)
    image = np.clip(image, None, 255).astype(dtype)
    border = np.zeros(shape, bool)
    border[2:, 1:-3, 3:-1] = True
    image[:, ~border] = 0
    if channels > 1:
        image[1, 1, 5, 5] = 9  # the box is that of all channels
    image[:, 4:5, 5:7, 5:8] = 0  # a hole, not a border
    if name.startswith("masked"):
        image[:, :6, 2:4, 9:] = 0  # a notch that reaches the crop's faces: no hole
        image[:, 5:, 9:, 3:5] = 0
    preprocessor = DefaultPreprocessor(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        image, None, {"spacing": spacing},
        SimpleNamespace(transpose_forward=transpose,
                        foreground_intensity_properties_per_channel={str(c): CT for c in range(channels)}),
        SimpleNamespace(spacing=list(target), normalization_schemes=schemes, use_mask_for_norm=[name.startswith("masked")] * channels,
                        resampling_fn_data=functools.partial(resample_data_or_seg_to_shape, is_seg=False, order=3, order_z=0, force_separate_z=None),
                        resampling_fn_seg=functools.partial(resample_data_or_seg_to_shape, is_seg=True, order=1, order_z=0, force_separate_z=None)),
        {})
    np.save(here / f"{name}_in.npy", image)
    np.save(here / f"{name}_data.npy", data.astype(np.float32))
    index.append({"name": name, "dtype": dtype, "spacing": spacing, "target": target, "transpose": transpose,
                  "schemes": schemes, "mask": name.startswith("masked"), "box": [[int(i) for i in b] for b in properties["bbox_used_for_cropping"]]})
(here / "cases.json").write_text(json.dumps(index, indent=1) + "\n")
