"""DICOM series in, DICOM-SEG out: real series, with SimpleITK and highdicom as oracles."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPOSITORY, missing

import flare
import flare.dicom
from flare import organs

CODES = {  # SNOMED CT
    "liver": ("10200004", ""), "right kidney": ("64033007", "24028007"),
    "spleen": ("78961009", ""), "pancreas": ("15776009", ""), "aorta": ("15825003", ""),
    "inferior vena cava": ("64131007", ""), "right adrenal gland": ("23451007", "24028007"),
    "left adrenal gland": ("23451007", "7771000"), "gallbladder": ("28231008", ""),
    "esophagus": ("32849002", ""), "stomach": ("69695003", ""), "duodenum": ("38848004", ""),
    "left kidney": ("64033007", "7771000"),
}  # fmt: skip


@pytest.fixture
def sitk() -> Any:
    try:
        import highdicom  # noqa: F401
        import SimpleITK
    except ImportError as error:
        missing(str(error))
    return SimpleITK


def data(name: str) -> Path:
    path = Path(os.environ.get("FLARE_DATA") or REPOSITORY.parent / "shared" / "data") / name
    if not path.exists():
        missing(f"{path} is not there (FLARE_DATA)")
    return path


@pytest.fixture
def model(model_path: Path) -> Iterator[flare.Model]:
    with flare.Model(model_path) as opened:
        yield opened


@functools.lru_cache
def real_series() -> flare.dicom.Series:
    return flare.dicom.read(data("ct_dicom_jpeg2000"))


def small(sitk: Any, target: Path, size: int = 4, **tags: Any) -> Path:
    """The first slices of a real series, without compression and 64 x 64."""
    import pydicom

    target.mkdir()
    source = real_series()
    voxels = sitk.GetArrayViewFromImage(source.image)
    for i in range(size):
        header = pydicom.dcmread(source.files[i], stop_before_pixels=True)
        header.Rows = header.Columns = 64
        header.PixelData = (voxels[i, 200:264, 200:264] + 1024).astype("<i2").tobytes()
        header["PixelData"].VR = "OW"
        header.BitsAllocated = header.BitsStored = 16
        header.HighBit, header.PixelRepresentation = 15, 1
        header.RescaleSlope, header.RescaleIntercept = 1, -1024
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        for tag, value in tags.items():
            setattr(header, tag, value(i) if callable(value) else value)
        header.save_as(target / f"{9 - i}.dcm")
    return target


@pytest.mark.parametrize("folder", ["ct_dicom_jpeg2000", "io_corner_cases/dcmqi/ct-3slice"])
def test_series_is_read_as_simpleitk_does(sitk: Any, folder: str) -> None:
    series = flare.dicom.read(data(folder))
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(data(folder)))
    expected = sitk.ReadImage(names)
    assert [str(f) for f in series.files] == list(names)
    for get in "GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID":
        assert getattr(series.image, get)() == getattr(expected, get)(), get
    assert (sitk.GetArrayViewFromImage(series.image) == sitk.GetArrayViewFromImage(expected)).all()
    for z, header in enumerate(series.headers):
        at = series.image.TransformIndexToPhysicalPoint((0, 0, z))
        assert np.allclose(at, np.float64(header.ImagePositionPatient), atol=1e-4)


def test_segmentation(sitk: Any, model: flare.Model, tmp_path: Path) -> None:
    """Read back with highdicom, it holds the labels that came back, each under its name and code
    and at its place."""
    import highdicom

    out, series = tmp_path / "labels.dcm", real_series()
    labels = flare.dicom.segment(model, data("ct_dicom_jpeg2000"), out)
    assert os.listdir(tmp_path) == ["labels.dcm"]
    expected = sitk.GetArrayViewFromImage(labels)
    for get in "GetSize", "GetSpacing", "GetOrigin", "GetDirection":
        assert getattr(labels, get)() == getattr(series.image, get)(), get
    names = {label["name"]: label["value"] for label in model.describe()["labels"]}
    document = highdicom.seg.segread(out)
    assert document.Modality == "SEG" and document.StudyDate == series.headers[0].StudyDate
    volume = document.get_volume(combine_segments=False)
    to_lps = np.reshape(labels.GetDirection(), (3, 3)) * labels.GetSpacing()
    found = {}
    for i, number in enumerate(document.segment_numbers):
        description = document.get_segment_description(number)
        value = names[description.segment_label]
        found[value] = description
        # the same voxels, at the same places in LPS
        places = np.argwhere(volume.array[..., i]) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        index = np.linalg.solve(to_lps, (places - labels.GetOrigin()).T)
        assert np.abs(index - index.round()).max() < 1e-3
        x, y, z = index.round().astype(int)
        assert len(x) == (expected == value).sum() and (expected[z, y, x] == value).all()
    assert set(found) == set(np.unique(expected)) - {0} and len(found) > 3
    for description in found.values():
        code, side = CODES[description.segment_label]
        kind = description.segmented_property_type
        assert (kind.value, kind.scheme_designator) == (code, "SCT")
        modifiers = kind.get("SegmentedPropertyTypeModifierCodeSequence", [])
        assert [m.CodeValue for m in modifiers] == ([side] if side else [])
        assert description.segmented_property_category.meaning == "Anatomical Structure"
        assert "RecommendedDisplayCIELabValue" in description


def test_series_that_are_no_volumes(sitk: Any, tmp_path: Path) -> None:
    cases = data("io_corner_cases")
    for folder, error, says in [
        ("dicom2nifti/gantrytilting/001", flare.UnsupportedError, "14.0 degrees .gantry tilt"),
        ("dicom2nifti/notavolume/001", flare.UnsupportedError, "two images at the same place"),
        ("dicom2nifti/sliceincrement/001", flare.UnsupportedError, "5 mm apart, but 10 mm between"),
        ("dicom2nifti/sliceincrement/002", flare.UnsupportedError, "gantry tilt"),
        ("dicom2nifti/gantrytilting", flare.NotFoundError, "no DICOM images"),
        ("dcmqi", flare.NotFoundError, "no DICOM images"),  # a segmentation and others
        ("no", flare.NotFoundError, "no such folder"),
    ]:
        with pytest.raises(error, match=f"{cases / folder}.*{says}"):
            flare.dicom.read(cases / folder)


@pytest.mark.parametrize(
    "tags, says",
    [
        ({"Rows": lambda i: 64 if i else 32}, "Rows is"),
        ({"PixelSpacing": lambda i: [1 + i, 1]}, "PixelSpacing is"),
        ({"SamplesPerPixel": 3}, "colours"),
        ({"NumberOfFrames": 2}, "many frames"),
        ({"ImagePositionPatient": None}, "without ImagePositionPatient"),
        ({"SeriesInstanceUID": lambda i: f"1.2.{i // 2}"}, r"several series.*\n  1.2.0: 2 im"),
    ],
)
def test_made_series_that_are_no_volumes(
    sitk: Any, tmp_path: Path, tags: dict[str, Any], says: str
) -> None:
    folder = small(sitk, tmp_path / "series", **tags)
    with pytest.raises(flare.Error, match=says):
        flare.dicom.read(folder)


def test_one_of_several_series(sitk: Any, tmp_path: Path) -> None:
    """A localizer does no harm; of two volumes one is named. Files that are no DICOM do none."""
    folder = small(sitk, tmp_path / "a", SeriesInstanceUID=lambda i: "1.2.9" if i == 3 else "1.2.1")
    (folder / "notes.txt").write_text("no DICOM")
    assert flare.dicom.read(folder).image.GetSize() == (64, 64, 3)
    folder = small(sitk, tmp_path / "b", SeriesInstanceUID=lambda i: f"1.2.{i // 2}")
    assert flare.dicom.read(folder, "1.2.1").image.GetSize() == (64, 64, 2)
    with pytest.raises(flare.NotFoundError, match="no series 9; found 1.2"):
        flare.dicom.read(folder, "9")


def test_write(sitk: Any, model: flare.Model, tmp_path: Path) -> None:
    """Names of patients beyond ASCII, missing identifiers, labels that the model does not name."""
    import highdicom
    import pydicom

    folder = small(
        sitk, tmp_path / "série", PatientName="Müller^Jürgen", StudyInstanceUID=None,
        FrameOfReferenceUID=None,
    )  # fmt: skip
    series = flare.dicom.read(folder)
    labels = np.zeros((4, 64, 64), np.uint8)
    labels[1, 5:9, 7:20], labels[2:, 40:, 3:5] = 2, 200
    out = tmp_path / "é.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flare.dicom.write(out, labels, series, model)
    document = highdicom.seg.segread(out)
    assert pydicom.dcmread(out).PatientName == "Müller^Jürgen"
    descriptions = [document.get_segment_description(n) for n in document.segment_numbers]
    assert [d.segment_label for d in descriptions] == ["right kidney", "label 200"]
    assert descriptions[1].segmented_property_type.meaning == "Tissue"
    frames = document.get_pixels_by_source_instance(
        [h.SOPInstanceUID for h in series.headers],
        assert_missing_frames_are_empty=True,
    )
    assert (frames[..., 0] == (labels == 2)).all() and (frames[..., 1] == (labels == 200)).all()

    with pytest.raises(flare.ModelError, match="no organ was found"):
        flare.dicom.write(tmp_path / "none.dcm", 0 * labels, series, model)
    with pytest.raises(flare.ArgumentError, match=r"shape \(3, 64, 64\)"):
        flare.dicom.write(tmp_path / "none.dcm", labels[1:], series, model)
    assert sorted(os.listdir(tmp_path)) == ["série", "é.dcm"]


def test_segment_says_early_what_is_wrong(sitk: Any, model: flare.Model, tmp_path: Path) -> None:
    folder = small(sitk, tmp_path / "mr", Modality="MR")
    for out, says in [
        ("labels.nii", "ends in .dcm"),
        ("no/labels.dcm", "does not exist"),
        ("labels.dcm", "for CT, but the image's modality is MR"),
    ]:
        with pytest.raises(flare.Error, match=says):
            flare.dicom.segment(model, folder, tmp_path / out)


def test_command_line(sitk: Any, model: flare.Model, model_path: Path, tmp_path: Path) -> None:
    import highdicom

    folder, out = small(sitk, tmp_path / "series"), tmp_path / "labels.dcm"
    command = [sys.executable, "-m", "flare", "dicom", "-m", model_path, folder, out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout == "" and str(out) in done.stderr, done.stderr
    labels = sitk.GetArrayFromImage(model.segment(flare.dicom.read(folder).image))
    document = highdicom.seg.segread(out)
    assert document.number_of_segments == len(np.unique(labels)) - 1 > 1
    mask = document.get_volume(combine_segments=True).array
    assert (mask != 0).sum() == (labels != 0).sum()


def test_command_line_fails_as_the_program_does(sitk: Any, model_path: Path, capfd: Any) -> None:
    folder = str(data("io_corner_cases/dicom2nifti/gantrytilting/001"))
    code = flare.dicom.main(["-m", str(model_path), folder, "out.dcm"])
    output = capfd.readouterr()
    assert code == 7 and output.out == "" and output.err.count("\n") == 1 and folder in output.err


def test_without_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(
        ModuleNotFoundError, match=r"flare.dicom needs SimpleITK.*libflare\[dicom\]"
    ):
        flare.dicom.read("folder")


def test_organs() -> None:
    for name, (code, side) in CODES.items():
        for spelled in name, name.replace(" ", "_").title(), " ".join(reversed(name.split())):
            organ = organs.organ(spelled)
            assert (organ.code, organs.SIDES.get(organ.side, "")) == (code, side), spelled
    assert organs.organ("kidney_left").side == "Left"
    for other in "liver tumor", "left right kidney", "", "colon", "left liver", "liver 2":
        assert organs.organ(other) is organs.TISSUE


def test_colours_are_those_of_the_library(real: str, tmp_path: Path) -> None:
    names = {
        name: i for i, name in enumerate([*CODES, "kidney", "tumour", "IVC", "gall bladder"], 1)
    }
    voxels = np.zeros((2, 3, 4), np.uint8)
    flare.write(tmp_path / "l.seg.nrrd", voxels, (1, 1, 1), labels=names)
    header = (tmp_path / "l.seg.nrrd").read_bytes().partition(b"\n\n")[0].decode()
    for i, (name, value) in enumerate(names.items()):
        assert f"Segment{i}_Name:={name}\n" in header
        (rgb,) = re.findall(f"^Segment{i}_Color:=(.*)$", header, re.MULTILINE)
        assert tuple(round(255 * float(c)) for c in rgb.split()) == organs.colour(value, name), name
    assert organs.colour(1, "tumour") == (89, 255, 138) != organs.colour(1, "liver")
