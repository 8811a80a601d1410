#!/usr/bin/env python3
"""Makes small NIfTI files with odd headers, and goldens.json: what SimpleITK
reads in them.

    python make_goldens.py                      # writes beside this script
    python make_goldens.py --real DATA          # DATA: the shared test data; writes real.json
    python make_goldens.py --check-written DIR  # DIR: artifacts of the Go tests

Needs SimpleITK 2.5 (ITK 5.4) and numpy; --real also nibabel. The headers are
packed by hand, because no library writes such headers on purpose.

A case in goldens.json holds SimpleITK's size, spacing, origin and direction (of
as many axes as the image has), the voxel type's name, the sum of all voxels, and
the first and last voxels in file order. "error": true marks what SimpleITK refuses. "refused" is
the kind of error that libflare gives where it is stricter than SimpleITK, and
says nothing about SimpleITK. SimpleITK cannot read NIfTI-2; such a case has the
values of the NIfTI-1 file with the same content.

--check-written reads the files that `go test -artifacts -run TestForSimpleITK`
left: <case>.labels.nii and .nii.gz must have the exact geometry of the case's
file, <case>.write.nii.gz its geometry within 1e-5 and its voxels.
"""
import gzip
import json
import struct
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).resolve().parent
sitk.ProcessObject.SetGlobalWarningDisplay(False)

TYPES = {"uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64, "int8": 256,
         "uint16": 512, "uint32": 768, "int64": 1024, "uint64": 1280}


def header(version=1, order="<", dim=(3, 4, 3, 2), dtype="float32", code=None, pixdim=(1, 1.5, 2, 3),
           q=0, s=0, quatern=(0, 0, 0), qoffset=(0, 0, 0), srow=np.zeros((3, 4)), units=2,
           slope=1, inter=0, offset=None, magic=None, fill=1):
    dim = list(dim) + [1] * (8 - len(dim))
    pixdim = list(pixdim) + [fill] * (8 - len(pixdim))
    code = TYPES[dtype] if code is None else code
    bits = np.dtype(dtype).itemsize * 8
    srow = np.asarray(srow, float).ravel()
    if version == 1:
        h = bytearray(348)
        pack = lambda f, at, *v: struct.pack_into(order + f, h, at, *v)
        pack("i", 0, 348)
        pack("8h", 40, *dim)
        pack("2h", 70, code, bits)
        pack("8f", 76, *pixdim)
        pack("3f", 108, 352 if offset is None else offset, slope, inter)
        h[123] = units
        pack("2f", 124, 900, -900)  # cal_max, cal_min: labels must not keep them
        h[148:154] = b"golden"
        pack("2h", 252, q, s)
        pack("6f", 256, *quatern, *qoffset)
        pack("12f", 280, *srow)
        h[344:348] = magic or b"n+1\0"
    else:
        f32 = lambda values: [float(np.float32(v)) for v in values]  # as the NIfTI-1 twin
        h = bytearray(540)
        pack = lambda f, at, *v: struct.pack_into(order + f, h, at, *v)
        pack("i", 0, 540)
        h[4:12] = magic or b"n+2\0\r\n\x1a\n"
        pack("2h", 12, code, bits)
        pack("8q", 16, *dim)
        pack("8d", 104, *f32(pixdim))
        pack("q", 168, 544 if offset is None else offset)
        pack("2d", 176, *f32([slope, inter]))
        pack("2d", 192, 900, -900)
        h[240:246] = b"golden"
        pack("2i", 344, q, s)
        pack("6d", 352, *f32(quatern), *f32(qoffset))
        pack("12d", 400, *f32(srow))
        pack("i", 500, units)
    return bytes(h)


def diag(a, b, c, at=(10, 20, 30)):
    return np.c_[np.diag([a, b, c]), at]


def rotation(x, y, z):
    cx, sx, cy, sy, cz, sz = np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(z), np.sin(z)
    return (np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
            @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]))


def srow(r, size=(1.5, 2, 3), at=(10, 20, 30)):
    return np.c_[r @ np.diag(size), at]


