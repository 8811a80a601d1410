"""Tables, and the file RESULTS.md, of which every measurement replaces its own part."""
import re
from pathlib import Path
from statistics import median

HEAD = """# What was measured

Written by `./build.sh bench ... --write`; each part says where and when. Times are wall-clock
seconds of whole processes, from start to exit, with the files in the file cache; medians, and
(least .. most) of all runs. Memory is the peak resident size.
"""


def table(head, rows):
    """A Markdown table that can also be read as it stands; numbers to the right."""
    rows = [[str(c) for c in r] for r in rows]
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    line = lambda cells: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(head), rule, *map(line, rows)])


def spread(values, digits=2, unit=""):
    """The median and, of several values, least and most."""
    text = f"{median(values):.{digits}f}{unit}"
    return text if len(values) < 2 else f"{text} ({min(values):.{digits}f} .. {max(values):.{digits}f})"


def gigabytes(n):
    return f"{n / 1e9:.2f} GB"


def described(pairs):
    return "; ".join(f"{what} {value}" for what, value in pairs)


def write(name, title, text, file):
    """Puts text, under a heading, in place of the part called name."""
    content = file.read_text() if file.exists() else HEAD
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    part = f"{begin}\n## {title}\n\n{text.strip()}\n{end}"
    old = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.S)
    content = old.sub(lambda _: part, content) if old.search(content) else content.rstrip() + "\n\n" + part + "\n"
    Path(file).write_text(content)
    print(f"\nwritten to {file}")
