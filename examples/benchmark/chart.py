"""A bar for each program and network, divided by phase, as SVG. Plain Python."""
from html import escape

COLOURS = {"start": "#9aa5b1", "read": "#6cb5d9", "preprocess": "#2f7fb5", "network": "#e8a33d", "export": "#b5495b", "write": "#5b4b8a"}
WIDTH, LEFT, RIGHT, BAR, GAP = 860, 130, 150, 18, 6


def draw(groups, caption):
    """groups: (title, [(label, {phase: seconds}, text behind the bar)]). All bars share one
    scale."""
    longest = max(sum(phases.values()) for _, bars in groups for _, phases, _ in bars)
    scale = (WIDTH - LEFT - RIGHT) / longest
    y, out = 30, []
    text = lambda x, y, s, more="": out.append(f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(s)}</text>')
    x = LEFT
    for phase, colour in COLOURS.items():
        out.append(f'<rect x="{x}" y="{y - 11}" width="12" height="12" fill="{colour}"/>')
        text(x + 17, y, phase)
        x += 40 + 7 * len(phase)
    y += 20
    for title, bars in groups:
        y += 18
        text(14, y, title, 'font-weight="bold"')
        y += 10
        for label, phases, behind in bars:
            text(LEFT - 8, y + 13, label, 'text-anchor="end"')
            x = LEFT
            for phase, colour in COLOURS.items():
                width = max(0, phases.get(phase, 0)) * scale
                out.append(f'<rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{BAR}" fill="{colour}">'
                           f"<title>{phase}: {phases.get(phase, 0):.2f} s</title></rect>")
                x += width
            text(x + 8, y + 13, behind)
            y += BAR + GAP
        y += 8
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000) if longest / s <= 8)
    ticks = []
    for seconds in range(0, int(longest) + 1, step):
        x = LEFT + seconds * scale
        ticks.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="46" y2="{y}" stroke="#e3e6ea"/>')
        text(x, y + 16, f"{seconds} s" if seconds == 0 else str(seconds), 'text-anchor="middle" fill="#5a6470"')
    y += 40
    text(14, y, caption, 'fill="#5a6470" font-size="11"')
    height = y + 14
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        'font-family="Helvetica, Arial, DejaVu Sans, sans-serif" font-size="13" fill="#1f2933">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>', *ticks, *out, "</svg>"]) + "\n"
