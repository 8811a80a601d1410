"""Does nnU-Net predict with an exported folder what libflare predicts?

python check_export.py FLARE RUN IMAGE..: exports RUN with the program FLARE to a results
folder and a bundle, lets nnU-Net 2.8.1 (float32 accumulators, mirroring) and libflare
predict the images, and prints for each how many of the voxels that either calls foreground
have the same label. Ends with an error below 99.98 %, or where torch's own loader or
nnU-Net's strict one refuses the checkpoint.
"""
import os, subprocess, sys, tempfile
import numpy as np
import SimpleITK as sitk
import torch

torch.half = torch.float  # logits are summed in float32
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor  # noqa: E402

flare, run, images = sys.argv[1], sys.argv[2], sys.argv[3:]
worst = 1.0
with tempfile.TemporaryDirectory() as work:
    folder, bundle = os.path.join(work, "exported"), os.path.join(work, "model.onnx")
    for out in folder, bundle:
        subprocess.run([flare, "export", run, out], check=True)
    fold = next(name for name in os.listdir(folder) if name.startswith("fold_"))
    checkpoint = torch.load(os.path.join(folder, fold, "checkpoint_final.pth"), map_location="cpu", weights_only=False)
    axes = checkpoint["inference_allowed_mirroring_axes"]
    predictor = nnUNetPredictor(tile_step_size=0.5, use_gaussian=True, use_mirroring=bool(axes), perform_everything_on_device=False,
                                device=torch.device("cpu"), verbose=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(folder, (fold[5:],), "checkpoint_final.pth")
    for image in images:
        name = os.path.basename(image).split(".")[0].removesuffix("_0000")
        theirs, ours = os.path.join(work, name), os.path.join(work, name + "_flare.nii.gz")
        predictor.predict_from_files_sequential([[image]], [theirs], save_probabilities=False, overwrite=True)
        subprocess.run([flare, "segment", image, ours, "--model", bundle] + (["--mirror"] if axes else []), check=True)
        a, b = (sitk.GetArrayFromImage(sitk.ReadImage(f)) for f in (theirs + ".nii.gz", ours))
        foreground = (a > 0) | (b > 0)
        agreement = float((a == b)[foreground].mean()) if foreground.any() else 1.0
        worst = min(worst, agreement)
        print(f"{name}: {int(foreground.sum())} foreground voxels, {100 * agreement:.4f} % equal", flush=True)
print(f"{len(images)} images, least agreement {100 * worst:.4f} %")
if worst < 0.9998:
    sys.exit("below 99.98 %")
