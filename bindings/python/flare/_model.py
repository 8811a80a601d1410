"""An open model."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeVar, overload

import numpy as np
import numpy.typing as npt

from . import _abi, _arrays, _call, _images
from ._arrays import Matrix, Vector
from ._errors import ArgumentError
from ._handle import Handle

Labels = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Image = TypeVar("Image", bound=_images.Known)


def _bound(
    options: _abi.SegmentOptions, box: Sequence[int] | None, roi: Sequence[int] | None, memory: int
) -> None:
    """Sets what bounds a call, and keeps C's arrays alive with the options."""
    if box is not None:
        if len(box) != 6:
            raise ArgumentError(f"box has {len(box)} numbers; expected x0, y0, z0, x1, y1, z1")
        options.box_numbers = (ctypes.c_int64 * 6)(*(int(v) for v in box))
        options.box = ctypes.addressof(options.box_numbers)
    if roi is not None:
        values = [int(v) for v in roi]
        for v in values:
            if not -(2**31) <= v < 2**31:  # C would cut it
                raise ArgumentError(f"roi holds {v}; expected label values")
        options.roi_numbers = (ctypes.c_int32 * max(1, len(values)))(*values)
        options.roi, options.roi_count = ctypes.addressof(options.roi_numbers), len(values)
    if not 0 <= memory < 2**63:
        raise ArgumentError(f"max_memory_bytes is {memory}; expected 0 (none) or a size")
    options.max_memory_bytes = memory


