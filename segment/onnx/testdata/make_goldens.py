"""Makes the golden networks of this folder: small results folders of nnU-Net
with random weights, an input and PyTorch's output.

Run in an environment with nnunetv2 2.8.1:

    python make_goldens.py

Weights are He-initialised by nnU-Net itself; norms and biases are then drawn
at random, so that a swapped or ignored one shows. Outputs are computed in
float64. check.py compares them with ONNX Runtime.
"""
import collections
import json
import pathlib
import shutil

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.network_architecture.nnUNetTrainerBN import nnUNetTrainerBN
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

HERE = pathlib.Path(__file__).parent
UNET = "dynamic_network_architectures.architectures.unet."
RESAMPLE = "resample_data_or_seg_to_shape"


def architecture(name, dims, **kwargs):
    norm = kwargs.pop("norm", "instancenorm.InstanceNorm")
    return {
        "network_class_name": UNET + name,
        "arch_kwargs": {
            "conv_op": f"torch.nn.modules.conv.Conv{dims}d", "conv_bias": True,
            "norm_op": f"torch.nn.modules.{norm}{dims}d", "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None, "dropout_op_kwargs": None, "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
            **kwargs,
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"] + (["block"] if "block" in kwargs else []),
    }


# name -> patch, channels, heads, folds, architecture or the keys of old plans
CASES = {
    "plain3d": ([8, 16, 16], 1, 3, 1, architecture(
        "PlainConvUNet", 3, n_stages=3, features_per_stage=[4, 6, 8], kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]], n_conv_per_stage=[2, 1, 2], n_conv_per_stage_decoder=[2, 1])),
    "plain2d_batchnorm_relu": ([16, 32], 2, 4, 1, architecture(
        "PlainConvUNet", 2, norm="batchnorm.BatchNorm", n_stages=3, features_per_stage=[4, 8, 8], kernel_sizes=3, strides=[1, 2, 2],
        n_conv_per_stage=2, n_conv_per_stage_decoder=1, conv_bias=False, norm_op_kwargs={"eps": 1e-3, "momentum": 0.2},
        nonlin="torch.nn.ReLU")),
    "plain3d_noaffine_nonlinfirst": ([8, 8, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 3, n_stages=2, features_per_stage=[4, 8], kernel_sizes=[[3, 3, 3], [3, 1, 5]], strides=[1, [1, 1, 2]],
        n_conv_per_stage=[1, 2], n_conv_per_stage_decoder=[1], norm_op_kwargs={}, nonlin_kwargs={"negative_slope": 0.1},
        nonlin_first=True, dropout_op="torch.nn.Dropout3d", dropout_op_kwargs={"p": 0.5})),
    "plain2d_nonorm": ([16, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 2, n_stages=2, features_per_stage=4, kernel_sizes=3, strides=[1, 2], n_conv_per_stage=1,
        n_conv_per_stage_decoder=1, norm_op=None, norm_op_kwargs=None)),
    "residual3d": ([8, 16, 16], 1, 3, 1, architecture(
        "ResidualEncoderUNet", 3, n_stages=3, features_per_stage=[4, 4, 8], kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides=[[1, 1, 1], [1, 2, 2], [2, 2, 2]], n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=[1, 1])),
    "residual2d_bottleneck_batchnorm": ([16, 16], 3, 3, 1, architecture(
        "ResidualEncoderUNet", 2, norm="batchnorm.BatchNorm", n_stages=3, features_per_stage=[8, 8, 16], kernel_sizes=3,
        strides=[[1, 1], [2, 2], [2, 1]], n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=[1, 2], stem_channels=6,
        block="dynamic_network_architectures.building_blocks.residual.BottleneckD", bottleneck_channels=[2, 3, 4])),
    "old_plans_folds": ([8, 16, 16], 1, 2, 3, {
        "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 3, "unet_max_num_features": 5,
        "n_conv_per_stage_encoder": [1, 1, 1], "n_conv_per_stage_decoder": [1, 1], "num_pool_per_axis": [1, 2, 2],
        "pool_op_kernel_sizes": [[1, 1, 1], [1, 2, 2], [2, 2, 2]], "conv_kernel_sizes": [[1, 3, 3], [3, 3, 3], [3, 3, 3]]}),
    "residualunet3d_elu": ([4, 8, 16], 1, 3, 1, architecture(
        "ResidualUNet", 3, n_stages=3, features_per_stage=[3, 4, 5], kernel_sizes=[[1, 3, 3], [3, 3, 3], [1, 1, 3]],
        strides=[[1, 1, 1], [1, 2, 2], [2, 1, 2]], n_blocks_per_stage=[1, 2, 1], n_conv_per_stage_decoder=[1, 2], stem_channels=2,
        conv_bias=False, nonlin="torch.nn.ELU", nonlin_kwargs={"alpha": 0.5})),
    "residualunet2d_bottleneck_prelu": ([8, 16], 2, 2, 1, architecture(
        "ResidualUNet", 2, n_stages=2, features_per_stage=[4, 6], kernel_sizes=3, strides=[1, [2, 2]], n_blocks_per_stage=[1, 2],
        n_conv_per_stage_decoder=[1], nonlin="torch.nn.PReLU", nonlin_kwargs={},
        block="dynamic_network_architectures.building_blocks.residual.BottleneckD", bottleneck_channels=[2, 3])),
    "plain2d_trainer_bn_mish": ([8, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 2, n_stages=3, features_per_stage=[3, 4, 4], kernel_sizes=3, strides=[1, 2, 2], n_conv_per_stage=1,
        n_conv_per_stage_decoder=1, norm_op_kwargs={"eps": 1e-3}, nonlin="torch.nn.Mish")),
    "plain2d_running_gelu_tanh": ([8, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 2, n_stages=2, features_per_stage=[3, 4], kernel_sizes=3, strides=[1, 2], n_conv_per_stage=1,
        n_conv_per_stage_decoder=1, norm_op_kwargs={"track_running_stats": True, "affine": True}, nonlin="torch.nn.GELU",
        nonlin_kwargs={"approximate": "tanh"})),
    "residual2d_batch_statistics_gelu": ([8, 16], 1, 2, 1, architecture(
        "ResidualEncoderUNet", 2, norm="batchnorm.BatchNorm", n_stages=2, features_per_stage=[3, 4], kernel_sizes=3, strides=[1, 2],
        n_blocks_per_stage=1, n_conv_per_stage_decoder=1, norm_op_kwargs={"track_running_stats": False}, nonlin="torch.nn.GELU",
        nonlin_kwargs=None)),
    "plain2d_nonorm_prelu": ([8, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 2, n_stages=2, features_per_stage=[2, 3], kernel_sizes=3, strides=[1, 2], n_conv_per_stage=1,
        n_conv_per_stage_decoder=1, norm_op=None, norm_op_kwargs=None, nonlin="torch.nn.PReLU", nonlin_kwargs={"init": 0.1})),
    "plain2d_silu": ([8, 16], 1, 2, 1, architecture(
        "PlainConvUNet", 2, n_stages=2, features_per_stage=[3, 4], kernel_sizes=3, strides=[1, 2], n_conv_per_stage=1,
        n_conv_per_stage_decoder=1, nonlin="torch.nn.SiLU")),
}

