"""bench evaluate: scores one case of clinical size, 13 organs, by the rules of FLARE22, and the challenge's
own script in turn with it."""
import csv
import json
from statistics import median

import measure
import report
import volumes

ORGANS = 13


def pair(bench, out):
    """Two folders with case.nii.gz: a label map, and the same two voxels to the left, one to the front and one up."""
    source = bench.data() / "nnunet_golden/ct_512x512x168_nnunet_fp32.nii.gz"
    if not source.exists():
        bench.clinical_ct()  # makes the synthetic one, with its labels
        source = bench.OUT / "phantom/labelsTr/phantom_0000.nii.gz"
    v = volumes.Volume(source)
    folders = out / "predictions", out / "references"
    step = 2 + v.size[0] + v.size[0] * v.size[1]
    for folder, voxels in zip(folders, (bytes(step) + v.data[:-step], v.data)):
        folder.mkdir(parents=True, exist_ok=True)
        with volumes.opened(folder / "case.nii.gz", "wb", 6) as f:
            f.write(v.header + voxels)
    return v, *folders


def script(bench, named):
    """FLARE22's script, if it is there."""
    path = named or bench.data().parent / "oracles/flare_evaluation/FLARE22/FLARE22_DSC_NSD_Eval.py"
    if not path.exists():
        raise measure.Failed(f"{path} is absent: --script names FLARE22_DSC_NSD_Eval.py of github.com/JunMa11/FLARE")
    return path


def main(a, bench):
    out = bench.OUT / "evaluate"
    v, predictions, references = pair(bench, out)
    command = [bench.FLARE, "evaluate", "--flare22", predictions, references, "--json", out / "scores.json", "--threads", measure.cores()]
    jobs = {"libflare": command}
    if a.peer:
        jobs["FLARE22's script"] = [a.peer, bench.HERE / "evaluate_peer.py", script(bench, a.script), predictions, references, out]
    where = bench.circumstances()
    measure.warm(predictions, references, bench.FLARE, bench.ROOT / "build/lib")
    runs = {who: [] for who in jobs}
    for turn in range(a.runs):
        for who in list(jobs) if turn % 2 == 0 else reversed(jobs):
            runs[who].append(measure.run(jobs[who]))
            print(f"  {who}, run {turn + 1} of {a.runs}: {runs[who][-1].wall:.2f} s", flush=True)
    ours = [(s["dsc"], s["nsd"]) for s in json.loads((out / "scores.json").read_text())["cases"][0]["labels"]]
    middle = lambda who, of: median(map(of, runs[who]))
    text = report.table(["", "seconds", "CPU s", "largest process"], [
        [who, report.spread([r.wall for r in runs[who]]), f"{middle(who, lambda r: r.cpu):.2f}", report.gigabytes(middle(who, lambda r: r.largest))]
        for who in jobs])
    text += f"\n\n- labels {'x'.join(map(str, v.size))}, {ORGANS} organs, whole processes from files to files; mean DSC {sum(d for d, _ in ours) / ORGANS:.4f}"
    if a.peer:
        row = next(csv.DictReader((out / "DSC_NSD_teamname.csv").open()))
        kinds = {k: [float(value) for name, value in row.items() if name.endswith(k)] for k in ("_DSC", "_NSD")}
        theirs = list(zip(kinds["_DSC"], kinds["_NSD"]))
        ratios = [p.wall / f.wall for p, f in zip(runs["FLARE22's script"], runs["libflare"])]
        text += (f"\n- the script takes **{report.spread(ratios, 0, 'x')}** the time of libflare, which also computes ASSD, HD, HD95 and RAVD"
                 f"\n- equal DSC and NSD, to 4 decimals: {sum(x == y for x, y in zip(ours, theirs))} of {len(theirs)} organs")
    text = where + "\n\n" + text
    print("\n" + text)
    if a.write:
        report.write("evaluate", "Evaluation by FLARE22's rules", text, bench.HERE / "RESULTS.md")
    return 0 if not a.peer or ours == theirs else 1
