"""bench labels: pseudo-labels of many cases in one process, against the time of a single case when the model
is open. The cases are one of the hippocampus volumes under many names, so that each takes the same."""
import json
import os
import re
import shutil
import sys
import time
from statistics import median

import measure
import report

SINGLES = 10  # cases that are timed one by one


def copies(source, folder, number):
    """A folder with so many names of an image; returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for i in range(number):
        os.symlink(source.resolve(), folder / f"case_{i:04d}_0000.nii.gz")
    return folder


def child(images, out, threads, *models):
    """In a process of its own: labels every case by a call; prints the seconds of all calls but the first, which
    opens the model and runs it for the first time."""
    import flare

    seconds = []
    with flare.Labeller(models, images, out, threads=int(threads)) as labeller:
        for name in labeller.cases:
            start = time.perf_counter()
            labeller.label(name)
            seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds[1:]))


def main(a, bench):
    """a: the options, bench: the module. Returns the exit code."""
    where, out, python = bench.circumstances(), bench.OUT / "labels", bench.with_numpy()
    print(where + "\n", flush=True)
    models = a.model or [bench.ROOT / "examples/noisy_student/hippocampus.onnx"]
    volumes = sorted((bench.data() / "msd_task04_hippocampus/imagesTr").glob("*.nii.gz"), key=lambda p: (p.stat().st_size, p.name))
    if not volumes:
        raise measure.Failed(f"{bench.data()} has no hippocampus volumes: FLARE_DATA names the folder with msd_task04_hippocampus")
    source = volumes[len(volumes) // 2]
    folders = {n: copies(source, out / f"images_{n}", n) for n in (1, 1 + SINGLES, a.cases)}
    env = {"PYTHONPATH": str(bench.ROOT / "bindings/python")}

    def fresh():
        shutil.rmtree(out / "labels", ignore_errors=True)
        return out / "labels"

    def command(n):
        r = measure.run([bench.FLARE, "-v", "pseudo-label", *(part for m in models for part in ("-m", m)), "--threads", measure.cores(), folders[n], fresh()])
        r.opened = len(re.findall(r", \d+ threads$", r.output, re.M))
        made = len(list((out / "labels").glob("*.json")))
        if made != n:
            raise measure.Failed(f"{made} of {n} cases were labelled:\n{r.output[-4000:]}")
        return r

    def single():
        r = measure.run([python, __file__, folders[1 + SINGLES], fresh(), measure.cores(), *models], env)
        return median(json.loads(r.output.splitlines()[-1]))

    measure.warm(*models, source, bench.FLARE, bench.ROOT / "build/lib")
    ratios, alone, first, whole, opened = [], [], [], [], []
    for turn in range(a.runs):
        alone.append(single())
        one, many = [command(n) for n in ((1, a.cases) if turn % 2 == 0 else (a.cases, 1))][:: 1 if turn % 2 == 0 else -1]
        first.append(one.wall)
        whole.append(many.wall)
        opened.append(many.opened)
        ratios.append((many.wall - one.wall) / ((a.cases - 1) * alone[-1]))
        print(f"  run {turn + 1} of {a.runs}: {alone[-1]:.3f} s a case alone, {a.cases} cases {many.wall:.2f} s, one {one.wall:.2f} s: ratio {ratios[-1]:.3f}", flush=True)

    rows = [["a case alone, the model open", report.spread(alone, 3)], ["a process that labels one case", report.spread(first)],
            [f"a process that labels {a.cases} cases", report.spread(whole)]]
    text = report.table(["", "seconds"], rows)
    text += (f"\n\n- The {a.cases - 1} cases beyond the first take **{report.spread(ratios, 3)}** of {a.cases - 1} times a case alone."
             f"\n- A process opened the model {max(opened)} time{'s' if max(opened) != 1 else ''}."
             f"\n- {source.name}, under {a.cases} names, by {', '.join(m.name for m in models)}, from file to files. A case alone is the median of {SINGLES} calls of "
             "flare_labeller_label after a first one; the first case of a process also opens the model and runs it for the first time.")
    text = f"{where}\n\n{text}"
    print("\n" + text)
    if a.write:
        report.write("pseudo_labels", f"Pseudo-labels of {a.cases} cases", text, bench.HERE / "RESULTS.md")
    return 0 if median(ratios) <= 1.05 and max(opened) == 1 else 1


if __name__ == "__main__":
    child(*sys.argv[1:])