R = rotation(.2, -.3, .4)
S = dict(s=1, srow=diag(1.5, 2, 3))
Q = dict(q=1, qoffset=(10, 20, 30))
PERM = np.array([[0, 0, 1.], [1, 0, 0], [0, -1, 0]])
HALF = dict(quatern=(np.sqrt(.5), np.sqrt(.5), 0))  # half a turn: a = 0
QUARTER = dict(quatern=(.1, -.2, .3))
SHEAR = diag(1.5, 2, 3)
SHEAR[0, 1] = .3
TINY = diag(1.5, 2, 3)
TINY[0, 1] = .0002
FORMAT, UNSUPPORTED = "format", "unsupported"

# name: header fields; data: voxels (else 0, 1, 2, ...); pad: bytes after the
# header; refused: libflare's own error; gz: gzipped.
CASES = {
    "no_form": {},
    "sform": S,
    "sform_oblique": dict(s=1, srow=srow(R)),
    "sform_permuted": dict(s=1, srow=srow(PERM)),
    "sform_left_handed": dict(s=2, srow=diag(-1.5, 2, 3)),
    "sform_other_scale": dict(s=1, srow=diag(4, 5, 6)),
    "sform_tiny_shear": dict(s=1, srow=TINY),
    "sform_shear": dict(s=1, srow=SHEAR),
    "sform_shear_qform": dict(s=1, srow=SHEAR, **Q),
    "sform_shear_like_qform": dict(s=1, srow=diag(.003, .004, .005) + 9e-6 * np.eye(3, 4, 1), pixdim=(1, .003, .004, .005), **Q),
    "sform_singular": dict(s=1, srow=diag(1.5, 2, 0)),
    "sform_singular_qform": dict(s=1, srow=diag(1.5, 2, 0), **Q),
    "sform_nan": dict(s=1, srow=diag(np.nan, 2, 3)),
    "sform_nan_qform": dict(s=1, srow=diag(np.nan, 2, 3), q=1, qoffset=(1, 2, 3)),
    "sform_nan_origin": dict(s=1, srow=diag(1.5, 2, 3, (np.nan, 0, 0)), refused=FORMAT),
    "qform": dict(q=1, qoffset=(10, 20, 30), **QUARTER),
    "qform_half_turn": dict(**Q, **HALF),
    "qform_qfac": dict(pixdim=(-1, 1.5, 2, 3), **Q, **QUARTER),
    "qform_nan": dict(q=1, quatern=(np.nan, 0, 0), refused=FORMAT),
    "both_s1_q1_disagree": dict(s=1, srow=srow(R), **Q),
    "both_s1_q2_disagree": dict(s=1, srow=srow(R), q=2, qoffset=(1, 2, 3)),
    "both_s2_q1_agree": dict(s=2, srow=diag(1.5, 2, 3), **Q),
    "both_s2_q1_rotated": dict(s=2, srow=srow(R), **Q),
    "both_s2_q1_moved": dict(s=2, srow=diag(-1.5, 2, 3, (10.1, 20, 30)), **Q),
    "both_s2_q1_flipped": dict(s=2, srow=diag(-1.5, -2, 3), **Q),
    "both_s4_q1_flipped_oblique": dict(s=4, srow=srow(rotation(0, 0, 2 * np.arcsin(.3)) @ np.diag([1, -1, -1])), quatern=(0, 0, .3), **Q),
    "both_s3_q1_permuted": dict(s=3, srow=srow(PERM), **Q),
    "pixdim_negative": dict(pixdim=(1, -1.5, 2, 3), **S),
    "pixdim_negative_qform": dict(pixdim=(-1, 1.5, -2, -3), **Q, **QUARTER),
    "pixdim_negative_no_form": dict(pixdim=(1, -1.5, -2, 3)),
    "pixdim_zero": dict(pixdim=(1, 0, 2, 3), refused=FORMAT, **S),
    "pixdim_nan": dict(pixdim=(1, np.nan, 2, 3), refused=FORMAT, **S),
    "units_metre": dict(units=1, **S),
    "units_micron_sec": dict(units=3 | 8, **Q, **QUARTER),
    "units_none": dict(units=0, **S),
    "slope_int16": dict(dtype="int16", slope=.1, inter=-1024, **S),
    "slope_int32": dict(dtype="int32", slope=.1, inter=-3, data=np.arange(24) * 10000019, **S),
    "slope_uint8_no_form": dict(dtype="uint8", slope=2.5),
    "slope_float32": dict(slope=.1, inter=3, **S),
    "slope_float64": dict(dtype="float64", slope=.1, inter=3, **S),
    "slope_zero_inter": dict(dtype="int16", slope=0, inter=5, **S),
    "slope_nan": dict(dtype="int16", slope=np.nan, inter=np.nan, **S),
    "inter_only": dict(dtype="uint16", slope=1, inter=-10, **S),
    "float_nan_inf": dict(data=[np.nan, np.inf, -np.inf] + [2.5] * 21, slope=2, inter=1, **S),
    "int64_wide": dict(dtype="int64", data=np.arange(24) - 2**40, **S),
    "uint32_wide": dict(dtype="uint32", data=[7] * 23 + [2**32 - 1], **S),
    "2d": dict(dim=(2, 4, 6), s=1, srow=srow(rotation(0, 0, .5) @ np.diag([-1, 1, 1]))),
    "2d_sagittal": dict(dim=(2, 4, 6), s=1, srow=srow(np.array([[0, 0, 1], [1, 0, 0], [0, 1., 0]]))),
    "4d": dict(dim=(4, 2, 3, 2, 2), dtype="int16", slope=2, inter=1, pixdim=(1, 1.5, 2, 3, 2.5), units=10, gz=True, s=1, srow=srow(R)),
    "4d_one": dict(dim=(4, 4, 3, 2, 1), **S),
    "4d_unused_axis_zero": dict(dim=(4, 4, 3, 2, 0), **S),
    "5d": dict(dim=(5, 4, 3, 1, 1, 2), refused=UNSUPPORTED, **S),
    "extension": dict(offset=384, pad=struct.pack("<4B2i", 1, 0, 0, 0, 32, 6) + b"<x>hello</x>".ljust(24), gz=True, **S),
    "offset_small": dict(offset=100, refused=FORMAT, **S),
    "truncated": dict(data=np.arange(20), refused=FORMAT, **S),
    "rgb24": dict(code=128, dtype="uint8", data=np.zeros(72), refused=UNSUPPORTED, **S),
    "pair": dict(magic=b"ni1\0", refused=UNSUPPORTED, **S),
    "be_int16_slope": dict(order=">", dtype="int16", slope=.5, inter=1, gz=True, **Q, **QUARTER),
    "be_float64": dict(order=">", dtype="float64", s=1, srow=srow(R)),
    "nifti2": dict(version=2, s=1, srow=srow(R), gz=True),
    "nifti2_be_4d": dict(version=2, order=">", dim=(4, 2, 3, 2, 2), dtype="int16", slope=.5, **Q, **QUARTER),
    "nifti2_be_2d": dict(version=2, order=">", dim=(2, 4, 6), dtype="uint16", **S),
}


