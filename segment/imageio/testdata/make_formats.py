"""Makes formats.json: small NRRD and MetaImage files, and what SimpleITK reads in them.

    make_formats.py                          makes formats.json
    make_formats.py --real FOLDER            makes formats_real.json of the real NRRD files of FOLDER
    make_formats.py --check-written FOLDER   reads with SimpleITK what TestFormatsForSimpleITK
                                             left there (go test -artifacts) beside want.json

Needs SimpleITK, numpy and pynrrd. A case with "refused" is one that libflare refuses with
that kind; SimpleITK may read it, but differently from what the file says, or not at all.
"""
import base64
import gzip
import json
import sys
import tempfile
import zlib
from pathlib import Path

import nrrd
import numpy as np
import SimpleITK as sitk

HERE = Path(__file__).parent
X = np.arange(24, dtype="<i2") - 3
FORMAT, UNSUPPORTED = "format", "unsupported"
ANGLED = "space directions: (0,1.5,0) (-2,0,0) (0,0,3)\nspace origin: (10,20,30.5)\n"
TURNED = "TransformMatrix = 0 1 0 -1 0 0 0 0 1\nOffset = 10 20 30.5\nElementSpacing = 1.5 2 3\n"


def N(lines="", type="short", sizes="4 3 2", data=X.tobytes(), endian="little", encoding="raw", magic="NRRD0004", blank="\n", refused=None, **other):
    dim = f"dimension: {len(sizes.split())}\n"
    head = f"{magic}\n# a comment\ntype: {type}\n{dim}sizes: {sizes}\nencoding: {encoding}\n" + (f"endian: {endian}\n" if endian else "") + lines + blank
    return dict(head=head, data=data, refused=refused, **other)


def M(lines="", type="MET_SHORT", size="4 3 2", data=X.tobytes(), file="LOCAL", refused=None, **other):
    head = f"ObjectType = Image\nNDims = {len(size.split())}\nDimSize = {size}\nElementType = {type}\n{lines}ElementDataFile = {file}\n"
    return dict(head=head, data=data, refused=refused, **other)


