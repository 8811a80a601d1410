"""bench hippocampus: trains on the hippocampus cases as nnU-Net was trained for its golden run
(same plans, fold, batch, epochs, steps) and compares the Dice of whole validation cases."""
import csv
import json
import os
import shutil
import subprocess

import measure
import report

HISTORY = """
import json, sys, torch
log = torch.load(sys.argv[1], map_location="cpu", weights_only=False)["logging"]
print(json.dumps({k: [float(v) for v in log[k]] for k in ("train_losses", "val_losses", "mean_fg_dice", "epoch_start_timestamps", "epoch_end_timestamps")}))
"""


def dataset(source, model, folder):
    """The cases under nnU-Net's names."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "imagesTr").mkdir(parents=True)
    (folder / "labelsTr").mkdir()
    for image in sorted((source / "imagesTr").glob("*.nii.gz")):
        name = image.name.removesuffix(".nii.gz")
        os.symlink(image.resolve(), folder / "imagesTr" / f"{name}_0000.nii.gz")
        os.symlink((source / "labelsTr" / image.name).resolve(), folder / "labelsTr" / image.name)
    shutil.copy(model / "dataset.json", folder)


def main(a, bench):
    data, out = bench.data(), bench.OUT / "hippocampus"
    golden = data / "nnunet_golden/hippocampus"
    run = a.folder or out / f"run_{a.mode}_{a.seed}"
    dataset(data / "msd_task04_hippocampus", golden / "model", out / "Dataset004_Hippocampus")
    where = bench.circumstances(a.peer)
    measure.run([bench.FLARE, "preprocess", out / "Dataset004_Hippocampus", "--plans", golden / "model/plans.json", "-o", out / "cache"])
    subprocess.run([bench.FLARE, "train", out / "cache", "-o", run, "--splits", golden / "splits_final.json", "--fold", "0", "--epochs", str(a.epochs),
                    "--seed", str(a.seed), "--mode", a.mode, "--resume"], check=True)  # shows its own progress
    epochs = list(csv.DictReader((run / "progress.csv").open()))
    ours, theirs = (json.loads(p.read_text()) for p in (run / "validation/summary.json", golden / "nnunet_validation_summary.json"))
    history = None
    if a.peer:
        history = json.loads(measure.run([a.peer, "-c", HISTORY, golden / "model/fold_0/checkpoint_final.pth"]).output.splitlines()[-1])

    rows = []
    for i, e in enumerate(epochs):
        row = [e["epoch"], f"{float(e['train_loss']):.3f}", f"{float(e['val_loss']):.3f}", f"{float(e['pseudo_dice']):.3f}", f"{float(e['seconds']):.1f}"]
        if history and i < len(history["train_losses"]):
            h = {k: v[i] for k, v in history.items()}
            row += [f"{h['train_losses']:.3f}", f"{h['val_losses']:.3f}", f"{h['mean_fg_dice']:.3f}", f"{h['epoch_end_timestamps'] - h['epoch_start_timestamps']:.1f}"]
        elif history:
            row += [""] * 4
        rows.append(row)
    head = ["epoch", "loss", "validation loss", "pseudo Dice", "seconds"]
    curve = report.table(head + ([f"nnU-Net's {h}" for h in head[1:]] if history else []), rows)

    dice = lambda s: [s["foreground_mean"]["Dice"], s["mean"]["1"]["Dice"], s["mean"]["2"]["Dice"]]
    step = sorted(float(e["seconds_per_step"]) for e in epochs)[len(epochs) // 2]
    waited = max(float(e["waited"]) for e in epochs)
    cells = lambda s: [f"{d:.4f}" for d in dice(s)]
    table = report.table(["", "mean Dice", "anterior", "posterior", "seconds, all epochs"], [
        ["libflare", *cells(ours), f"{sum(float(e['seconds']) for e in epochs):.0f}"],
        ["nnU-Net", *cells(theirs), f"{sum(b - c for b, c in zip(history['epoch_end_timestamps'], history['epoch_start_timestamps'])):.0f}" if history else ""]])
    text = (f"{where}\n\nPatch 40x56x40, batch 2, 16 to 128 features, {a.epochs} epochs of 250 steps, nnU-Net's fold 0: 156 cases to train on, "
            f"{len(ours['metric_per_case'])} to validate with, whole and mirrored. Mode {a.mode}, seed {a.seed}. nnU-Net's run is the data's golden one: "
            f"another day, another machine of two cores, alone on it.\n\n{table}\n\nA step takes {step:.3f} s (median of epochs); "
            f"the network waited for data {100 * waited:.2f} % of the time at most.\n\n{curve}")
    print(text)
    if a.write:
        report.write("hippocampus", "Training: hippocampus", text, bench.HERE / "RESULTS.md")
    return 0 if abs(dice(ours)[0] - dice(theirs)[0]) <= 0.01 or dice(ours)[0] > dice(theirs)[0] else 1
