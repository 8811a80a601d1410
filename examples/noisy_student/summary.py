"""What came out of run.py's experiments: means, intervals, tables, a plot. Plain Python.

A result of a model has "cases": {name: [[dsc, nsd] of each label]}, "seconds" for a case
(median), "memory" (peak resident bytes of the process that segmented the test cases)."""
import random
import re
from html import escape
from statistics import mean, median

DRAWS = 10000
# The models that others are compared with.
BASELINES = {"supervised": "against supervised", "supervised without mirroring": "without mirroring",
             "supervised without mirroring, longer": "that, longer", "supervised, longer": "supervised, longer", "teacher, 5 folds": "against the teacher"}

HEAD = """# The noisy student in small

What `examples/noisy_student/run.py` measured, on the hippocampus MRs of the Medical Segmentation Decathlon
(CC-BY-SA 4.0) and on synthetic abdominal CTs; the file tells how cases are divided and what the models are. Every
variant that was tried stands here. DSC and NSD (at 1 mm; phantoms 2 mm) are means over labels, test cases and seeds, in
percent, and a label that neither has counts 100; intervals are 95 %, by 10,000 bootstrap draws of test cases, paired
where differences (of DSC) are given. They tell of the test cases, not of how trainings with other seeds would differ:
for that, there is the table by seeds.
"""


def per_case(result, metric=0):
    """The mean over labels of each case."""
    return {name: mean(label[metric] for label in c) for name, c in result["cases"].items()}


def mean_dsc(result):
    return mean(per_case(result).values())


def interval(seeds):
    """Mean and 95 % interval of values by seed, {case: value} each. A case that is drawn comes with
    its values of all seeds, in several of which it may be a test case."""
    cases = {}
    for values in seeds:
        for name, v in values.items():
            cases.setdefault(name, []).append(v)
    groups, r = [(sum(v), len(v)) for v in cases.values()], random.Random(1)
    def one():
        sums, counts = zip(*r.choices(groups, k=len(groups)))
        return sum(sums) / sum(counts)
    draws = sorted(one() for _ in range(DRAWS))
    return sum(s for s, _ in groups) / sum(n for _, n in groups), draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS) - 1]


def percent(result, metric=0):
    return {name: 100 * v for name, v in per_case(result, metric).items()}


def difference(one, other):
    """The difference of two models' DSC, paired by case; both are results by seed."""
    pairs = [(percent(a), percent(b)) for a, b in zip(one, other)]
    return interval([{name: x[name] - y[name] for name in x} for x, y in pairs])