# What these checkpoints have beside nnUNetTrainer's usual: the type of their
# weights, prefixes, only the head of the full resolution.
TRAINERS = {"plain2d_trainer_bn_mish": nnUNetTrainerBN}
DTYPES = {"plain2d_trainer_bn_mish": torch.float16, "plain2d_running_gelu_tanh": torch.bfloat16}
PREFIXES = {"plain2d_trainer_bn_mish": "_orig_mod.", "plain2d_running_gelu_tanh": "module._orig_mod."}
ONE_HEAD = {"plain2d_trainer_bn_mish"}


def plans(patch, channels, arch):
    kwargs = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    return {
        "dataset_name": "Dataset900_Golden", "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
        "configurations": {"golden": {
            "preprocessor_name": "DefaultPreprocessor", "batch_size": 2, "patch_size": patch, "spacing": [1.0] * len(patch),
            "normalization_schemes": ["ZScoreNormalization"] * channels, "use_mask_for_norm": [False] * channels,
            "resampling_fn_data": RESAMPLE, "resampling_fn_data_kwargs": {**kwargs, "order": 3},
            "resampling_fn_seg": RESAMPLE, "resampling_fn_seg_kwargs": {**kwargs, "is_seg": True},
            "resampling_fn_probabilities": RESAMPLE, "resampling_fn_probabilities_kwargs": kwargs,
            "batch_dice": False, **({"architecture": arch} if "network_class_name" in arch else arch)}},
    }


def randomize(network):
    with torch.no_grad():
        for name, p in [*network.named_parameters(), *network.named_buffers()]:
            if p.ndim > 1 or not p.is_floating_point():
                continue
            if name.endswith("bias") or name.endswith("mean"):
                p.copy_(0.3 * torch.randn_like(p))
            else:
                p.copy_(0.5 + torch.rand_like(p))


def network_of(plans_dict, channels, heads, trainer):
    plans_manager = PlansManager(json.loads(json.dumps(plans_dict)))
    c = plans_manager.get_configuration("golden")
    return trainer.build_network_architecture(plans_manager, c, channels, heads, enable_deep_supervision=False).eval()


def state_dict(name, network):
    state = collections.OrderedDict()
    for key, t in network.state_dict().items():
        head = key.startswith("decoder.seg_layers.") and not key.startswith(f"decoder.seg_layers.{len(network.decoder.stages) - 1}.")
        if not (head and name in ONE_HEAD):
            state[PREFIXES.get(name, "") + key] = t.to(DTYPES.get(name, t.dtype)) if t.is_floating_point() else t
    return state


def main():
    torch.manual_seed(3)
    for name, (patch, channels, heads, folds, arch) in CASES.items():
        out = HERE / name
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        p = plans(patch, channels, arch)
        (out / "plans.json").write_text(json.dumps(p, indent=1) + "\n")
        (out / "dataset.json").write_text(json.dumps({
            "channel_names": {str(i): f"channel{i}" for i in range(channels)},
            "labels": {"background": 0, **{f"organ{i}": i for i in range(1, heads)}}, "numTraining": 0, "file_ending": ".nii.gz"}) + "\n")
        x = torch.randn(1, channels, *patch)
        total = 0
        for fold in range(folds):
            trainer = TRAINERS.get(name, nnUNetTrainer)
            network = network_of(p, channels, heads, trainer)
            randomize(network)
            network = network.to(DTYPES.get(name, torch.float32))
            (out / f"fold_{fold}").mkdir()
            torch.save({
                "network_weights": state_dict(name, network), "optimizer_state": {}, "grad_scaler_state": None,
                "logging": {"mean_fg_dice": [np.float32(0.5)]}, "_best_ema": np.float32(0.5), "current_epoch": 1,
                "init_args": {"configuration": "golden", "fold": fold}, "trainer_name": trainer.__name__,
                "inference_allowed_mirroring_axes": tuple(range(len(patch))),
            }, out / f"fold_{fold}" / "checkpoint_final.pth")
            with torch.no_grad():
                total = total + network.double()(x.double())
        np.save(out / "input.npy", x.numpy())
        np.save(out / "output.npy", (total / folds).float().numpy())


if __name__ == "__main__":
    main()
