"""Makes the goldens of this folder: label maps, and what others score them with.

    python make_goldens.py FLARE

in an environment with nibabel, pandas, scipy and surface-distance 0.1 (google-deepmind/surface-distance);
FLARE is a checkout of JunMa11/FLARE at aad2cc28 (its folders FLARE21, FLARE22 and FLARE23, or an
Evaluation folder inside each), whose scripts are run as they are but for the paths at their top.

maps.gz      the voxels of all cases, one after the other: prediction, reference; uint8, z, y, x
cases.json.gz  a list with an entry for each case: size and spacing (x, y, z), tolerance, and
    plain    {label: [DSC, NSD, ASSD, HD, HD95]} by surface-distance, of labels in both maps;
             ASSD is the mean over the elements of both surfaces, weighted by their area
    flare21, flare22, flare23    [[DSC, NSD] of each organ]; null where the script fails
areas.json   [spacing, the surface element's area of each of the 256 codes] by surface-distance; bit
             4*z + 2*y + x of a code is voxel (x, y, z) of the 2x2x2
"""
import contextlib
import gzip
import io
import json
import pathlib
import sys
import tempfile
import types

import nibabel
import numpy as np
import scipy.ndimage
from surface_distance import lookup_tables, metrics

HERE = pathlib.Path(__file__).parent
RNG = np.random.default_rng(22)
SPACINGS = [(1, 1, 1), (0.5, 0.5, 2.5), (0.7, 0.7, 2), (0.78125, 0.78125, 5), (2, 1, 0.5), (0.3, 0.9, 4), (3, 3, 3), (1.5, 0.8, 0.8)]
CROPPED = (5, 6, 10)  # only between the reference's first and last slice, in FLARE22 and FLARE23

# What newer versions of NumPy and SciPy no longer have.
np.Inf, np.NaN = np.inf, np.nan
scipy.ndimage.filters = scipy.ndimage.morphology = scipy.ndimage


# ------------------------------------------------------------------------ the label maps
# Arrays here are x, y, z, as nibabel gives them.


def ellipsoid(shape, centre, radii):
    grid = np.indices(shape).reshape(3, *shape)
    return sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii)) <= 1


def pick(n):
    return RNG.choice(np.arange(1, 15), n, replace=False)


def shape(least=5, most=20):
    return tuple(int(s) for s in RNG.integers(least, most, 3))


def blobs():
    """Organs that the prediction has a little elsewhere and a little larger or smaller."""
    s = shape(8)
    p, r = np.zeros(s, np.uint8), np.zeros(s, np.uint8)
    for label in pick(int(RNG.integers(1, 5))):
        centre, radii = RNG.uniform(0, s), RNG.uniform(1, np.array(s) / 2.5)
        r[ellipsoid(s, centre, radii)] = label
        p[ellipsoid(s, centre + RNG.normal(0, 1, 3), radii * RNG.uniform(0.7, 1.3, 3))] = label
    return p, r


def noise():
    s, fill = shape(2, 7), RNG.uniform(0.05, 0.95)
    labels = pick(2)
    maps = [np.where(RNG.random(s) < fill, RNG.choice(labels, s), 0).astype(np.uint8) for _ in "pr"]
    if RNG.random() < 0.5:
        maps[0] = np.where(RNG.random(s) < 0.8, maps[1], maps[0])
    return maps


def shifted():
    """A box and the same some voxels further: distances that meet tolerances to the last bit."""
    s = np.array([24, 12, 12])
    label, axis, by = int(RNG.integers(1, 15)), int(RNG.integers(3)), int(RNG.integers(0, 8))
    s = np.roll(s, axis)
    p, r = np.zeros(s, np.uint8), np.zeros(s, np.uint8)
    lo = RNG.integers(0, 3, 3)
    hi = lo + RNG.integers(2, 9, 3)
    r[tuple(slice(a, b) for a, b in zip(lo, hi))] = label
    lo[axis] += by
    hi[axis] += by
    if RNG.random() < 0.5:
        lo[(axis + 1) % 3] += 1
    p[tuple(slice(a, b) for a, b in zip(lo, hi))] = label
    return p, r


def thin():
    """Single voxels, lines, plates and diagonals."""
    s = shape(6, 14)
    maps = []
    labels = pick(3)
    for _ in "pr":
        m = np.zeros(s, np.uint8)
        for label in labels:
            kind, at = RNG.integers(4), [int(RNG.integers(n)) for n in s]
            where = [slice(a, a + 1) for a in at]
            if kind == 1:
                where[int(RNG.integers(3))] = slice(None)
            if kind == 2:
                where = [slice(None)] * 3
                a = int(RNG.integers(3))
                where[a] = slice(at[a], at[a] + 1)
            if kind == 3:
                i = np.arange(min(s))
                m[i, i, min(s) - 1 - i] = label
            else:
                m[tuple(where)] = label
        maps.append(m)
    return maps


