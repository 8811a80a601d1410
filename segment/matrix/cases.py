"""The combinations of the matrix, as data: results folders to make (MODELS) and what to
run with them (ROWS). make_matrix.py makes them.
"""
import types

import numpy as np
import torch

# ------------------------------------------------------------------------------- plans

UNET = "dynamic_network_architectures.architectures.unet."
RESAMPLE = "resample_data_or_seg_to_shape"


def unet(dims=3, features=(4, 6), strides=None, kernels=3, cls="PlainConvUNet", convs=1, decoder=1, norm="instancenorm.InstanceNorm", **kw):
    n = len(features)
    listed = lambda v, m: list(v) if isinstance(v, (list, tuple)) else [v] * m
    per_axis = lambda v: [listed(x, dims) for x in listed(v, n)]
    kwargs = {
        "n_stages": n, "features_per_stage": list(features), "conv_op": f"torch.nn.modules.conv.Conv{dims}d",
        "kernel_sizes": per_axis(kernels), "strides": per_axis(strides or [1] + [2] * (n - 1)),
        "n_conv_per_stage" if cls == "PlainConvUNet" else "n_blocks_per_stage": listed(convs, n),
        "n_conv_per_stage_decoder": listed(decoder, n - 1), "conv_bias": True,
        "norm_op": norm and f"torch.nn.modules.{norm}{dims}d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}, **kw}
    imports = ["conv_op", "norm_op", "dropout_op", "nonlin"] + (["block"] if "block" in kw else [])
    return {"architecture": {"network_class_name": UNET + cls, "arch_kwargs": kwargs, "_kw_requires_import": imports}}


def old_unet(cls="PlainConvUNet"):
    """The keys of plans before nnU-Net 2.4."""
    return {"UNet_class_name": cls, "UNet_base_num_features": 4, "unet_max_num_features": 6, "n_conv_per_stage_encoder": [1, 1, 1],
            "n_conv_per_stage_decoder": [1, 1], "num_pool_per_axis": [1, 2, 2], "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}


def spline(order, order_z=0, separate=None, **kw):
    return RESAMPLE, {"is_seg": False, "order": order, "order_z": order_z, "force_separate_z": separate, **kw}


def torch_resampling(**kw):
    return "resample_torch_fornnunet", {"is_seg": False, "memefficient_seg_resampling": False, **kw}


def config(patch, spacing, network=None, norm=("CTNormalization",), mask=None, data=spline(3), probabilities=spline(1), seg=None, **kw):
    c = {"data_identifier": "matrix", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": list(patch),
         "median_image_size_in_voxels": [float(n) for n in patch], "spacing": list(spacing), "normalization_schemes": list(norm),
         "use_mask_for_norm": list(mask or [False] * len(norm)), "batch_dice": False}
    seg = seg or (data[0], {**data[1], "is_seg": True, **({"order": 1} if "order" in data[1] else {})} if data[1] else {})
    for key, (fn, kwargs) in {"data": data, "seg": seg, "probabilities": probabilities}.items():
        c[f"resampling_fn_{key}"], c[f"resampling_fn_{key}_kwargs"] = fn, kwargs
    return {**c, **(network or unet(len(patch))), **kw}


CT = {"mean": 55.0, "std": 140.0, "min": -600.0, "max": 700.0, "median": 60.0, "percentile_00_5": -250.0, "percentile_99_5": 340.0}


def model(configurations, name="3d_fullres", labels=4, transpose=(0, 1, 2), folds=("0",), trainer="nnUNetTrainer", mirror=(0, 1, 2),
          checkpoints=("checkpoint_final.pth",), plans=None, dataset=None, **kw):
    """A results folder to make. labels: how many, or the dict of dataset.json. kw: images
    and previous to calibrate with; after: what befalls the checkpoint once nnU-Net has read it."""
    if "patch_size" in configurations:
        configurations = {name: configurations}
    channels = len(configurations[next(iter(configurations))]["normalization_schemes"])
    if isinstance(labels, int):
        labels = {"background": 0, **{f"organ{i}": i for i in range(1, labels)}}
    plans = {
        "dataset_name": "Dataset901_Matrix", "plans_name": "nnUNetPlans", "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [30, 30, 30], "image_reader_writer": "SimpleITKIO", "transpose_forward": list(transpose),
        "transpose_backward": [int(i) for i in np.argsort(transpose)], "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner", "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(c): CT for c in range(channels)}, **(plans or {})}
    dataset = {"channel_names": {str(c): f"channel{c}" for c in range(channels)}, "labels": labels, "numTraining": 20,
               "file_ending": ".nii.gz", **(dataset or {})}
    return types.SimpleNamespace(plans={k: v for k, v in plans.items() if v is not None}, dataset={k: v for k, v in dataset.items() if v is not None},
                                 configuration=name, folds=folds, trainer=trainer, mirror=mirror, checkpoints=checkpoints,
                                 case=kw.get("case", "iso"), channels=channels, previous=kw.get("previous"), after=kw.get("after"),
                                 dtype=kw.get("dtype"), onnx=kw.get("onnx", False), seed=kw.get("seed", 0), background=kw.get("background", 0.35))


ISO = ([16, 16, 16], [1.6, 1.5, 1.5])         # patch, spacing: coarser than the case iso
THICK = ([8, 20, 20], [4.0, 1.5, 1.4])        # for the case thick, 5 mm slices: separate_z
SMALL3 = dict(features=(4, 6, 8), convs=(1, 2, 1))
REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "rim": 3}


def anisotropic(**kw):
    return unet(features=(4, 6, 8), kernels=([1, 3, 3], [3, 3, 3], [3, 3, 3]), strides=([1, 1, 1], [1, 2, 2], [2, 2, 2]), **kw)


def residual(features=(4, 6, 8), cls="ResidualEncoderUNet", **kw):
    return unet(features=features, cls=cls, **{"convs": (1, 2, 2), **kw})


def resampled(data, probabilities, thick=False, **kw):
    patch, spacing = kw.pop("grid", THICK if thick else ISO)
    return model(config(patch, spacing, data=data, probabilities=probabilities), case="thick" if thick else "iso", **kw)


CASCADE = {"3d_lowres": config([16, 16, 16], [2.2, 2.0, 2.0], next_stage="3d_cascade_fullres"),
           "3d_cascade_fullres": config(*ISO, previous_stage="3d_lowres")}
THICK_CASCADE = {"3d_lowres": config([16, 8, 16], [1.5, 4.8, 1.4], norm=["ZScoreNormalization"], next_stage="3d_cascade_fullres"),
                 "3d_cascade_fullres": {"inherits_from": "3d_lowres", "patch_size": [20, 8, 20], "spacing": [1.2, 4.0, 1.3],
                                        "next_stage": None, "previous_stage": "3d_lowres"}}

def cascade(data, probabilities, seg):
    return model({"3d_lowres": config([8, 16, 16], [6.0, 2.0, 2.0], next_stage="3d_cascade_fullres"),
                  "3d_cascade_fullres": config(*THICK, data=data, probabilities=probabilities, seg=seg, previous_stage="3d_lowres")},
                 name="3d_cascade_fullres", previous="separate_z_0", case="thick")


MODELS = {
    "plain": model(config(*ISO, unet(**SMALL3))),
    "old_plans": model(config([8, 16, 16], [2.0, 1.5, 1.5], {**old_unet()}), plans={
        "foreground_intensity_properties_per_channel": None, "foreground_intensity_properties_by_modality": {"0": CT}},
        dataset={"channel_names": None, "modality": {"0": "CT"}}),
    "old_plans_residual": model(config([8, 16, 16], [2.0, 1.5, 1.5], {**old_unet("ResidualEncoderUNet")})),
    "inherits": model({"3d_fullres": config([24, 24, 24], [1.0, 1.0, 1.0], unet(features=(4, 8))),
                       "3d_fullres_coarse": {"inherits_from": "3d_fullres", "spacing": ISO[1]},
                       "my_config": {"inherits_from": "3d_fullres_coarse", "patch_size": ISO[0], "batch_size": 5}},
                      name="my_config", plans={"plans_name": "MyPlans_v2"}),

    "2d": model(config([24, 20], [1.5, 1.4], unet(2, features=(4, 6, 8))), name="2d", mirror=(0, 1), case="thick"),
    "2d_transposed": model(config([24, 20], [1.5, 1.4], unet(2, features=(4, 6, 8), convs=2), norm=["ZScoreNormalization"]), name="2d",
                           transpose=(1, 2, 0), mirror=(0, 1), case="border"),
    "2d_image": model(config([24, 24], [1.1, 1.2], unet(2, features=(4, 6, 8)), norm=["ZScoreNormalization"]), name="2d", mirror=(0, 1), case="flat"),
    "lowres": model(CASCADE, name="3d_lowres"),
    "cascade": model(CASCADE, name="3d_cascade_fullres", previous="lowres"),
    "thick_lowres": model(THICK_CASCADE, name="3d_lowres", transpose=(1, 0, 2), case="border"),
    "thick_cascade": model(THICK_CASCADE, name="3d_cascade_fullres", transpose=(1, 0, 2), case="border", previous="thick_lowres"),

    "cascade_regions": model(CASCADE, name="3d_cascade_fullres", previous="regions", labels=REGIONS, dataset={"regions_class_order": [1, 2, 3]}),
    "cascade_seg_orders": cascade(spline(3), spline(1), (RESAMPLE, {"is_seg": True, "order": 0, "order_z": 1, "force_separate_z": None})),
    "cascade_torch": cascade(torch_resampling(), torch_resampling(), torch_resampling(is_seg=True)),

    "resenc_m": model(config(*ISO, residual(convs=(1, 3, 4))), plans={"plans_name": "nnUNetResEncUNetMPlans"}),
    "resenc_l_anisotropic": model(config([8, 16, 16], [4.0, 1.5, 1.4], residual(
        convs=(1, 3, 4), kernels=([1, 3, 3], [3, 3, 3], [3, 3, 3]), strides=([1, 1, 1], [1, 2, 2], [2, 2, 2]))), case="thick",
        plans={"plans_name": "nnUNetResEncUNetLPlans"}),
    "resenc_xl_six_stages": model(config([32, 32, 32], ISO[1], residual((2, 2, 3, 3, 4, 4), convs=(1, 3, 4, 6, 6, 6), strides=(1, 2, 2, 2, 2, 1))),
                                  plans={"plans_name": "nnUNetResEncUNetXLPlans"}),
    "residual_decoder": model(config(*ISO, residual(cls="ResidualUNet", decoder=(1, 2)))),
    "bottleneck": model(config(*ISO, residual(features=(8, 8, 12), block="dynamic_network_architectures.building_blocks.residual.BottleneckD",
                                              bottleneck_channels=[2, 3, 4], stem_channels=6))),
    "trainer_bn": model(config(*ISO, unet(**SMALL3)), trainer="nnUNetTrainerBN"),
    "batchnorm_relu": model(config(*ISO, unet(norm="batchnorm.BatchNorm", nonlin="torch.nn.ReLU", conv_bias=False, **SMALL3))),
    "residual_batchnorm_2d": model(config([24, 24], [1.5, 1.4], unet(2, features=(4, 6, 8), cls="ResidualEncoderUNet", norm="batchnorm.BatchNorm",
                                                                     norm_op_kwargs={"eps": 1e-3, "momentum": 0.2})),
                                  name="2d", mirror=(0, 1), case="thick"),
    "no_affine_no_bias": model(config(*ISO, unet(norm_op_kwargs={"eps": 1e-5, "affine": False}, conv_bias=False, **SMALL3))),
    "nonlin_first_slope": model(config(*ISO, unet(nonlin_first=True, nonlin_kwargs={"negative_slope": 0.2, "inplace": True}, **SMALL3))),
    "no_norm": model(config(*ISO, unet(norm=None, norm_op_kwargs=None))),
    "dropout": model(config(*ISO, unet(dropout_op="torch.nn.modules.dropout.Dropout3d", dropout_op_kwargs={"p": 0.5, "inplace": True}, **SMALL3))),
    "anisotropic_kernels": model(config(*THICK, anisotropic()), case="thick"),

    "best": model(config(*ISO), checkpoints=("checkpoint_final.pth", "checkpoint_best.pth")),
    "prefix_module": model(config(*ISO), after="module."),
    "prefix_orig_mod_fp16": model(config(*ISO), after="_orig_mod.", dtype=torch.float16),
    "bf16": model(config(*ISO), dtype=torch.bfloat16),
    "no_deep_supervision": model(config(*ISO, unet(**SMALL3)), after="no heads", trainer="nnUNetTrainerNoDeepSupervision"),
    "mirror_partial": model(config(*ISO), mirror=(0, 2)),
    "mirror_none": model(config(*ISO), mirror=None, trainer="nnUNetTrainerNoMirroring"),
    "mirror_absent": model(config(*ISO), mirror="absent", folds=("all",)),

    "two_channels": model(config(*ISO, norm=["CTNormalization", "ZScoreNormalization"]), case="duo"),
    "three_schemes": model(config(*ISO, norm=["RescaleTo01Normalization", "RGBTo01Normalization", "NoNormalization"]), case="trio"),
    "zscore_mask": model(config(*ISO, norm=["ZScoreNormalization"], mask=[True]), case="border"),
    "zscore_border": model(config(*ISO, norm=["ZScoreNormalization"]), case="border"),
    "mask_two_channels": model(config(*ISO, norm=["ZScoreNormalization", "ZScoreNormalization"], mask=[True, False]), case="duo"),
    "mask_no_effect": model(config(*ISO, norm=["CTNormalization", "RescaleTo01Normalization"], mask=[True, True]), case="duo"),
    "mask_no_resampling": model(config([16, 16, 16], [1.0, 1.0, 1.2], norm=["ZScoreNormalization"], mask=[True]), case="border"),
    "transpose_210": model(config([20, 20, 8], [1.4, 1.5, 4.0]), transpose=(2, 1, 0), case="thick"),
    "transpose_120_crop": model(config([16, 16, 20], [1.4, 1.5, 1.6]), transpose=(1, 2, 0), case="border", mirror=(1,)),
    "reader_nibabel": model(config(*THICK), case="thick", plans={"image_reader_writer": "NibabelIO"}),
    "reader_nibabel_reorient": model(config([16, 16, 8], [1.5, 1.4, 4.0]), case="sagittal", plans={"image_reader_writer": "NibabelIOWithReorient"}),
    "reader_nibabel_reorient_crop": model(config(*ISO, norm=["ZScoreNormalization"]), transpose=(1, 0, 2), case="border",
                                          plans={"image_reader_writer": "NibabelIOWithReorient"}),
    "small_image": model(config([24, 16, 32], [1.2, 1.0, 1.0], unet(**SMALL3)), case="small"),

    "order_0_0": resampled(spline(0), spline(0)),
    "order_1_2": resampled(spline(1), spline(2)),
    "order_2_3": resampled(spline(2), spline(3)),
    "order_4_5": resampled(spline(4), spline(5)),
    "order_5_4": resampled(spline(5), spline(4)),
    "separate_z_0": resampled(spline(3), spline(1), thick=True),
    "separate_z_1": resampled(spline(3, 1), spline(1, 1), thick=True),
    "separate_z_3": resampled(spline(3, 3), spline(1, 3), thick=True),
    "separate_orders": resampled(spline(1, 2), spline(0, 1), thick=True),
    "separate_forced": resampled(spline(3, 0, True), spline(1, 0, True)),
    "separate_forced_z_1": resampled(spline(3, 1, True), spline(1, 1, True)),
    "separate_forbidden": resampled(spline(3, 0, False), spline(1, 0, False), thick=True),
    "separate_threshold": resampled(spline(3, 0, None, separate_z_anisotropy_threshold=1.15), spline(1, 0, None, separate_z_anisotropy_threshold=1.2)),
    "no_resampling": resampled(("no_resampling_hack", {}), ("no_resampling_hack", {})),
    "torch": resampled(torch_resampling(force_separate_z=False), torch_resampling(force_separate_z=False)),
    "torch_separate": resampled(torch_resampling(force_separate_z=None), torch_resampling(force_separate_z=None), thick=True),
    "torch_simple_same_size": resampled(("resample_torch_simple", {}), ("resample_torch_simple", {}), grid=([16, 16, 16], [1.5, 1.2, 1.2])),
    "torch_image_spline_logits": resampled(torch_resampling(), spline(1)),

    "regions": model(config(*ISO, unet(**SMALL3)), labels=REGIONS, dataset={"regions_class_order": [1, 2, 3]}),
    "regions_crop": model(config(*ISO), labels={**REGIONS, "ignore": 4}, dataset={"regions_class_order": [3, 1, 2]}, case="border"),
    "ignore": model(config(*ISO), labels={"background": 0, "a": 1, "b": 2, "ignore": 3}),
    "many_labels": model(config(*ISO, unet(features=(8, 8))), labels=300),
    "border": model(config(*ISO), case="border"),

    "three_folds": model(config(*ISO), folds=("0", "1", "2")),
    "ensemble_2d": model(config([24, 24], [1.5, 1.5], unet(2, features=(4, 6))), name="2d", mirror=(0, 1)),
    "ensemble_3d": model(config([16, 16, 16], [1.5, 1.5, 1.5])),
    "ensemble_regions_a": model(config(*ISO), labels=REGIONS, dataset={"regions_class_order": [1, 2, 3]}),
    "ensemble_regions_b": model(config([16, 16, 16], [2.0, 1.6, 1.6]), name="3d_lowres", labels=REGIONS, dataset={"regions_class_order": [1, 2, 3]}),

    "islands": model(config(*ISO), background=0.5),
    "islands_crop": model(config(*ISO), background=0.4, case="border"),

    "part_a": model(config(*ISO), labels=3),
    "part_b": model(config([16, 16, 16], [2.0, 1.8, 1.8]), labels=4, name="3d_lowres"),
    "part_c": model(config([24, 24], [1.5, 1.5], unet(2, features=(4, 6))), labels=3, name="2d", mirror=(0, 1)),

    "onnx": model(config(*ISO, unet(**SMALL3)), onnx=True),
}

# -------------------------------------------------------------------------------- rows


def row(name, subject, model=None, golden=None, **options):
    return {"name": name, "subject": subject, "model": model or name, "golden": golden or name, "options": options}


ROWS = [
    row("plain", "plans"),
    row("plain_mirror", "plans", "plain", mirror=True),
    row("old_plans", "plans"),
    row("old_plans_residual", "plans"),
    row("inherits", "plans"),
    row("2d", "configurations"),
    row("2d_mirror", "configurations", "2d", mirror=True),
    row("2d_transposed", "configurations"),
    row("2d_image", "configurations"),
    row("lowres", "configurations"),
    row("cascade_file", "configurations", "cascade", previous="golden/lowres/labels.nii.gz"),
    row("cascade_two_stages", "configurations", "cascade", None, "cascade_file", combine="cascade", first="golden/lowres/labels.nii.gz",
        models=[{"path": "models/lowres"}, {"path": "models/cascade"}]),
    row("cascade_thick_file", "configurations", "thick_cascade", previous="golden/thick_lowres/labels.nii.gz", mirror=True),
    row("cascade_regions", "configurations", previous="golden/regions/labels.nii.gz"),
    row("cascade_seg_orders", "configurations", previous="golden/separate_z_0/labels.nii.gz"),
    row("cascade_torch", "configurations", previous="golden/separate_z_0/labels.nii.gz"),
    row("thick_lowres", "configurations"),
    row("resenc_m", "networks"),
    row("resenc_l_anisotropic", "networks"),
    row("resenc_xl_six_stages", "networks"),
    row("residual_decoder", "networks"),
    row("bottleneck", "networks"),
    row("trainer_bn", "networks"),
    row("batchnorm_relu", "networks"),
    row("residual_batchnorm_2d", "networks"),
    row("no_affine_no_bias", "networks"),
    row("nonlin_first_slope", "networks"),
    row("no_norm", "networks"),
    row("dropout", "networks"),
    row("anisotropic_kernels", "networks"),
    row("checkpoint_best", "checkpoints", "best", checkpoint="checkpoint_best.pth"),
    row("prefix_module", "checkpoints"),
    row("prefix_orig_mod_fp16", "checkpoints"),
    row("bf16", "checkpoints"),
    row("no_deep_supervision", "checkpoints"),
    row("mirror_partial", "checkpoints", mirror=True),
    row("mirror_none", "checkpoints", mirror=True),
    row("mirror_absent", "checkpoints", mirror=True),
    row("two_channels_files", "inputs", "two_channels"),
    row("two_channels_4d", "inputs", "two_channels", None, "two_channels_files", four_d=True),
    row("three_schemes_files", "inputs", "three_schemes"),
    row("three_schemes_4d", "inputs", "three_schemes", None, "three_schemes_files", four_d=True),
    row("zscore_border", "inputs"),
    row("zscore_mask", "inputs"),
    row("mask_two_channels_4d", "inputs", "mask_two_channels", four_d=True),
    row("mask_no_effect_4d", "inputs", "mask_no_effect", four_d=True),
    row("mask_no_resampling", "inputs"),
    row("transpose_210", "inputs"),
    row("transpose_120_crop", "inputs", mirror=True),
    row("small_image", "inputs"),
    row("reader_nibabel", "inputs"),
    row("reader_nibabel_reorient", "inputs"),
    row("reader_nibabel_reorient_crop", "inputs", mirror=True),
    *[row(n, "resampling") for n in MODELS if n.startswith(("order_", "separate_", "no_resampling", "torch"))],
    row("regions", "labels"),
    row("regions_crop", "labels"),
    row("ignore", "labels"),
    row("many_labels", "labels"),
    row("folds_all", "ensembles", "three_folds"),
    row("folds_0_2", "ensembles", "three_folds", folds="0,2"),
    row("ensemble_2d_3d", "ensembles", "ensemble_2d", combine="ensemble", models=[{"path": "models/ensemble_2d"}, {"path": "models/ensemble_3d"}]),
    row("ensemble_regions", "ensembles", "ensemble_regions_a", combine="ensemble", models=[
        {"path": "models/ensemble_regions_a"}, {"path": "models/ensemble_regions_b"}]),
    row("post_foreground", "after", "islands_crop", postprocess=True),
    row("post_labels", "after", "islands", postprocess=True),
    row("post_regions", "after", "regions_crop", postprocess=True),
    row("probabilities", "after", "border", probabilities=True),
    row("probabilities_regions", "after", "regions_crop", probabilities=True),
    row("probabilities_mirror_folds", "after", "three_folds", probabilities=True, mirror=True),
    row("parts", "several models", "part_a", combine="parts", models=[
        {"path": "models/part_a", "labels": {"organ1": 3, "organ2": 1}}, {"path": "models/part_b", "labels": {"organ1": 2, "organ2": 6, "organ3": 4}},
        {"path": "models/part_c", "labels": {"organ1": 5, "organ2": 7}}]),
    row("parts_labels_left_out", "several models", "part_b", combine="parts", models=[
        {"path": "models/part_b", "labels": {"organ1": 1, "organ3": 2}}, {"path": "models/part_a", "labels": {"organ2": 300}}]),
    row("onnx_11", "onnx", "onnx", None, "onnx", onnx="models/onnx/opset11.onnx"),
    row("onnx_13_dynamic_batch", "onnx", "onnx", None, "onnx", onnx="models/onnx/opset13.onnx"),
    row("onnx_17_deep_supervision", "onnx", "onnx", None, "onnx", onnx="models/onnx/opset17.onnx"),
    row("onnx_21", "onnx", "onnx", None, "onnx", onnx="models/onnx/opset21.onnx"),
]