RAS, NONE4 = "space: RAS\n", "space directions: (1.5,0,0) (0,2,0) (0,0,3) none\nspace origin: (10,20,30)\n"
BIG = X.astype(">i2").tobytes()
CASES = {
    **{f"space_{s}.nrrd": N(f"space: {s}\n" + ANGLED) for s in (
        "left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "LPS", "ras", "LAS", "scanner-xyz", "3D-right-handed")},
    "space_LPI.nrrd": N("space: LPI\n" + ANGLED, refused=FORMAT),
    "space_dimension.nrrd": N("space dimension: 3\n" + ANGLED),
    "directions_alone.nrrd": N(ANGLED, refused=FORMAT),
    "oblique.nrrd": N("space: LPS\nspace directions: (1.2,0.9,0) ( -1.2 , 1.6 , 0 ) (0,0,-3)\n"),
    "sheared.nrrd": N("space: LPS\nspace directions: (1.5,0,0) (0.3,2,0) (0,0,3)\n", refused=UNSUPPORTED),
    "singular.nrrd": N("space: LPS\nspace directions: (1.5,0,0) (0,0,0) (0,0,3)\n", refused=FORMAT),
    "plain.nrrd": N(),
    "crlf.nrrd": N(), "magic5.nrrd": N(magic="NRRD0005"), "magic9.nrrd": N(magic="NRRD0009", refused=FORMAT),
    "case.nrrd": N("Space: LPS\nSPACE DIRECTIONS: (1,0,0) (0,2,0) (0,0,3)\n", type="SHORT"),
    "pairs.nrrd": N("a key:=a: value\nkey:=x\n"),
    "spacings.nrrd": N("spacings: 1.5 2 3\n"), "spacings_nan.nrrd": N("spacings: 1.5 nan 3\n"),
    "spacings_negative.nrrd": N("spacings: 1.5 -2 3\n"), "spacings_zero.nrrd": N("spacings: 1.5 0 3\n", refused=FORMAT),
    "spacings_two.nrrd": N("spacings: 1.5 2\n", refused=FORMAT),
    "spacings_space.nrrd": N("space: LPS\nspacings: 1.5 2 3\n", refused=UNSUPPORTED),
    "mins.nrrd": N("spacings: 1.5 2 3\naxis mins: 10 20 30\n"),
    "mins_node.nrrd": N("spacings: 1.5 2 3\ncenterings: node node node\naxis mins: 10 20 30\n"),
    "mins_cell.nrrd": N("spacings: 1.5 2 3\ncenterings: cell cell cell\naxismins: 10 20 30\n"),
    "mins_nan.nrrd": N("spacings: 1.5 2 3\naxis mins: 10 nan 30\n", refused=FORMAT),
    "no_directions.nrrd": N("space: LAS\nspace origin: (1,2,3)\n"),
    "vector_first.nrrd": N(RAS + "kinds: vector domain domain domain\nspace directions: none (1.5,0,0) (0,2,0) (0,0,3)\n", sizes="2 3 2 2"),
    "vector_last.nrrd": N(RAS + "kinds: domain domain domain list\n" + NONE4, sizes="3 2 2 2"),
    "vector_middle.nrrd": N(RAS + "kinds: domain list domain domain\nspace directions: (1.5,0,0) none (0,2,0) (0,0,3)\n", sizes="3 2 2 2"),
    "vector_big_float.nrrd": N(RAS + "kinds: vector space space space\nspace directions: none (1.5,0,0) (0,2,0) (0,0,3)\n", "float", "2 3 2 2", X.astype(">f4").tobytes(), "big"),
    "vector_int8.nrrd": N("kinds: 3-vector domain domain domain\n", "int8", "3 2 2 2", X.astype("i1").tobytes(), None),
    "vector_one.nrrd": N("kinds: scalar domain domain domain\n", sizes="1 4 3 2"),
    "rgb_2d.nrrd": N("kinds: RGB-color domain domain\n", sizes="3 4 2"),
    "complex.nrrd": N("kinds: complex domain domain domain\n", sizes="2 3 2 2", refused=UNSUPPORTED),
    "two_vectors.nrrd": N("kinds: list domain domain list\n", sizes="2 3 2 2", refused=UNSUPPORTED),
    "4d.nrrd": N("spacings: 1 2 3 4\n", sizes="3 2 2 2"),
    "4d_space.nrrd": N("space: left-posterior-superior-time\nspace directions: (1.5,0,0,0) (0,2,0,0) (0,0,3,0) (0,0,0,5)\nspace origin: (1,2,3,4)\n", sizes="3 2 2 2"),
    "4d_rast.nrrd": N("space: right-anterior-superior-time\nspace directions: (1.5,0,0,0) (0,2,0,0) (0,0,3,0) (0,0,0,5)\n", sizes="3 2 2 2", refused=UNSUPPORTED),
    "5d.nrrd": N(sizes="2 3 2 1 2", refused=UNSUPPORTED), "1d.nrrd": N(sizes="24", refused=UNSUPPORTED),
    "2d.nrrd": N("space dimension: 2\nspace directions: (0,1.5) (-2,0)\nspace origin: (1,2)\n", sizes="4 6"),
    "2d_in_3d.nrrd": N("space: LPS\nspace directions: (0,1.5,0) (-2,0,0)\n", sizes="4 6", refused=UNSUPPORTED),
    "big.nrrd": N(data=BIG, endian="big"), "no_endian.nrrd": N(endian=None, refused=FORMAT),
    "gzip.nrrd": N("space: LPS\n" + ANGLED, data=gzip.compress(X.tobytes(), mtime=0), encoding="gzip"),
    "gz_big.nrrd": N(data=gzip.compress(BIG, mtime=0), encoding="gz", endian="big"),
    "gzip_byteskip.nrrd": N("byte skip: 3\n", data=gzip.compress(b"123" + X.tobytes(), mtime=0), encoding="gzip"),
    "gzip_not.nrrd": N(encoding="gzip", refused=FORMAT),
    "gzip_cut.nrrd": N(data=gzip.compress(X.tobytes(), mtime=0)[:-12], encoding="gzip", refused=FORMAT),
    "gzip_checksum.nrrd": N(data=gzip.compress(X.tobytes(), mtime=0)[:-8] + bytes(8), encoding="gzip", refused=FORMAT),
    "gzip_short.nrrd": N(data=gzip.compress(X.tobytes()[:-1], mtime=0), encoding="gzip", refused=FORMAT),
    "ascii.nrrd": N(encoding="ascii", refused=UNSUPPORTED), "bzip2.nrrd": N(encoding="bzip2", refused=UNSUPPORTED), "zip.nrrd": N(encoding="zip", refused=FORMAT),
    "skips.nrrd": N("byte skip: 4\nline skip: 1\n", data=b"hello\n1234" + X.tobytes()),
    "byteskip_end.nrrd": N("byteskip: -1\n", data=b"hello" + X.tobytes()),
    "lines_missing.nrrd": N("line skip: 3\n", data=b"a\nb\nc", refused=FORMAT),
    "longer.nrrd": N(data=X.tobytes() + b"12"), "shorter.nrrd": N(data=X.tobytes()[:-1], refused=FORMAT),
    "no_blank.nrrd": N(data=b"", blank="", refused=FORMAT),
    "no_colon.nrrd": N("spacings 1 2 3\n", refused=FORMAT),
    "twice.nrrd": N("endian: little\n", refused=FORMAT),
    "huge.nrrd": N(sizes="2000 2000 2000", refused=FORMAT), "vast.nrrd": N(sizes="99999 99999 99999", refused=FORMAT),
    "size_0.nrrd": N(sizes="4 0 6", refused=FORMAT), "size_word.nrrd": N(sizes="4 x 6", refused=FORMAT),
    "type.nrrd": N(type="half", refused=FORMAT), "block.nrrd": N(type="block", refused=UNSUPPORTED),
    "nan.nrrd": N(type="float", data=np.array([np.nan, np.inf] + [1.5] * 22, "<f4").tobytes()),
    **{f"type_{t.replace(' ', '_')}.nrrd": N(type=t, data=np.arange(24).astype("<" + d).tobytes()) for t, d in {
        "uchar": "u1", "unsigned char": "u1", "signed char": "i1", "unsigned short": "u2", "int": "i4", "uint32": "u4", "unsigned int": "u4",
        "long long": "i8", "uint64_t": "u8", "float": "f4", "double": "f8"}.items()},
    "detached.nhdr": N("data file: voxels.bin\nspace: LPS\n" + ANGLED, data=b"", other={"voxels.bin": X.tobytes()}, blank=""),
    "detached_skips.nhdr": N("datafile: the voxels.bin\nline skip: 2\nbyte skip: 1\n", data=b"", other={"the voxels.bin": b"a\nb\n1" + X.tobytes()}),
    "detached_end.nhdr": N("data file: voxels.bin\nbyte skip: -1\n", data=b"", other={"voxels.bin": b"header" + X.tobytes()}),
    "detached_gzip.nhdr": N("data file: ./voxels.raw.gz\n", data=b"", encoding="gzip", other={"voxels.raw.gz": gzip.compress(X.tobytes(), mtime=0)}),
    "detached_short.nhdr": N("data file: voxels.bin\n", data=b"", other={"voxels.bin": X.tobytes()[:40]}, refused=FORMAT),
    "detached_list.nhdr": N("data file: LIST\na.raw\nb.raw\n", data=b"", blank="", refused=UNSUPPORTED),
    "detached_pattern.nhdr": N("data file: a%03d.raw 0 1 1\n", data=b"", refused=UNSUPPORTED),

    "plain.mha": M(), "turned.mha": M(TURNED), "crlf.mha": M(TURNED), "colon.mha": M(TURNED), "tight.mha": M(TURNED),
    "no_type.mha": M(), "comment.mha": M("Comment = hi = there\nUnknown = 1\nID = 1\n"),
    "orientation.mha": M("AnatomicalOrientation = RAS\n" + TURNED),
    "size.mha": M("ElementSize = 1.5 2 3\n"), "size_and_spacing.mha": M("ElementSize = 9 9 9\nElementSpacing = 1.5 2 3\n"),
    "spacing_negative.mha": M("ElementSpacing = 1.5 -2 3\n"), "spacing_zero.mha": M("ElementSpacing = 1.5 0 3\n", refused=FORMAT),
    "spacing_two.mha": M("ElementSpacing = 1.5 2\n", refused=FORMAT),
    "position.mha": M("Position = 1 2 3\nRotation = 0 1 0 -1 0 0 0 0 1\nCenterOfRotation = 5 6 7\n"),
    "origin.mha": M("Origin = 1 2 3\nOrientation = 0 1 0 -1 0 0 0 0 1\n"),
    "scaled.mha": M("TransformMatrix = 0 2 0 -1 0 0 0 0 1\n", refused=FORMAT),
    "sheared.mha": M("TransformMatrix = 1 0 0 0.1 0.995 0 0 0 1\n", refused=UNSUPPORTED),
    "slope.mha": M("ElementToIntensityFunctionSlope = 2\nElementToIntensityFunctionOffset = 1\n"),
    "msb.mha": M("ElementByteOrderMSB = True\n", data=BIG), "msb_binary.mha": M("BinaryData = True\nBinaryDataByteOrderMSB = true\n", data=BIG),
    "ascii.mha": M("BinaryData = False\n", refused=UNSUPPORTED),
    "header.mha": M("HeaderSize = 4\n", data=b"1234" + X.tobytes(), refused=UNSUPPORTED),
    "header_end.mha": M("HeaderSize = -1\n", data=b"1234" + X.tobytes()),
    "channels.mha": M("ElementNumberOfChannels = 2\n" + TURNED, size="2 3 2"),
    "array.mha": M("ElementNumberOfChannels = 2\n", "MET_SHORT_ARRAY", "2 3 2"),
    "4d.mha": M("ElementSpacing = 1 2 3 4\nOffset = 1 2 3 4\nTransformMatrix = 0 1 0 0 -1 0 0 0 0 0 1 0 0 0 0 1\n", size="3 2 2 2"),
    "4d_channels.mha": M("ElementNumberOfChannels = 2\n", size="3 2 2 1", refused=UNSUPPORTED),
    "2d.mha": M("ElementSpacing = 1 2\nOffset = 1 2\nTransformMatrix = 0 1 -1 0\n", size="4 6"),
    "zlib.mha": M(f"CompressedData = True\nCompressedDataSize = {len(zlib.compress(X.tobytes()))}\n" + TURNED, data=zlib.compress(X.tobytes())),
    "zlib_msb.mha": M(f"CompressedData = True\nCompressedDataSize = {len(zlib.compress(BIG))}\nBinaryDataByteOrderMSB = True\n", data=zlib.compress(BIG)),
    "zlib_gzip.mha": M(f"CompressedData = True\nCompressedDataSize = {len(gzip.compress(BIG))}\nElementByteOrderMSB = T\n", data=gzip.compress(BIG, mtime=0)),
    "zlib_cut.mha": M("CompressedData = True\nCompressedDataSize = 99999\n", data=zlib.compress(X.tobytes()), refused=FORMAT),
    "zlib_checksum.mha": M("CompressedData = True\n", data=zlib.compress(X.tobytes())[:-4] + bytes(4), refused=FORMAT),
    "zlib_short.mha": M("CompressedData = True\n", data=zlib.compress(X.tobytes()[1:]), refused=FORMAT),
    "zlib_not.mha": M("CompressedData = True\n", refused=FORMAT),
    "longer.mha": M(data=X.tobytes() + b"xx"), "shorter.mha": M(data=X.tobytes()[:-2], refused=FORMAT),
    "huge.mha": M(size="2000 2000 2000", refused=FORMAT), "vast.mha": M(size="99999 99999 99999", refused=FORMAT),
    "type.mha": M(type="MET_STRING", refused=UNSUPPORTED),
    "nan.mha": M(type="MET_FLOAT", data=np.array([np.nan, -np.inf] + [1.5] * 22, "<f4").tobytes()),
    **{f"type_{t}.mha": M(type="MET_" + t, data=np.arange(24).astype("<" + d).tobytes()) for t, d in {
        "UCHAR": "u1", "CHAR": "i1", "USHORT": "u2", "INT": "i4", "UINT": "u4", "LONG": "i4", "ULONG": "u4", "LONG_LONG": "i8", "ULONG_LONG": "u8",
        "FLOAT": "f4", "DOUBLE": "f8"}.items()},
    "detached.mhd": M(TURNED, data=b"", file="the voxels.raw", other={"the voxels.raw": X.tobytes()}),
    "detached_header.mhd": M("HeaderSize = 5\n", data=b"", file="v.raw", other={"v.raw": b"12345" + X.tobytes()}),
    "detached_end.mhd": M("HeaderSize = -1\n", data=b"", file="v.raw", other={"v.raw": b"12345" + X.tobytes()}),
    "detached_zlib.mhd": M("CompressedData = True\n", data=b"", file="v.zraw", other={"v.zraw": zlib.compress(X.tobytes())}),
    "detached_short.mhd": M(data=b"", file="v.raw", other={"v.raw": X.tobytes()[:40]}, refused=FORMAT),
    "local.mhd": M(file="local"),
    "list.mhd": M(data=b"a.raw\nb.raw\n", file="LIST", refused=UNSUPPORTED), "pattern.mhd": M(data=b"", file="a%03d.raw 1 2 1", refused=UNSUPPORTED),
}
CASES["crlf.nrrd"]["head"] = CASES["crlf.nrrd"]["head"].replace("\n", "\r\n")
CASES["crlf.mha"]["head"] = CASES["crlf.mha"]["head"].replace("\n", "\r\n")
CASES["colon.mha"]["head"] = CASES["colon.mha"]["head"].replace(" =", ":")
CASES["tight.mha"]["head"] = CASES["tight.mha"]["head"].replace(" = ", "=")
CASES["no_type.mha"]["head"] = CASES["no_type.mha"]["head"].replace("ObjectType = Image\n", "")


def writers(folder):
    """Files that SimpleITK and pynrrd write, by name with the files beside."""
    image = sitk.GetImageFromArray(X.reshape(2, 3, 4))
    image.SetSpacing((0.7, 0.8, 2.5)), image.SetOrigin((-100.5, 20, 7)), image.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, -1))
    vector = sitk.GetImageFromArray(X.reshape(2, 2, 3, 2), isVector=True)
    four = sitk.JoinSeries([image, image])
    for ending in ("nrrd", "nhdr", "mha", "mhd"):
        for name, x in dict(image=image, vector=vector, four=four).items():
            for compress in (False, True):
                yield folder / f"sitk_{name}{'_c' * compress}.{ending}", lambda p, x=x, c=compress: sitk.WriteImage(x, str(p), useCompression=c)
    header = {"space": "right-anterior-superior", "space directions": [[0, 1.5, 0], [2, 0, 0], [0, 0, 3]], "space origin": [1, 2, 3]}
    for encoding in ("raw", "gzip"):
        for ending in ("nrrd", "nhdr"):
            yield folder / f"pynrrd_{encoding}.{ending}", lambda p, e=encoding: nrrd.write(str(p), X.reshape(4, 3, 2), {**header, "encoding": e})


