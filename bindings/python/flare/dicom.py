"""DICOM series in, DICOM segmentations (DICOM-SEG) out: pip install 'libflare[dicom]'.

    import flare, flare.dicom

    with flare.Model("abdomen.onnx") as model:
        flare.dicom.segment(model, "series", "labels.dcm")

On the command line: flare dicom -m abdomen.onnx series labels.dcm

SimpleITK decodes the images, pydicom reads the headers, highdicom writes. A series that is no
volume on a regular grid is refused; nothing is resampled here.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import _abi, _images, _optional, organs, version
from ._errors import (
    ArgumentError,
    Error,
    FileError,
    FormatError,
    ModelError,
    NotFoundError,
    UnsupportedError,
)
from ._model import Model
from .modality import doubt


class Series(NamedTuple):
    """A volume: image is a SimpleITK.Image, headers the pydicom datasets (without pixels) of its
    slices and files their paths, in the order of z."""

    image: Any
    headers: list[Any]
    files: list[Path]


def read(folder: _abi.Path, series: str | None = None) -> Series:
    """Reads the series of a folder (not of those within it).

    series         its SeriesInstanceUID; None: the only one that has more than one image, so a
                   localizer beside it does no harm

    Raises flare.UnsupportedError where the images are no volume on a regular grid (a tilted
    gantry, missing slices, several images at one place, colours), flare.FormatError where what
    a volume needs is not there, and flare.NotFoundError. Where identifiers were removed, to make
    the series anonymous, headers has new ones.
    """
    sitk = _optional.module("SimpleITK", "flare.dicom", "dicom")
    headers = _headers(Path(folder))
    chosen = _sorted(folder, _choose(folder, headers, series))
    files = [headers[id(h)][1] for h in chosen]
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([os.fspath(f) for f in files])
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise FormatError(f"{folder}: the images cannot be decoded: {error}") from None
    _identify(chosen)
    return Series(image, chosen, files)


def write(out: _abi.Path, labels: Any, series: Series, model: Model) -> None:
    """Writes labels on the grid of a series, an image or an array (z, y, x), as a DICOM-SEG: a
    binary segment for each label that occurs, with the model's name for it, the code of the organ
    and a colour. The file is whole or absent."""
    hd = _optional.module("highdicom", "flare.dicom", "dicom")
    target = Path(out)
    grid = _images.opened("series", series.image, None)
    voxels = np.asarray(_images.labels_on("labels", labels, grid))
    if voxels.shape != grid.voxels.shape:
        raise ArgumentError(
            f"labels has shape {voxels.shape}; expected {grid.voxels.shape}, that of the series"
        )
    described = model.describe()
    names = {int(label["value"]): str(label["name"]) for label in described["labels"]}
    values = [int(v) for v in np.unique(voxels) if v != 0]
    if not values:
        raise ModelError(
            f"{out}: no organ was found, and a DICOM segmentation without a segment does not exist"
        )
    numbers = np.zeros(values[-1] + 1, np.uint8 if len(values) < 256 else np.uint16)
    numbers[values] = np.arange(1, len(values) + 1)
    first = series.headers[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what the series says of the patient
        document = hd.seg.Segmentation(
            source_images=series.headers,
            pixel_array=numbers[voxels],
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[
                _segment(hd, number, value, names.get(value, f"label {value}"), described)
                for number, value in enumerate(values, 1)
            ],
            series_instance_uid=hd.UID(),
            series_number=1000 + int(first.get("SeriesNumber") or 0) % 9000,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="libflare",
            manufacturer_model_name="flare",
            software_versions=version(),
            device_serial_number="1",
            content_description="Automatic segmentation, for research only",
            series_description=f"Segmentation: {described['task']}"[:64],
            specific_character_set="ISO_IR 192",
        )
    half = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        document.save_as(half)
        os.replace(half, target)
    finally:
        half.unlink(missing_ok=True)


def segment(
    model: Model, folder: _abi.Path, out: _abi.Path, series: str | None = None, **options: Any
) -> Any:
    """Segments the series of a folder into a DICOM-SEG; returns the labels, a SimpleITK.Image.
    options are those of Model.segment."""
    _optional.module("highdicom", "flare.dicom", "dicom")
    _writable(Path(out))
    found = read(folder, series)
    modality = str(found.headers[0].get("Modality") or "")
    if modality and (why := doubt(model.describe(), None, modality)):
        raise ModelError(f"{folder}: {why}")
    labels = model.segment(found.image, **options)
    write(out, labels, found, model)
    return labels


def main(arguments: list[str]) -> int:
    """`flare dicom`; returns the exit code, as those of the program."""
    parser = argparse.ArgumentParser(
        prog="flare dicom",
        description="Segments a DICOM series into a DICOM segmentation (DICOM-SEG). "
        "Research software, not a medical device.",
    )
    parser.add_argument("-m", "--model", required=True, help="a bundle or nnU-Net results folder")
    parser.add_argument("-d", "--device", default="auto", help="what runs the network")
    parser.add_argument("--mode", default="exact", choices=["exact", "fast"])
    parser.add_argument("--threads", type=int, default=0, help="bound; one per core by default")
    parser.add_argument("--mirror", action="store_true", help="average over the mirror flips")
    parser.add_argument("--series", metavar="UID", help="which series, where a folder has several")
    parser.add_argument("folder", metavar="FOLDER", help="the folder with the series")
    parser.add_argument("out", metavar="OUT.dcm", help="the file to write")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    try:
        with Model(given.model, given.device, given.threads, mode=given.mode) as model:
            segment(model, given.folder, given.out, given.series, mirror=given.mirror)
            seconds = time.monotonic() - start
            print(f"{given.out}: {seconds:.1f} s, {model.stats['device']}", file=sys.stderr)
        return 0
    except KeyboardInterrupt:
        print("flare dicom: cancelled", file=sys.stderr)
        return 12
    except (Error, ModuleNotFoundError, OSError) as error:
        print(f"flare dicom: {error}", file=sys.stderr)
        return -error.status if isinstance(error, Error) else 1


# ------------------------------------------------------------------------- reading ------

_MAY_BE_EMPTY = (  # but must be there
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime",
)  # fmt: skip


def _headers(folder: Path) -> dict[int, tuple[Any, Path]]:
    """The headers of a folder's images, with their files, by their ids."""
    pydicom = _optional.module("pydicom", "flare.dicom", "dicom")
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder; expected one with the images of a series")
    headers = {}
    for file in sorted(f for f in folder.iterdir() if f.is_file()):
        try:
            header = pydicom.dcmread(file, stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            continue
        if "Rows" in header and header.get("Modality") not in ("SEG", "RTDOSE"):
            headers[id(header)] = header, file
    if not headers:
        raise NotFoundError(f"{folder}: holds no DICOM images (folders within it are not searched)")
    return headers


def _identify(headers: list[Any]) -> None:
    """Gives a series what a segmentation must name, where it has none."""
    uid = _optional.module("pydicom.uid", "flare.dicom", "dicom")
    for tag in "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID":
        new = uid.generate_uid()
        for header in headers:
            setattr(header, tag, header.get(tag) or new)
    for header in headers:
        meta = header.file_meta
        header.SOPClassUID = header.get("SOPClassUID") or meta.MediaStorageSOPClassUID
        header.SOPInstanceUID = header.get("SOPInstanceUID") or meta.MediaStorageSOPInstanceUID
        for tag in _MAY_BE_EMPTY:
            if tag not in header:
                setattr(header, tag, None)


def _choose(folder: Any, headers: dict[int, tuple[Any, Path]], uid: str | None) -> list[Any]:
    """The headers of one series."""
    series: dict[str, list[Any]] = {}
    for header, _ in headers.values():
        series.setdefault(str(header.get("SeriesInstanceUID", "")), []).append(header)
    if uid is not None:
        if uid not in series:
            raise NotFoundError(f"{folder}: no series {uid}; found {', '.join(series)}")
        return series[uid]
    volumes = {k: v for k, v in series.items() if len(v) > 1} or series
    if len(volumes) > 1:
        found = "".join(
            f"\n  {k}: {len(v)} images, {v[0].get('SeriesDescription', 'no description')}"
            for k, v in sorted(volumes.items())
        )
        raise ArgumentError(f"{folder}: several series; say which (series, --series):{found}")
    return next(iter(volumes.values()))


def _sorted(folder: Any, headers: list[Any]) -> list[Any]:
    """The headers in the order of z, checked to be a volume on a regular grid."""

    def refuse(why: str) -> UnsupportedError:
        uid = headers[0].get("SeriesInstanceUID", "without a UID")
        return UnsupportedError(f"{folder}: series {uid} is no volume on a regular grid: {why}")

    needed = "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Columns"
    for header in headers:
        if int(header.get("NumberOfFrames") or 1) > 1:
            raise refuse("an image of many frames (enhanced DICOM), which is not read here")
        for tag in needed:
            if header.get(tag) is None:
                raise FormatError(f"{folder}: an image without {tag}, so no slice of a volume")
        if header.get("SamplesPerPixel", 1) != 1:
            raise refuse("images of colours")
    if len(headers) == 1:
        raise refuse("one image")
    for tag in "Rows", "Columns", "PixelSpacing", "ImageOrientationPatient":
        values = np.array([np.ravel(h[tag].value).astype(np.float64) for h in headers])
        other = np.abs(values - values[0]).max(1).argmax()
        if np.abs(values[other] - values[0]).max() > 1e-4:
            raise refuse(f"{tag} is {values[0].tolist()}, elsewhere {values[other].tolist()}")

    turned = np.array(headers[0].ImageOrientationPatient, np.float64)
    normal = np.cross(turned[:3], turned[3:])
    at = np.array([h.ImagePositionPatient for h in headers], np.float64)
    order = np.argsort(at @ normal, kind="stable")
    at, headers = at[order], [headers[i] for i in order]
    along = at @ normal
    steps = np.diff(along)
    if steps.min() < 1e-3:
        same = int(steps.argmin())
        raise refuse(f"two images at the same place, {at[same].tolist()} mm")
    way = at[-1] - at[0]
    tilt = math.degrees(math.acos(min(1.0, way @ normal / float(np.linalg.norm(way)))))
    if tilt > 0.06:
        raise refuse(
            f"the slices are shifted against each other, by {tilt:.1f} degrees (gantry tilt)"
        )
    mean = (along[-1] - along[0]) / len(steps)
    regular = along[0] + mean * np.arange(len(along))
    if np.abs(along - regular).max() > 0.1 * mean:  # rounded positions stay below that
        widest = int(np.abs(steps - np.median(steps)).argmax())
        raise refuse(
            f"the slices are {np.median(steps):.4g} mm apart, but {steps[widest]:.4g} mm between "
            f"{along[widest]:.6g} and {along[widest + 1]:.6g} mm: slices are missing, or differ"
        )
    return headers


# ------------------------------------------------------------------------- writing ------


def _segment(hd: Any, number: int, value: int, name: str, described: dict[str, Any]) -> Any:
    codes = _optional.module("pydicom.sr.codedict", "flare.dicom", "dicom").codes
    organ = organs.organ(name)
    kind = codes.SCT.Tissue if organ is organs.TISSUE else codes.SCT.AnatomicalStructure
    result = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=name[:64],
        segmented_property_category=kind,
        segmented_property_type=hd.sr.CodedConcept(organ.code, "SCT", organ.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=str(described["task"] or "nnU-Net")[:64],
            family=codes.DCM.ArtificialIntelligence,
            version=version(),
        ),
        display_color=hd.color.CIELabColor.from_rgb(*organs.colour(value, name)),
    )
    if organ.side:
        side = hd.sr.CodedConcept(organs.SIDES[organ.side], "SCT", organ.side)
        kind = result.SegmentedPropertyTypeCodeSequence[0]
        kind.SegmentedPropertyTypeModifierCodeSequence = [side]
    return result


def _writable(out: Path) -> None:
    """Says before the work begins that a file cannot be written."""
    if out.is_dir() or out.suffix.lower() != ".dcm":
        raise ArgumentError(f"{out}: expected a file that ends in .dcm, for the segmentation")
    if not out.parent.is_dir():
        raise NotFoundError(f"{out}: the folder {out.parent} does not exist")
    if not os.access(out.parent, os.W_OK):
        raise FileError(f"{out}: the folder {out.parent} is read-only")
