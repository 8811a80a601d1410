"""bench step: training steps of two plans of the hippocampus data, PyTorch's beside them in turn."""
import json
import os
import subprocess
import tempfile
from statistics import median
from types import SimpleNamespace

import measure
import report

WARM = 2  # steps before those that count: runtimes prepare kernels and memory in them
PLANS = [("nnUNetPlans_default.json", 9, "patch 40x56x40, batch 9, 32 to 256 features"),
         ("model/plans.json", 2, "patch 40x56x40, batch 2, 16 to 128 features")]
PRECISION = {"exact": "fp32", "fast": "bf16"}


class Process:
    """A contestant: it makes a step for each line that it is given."""

    def __init__(self, command, env):
        self.errors = tempfile.TemporaryFile()
        self.command = [str(c) for c in command]
        self.p = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env={**os.environ, **env})
        self.ready, self.steps = self.read(), []

    def read(self):
        line = self.p.stdout.readline()
        if not line:
            self.p.wait()
            self.errors.seek(0)
            raise measure.Failed(f"{' '.join(self.command)}\nended with {self.p.returncode} after printing\n"
                                 f"{self.errors.read().decode(errors='replace')[-4000:]}")
        return SimpleNamespace(**json.loads(line))

    def step(self):
        self.p.stdin.write(b"\n")
        self.p.stdin.flush()
        self.steps.append(self.read())

    def end(self):
        """Returns the peak resident bytes."""
        self.p.stdin.close()
        _, status, usage = os.wait4(self.p.pid, 0)
        self.p.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * 1024


def contest(commands, env, steps):
    """The processes after so many steps each, in turn."""
    processes = {}
    try:
        for who, command in commands.items():
            processes[who] = Process(command, env)
        for _ in range(WARM + steps):
            for p in processes.values():
                p.step()
    finally:
        for p in processes.values():
            p.peak = p.end()
    return processes


def main(a, b):
    """a: the options, b: module bench. Returns the exit code."""
    where = b.circumstances(a.peer)
    print(where + "\n", flush=True)
    program = b.OUT / "step"
    subprocess.run(["go", "build", "-o", program, "./examples/benchmark/step"], cwd=b.ROOT, check=True)
    env = {"FLARE_ONNXRUNTIME": str(b.ROOT / "build/lib/flare-runtime")}
    golden = b.data() / "nnunet_golden/hippocampus"
    rows = []
    for file, batch, title in PLANS:
        if not (golden / file).exists():
            raise measure.Failed(f"{golden / file} is absent: these steps need the data")
        for mode, precision in PRECISION.items():
            tail = [golden / file, batch, mode, measure.cores()]
            commands = {"libflare": [program, *tail]}
            if a.peer:
                commands["PyTorch"] = [a.peer, b.HERE / "peer_step.py", *tail]
            found = contest(commands, env, a.runs)
            for who, p in found.items():
                ratio = ""
                if who == "libflare" and a.peer:
                    pairs = list(zip(p.steps[WARM:], found["PyTorch"].steps[WARM:]))
                    ratio = f"{median(x.step for x, _ in pairs) / median(y.step for _, y in pairs):.2f}"
                used = precision if who == "PyTorch" else p.ready.precision
                rows.append([f"{title}: {who} {used}", report.spread([s.step for s in p.steps[WARM:]], 3), ratio,
                             f"{median(s.apply for s in p.steps[WARM:]):.3f}", f"{p.ready.open + p.steps[0].step:.1f}", report.gigabytes(p.peak)])
                print("  " + ", ".join(rows[-1]), flush=True)
    text = report.table(["", "seconds for a step", "of PyTorch's", "clip and SGD", "open and first step", "peak memory"], rows)
    text = (f"{where}\n\nPlainConvUNet of 4 stages, deep supervision, Dice and cross-entropy of 3 classes. A step is forward, loss and backward; the "
            f"median of {a.runs} after {WARM} others, each contestant in a process of its own, in turn. *Open* prepares the graph.\n\n{text}")
    print("\n" + text)
    if a.write:
        report.write("step", "Training steps", text, b.HERE / "RESULTS.md")
    return 0