def borders():
    """Organs that touch the faces of the volume, or fill it."""
    s = shape(3, 10)
    label = int(RNG.integers(1, 15))
    p, r = np.full(s, label, np.uint8), np.full(s, label, np.uint8)
    for m in (p, r):
        for _ in range(int(RNG.integers(0, 3))):
            at = [int(RNG.integers(n)) for n in s]
            m[tuple(slice(a, a + int(RNG.integers(1, 5))) for a in at)] = RNG.choice([0, label % 14 + 1])
    return p, r


def missing():
    """Labels that only one of the maps has, or none."""
    p, r = blobs()
    for m in (p, r):
        for label in np.unique(m[m > 0]):
            if RNG.random() < 0.4:
                m[m == label] = 0
    return p, r


def few_slices():
    """Tubes whose reference has one to four slices, and gaps."""
    s = (9, 9, 12)
    p, r = np.zeros(s, np.uint8), np.zeros(s, np.uint8)
    for label, x in zip(RNG.permutation(CROPPED), (0, 3, 6)):
        z, n = int(RNG.integers(0, 9)), int(RNG.integers(1, 5))
        r[x : x + 2, 2:6, z : z + n] = label
        p[x : x + 3, 2 : int(RNG.integers(3, 8)), int(RNG.integers(0, 6)) : int(RNG.integers(6, 13))] = label
        if n > 2 and RNG.random() < 0.4:
            r[:, :, z + 1][r[:, :, z + 1] == label] = 0
    return p, r


def little_overlap():
    """Dice coefficients around 0.2."""
    s = (20, 6, 6)
    label = int(RNG.integers(1, 15))
    p, r = np.zeros(s, np.uint8), np.zeros(s, np.uint8)
    r[0:5, 0:4, 0:5] = label
    a = int(RNG.choice([3, 4, 4, 4, 5]))
    p[a : a + 5, 0:4, 0:5] = label
    if RNG.random() < 0.5:
        p[a + 4, 0, 0] = 0
    return p, r


def checkerboard():
    s = shape(3, 9)
    on = np.indices(s).sum(0) % 2 == 0
    label = int(RNG.integers(1, 15))
    r = np.where(on, label, 0).astype(np.uint8)
    p = np.where(on ^ (RNG.random(s) < 0.1), label, 0).astype(np.uint8)
    return (p, r) if RNG.random() < 0.5 else (np.where(on, 0, label).astype(np.uint8), r)


def hollow():
    s = shape(9, 16)
    label = int(RNG.integers(1, 15))
    maps = []
    for _ in "pr":
        c, radii = np.array(s) / 2 + RNG.normal(0, 0.7, 3), np.array(s) / 2.2 * RNG.uniform(0.8, 1, 3)
        maps.append(np.where(ellipsoid(s, c, radii) & ~ellipsoid(s, c, radii * RNG.uniform(0.3, 0.8)), label, 0).astype(np.uint8))
    return maps


def far():
    """A large organ and single voxels far from it."""
    s = (26, 22, 14)
    label = int(RNG.integers(1, 15))
    p, r = np.zeros(s, np.uint8), np.zeros(s, np.uint8)
    r[ellipsoid(s, (8, 8, 6), (7, 6, 5))] = label
    p[ellipsoid(s, (8, 8, 6), (6, 6, 5))] = label
    for _ in range(int(RNG.integers(1, 4))):
        p[tuple(int(RNG.integers(n)) for n in s)] = label
    if RNG.random() < 0.3:
        p, r = r, p
    return p, r


def wide():
    """Rows about as long as the words of 64 voxels that are looked at together."""
    s = (int(RNG.choice([62, 63, 64, 65, 127, 128, 129])), 4, 4)
    labels = pick(2)
    r = np.where(RNG.random(s) < 0.5, RNG.choice(labels, s), 0).astype(np.uint8)
    r[:, 1:3, :] = labels[0]
    p = np.where(RNG.random(s) < 0.95, r, 0).astype(np.uint8)
    return p, r


def same():
    p, r = blobs()
    return r.copy(), r


KINDS = [(blobs, 120), (noise, 80), (shifted, 120), (thin, 60), (borders, 40), (missing, 50), (few_slices, 40), (little_overlap, 20), (checkerboard, 20),
         (hollow, 30), (far, 30), (wide, 14), (same, 6)]


# --------------------------------------------------------------------------- the oracles


