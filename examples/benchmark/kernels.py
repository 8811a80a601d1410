"""Runs the Go benchmarks of the loops around the network and prints them as one table."""
import re
import subprocess

import report

PACKAGES = ["./segment/internal/kernel", "./segment/resample"]
LINE = re.compile(r"^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$")


def main(root, circumstances, file):
    rows, units = [], []
    where = circumstances()
    print(where + "\n", flush=True)
    for package in PACKAGES:
        p = subprocess.Popen(["go", "test", "-run", "^$", "-bench", ".", package], cwd=root, stdout=subprocess.PIPE, text=True)
        for line in p.stdout:
            print(line, end="", flush=True)
            if found := LINE.match(line):
                fields = found[2].split()
                values = dict(zip(fields[1::2], fields[::2]))
                rows.append((found[1], values))
                units += [u for u in values if u not in units]
        if p.wait():
            return 1
    units = ["ns/op"] + [u for u in units if u != "ns/op"]
    heads = {"ns/op": "ms", "%copy": "% of copying", "%limit": "% of the splines' limit"}
    show = lambda unit, v: f"{float(v) / 1e6:.2f}" if unit == "ns/op" else f"{float(v):.4g}"
    text = report.table(["kernel / instruction set / threads", *(heads.get(u, u) for u in units)],
                        [[name, *(show(u, v[u]) if u in v else "" for u in units)] for name, v in rows])
    text += ("\n\n*% of copying*: bytes read and written per second, each array counted once, against copying memory with as many threads "
             "in the same run. *% of the splines' limit*: the least time that the multiply-adds of cubic splines take on so many cores (per axis, "
             "a value in waits for two, 64 side by side; a value out takes four at the core's peak), against the time taken.")
    print("\n" + text)
    if file:
        report.write("kernels", "The loops around the network", where + "\n\n" + text, file)
    return 0