def seen(path):
    """Returns what SimpleITK reads in a file; channels first."""
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError:
        return {"error": True}
    voxels = sitk.GetArrayFromImage(image)
    n = image.GetNumberOfComponentsPerPixel()
    flat = (np.moveaxis(voxels, -1, 0) if n > 1 else voxels).ravel().astype(np.float64)
    bad = ~np.isfinite(flat)
    flat[bad] = 0  # as libflare reads them
    return {"size": image.GetSize(), "components": n, "spacing": image.GetSpacing(), "origin": image.GetOrigin(), "notfinite": int(bad.sum()),
            "direction": image.GetDirection(), "dtype": str(voxels.dtype), "sum": float(flat.sum()),
            "first": flat[:4].tolist(), "last": flat[-4:].tolist()}


def make():
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    goldens = []
    for name, c in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            files = {name: c["head"].encode() + c["data"], **c.get("other", {})}
            for f, content in files.items():
                (Path(folder) / f).write_bytes(content)
            case = {"file": name, "files": {f: base64.b64encode(b).decode() for f, b in files.items()}}
            got = seen(Path(folder) / name)
            if c["refused"]:
                case["refused"] = c["refused"]
            elif "error" in got:
                sys.exit(f"SimpleITK does not read {name}")
            else:
                case |= got
        goldens.append(case)
    with tempfile.TemporaryDirectory() as folder:
        for path, write in writers(Path(folder)):
            before = set(Path(folder).iterdir())
            write(path)
            files = set(Path(folder).iterdir()) - before
            goldens.append({"file": path.name, "files": {f.name: base64.b64encode(f.read_bytes()).decode() for f in sorted(files)}, **seen(path)})
            for f in files:
                f.unlink()
    (HERE / "formats.json").write_text("[\n" + ",\n".join(json.dumps(g) for g in goldens) + "\n]\n")
    print(len(goldens), "cases,", (HERE / "formats.json").stat().st_size, "bytes")