def numbers(values):
    return [None if v is None or not np.isfinite(v) else float(v) for v in values]


def plain(p, r, spacing, tolerance):
    found = {}
    for label in sorted(set(np.unique(p)) & set(np.unique(r)) - {0}):
        d = metrics.compute_surface_distances(r == label, p == label, spacing)
        away = np.concatenate([d["distances_gt_to_pred"], d["distances_pred_to_gt"]])
        area = np.concatenate([d["surfel_areas_gt"], d["surfel_areas_pred"]])
        found[int(label)] = numbers([
            metrics.compute_dice_coefficient(r == label, p == label), metrics.compute_surface_dice_at_tolerance(d, tolerance),
            (away * area).sum() / area.sum(), metrics.compute_robust_hausdorff(d, 100), metrics.compute_robust_hausdorff(d, 95)])
    return found


def official(root, year, name):
    """A function that scores files p/case.nii.gz against r/case.nii.gz of a folder by a challenge's script."""
    folder = next(f for f in (root / f"FLARE{year}", root / f"FLARE{year}/Evaluation") if (f / name).exists())
    module = types.ModuleType("SurfaceDice")
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile((folder / "SurfaceDice.py").read_text(), "SurfaceDice.py", "exec"), module.__dict__)
    text = (folder / name).read_text()
    for variable, value in (("seg_path", "work + '/res'"), ("gt_path", "work + '/ref'"), ("save_path", "work")):
        text = "\n".join(f"{variable} = {value}" if line.startswith(f"{variable} = ") else line for line in text.split("\n"))
    code = compile(text, name, "exec")

    class Clock: # which the script of FLARE23 forgets to make
        total_elapsed = __call__ = lambda self: 0.0

    def score(work, organs):
        sys.modules["SurfaceDice"], argv = module, sys.argv
        sys.argv = ["", str(work), str(work)]
        values = {"work": str(work), "t": Clock()}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(code, values)
        except ValueError: # a crop without voxels
            return None
        finally:
            sys.argv = argv
        m = values["seg_metrics"]
        dsc, nsd = ([k for k in m if what in k] for what in ("DSC", "NSD"))
        assert len(dsc) == len(nsd) == organs
        return [numbers([m[d][0], m[n][0]]) for d, n in zip(dsc, nsd)]

    return score


def main():
    root = pathlib.Path(sys.argv[1])
    scripts = {"flare21": (official(root, 21, "DSC_NSD_eval.py"), 4), "flare22": (official(root, 22, "FLARE22_DSC_NSD_Eval.py"), 13),
               "flare23": (official(root, 23, "FLARE23_DSC_NSD_Eval.py"), 14)}
    cases, voxels = [], []
    for kind, count in KINDS:
        for i in range(count):
            p, r = kind()
            spacing = [float(v) for v in np.float32(SPACINGS[int(RNG.integers(len(SPACINGS)))])]  # as the header holds it
            tolerance = float(RNG.choice([0.5, 1, 2, 2.5, 3, 4]))
            case = {"name": f"{kind.__name__}_{i:03}", "size": p.shape, "spacing": spacing, "tolerance": tolerance, "plain": plain(p, r, spacing, tolerance)}
            with tempfile.TemporaryDirectory() as work:
                work = pathlib.Path(work)
                for folder, m in (("res", p), ("ref", r)):
                    (work / folder).mkdir()
                    nibabel.save(nibabel.Nifti1Image(m, np.diag([*spacing, 1])), work / folder / "case.nii.gz")
                for year, (script, organs) in scripts.items():
                    case[year] = script(work, organs)
            cases.append(case)
            voxels += [p.tobytes("F"), r.tobytes("F")]
    (HERE / "maps.gz").write_bytes(gzip.compress(b"".join(voxels), 9, mtime=0))
    (HERE / "cases.json.gz").write_bytes(gzip.compress(json.dumps(cases).encode(), 9, mtime=0))
    bit = {(x, y, z): 4 * z + 2 * y + x for x in (0, 1) for y in (0, 1) for z in (0, 1)}
    kernel = lookup_tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL
    areas = []
    for spacing in [(1, 1, 1), (0.7, 1.3, 2.9)]:
        table = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
        ours = np.zeros(256)
        for code in range(256):
            ours[sum(1 << b for at, b in bit.items() if code & kernel[at])] = table[code]
        areas.append([spacing, ours.tolist()])
    (HERE / "areas.json").write_text(json.dumps(areas) + "\n")
    print(len(cases), "cases,", sum(len(c["plain"]) for c in cases), "labels of both maps,", sum(c["flare22"] is None for c in cases), "fail in FLARE22")


main()
