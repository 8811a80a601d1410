"""What run.py can run on: where the cases are, how many count as what, and the plans of the
networks. Plain Python."""
import random
import shutil
import subprocess


class Dataset:
    """Cases whose manual labels are all known, some of which are hidden from the training."""

    name = channel = folder = suffix = ""
    labels: list = []  # names of the values 1, 2, ...
    test = unlabelled = pool = 0  # cases
    tolerance = 1.0  # mm, of NSD
    patch = spacing = ()  # z, y, x; voxels, mm
    batch = 1
    mirroring = True
    normalization = ""
    intensities: dict = {}
    features: list = []  # by default
    labelled: list = []  # numbers of labelled cases by default

    def cases(self, seed):
        """The names of test, unlabelled and labelled cases of a seed."""
        names = sorted(p.name.removesuffix(f"{self.suffix}.nii.gz") for p in (self.folder / "imagesTr").glob("*.nii.gz"))
        random.Random(f"{self.name.lower()} {seed}").shuffle(names)
        if len(names) < self.test + self.unlabelled + self.pool:
            raise SystemExit(f"{self.folder} holds {len(names)} cases, expected {self.test + self.unlabelled + self.pool}")
        pool = self.test + self.unlabelled
        return names[:self.test], names[self.test:pool], names[pool:pool + self.pool]

    def image(self, name):
        return self.folder / f"imagesTr/{name}{self.suffix}.nii.gz"

    def label(self, name):
        return self.folder / f"labelsTr/{name}.nii.gz"

    def description(self, cases):
        """dataset.json of so many labelled cases."""
        return {"channel_names": {"0": self.channel}, "labels": {"background": 0, **{n: i + 1 for i, n in enumerate(self.labels)}},
                "numTraining": cases, "file_ending": ".nii.gz"}

    def plans(self, features):
        """nnU-Net's plans of a small residual network (blocks can be left out: stochastic depth)."""
        n = len(features)
        resampling = lambda seg, order: {"is_seg": seg, "order": order, "order_z": 0, "force_separate_z": None}
        spline = "resample_data_or_seg_to_shape"
        conv, norm = "torch.nn.modules.conv.Conv3d", "torch.nn.modules.instancenorm.InstanceNorm3d"
        arguments = {"n_stages": n, "features_per_stage": features, "conv_op": conv, "kernel_sizes": [[3, 3, 3]] * n, "strides": [[1, 1, 1]] + [[2, 2, 2]] * (n - 1),
                     "n_blocks_per_stage": [1] + [2] * (n - 1), "n_conv_per_stage_decoder": [1] * (n - 1), "conv_bias": True, "norm_op": norm,
                     "norm_op_kwargs": {"eps": 1e-5, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
                     "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True}}
        return {"dataset_name": self.name, "plans_name": "nnUNetPlans", "image_reader_writer": "SimpleITKIO",
                "transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], **self.intensities,
                "configurations": {"3d_fullres": {
                    "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": self.batch, "patch_size": list(self.patch),
                    "spacing": list(self.spacing), "normalization_schemes": [self.normalization], "use_mask_for_norm": [False], "batch_dice": False,
                    "resampling_fn_data": spline, "resampling_fn_seg": spline, "resampling_fn_probabilities": spline,
                    "resampling_fn_data_kwargs": resampling(False, 3), "resampling_fn_seg_kwargs": resampling(True, 1),
                    "resampling_fn_probabilities_kwargs": resampling(False, 1),
                    "architecture": {"network_class_name": "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
                                     "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"], "arch_kwargs": arguments}}}}


class Hippocampus(Dataset):
    """Real MRs of the Medical Segmentation Decathlon (195 labelled, 1 mm; CC-BY-SA 4.0)."""

    name, channel = "Hippocampus", "MRI"
    labels = ["anterior", "posterior"]
    test, unlabelled, pool, labelled = 45, 130, 20, [10, 20]
    patch, spacing, batch = (40, 56, 40), (1.0, 1.0, 1.0), 2  # a patch holds almost every case whole
    normalization = "ZScoreNormalization"
    features = [16, 32, 64]

    def __init__(self, data, work, seed, flare):
        self.folder = data / "msd_task04_hippocampus"
        if not self.folder.exists():
            raise SystemExit(f"{self.folder} is missing: set FLARE_DATA")


class Phantoms(Dataset):
    """Synthetic abdominal CTs of package segment/phantom, with FLARE22's 13 organs; other patients for
    every seed."""

    name, channel, suffix = "Phantom", "CT", "_0000"
    labels = ["liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland", "left adrenal gland",
              "gallbladder", "esophagus", "stomach", "duodenum", "left kidney"]
    test, unlabelled, pool, labelled = 20, 60, 10, [10]
    patch, spacing, batch = (32, 48, 56), (4.0, 4.0, 4.0), 2  # every second sample is centred on an organ: never with a batch of 1
    normalization, tolerance = "CTNormalization", 2.0
    # A window of soft tissue: percentiles of the foreground would reach down to the gas in the stomach.
    intensities = {"foreground_intensity_properties_per_channel": {"0": {
        "max": 3071.0, "mean": 90.0, "median": 100.0, "min": -1024.0, "percentile_00_5": -170.0, "percentile_99_5": 310.0, "std": 75.0}}}
    features = [16, 32, 48, 64]
    mirroring = False  # left and right differ

    def __init__(self, data, work, seed, flare):
        self.folder = work / "phantoms"
        if not self.folder.exists():
            half = work / "phantoms.half"
            shutil.rmtree(half, ignore_errors=True)
            subprocess.run([str(flare), "phantom", str(half), "-n", str(self.test + self.unlabelled + self.pool), "--seed", str(500 + seed), "--size", "small"],
                           check=True, stderr=subprocess.DEVNULL)
            for path in half.rglob("phantom_*"):
                path.rename(path.with_name(path.name.replace("phantom_", f"phantom_{seed}-")))  # _0001 would be a channel
            half.rename(self.folder)


DATASETS = {"hippocampus": Hippocampus, "phantoms": Phantoms}