def table(head, rows):
    rows = [head, ["---"] + ["--:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in rows)


def signed(values):
    return "{:+.2f} ({:+.2f} .. {:+.2f})".format(*values)


def correlation(pairs):
    """Pearson's, of pairs of numbers."""
    if len(pairs) < 3:
        return float("nan")
    x, y = zip(*pairs)
    mx, my = mean(x), mean(y)
    norm = (sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y)) ** 0.5
    return sum((a - mx) * (b - my) for a, b in pairs) / norm if norm else float("nan")


def text(everything, a, data, arguments):
    """The part of a variant: for each number of labelled cases a table."""
    parts = [f"`python examples/noisy_student/run.py {arguments}`".replace(" `", "`"),
             f"Residual U-Net of {', '.join(map(str, a.features))} features, patch {'x'.join(map(str, data.patch))} of {data.spacing[0]:g} mm, batch {data.batch}; {data.test} test cases, {data.unlabelled} unlabelled; {a.epochs} epochs of {a.iterations} steps for the "
             f"teacher's folds, {a.student_epochs} for the others; {a.optimizer}, rate {a.rate:g}; mode {a.mode}; seeds {', '.join(map(str, a.seeds))}."]
    for count, seeds in everything.items():
        results = {name: [s["models"][name] for s in seeds.values()] for name in next(iter(seeds.values()))["models"]}
        others = {n: title for b, title in BASELINES.items() for n in results if n in (b, f"{b} x 8 flips")}
        rows = []
        for name, r in results.items():
            row = [name, *("{:.2f} ({:.2f} .. {:.2f})".format(*interval([percent(s, metric) for s in r])) for metric in (0, 1))]
            row += ["" if name == other else signed(difference(r, results[other])) for other in others]
            row += [f"{median(s['seconds'] for s in r):.3f}", f"{max(s['memory'] for s in r) / 1e6:.0f}"]
            rows.append(row)
        parts.append(f"**{count} labelled cases**\n\n" + table(["model", "DSC", "NSD", *others.values(), "s a case", "peak MB"], rows))
        organs = [[name] + [f"{100 * mean(c[i][0] for s in r for c in s['cases'].values()):.1f}" for i in range(len(data.labels))]
                  for name, r in results.items()]
        parts.append(table(["DSC by label", *data.labels], organs))
        by_seed = [[name] + [f"{100 * mean_dsc(s):.2f}" for s in r] for name, r in results.items()]
        parts.append(table(["DSC by seed", *map(str, seeds)], by_seed))
        notes = []
        for seed, s in seeds.items():
            dsc = per_case({"cases": s["pseudo_labels"]})
            pairs = [(s["agreement"][n], d) for n, d in dsc.items() if s["agreement"].get(n) is not None]
            notes.append(f"seed {seed}: {s['kept']} of {len(dsc)} kept, DSC {100 * mean(dsc.values()):.2f}, correlation with the agreement of folds {correlation(pairs):.2f}")
        parts.append("Pseudo-labels against the hidden manual labels: " + "; ".join(notes) + ".")
    return "\n\n".join(parts)


def write(text, everything, data, name, folder):
    """Puts a variant's part into RESULTS.md, in place of the one that is there."""
    file = folder / "RESULTS.md"
    content = file.read_text() if file.exists() else HEAD
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    part = f"{begin}\n## {name}\n\n{text}\n{end}"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    content = pattern.sub(lambda _: part, content) if pattern.search(content) else f"{content.rstrip()}\n\n{part}\n"
    file.write_text(content)
    (folder / f"{name}.svg").write_text(plot(everything, data))


def plot(everything, data):
    """Mean DSC of every model with its interval, for each number of labelled cases, as SVG."""
    left, width, row = 260, 620, 22
    found = {count: {name: interval([percent(s["models"][name]) for s in seeds.values()])
                     for name in next(iter(seeds.values()))["models"]} for count, seeds in everything.items()}
    low = min(v[1] for models in found.values() for v in models.values())
    high = max(v[2] for models in found.values() for v in models.values())
    low, high = int(low) - 1, int(high) + 2
    x = lambda v: left + (v - low) / (high - low) * width
    out, y = [], 24
    put = lambda at, height, s, more="": out.append(f'<text x="{at:.1f}" y="{height:.1f}" {more}>{escape(s)}</text>')
    step = max(1, (high - low) // 8)
    for count, models in found.items():
        put(14, y, f"{count} labelled cases, {data.unlabelled} unlabelled", 'font-weight="bold"')
        top = y + 8
        for name, (middle, lower, upper) in models.items():
            y += row
            colour = "#b5495b" if "student" in name or "round" in name else "#2f7fb5"
            put(left - 10, y + 4, name, 'text-anchor="end"')
            out.append(f'<line x1="{x(lower):.1f}" x2="{x(upper):.1f}" y1="{y}" y2="{y}" stroke="{colour}" stroke-width="2"/>')
            out.append(f'<circle cx="{x(middle):.1f}" cy="{y}" r="4.5" fill="{colour}"/>')
            put(x(upper) + 8, y + 4, f"{middle:.2f}")
        for tick in range(low, high + 1, step):
            out.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{y + 10}" stroke="#dddddd"/>')
            put(x(tick), y + 24, str(tick), 'text-anchor="middle" fill="#666666"')
        y += 54
    body = "\n".join(out)
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 80}" height="{y}" font-family="sans-serif" font-size="13">\n'
            f'<rect width="100%" height="100%" fill="white"/>\n{body}\n'
            f'<text x="{left}" y="{y - 8}" fill="#666666">DSC in percent on test cases, mean of the labels, 95 % intervals over test cases</text>\n</svg>\n')
