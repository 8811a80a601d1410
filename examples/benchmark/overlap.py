"""Runs BenchmarkOverlap of package segment: is it worth while to do the rest beside the network?"""
import os
import re
import subprocess
from statistics import median

import measure
import report

HOW = {"one": "in turn", "within": "side by side, as many threads in all", "beyond": "side by side, as many threads each"}
LINE = re.compile(r"^BenchmarkOverlap/(\d+)/(\w+?)(?:-\d+)?\s+\d+\s+(.*)$", re.M)


def main(a, b):
    """a: the options, b: module bench. Returns the exit code."""
    where = b.circumstances()
    print(where + "\n", flush=True)
    program, package = b.OUT / "segment.test", b.ROOT / "segment"
    subprocess.run(["go", "test", "-c", "-o", program, "./segment"], cwd=b.ROOT, check=True)
    env = {"FLARE_ONNXRUNTIME": str(b.ROOT / "build/lib/flare-runtime"), "FLARE_DATA": str(b.data()), "FLARE_REQUIRE_DATA": "1"}
    models = {"13 organs of a phantom": b.ROOT / "examples/demo/flare13_phantom.onnx", "student-sized": b.bundle("student")[1]}
    cores = measure.cores()
    cases = [(str(n), how) for n in sorted({1, 2, cores}) for how in HOW if n > 1 or how != "within"]
    found = {}
    measure.warm(b.data() / "nnunet_golden/ct_512x512x168.nii.gz", b.ROOT / "build/lib", *models.values())
    for turn in range(a.runs):
        for name, model in models.items():
            for n, how in cases if turn % 2 == 0 else reversed(cases):
                command = [program, "-test.run", "^$", "-test.bench", f"^BenchmarkOverlap$/^{n}$/^{how}$", "-test.benchtime", "1x",
                           "-overlap.model", model]
                r = subprocess.run(command, cwd=package, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                line = LINE.search(r.stdout)
                if r.returncode or not line:
                    raise measure.Failed(f"{' '.join(map(str, command))}\n{r.stdout}")
                fields = line[3].split()
                values = dict(zip(fields[1::2], map(float, fields[::2])))
                found.setdefault((name, n, how), []).append(values)
                print(f"  {name}, {n} threads, {HOW[how]}, run {turn + 1} of {a.runs}: {values['total-s']:.2f} s", flush=True)
    rows = []
    for (name, n, how), runs in sorted(found.items(), key=lambda item: (item[0][0], int(item[0][1]), list(HOW).index(item[0][2]))):
        total = median(r["total-s"] for r in runs)
        turns = median(r["total-s"] for r in found[name, n, "one"])
        rows.append([f"{name}, {n} thread{'s' if n != '1' else ''}, {HOW[how]}", *(report.spread([r[k] for r in runs]) for k in ("network-s", "other-s", "total-s")),
                     "" if how == "one" else f"{100 * (total / turns - 1):+.0f} %"])
    text = report.table(["exact, CPU, CT 512x512x168 in memory", "network", "other", "total", "against in turn"], rows)
    text += "\n\nSeconds. *Other* is what is not beside the network. *As many threads each* is beyond what `threads` allows."
    print("\n" + text)
    if a.write:
        report.write("overlap", "The rest beside the network", where + "\n\n" + text, b.HERE / "RESULTS.md")
    return 0