class Model(Handle):
    """An open model: a bundle made by flare.convert, an nnU-Net v2 results folder, or a list of
    these (.json: parts, ensembles and cascades).

    device      "auto", "cpu" (OpenVINO where it loads, else ONNX Runtime), "openvino", "ort",
                "cuda"
    threads     bound on the threads of a call; 0: one per core
    folds       "all", or a list such as "0,1"
    checkpoint  file in each fold_* folder; None: checkpoint_final.pth
    runtime     the ONNX Runtime library or its folder; None: search
    mode        "exact": fp32, nnU-Net's labels; "fast": bf16 or fp16 where the device has it,
                and in CT no tiles of nothing but air (Dice at least 0.995 against exact)
    cache_dir   folder, made if need be, that keeps prepared networks for later opening
    read_ahead  file that the first segment_file will be called with: read while the network is
                prepared, and kept until then
    gpu_memory_limit  0, or a bound in bytes on the memory that "cuda" takes on the GPU for the
                network; what does not fit raises flare.OutOfMemoryError. Other devices ignore it

    >>> import flare, numpy
    >>> with flare.Model("abdomen.onnx") as model:
    ...     labels = model.segment(numpy.zeros((4, 5, 6), "int16"), spacing=(0.7, 0.7, 2.0))
    >>> labels.shape, labels.dtype
    ((4, 5, 6), dtype('uint8'))

    One model may be used from many threads; its calls wait for each other in turn. Different
    models run side by side. A model does not pass to another process: open it there. That
    process must not be a child made by os.fork(), where every call raises flare.ForkedError;
    multiprocessing's "spawn" is fine.

    Ctrl-C during a call on the main thread cancels the model's calls, within the time of one
    network tile, and raises KeyboardInterrupt; the model stays usable. So does whatever else a
    Python signal handler raises.
    """

    _free_name, _cancel_name = "flare_model_free", "flare_cancel"

    def __init__(
        self,
        path: _abi.Path,
        device: str = "auto",
        threads: int = 0,
        folds: str = "all",
        checkpoint: str | None = None,
        runtime: _abi.Path | None = None,
        mode: str = "exact",
        cache_dir: _abi.Path | None = None,
        read_ahead: _abi.Path | None = None,
        gpu_memory_limit: int = 0,
    ) -> None:
        super().__init__()
        self._path = os.fspath(path)
        if not 0 <= gpu_memory_limit < 2**63:
            raise ArgumentError(
                f"gpu_memory_limit is {gpu_memory_limit}; expected 0 (none) or a size"
            )
        options = _abi.OpenOptions(
            device=_abi.c_text("device", device),
            folds=_abi.c_text("folds", folds),
            checkpoint=_abi.c_text("checkpoint", checkpoint),
            runtime=_abi.c_path("runtime", runtime),
            threads=_abi.c_threads(threads),
            mode=_abi.c_text("mode", mode),
            cache_dir=_abi.c_path("cache_dir", cache_dir),
            read_ahead=_abi.c_path("read_ahead", read_ahead),
            gpu_memory_limit=gpu_memory_limit,
        )
        _call.refuse_in_callback()
        _abi.check(
            self._library.flare_model_open(
                ctypes.byref(self._handle), _abi.c_path("path", path), ctypes.byref(options)
            )
        )
        described = self.describe()
        self._heads = int(described["heads"])
        highest = max((int(label["value"]) for label in described["labels"]), default=0)
        self._dtype: type[np.unsignedinteger[Any]] = np.uint8 if highest < 256 else np.uint16

    @overload
    def segment(
        self,
        array: npt.ArrayLike,
        spacing: Vector,
        origin: Vector = ...,
        direction: Matrix = ...,
        *,
        out: npt.NDArray[Any] | None = ...,
        mirror: bool = ...,
        postprocess: bool = ...,
        box: Sequence[int] | None = ...,
        roi: Sequence[int] | None = ...,
        max_memory_bytes: int = ...,
        previous: npt.ArrayLike | None = ...,
        probabilities: Literal[False] = ...,
        progress: _call.ProgressCallback | bool | None = ...,
    ) -> Labels: ...

    @overload
    def segment(
        self,
        array: npt.ArrayLike,
        spacing: Vector,
        origin: Vector = ...,
        direction: Matrix = ...,
        *,
        out: npt.NDArray[Any] | None = ...,
        mirror: bool = ...,
        postprocess: bool = ...,
        box: Sequence[int] | None = ...,
        roi: Sequence[int] | None = ...,
        max_memory_bytes: int = ...,
        previous: npt.ArrayLike | None = ...,
        probabilities: Literal[True],
        progress: _call.ProgressCallback | bool | None = ...,
    ) -> tuple[Labels, npt.NDArray[np.float32]]: ...

    @overload
    def segment(
        self,
        array: Image,
        *,
        mirror: bool = ...,
        postprocess: bool = ...,
        box: Sequence[int] | None = ...,
        roi: Sequence[int] | None = ...,
        max_memory_bytes: int = ...,
        previous: object = ...,
        probabilities: Literal[False] = ...,
        progress: _call.ProgressCallback | bool | None = ...,
    ) -> Image: ...

    @overload
    def segment(
        self,
        array: Image,
        *,
        mirror: bool = ...,
        postprocess: bool = ...,
        box: Sequence[int] | None = ...,
        roi: Sequence[int] | None = ...,
        max_memory_bytes: int = ...,
        previous: object = ...,
        probabilities: Literal[True],
        progress: _call.ProgressCallback | bool | None = ...,
    ) -> tuple[Image, npt.NDArray[np.float32]]: ...

    def segment(
        self,
        array: Any,
        spacing: Vector | None = None,
        origin: Vector | None = None,
        direction: Matrix | None = None,
        *,
        out: npt.NDArray[Any] | None = None,
        mirror: bool = False,
        postprocess: bool = False,
        box: Sequence[int] | None = None,
        roi: Sequence[int] | None = None,
        max_memory_bytes: int = 0,
        previous: Any = None,
        probabilities: bool = False,
        progress: _call.ProgressCallback | bool | None = None,
    ) -> Any:
        """Segments a volume in memory; returns its labels, shape (z, y, x), or an image of the
        same kind and grid.

        array          voxels, index order (z, y, x) or (channels, z, y, x), as
                       SimpleITK.GetArrayFromImage gives them; or an image with its geometry:
                       a SimpleITK.Image, an itk.Image, an image of nibabel, a torchio.Image
                       (the labels are a torchio.LabelMap) or a torchio.Subject with one
                       image (the labels come in a subject that has them as "labels")
        spacing        for arrays: mm along x, y, z, as SimpleITK's GetSpacing() gives them: the
                       reverse order of the array's axes
        origin         for arrays: position of voxel 0 in mm, x, y, z, LPS; None: 0, 0, 0
        direction      for arrays: 9 numbers row-major, or 3 x 3; column i is the LPS direction of
                       axis i (x, y, z); None: the axes are those of LPS
        box            part of the image to look at, as voxels (x0, y0, z0, x1, y1,
                       z1), from the first to before the second; outside labels are 0
        roi            label values that alone are wanted; only tiles run that can hold them
        max_memory_bytes  bound on the process's memory; 0: none. What would need more is
                       segmented in strips: the same labels, up to about three times the
                       tiles (stats has a note). What would need more even so raises
                       flare.OutOfMemoryError before the network runs, with the number of
                       bytes needed
        out            array to fill and return instead of a new one: uint8 or uint16, shape
                       (z, y, x), C-contiguous
        mirror         average over the mirror flips that the model was trained with: better,
                       and up to 8 times slower
        postprocess    apply the post-processing that the model stores; it must store one
        previous       for the second stage of a cascade: the labels of the first, shape
                       (z, y, x), of any dtype that array may have, or as an image
        probabilities  also return float32 probabilities, shape (heads, z, y, x)
        progress       function called as progress(fraction, phase), fraction 0..1, phase
                       "read", "preprocess", "network", "export" or "write", at most 20 times a
                       second, not on the main thread. If it returns something true the call
                       raises flare.Cancelled; what it raises itself, segment raises. It must
                       not call this package, except cancel. True: a bar of tqdm

        Labels are uint8, or uint16 if the model has labels above 255.

        uint8, int16, uint16, int32, float32 and float64 arrays that are C-contiguous and in
        native byte order are read where they are. Others are copied once: non-contiguous or
        byte-swapped ones as they are, bool as uint8, int8 as int16, float16 as float32, and
        int64, uint32, uint64 as int32, or float64 if their values ask for it. Complex, object
        and structured arrays raise TypeError. Of images, those of SimpleITK and ITK are read where
        they are, and those of nibabel if they come from a file without a scaling; torchio's, where
        z is fastest, are copied once.

        >>> import flare, numpy
        >>> ct = numpy.zeros((4, 5, 6), "float32")
        >>> with flare.Model("abdomen.onnx") as model:
        ...     labels, p = model.segment(ct, spacing=(1, 1, 3), probabilities=True)
        >>> p.shape[1:] == labels.shape
        True
        """
        library, handle = self._library, self._opened()
        image = _images.opened("array", array, spacing, origin, direction)
        if out is not None and image.kind != "array":
            raise ArgumentError("out is for arrays; labels of an image come as an image")
        voxels = _arrays.image(image.voxels)
        volume = _arrays.volume(voxels, image.spacing, image.origin, image.direction)
        stage = None
        if previous is not None:
            stage = _images.labels_on("previous", previous, image)
            stage = _arrays.on_grid("previous", stage, voxels.shape[-3:])
        labels = _arrays.labels(out, voxels, self._dtype, stage)
        callback = _call.Progress(progress)
        options = _abi.SegmentOptions(
            progress=callback.pointer, mirror=bool(mirror), postprocess=bool(postprocess)
        )
        _bound(options, box, roi, max_memory_bytes)
        if stage is not None:
            options.previous, options.previous_bytes = stage.ctypes.data, stage.nbytes
            options.previous_dtype = _arrays.code(stage)
            options.stage = stage
        if probabilities:
            filled = _arrays.probabilities(self._heads, voxels)
            options.probabilities, options.probabilities_count = filled.ctypes.data, filled.size
            options.owner = filled
        self._run(
            lambda: int(
                library.flare_segment(
                    labels.ctypes.data,
                    _arrays.code(labels),
                    labels.nbytes,
                    handle,
                    ctypes.byref(volume),
                    ctypes.byref(options),
                )
            ),
            callback,
        )
        result = image.like(labels)
        return (result, filled) if probabilities else result

    def segment_file(
        self,
        in_path: _abi.Path,
        out_path: _abi.Path,
        *,
        mirror: bool = False,
        postprocess: bool = False,
        box: Sequence[int] | None = None,
        roi: Sequence[int] | None = None,
        max_memory_bytes: int = 0,
        previous: _abi.Path | None = None,
        probabilities: _abi.Path | None = None,
        report: _abi.Path | None = None,
        progress: _call.ProgressCallback | bool | None = None,
    ) -> None:
        """Segments an image file (NIfTI, NRRD, MetaImage) into a file on the same grid.

        Where the model takes several channels, in_path is the first one's file, case_0000; the
        others are read beside it. probabilities names an image file for them (4-D, float32),
        previous one of the labels of a cascade's first stage; report an .html file: a page that
        needs no other file and no network, with a view of image and labels, the organs' table
        (that of stats) and what model made them and how. Outputs are whole or absent.
        mirror, postprocess, box, roi, max_memory_bytes and progress are as in segment.

        >>> import flare
        >>> with flare.Model("abdomen.onnx") as model:
        ...     model.segment_file("ct.nii.gz", "labels.nii.gz")
        """
        library, handle = self._library, self._opened()
        source, target = _abi.c_path("in_path", in_path), _abi.c_path("out_path", out_path)
        callback = _call.Progress(progress)
        options = _abi.SegmentOptions(
            progress=callback.pointer,
            probabilities_path=_abi.c_path("probabilities", probabilities),
            mirror=bool(mirror),
            postprocess=bool(postprocess),
            previous_path=_abi.c_path("previous", previous),
            report_path=_abi.c_path("report", report),
        )
        _bound(options, box, roi, max_memory_bytes)
        self._run(
            lambda: int(library.flare_segment_file(handle, source, target, ctypes.byref(options))),
            callback,
        )

    def describe(self) -> dict[str, Any]:
        """What the model says of itself: task, configuration, network, parameters, labels,
        channels, spacing_mm and patch_size (z, y, x), folds, mirror_axes, normalization,
        orientation, heads, device, precision, threads, notes, previous_stage ("", or what a
        cascade's second stage needs); of a list also combine and models."""
        result: dict[str, Any] = self._json(self._library.flare_model_describe)
        return result

    @property
    def stats(self) -> dict[str, Any]:
        """What the last finished call took: seconds by phase, tiles, peak_memory_bytes of the
        process, device, precision, threads; and found: organs, for each label that was looked for
        its volume_ml, voxels, mean and sd of the image's values (of each channel), box, centre,
        border (the sides of the image that it reaches), components."""
        result: dict[str, Any] = self._json(self._library.flare_model_stats)
        return result

    def __repr__(self) -> str:
        return f"<flare.Model {self._path!r}{'' if self._handle else ', closed'}>"

    def _what(self) -> str:
        return f"the model {self._path!r}"
