"""nnU-Net's side of the benchmark; runs in an interpreter that has nnunetv2.

    python peer.py versions
    FLARE_BENCH_LOG=LOG python peer.py segment MODEL CT OUT THREADS

segment does with one CT what the command nnUNetv2_predict_from_modelfolder does (-f 0
--disable_tta -device cpu, and PROCESSES of -npp and -nps). MODEL is a results folder, or a
folder with model.onnx and plans.json, whose network then runs in ONNX Runtime while nnU-Net
does everything else. LOG receives when each phase began and ended, a line of JSON for each.

nnU-Net starts further processes; they load this file too, so that their phases are logged.
"""
import json
import os
import sys
import tempfile
import time
from pathlib import Path

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, tempfile.gettempdir())  # nnU-Net asks for them and does not use them here

import torch
import nnunetv2.inference.export_prediction as export
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor

PROCESSES = 3  # the default of -npp and -nps


def log(phase, owner, name):
    """Wraps owner.name so that its times are logged."""
    inner = getattr(owner, name)

    def wrapper(*args, **kwargs):
        begin = time.time()
        try:
            return inner(*args, **kwargs)
        finally:
            with open(os.environ["FLARE_BENCH_LOG"], "a") as f:
                f.write(json.dumps({"phase": phase, "begin": begin, "end": time.time()}) + "\n")

    setattr(owner, name, wrapper)


if "FLARE_BENCH_LOG" in os.environ:
    log("read", SimpleITKIO, "read_images")
    log("preprocess", DefaultPreprocessor, "run_case_npy")
    log("network", nnUNetPredictor, "predict_logits_from_preprocessed_data")
    log("export", export, "convert_predicted_logits_to_segmentation_with_correct_shape")
    log("write", SimpleITKIO, "write_seg")


def onnx_network(path, threads):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (image,), (logits,) = session.get_inputs(), session.get_outputs()

    class Network(torch.nn.Module):
        def forward(self, x):
            return torch.from_numpy(session.run([logits.name], {image.name: x.numpy()})[0])

    return Network(), logits.shape[1]


def predictor_of(model, threads):
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    if not (model / "model.onnx").is_file():
        predictor.initialize_from_trained_model_folder(str(model), (0,), "checkpoint_final.pth")
        return predictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    plans = PlansManager(str(model / "plans.json"))
    configuration = plans.get_configuration(plans.available_configurations[0])
    network, heads = onnx_network(model / "model.onnx", threads)
    dataset = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **{str(i): i for i in range(1, heads)}},
               "numTraining": 1, "file_ending": ".nii.gz"}
    predictor.manual_initialization(network, plans, configuration, [{}], dataset, "nnUNetTrainer", None)
    return predictor


def segment(model, ct, out, threads):
    torch.set_num_threads(threads)
    predictor_of(model, threads).predict_from_files([[str(ct)]], [str(out).removesuffix(".nii.gz")], False, True, PROCESSES, PROCESSES)


def versions():
    from importlib.metadata import PackageNotFoundError, version
    out = {}
    for package in ("nnunetv2", "torch", "onnxruntime"):
        try:
            out[package] = version(package)
        except PackageNotFoundError:
            pass
    print(json.dumps(out))


if __name__ == "__main__":
    if sys.argv[1:] == ["versions"]:
        versions()
    else:
        _, _, model, ct, out, threads = sys.argv
        segment(Path(model), Path(ct), Path(out), int(threads))