def build(fields):
    """Returns the bytes of a case's file."""
    fields = dict(fields)
    data, pad, gz = fields.pop("data", np.arange(24)), fields.pop("pad", b"\0" * 4), fields.pop("gz", False)
    fields.pop("refused", None)
    dtype = np.dtype(fields.get("dtype", "float32")).newbyteorder(fields.get("order", "<"))
    raw = header(**fields) + pad + np.asarray(data).astype(dtype).tobytes()
    return gzip.compress(raw, mtime=0) if gz else raw


def seen(path):
    """Returns what SimpleITK reads in a file."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return {"error": True}
    voxels = sitk.GetArrayFromImage(image)
    flat = voxels.ravel().astype(np.float64)
    return {"size": image.GetSize(), "spacing": image.GetSpacing(), "origin": image.GetOrigin(),
            "direction": image.GetDirection(), "dtype": str(voxels.dtype), "sum": float(flat.sum()),
            "first": flat[:4].tolist(), "last": flat[-4:].tolist()}


def make():
    goldens = []
    twin = HERE / "twin.nii"
    for name, fields in CASES.items():
        path = HERE / (name + (".nii.gz" if fields.get("gz") else ".nii"))
        path.write_bytes(build(fields))
        case = {"file": path.name}
        if "refused" in fields:
            case["refused"] = fields["refused"]
        elif fields.get("version") == 2:
            twin.write_bytes(build({**fields, "version": 1, "gz": False}))
            case |= seen(twin)
            twin.unlink()
        else:
            case |= seen(path)
        goldens.append(case)
    save(goldens, "goldens.json")
    print(len(goldens), "cases,", sum(f.stat().st_size for f in HERE.iterdir()), "bytes")


REAL = ["io_corner_cases/nibabel/" + f for f in (
    "anatomical.nii", "example4d.nii.gz", "example_nifti2.nii.gz", "functional.nii", "reoriented_anat_moved.nii",
    "resampled_anat_moved.nii", "standard.nii.gz")] + ["ct_totalsegmentator/" + f for f in (
        "example_ct.nii.gz", "example_ct_sm.nii.gz", "example_ct_sm_seg.nii.gz", "masks/adrenal_gland_left.nii.gz")] + [
            "nnunet_golden/ct_512x512x168.nii.gz"]


def real(folder):
    import nibabel
    goldens = []
    for name in REAL:
        path = Path(folder) / name
        if "nifti2" not in name:
            goldens.append({"file": name, **seen(path)})
            continue
        two = nibabel.load(path)
        one = nibabel.Nifti1Image(np.asanyarray(two.dataobj), None)
        for field in ("qform_code", "sform_code", "pixdim", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y",
                      "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"):
            one.header[field] = two.header[field]
        twin = HERE / "twin.nii"
        one.to_filename(twin)
        goldens.append({"file": name, **seen(twin)})
        twin.unlink()
    save(goldens, "real.json")


def save(goldens, name):
    (HERE / name).write_text("[\n" + ",\n".join(json.dumps(g) for g in goldens) + "\n]\n")


def check_written(folder):
    bad = checked = 0
    for case in json.loads((HERE / "goldens.json").read_text()):
        if "refused" in case or "error" in case:
            continue
        name = case["file"].split(".")[0]
        axes = min(len(case["size"]), 3)
        direction = np.reshape(case["direction"], (len(case["size"]),) * 2)[:axes, :axes].ravel()
        for ending in (".nii", ".nii.gz"):
            path = Path(folder) / (name + ".labels" + ending)
            if name.startswith("nifti2"):
                continue  # SimpleITK reads no NIfTI-2; the Go tests compare these headers
            got = seen(path)
            checked += 1
            same = (list(got.get("size", ())) == case["size"][:axes] and list(got["spacing"]) == case["spacing"][:axes]
                    and list(got["origin"]) == case["origin"][:axes] and np.array_equal(got["direction"], direction)
                    and got["dtype"] in ("uint8", "uint16"))
            if not same:
                bad += 1
                print("labels differ:", path.name, got, case)
        if axes == 2:
            continue  # Write makes 3-D files
        got = seen(Path(folder) / (name + ".write.nii.gz"))
        checked += 1
        got_direction = np.reshape(got["direction"], (len(got["size"]),) * 2)[:3, :3].ravel()
        close = lambda a, b: np.allclose(a, b, rtol=1e-5, atol=1e-5)
        if not (list(got["size"]) == case["size"] and close(got["spacing"][:3], case["spacing"][:3]) and close(got["origin"][:3], case["origin"][:3])
                and close(got_direction, direction) and got["first"] == case["first"] and got["last"] == case["last"]):
            bad += 1
            print("written volume differs:", name, got, case)
    print(checked, "files checked,", bad, "differ")
    sys.exit(bad > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check-written"]:
        check_written(sys.argv[2])
    elif sys.argv[1:2] == ["--real"]:
        real(sys.argv[2])
    else:
        make()
