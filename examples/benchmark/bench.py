"""Measures libflare, and nnU-Net beside it. ./build.sh bench runs this after building.

    bench [--peer PYTHON] [--modes exact,fast] [--runs N] [--only NAME] [--write] [CT [MODEL ..]]
        segments CT (the one of clinical size of the data, or a synthetic one) with networks of
        three sizes, every time in a process of its own, from file to file. PYTHON is an
        interpreter that has nnunetv2: nnU-Net and libflare then take turns on the same
        networks with as many threads. MODEL: results folders or bundles instead of these.
    bench slices    peak memory of a CT and of one twice as long
    bench large     512x512x800, 118 classes
    bench teacher   five folds times eight mirror flips against one pass
    bench soak      200 segmentations through the Python binding
    bench hippocampus [--peer PYTHON] [--mode exact] [--epochs N] [--seed S] [RUN]
                    trains a network beside nnU-Net's own run of the data; what was interrupted goes on
    bench step [--peer PYTHON] [--runs N]
                    seconds of a training step and its memory, PyTorch's beside it
    bench evaluate [--peer PYTHON [--script FILE]] [--runs N]
                    scores a case of clinical size by FLARE22's rules; PYTHON, which has nibabel, pandas and
                    scipy, runs the challenge's own FLARE22_DSC_NSD_Eval.py in turn
    bench kernels   the loops around the network against copying memory
    bench overlap   the rest in turn with the network, and beside it, by number of threads
    bench binding   what the Python binding adds to the C call, in seconds and memory
    bench labels [--cases N] [--runs N] [MODEL ..]
                    pseudo-labels of 100 hippocampus cases in a process, against 100 times a single case; MODEL:
                    the teacher's folds, the shipped student by default

Every one takes --write: results also go to RESULTS.md, and times by phase to phases.svg.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import chart
import flops
import make_models
import measure
import report
import volumes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLARE, OUT = ROOT / "build/bin/flare", ROOT / "build/bench"
PHASES = ["read", "preprocess", "network", "export", "write"]
TITLES = {
    "student": "student-sized: PlainConvUNet 16..256, patch 32x128x192, 14 classes, random weights",
    "standard": "standard nnU-Net: PlainConvUNet 32..320, patch 96x128x128, 14 classes, random weights",
    "flare13": "13-organ network: 0.4 million parameters, patch 96x160x160, 14 classes",
}


def data():
    folder = os.environ.get("FLARE_DATA")
    return Path(folder) if folder else ROOT.parent / "shared/data"


# ---------------------------------------------------------------------- what is measured


def bundle(name, folds=1, model=None):
    """Makes build/bench/NAME (results folder) and NAME.onnx (bundle), once; returns both."""
    folder, file = OUT / "models" / name, OUT / "models" / f"{name}.onnx"
    OUT.joinpath("models").mkdir(parents=True, exist_ok=True)
    if not folder.exists():
        print(f"making {folder}", flush=True)
        make_models.make(folder, model or name, folds)
    if not file.exists() or file.stat().st_mtime < folder.stat().st_mtime:
        measure.run([FLARE, "convert", folder, file])
    return folder, file


def flare13():
    folder, file = data() / "model_flare13_onnx", OUT / "models/flare13.onnx"
    if not folder.is_dir():
        print(f"{folder} is absent: the 13-organ network is left out")
        return None
    file.parent.mkdir(parents=True, exist_ok=True)
    measure.run([FLARE, "convert", "--onnx", folder / "model.onnx", "--plans", folder / "plans.json", "--configuration", "3d_lowres",
                 "--orientation", "LPS", file])
    return folder, file


def network(name, folder, file):
    """folder is what nnU-Net reads, file what libflare does."""
    try:
        operations = flops.count(file) if file.is_file() else None
    except (ValueError, KeyError):
        operations = None # a list, or a network exported in another way
    return SimpleNamespace(name=name, folder=folder, file=file, operations=operations, title=TITLES.get(name, name))


def networks(only, paths):
    if paths:
        return [network(p.name.removesuffix(".onnx"), p if p.is_dir() else None, p) for p in paths]
    found = []
    for name in [only] if only else TITLES:
        pair = flare13() if name == "flare13" else bundle(name)
        if pair:
            found.append(network(name, *pair))
    return found


def clinical_ct():
    ct = data() / "nnunet_golden/ct_512x512x168.nii.gz"
    if ct.exists():
        return ct
    ct = OUT / "phantom/imagesTr/phantom_0000_0000.nii.gz"
    if not ct.exists():
        print("the data's CT is absent: a synthetic one of clinical size takes its place")
        measure.run([FLARE, "phantom", "--size", "clinical", OUT / "phantom"])
    return ct


# --------------------------------------------------------------------------- contestants


def flare(n, ct, mode, out, *more):
    """One run of the command line: what measure.run tells, and the statistics."""
    stats = OUT / "stats.json"
    r = measure.run([FLARE, "segment", "-m", n.file, "--mode", mode, "--threads", measure.cores(), "--stats", stats, *more, ct, out])
    s = json.loads(stats.read_text())
    r.stats, r.phases = s, {p: s["seconds"][p] for p in PHASES}
    r.phases["start"] = r.wall - sum(r.phases.values())
    return r


def nnunet(n, ct, python, out):
    log = OUT / "phases.log"
    log.write_text("")
    r = measure.run([python, HERE / "peer.py", "segment", n.folder, ct, out, measure.cores()], {"FLARE_BENCH_LOG": str(log)})
    if not out.exists():
        raise measure.Failed(f"nnU-Net ended without writing {out} after printing\n{r.output[-4000:]}")
    r.phases = dict.fromkeys(PHASES, 0.0)
    for line in log.read_text().splitlines():
        entry = json.loads(line)
        r.phases[entry["phase"]] += entry["end"] - entry["begin"]
    r.phases["start"] = r.wall - sum(r.phases.values())
    return r


def versions(python=None):
    lines = [("libflare", subprocess.check_output([FLARE, "--version"], text=True).split()[-1]),
             ("ONNX Runtime", subprocess.check_output([FLARE, "devices"], text=True).split()[2])]
    if python:
        found = json.loads(measure.run([python, HERE / "peer.py", "versions"]).output.splitlines()[-1])
        lines += [("nnU-Net", found["nnunetv2"]), ("PyTorch", found["torch"])]
        if "onnxruntime" in found:
            lines.append(("ONNX Runtime beside nnU-Net", found["onnxruntime"]))
    return lines


def circumstances(python=None):
    """The text that stands above every result."""
    busy = measure.busy()
    text = report.described(measure.machine()) + "\n\n" + report.described(versions(python)) + f"; {measure.cores()} threads"
    if busy:
        text += f"\n\n**Other work ran on this machine (load {busy:.1f} at the start): the numbers are worth little.**"
    return text


# ------------------------------------------------------------------------------ the runs


def measure_all(chosen, ct, modes, python, runs):
    """results[name][contestant] is a list of runs; contestants take turns, and every other
    round goes backwards."""
    results = {n.name: {} for n in chosen}
    jobs = [(n, who) for n in chosen for who in [*modes, *(["nnU-Net"] if python and n.folder else [])]]
    measure.warm(ct, FLARE, ROOT / "build/lib", *(p for n in chosen for p in (n.file, n.folder) if p))
    for turn in range(runs):
        for n, who in jobs if turn % 2 == 0 else reversed(jobs):
            out = OUT / f"{n.name}_{who}.nii.gz"
            out.unlink(missing_ok=True)
            r = nnunet(n, ct, python, out) if who == "nnU-Net" else flare(n, ct, who, out)
            results[n.name].setdefault(who, []).append(r)
            print(f"  {n.name} {who}, run {turn + 1} of {runs}: {r.wall:.1f} s, {report.gigabytes(r.largest)}", flush=True)
    return results


def table_of(n, who):
    """who: {contestant: runs} of network n."""
    rows = []
    for name, runs in who.items():
        middle = lambda f: median(map(f, runs))
        row = [name if name == "nnU-Net" else f"libflare {name}", report.spread([r.wall for r in runs])]
        row += [f"{middle(lambda r: r.phases[p]):.2f}" for p in ["start", *PHASES]]
        row += [f"{100 * middle(lambda r: r.wall / r.phases['network'] - 1):.0f} %", f"{middle(lambda r: r.cpu):.1f}"]
        row += [report.gigabytes(middle(lambda r: r.largest)), report.gigabytes(middle(lambda r: r.together))]
        stats = getattr(runs[0], "stats", None)
        skipped = stats and stats["tiles_skipped"]
        row.append(f"{stats['tiles']}{f' ({skipped} skipped)' if skipped else ''}" if stats else "")
        rate = stats and n.operations and middle(lambda r: n.operations * r.stats["tiles"] / r.phases["network"]) / 1e9
        row += [f"{rate:.0f}" if rate else "", f"{stats['device']} {stats['precision']}" if stats else "cpu fp32"]
        rows.append(row)
    return report.table(["", "seconds", "start", *PHASES, "beside network", "CPU s", "largest process", "all processes", "tiles", "GFLOP/s",
                         "device"], rows)


def comparison(n, who, modes):
    """Lines about ratios, equal labels, and what the modes did."""
    lines, maps = [], {name: volumes.Volume(OUT / f"{n.name}_{name}.nii.gz") for name in who}
    labels = {name: v.labels() for name, v in maps.items()}
    for mode in modes if "nnU-Net" in who else []:
        pairs = list(zip(who["nnU-Net"], who[mode]))
        lines.append(f"- nnU-Net takes **{report.spread([p.wall / f.wall for p, f in pairs], 1, 'x')}** the time of libflare {mode}, "
                     f"{report.spread([p.largest / f.largest for p, f in pairs], 1, 'x')} the memory in its largest process; "
                     f"same label in {100 * volumes.agreement(labels[mode], labels['nnU-Net']):.3f} % of what either calls foreground")
    if "exact" in modes:
        ml = maps["exact"].spacing[0] * maps["exact"].spacing[1] * maps["exact"].spacing[2] / 1000
        for mode in modes:
            if mode == "exact":
                continue
            line = f"- {mode} and exact give the same label in {100 * volumes.agreement(labels[mode], labels['exact']):.3f} %"
            if n.name == "flare13":  # Dice of random labels says nothing
                dice = volumes.dices(labels["exact"], labels[mode], ml)
                line += f"; Dice of {len(dice)} organs above 1 ml: least {min(dice.values()):.4f}, mean {sum(dice.values()) / len(dice):.4f}"
            lines.append(line)
    for mode in modes:
        lines.append("; ".join([f"- libflare {mode}: of *start*, {median(r.stats['seconds']['open'] for r in who[mode]):.2f} s open the model",
                                *who[mode][0].stats["notes"]]))
    return "\n".join(lines)


def bench(a):
    ct, modes = a.ct or clinical_ct(), a.modes.split(",")
    size = "x".join(map(str, volumes.Volume(ct).size))
    where = circumstances(a.peer)
    print(where, f"\nCT {ct.name}, {size}\n", flush=True)
    chosen = networks(a.only, a.model)
    results = measure_all(chosen, ct, modes, a.peer, a.runs)
    text, groups = [], []
    for n in chosen:
        who = results[n.name]
        tile = f" ({n.operations / 1e9:.0f} GFLOP a tile)" if n.operations else ""
        part = f"### {n.title}{tile}\n\n{table_of(n, who)}\n\n{comparison(n, who, modes)}".rstrip()
        print("\n" + part, flush=True)
        text.append(part)
        middle = lambda runs: sorted(runs, key=lambda r: r.wall)[len(runs) // 2]
        order = [w for w in ["nnU-Net", *modes] if w in who]
        groups.append((n.title, [(w if w == "nnU-Net" else f"libflare {w}", middle(who[w]).phases,
                                  f"{middle(who[w]).wall:.1f} s, {report.gigabytes(middle(who[w]).largest)}") for w in order]))
    if a.write:
        text.insert(0, f"{where}\n\nCT {size}, {a.runs} runs each, in turn. *start* is everything that is no phase: starting processes, opening "
                       "the model, handing over. *Beside network* is all that is not the network, as part of the network's time. *All processes* "
                       "is their memory at one time, what they share counted once. GFLOP/s counts 2 for each multiply-add of the convolutions."
                    + (" nnU-Net runs as its command does, one fold, no mirroring; where the network is an ONNX file, ONNX Runtime runs it for "
                       "nnU-Net too.\n\n![Time by phase](phases.svg)" if a.peer else ""))
        report.write("bench", "Seconds by phase", "\n\n".join(text), HERE / "RESULTS.md")
        (HERE / "phases.svg").write_text(chart.draw(groups, f"Seconds by phase, whole processes, CT {size}, {measure.cores()} CPU cores"))


# ------------------------------------------------------------------------------- options


def with_numpy():
    """An interpreter that has numpy, which the binding needs."""
    python = sys.executable
    if subprocess.run([python, "-c", "import numpy"], stderr=subprocess.DEVNULL).returncode:
        python = OUT / "venv/bin/python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", OUT / "venv"], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "numpy"], check=True)
    return python


def soak(a):
    phantom = OUT / "small/imagesTr/phantom_0000_0000.nii.gz"
    measure.run([FLARE, "phantom", "--size", "small", OUT / "small"])
    r = subprocess.run([with_numpy(), HERE / "soak.py", "-n", str(a.runs), ROOT / "examples/demo/flare13_phantom.onnx", a.ct or phantom],
                       env={**os.environ, "PYTHONPATH": str(ROOT / "bindings/python")}, stdout=subprocess.PIPE, text=True)
    print(r.stdout, end="")
    if a.write:
        report.write("soak", f"{a.runs} segmentations in one process", circumstances() + "\n\n```\n" + r.stdout + "```", HERE / "RESULTS.md")
    return r.returncode


def kernels(a):
    import kernels as k
    return k.main(ROOT, circumstances, a.write and HERE / "RESULTS.md")


def overlap(a):
    import overlap as o
    return o.main(a, sys.modules[__name__])


def binding(a):
    import binding as o
    return o.main(a, sys.modules[__name__])


def labels(a):
    import labelling as o
    return o.main(a, sys.modules[__name__])


def limits(a):
    import limits as l
    return l.main(a, sys.modules[__name__])


def hippocampus(a):
    import hippocampus as h
    return h.main(a, sys.modules[__name__])


def step(a):
    import step as s
    return s.main(a, sys.modules[__name__])


def evaluate(a):
    import evaluation as e
    return e.main(a, sys.modules[__name__])


def interpreter(name):
    found = shutil.which(name)
    if not found:
        raise argparse.ArgumentTypeError(f"there is no interpreter {name}")
    return found


def main():
    commands = {"soak": soak, "kernels": kernels, "overlap": overlap, "slices": limits, "large": limits, "teacher": limits,
                "hippocampus": hippocampus, "step": step, "evaluate": evaluate,
                "binding": binding, "labels": labels}
    command = sys.argv[1] if len(sys.argv) > 1 and sys.argv[1] in commands else "bench"
    parser = argparse.ArgumentParser(prog="./build.sh bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if command in ("bench", "step", "evaluate"):
        parser.add_argument("--peer", metavar="PYTHON", type=interpreter)
    if command == "bench":
        parser.add_argument("--modes", default="exact,fast")
        parser.add_argument("--only", choices=list(TITLES))
    if command == "hippocampus":
        parser.add_argument("--peer", metavar="PYTHON", type=interpreter)
        parser.add_argument("--mode", choices=["exact", "fast"], default="exact")
        parser.add_argument("--epochs", type=int, default=20)
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument("folder", nargs="?", type=Path, metavar="RUN")
    elif command != "kernels":
        parser.add_argument("--runs", type=int, default={"soak": 200, "step": 5}.get(command, 3))
    if command == "evaluate":
        parser.add_argument("--script", metavar="FILE", type=Path)
    if command == "labels":
        parser.add_argument("--cases", type=int, default=100)
    if command not in ("kernels", "overlap", "hippocampus", "step", "evaluate", "labels"):
        parser.add_argument("ct", nargs="?", type=Path, metavar="CT")
    if command in ("bench", "labels"):
        parser.add_argument("model", nargs="*", type=Path, metavar="MODEL")
    a = parser.parse_args(sys.argv[1 if command == "bench" else 2:])
    a.command = command
    if command == "labels" and a.cases < 2:
        parser.error(f"--cases is {a.cases}: 2 at least")
    for path in [p for p in [getattr(a, "ct", None), *getattr(a, "model", [])] if p]:
        if not path.exists():
            parser.error(f"{path} does not exist")
    OUT.mkdir(parents=True, exist_ok=True)
    try:
        return commands.get(command, bench)(a)
    except measure.Failed as e:
        print(e, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
