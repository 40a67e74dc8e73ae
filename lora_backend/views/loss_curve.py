"""The loss of a run as a small picture: SVG, made without a browser, the same bytes for the same points."""

from __future__ import annotations

from lora_backend.runs.record.curves import Column, downsample, points

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 280, 56, 16, 20, 40
LINES = (("loss", "loss", "#2f6fde"), ("eval_loss", "evaluation loss", "#d9822b"))
"""Column, its name in the picture, its colour."""
GRID, INK = "#d8dde4", "#57606a"
MOST_POINTS = 400
"""Of a line: more would not be seen at this width."""
NUM_TICKS = 4


def loss_svg(columns: dict[str, Column]) -> str | None:
    """The picture of a run's curves; None where fewer than two points can be drawn."""
    drawn = {name: downsample(*points(columns, name), MOST_POINTS) for name, _, _ in LINES}
    if max(len(steps) for steps, _ in drawn.values()) < 2:
        return None
    steps = [float(step) for xs, _ in drawn.values() for step in xs]
    losses = [float(loss) for _, ys in drawn.values() for loss in ys]
    first, span = min(steps), (max(steps) - min(steps)) or 1.0
    margin = (max(losses) - min(losses)) * 0.06 or abs(max(losses)) * 0.1 or 1.0
    low = min(losses) - margin
    low = max(low, 0.0) if min(losses) >= 0 else low  # no tick below what a loss can be
    height = max(losses) + margin - low

    def place(step: float, loss: float) -> str:
        x = LEFT + (step - first) / span * (WIDTH - LEFT - RIGHT)
        return f"{x:.1f} {HEIGHT - BOTTOM - (loss - low) / height * (HEIGHT - TOP - BOTTOM):.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="system-ui, sans-serif" font-size="11">',
        '<title>Loss by step</title><rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for tick in range(NUM_TICKS + 1):
        loss, step = low + tick / NUM_TICKS * height, first + tick / NUM_TICKS * span
        y, x = place(first, loss).split()[1], place(step, low).split()[0]
        parts.append(f'<path d="M{LEFT} {y}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end" fill="{INK}">{loss:.3g}</text>')
        parts.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" fill="{INK}">{step:.0f}</text>')
    for name, _, color in LINES:
        corners = [place(float(step), float(loss)) for step, loss in zip(*drawn[name], strict=True)]
        if corners:
            parts.append(f'<path d="M{"L".join(corners)}" fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"/>')  # fmt: skip
    names = "   ".join(f'<tspan fill="{color}">— {said}</tspan>' for name, said, color in LINES if len(drawn[name][0]))
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" xml:space="preserve">{names}</text>')
    parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end" fill="{INK}">step</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"
