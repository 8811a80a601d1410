"""Measurements of libflare alone: slices, large, teacher (bench.py tells what they are)."""
from statistics import median

import report
import volumes


def main(a, b):
    """a: the options, b: module bench. Returns the exit code."""
    where = b.circumstances()
    print(where + "\n", flush=True)
    title, text, ok = {"slices": slices, "large": large, "teacher": teacher}[a.command](a, b)
    print(text)
    if a.write:
        report.write(a.command, title, where + "\n\n" + text, b.HERE / "RESULTS.md")
    return 0 if ok else 1


def grown(b, source, slices):
    """source with so many slices: its middle ones, or itself and its mirror image in turn."""
    path = b.OUT / f"ct_{source.size[0]}x{source.size[1]}x{slices}.nii.gz"
    volumes.write_slices(source, path, max(0, (source.size[2] - slices) // 2), slices)
    return path


def slices(a, b):
    source = volumes.Volume(a.ct or b.clinical_ct())
    n = b.network("student", *b.bundle("student"))
    counts = [source.size[2], 2 * source.size[2]]
    runs = {k: [] for k in counts}
    cts = {k: grown(b, source, k) for k in counts}
    for _ in range(a.runs):
        for k in counts:
            runs[k].append(b.flare(n, cts[k], "exact", b.OUT / "slices.nii.gz"))
    # A voxel is stored once and its label, a byte, once.
    allowed = source.slice * counts[0] + source.size[0] * source.size[1] * counts[0]
    growth = median(r.largest for r in runs[counts[1]]) - median(r.largest for r in runs[counts[0]])
    rows = [[f"{source.size[0]}x{source.size[1]}x{k}", report.spread([r.largest / 1e9 for r in runs[k]], 3, " GB"),
             report.spread([r.wall for r in runs[k]], 1), runs[k][0].stats["tiles"]] for k in counts]
    text = report.table(["student-sized, exact", "peak memory", "seconds", "tiles"], rows)
    text += f"\n\nTwice the slices take {growth / 1e6:.0f} MB more; input and labels grow by {allowed / 1e6:.0f} MB."
    return "Twice the slices", text, growth <= allowed


def large(a, b):
    source = volumes.Volume(a.ct or b.clinical_ct())
    n = b.network("many", *b.bundle("many"))
    ct = grown(b, source, 800)
    r = b.flare(n, ct, "exact", b.OUT / "large.nii.gz")
    voxels = source.size[0] * source.size[1] * 800
    rows = [[f"{source.size[0]}x{source.size[1]}x800, 118 classes", report.gigabytes(r.largest), f"{r.wall:.0f}",
             *(f"{r.phases[p]:.1f}" for p in b.PHASES), r.stats["tiles"]]]
    text = report.table(["exact", "peak memory", "seconds", *b.PHASES, "tiles"], rows)
    text += f"\n\nThe logits of all classes at full resolution, which are never made, would be {4 * 118 * voxels / 1e9:.0f} GB in float32."
    return "A large CT with many classes", text, True


def teacher(a, b):
    """A pass is one fold without mirroring: fold 0, which is the student's network."""
    ct = a.ct or b.clinical_ct()
    n = b.network("teacher", *b.bundle("teacher", 5, "student"))
    single = [b.flare(n, ct, "exact", b.OUT / "single.nii.gz", "--folds", "0") for _ in range(a.runs)]
    full = b.flare(n, ct, "exact", b.OUT / "teacher.nii.gz", "--mirror")
    one, all_ = median(r.phases["network"] for r in single), full.phases["network"]
    rows = [["one fold, no mirroring", report.spread([r.phases["network"] for r in single]), report.spread([r.wall for r in single]),
             report.gigabytes(median(r.largest for r in single)), single[0].stats["tiles"]],
            ["5 folds x 8 flips", f"{all_:.2f}", f"{full.wall:.2f}", report.gigabytes(full.largest), full.stats["tiles"]]]
    text = report.table(["student-sized, exact", "network seconds", "seconds", "peak memory", "tiles"], rows)
    text += f"\n\nThe network takes {all_ / one:.1f} times as long for 40 passes: {all_ / one / 40:.3f} of a pass each."
    return "The teacher: folds and flips", text, all_ <= 1.05 * 40 * one