def real(folder):
    names = [f"io_corner_cases/dcmqi/{n}_seg.nrrd" for n in ("heart", "liver", "spine")]
    (HERE / "formats_real.json").write_text("[\n" + ",\n".join(json.dumps({"file": n, **seen(Path(folder) / n)}) for n in names) + "\n]\n")


def check_written(folder):
    bad = 0
    want = json.loads((Path(folder) / "want.json").read_text())
    for w in want:
        got = seen(Path(folder) / w["file"])
        axes = min(len(w["size"]), 3)
        same = "error" not in got and list(got["size"][:axes]) == w["size"][:axes]
        if same:
            n = len(got["size"])
            direction = np.reshape(got["direction"], (n, n))[:axes, :axes]
            channels = got["components"] * (got["size"][3] if n == 4 else 1)
            same = (np.allclose(got["spacing"][:axes], w["spacing"][:axes], rtol=1e-14) and np.allclose(got["origin"][:axes], w["origin"][:axes], rtol=1e-14)
                    and np.allclose(direction, np.reshape(w["direction"], (3, 3))[:axes, :axes], rtol=1e-14, atol=1e-15)
                    and channels == w["channels"] and got["dtype"] == w["dtype"] and got["first"] == w["first"] and got["last"] == w["last"])
        if not same:
            bad += 1
            print("differs:", w, got)
    print(len(want), "files checked,", bad, "differ")
    sys.exit(bad > 0 or not want)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check-written"]:
        check_written(sys.argv[2])
    elif sys.argv[1:2] == ["--real"]:
        real(sys.argv[2])
    else:
        make()
