"""NIfTI files in plain Python, as far as the benchmark needs them: comparing label maps, and
making larger CTs of one. Little-endian NIfTI-1, .nii or .nii.gz."""
import gzip
import struct
from pathlib import Path

BYTES = {2: 1, 4: 2, 8: 4, 16: 4, 64: 8, 256: 1, 512: 2, 768: 4}  # per voxel, by the code of its type


def opened(path, mode, level=1):
    return gzip.open(path, mode, level) if str(path).endswith(".gz") else open(path, mode)


class Volume:
    """header: all bytes before the voxels; size: voxels along x, y, z; data: the voxels' bytes."""

    def __init__(self, path):
        with opened(path, "rb") as f:
            header = f.read(352)
            if header[:4] != b"\x5c\x01\0\0":
                raise ValueError(f"{path} is not a little-endian NIfTI-1 file")
            self.header = header + f.read(int(struct.unpack_from("<f", header, 108)[0]) - 352)
            self.data = f.read()
        self.size = struct.unpack_from("<3h", header, 42)
        self.spacing = struct.unpack_from("<3f", header, 80)
        (self.kind,) = struct.unpack_from("<h", header, 70)
        self.scale = struct.unpack_from("<2f", header, 112)  # slope and intercept
        self.slice = self.size[0] * self.size[1] * BYTES[self.kind]
        if len(self.data) != self.slice * self.size[2]:
            raise ValueError(f"{path} holds {len(self.data)} bytes of voxels, expected {self.slice * self.size[2]}")

    def labels(self):
        """A byte per voxel; labels are below 256."""
        width = BYTES[self.kind]
        if any(any(self.data[i::width]) for i in range(1, width)) or self.kind in (16, 64):
            raise ValueError("labels above 255, or stored as fractions")
        return self.data[::width]


def write_slices(source, path, first, count):
    """Writes count slices of source from number first on; beyond its ends it goes on mirrored,
    so that no edge appears. One slice at a time."""
    header = bytearray(source.header)
    struct.pack_into("<h", header, 46, count)
    n, part = source.size[2], Path(f"{path}.part{''.join(Path(path).suffixes[-2:])}")
    with opened(part, "wb") as f:
        f.write(header)
        for k in range(first, first + count):
            k %= 2 * n
            k = k if k < n else 2 * n - 1 - k
            f.write(source.data[k * source.slice:(k + 1) * source.slice])
    part.rename(path)


def agreement(a, b):
    """Part of the voxels that either calls foreground which have the same label in both;
    a and b have a byte per voxel."""
    x, y = int.from_bytes(a, "little"), int.from_bytes(b, "little")
    nonzero = lambda v: len(a) - v.to_bytes(len(a), "little").count(0)
    return 1 - nonzero(x ^ y) / max(1, nonzero(x | y))


def dices(a, b, voxel_ml, least_ml=1):
    """Dice of every label of at least least_ml in a."""
    out = {}
    for label in range(1, 256):
        size = a.count(label)
        if not size or size * voxel_ml < least_ml:
            continue
        table = bytes(v == label for v in range(256))
        x, y = (int.from_bytes(v.translate(table), "little") for v in (a, b))
        out[label] = 2 * (x & y).bit_count() / (size + y.bit_count())
    return out
