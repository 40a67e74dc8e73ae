"""One page of all pictures, each beside the one before, the most changed first."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

BEFORE = "before"
NOTICED = 24
"""Of 255: less than this is how a browser smooths letters."""
SHEET = """<!doctype html>
<meta charset="utf-8"><title>Pictures</title>
<style>
body {{ font: 14px/1.5 system-ui; margin: 2rem; color-scheme: light dark }}
figure {{ margin: 0 0 3rem }}
div {{ display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; align-items: start }}
img {{ max-width: 100%; border: 1px solid #8886 }}
</style>
<p>{count} pictures. Before at the left, now at the right.</p>
{figures}
"""


@dataclass(frozen=True)
class Change:
    """A picture, and how much of it is another one than before."""

    name: str
    share: float | None
    """Of its pixels, 0 to 1; None where there is none before."""


def put_aside(picture: Path) -> None:
    """Keep what a new picture is about to replace."""
    if picture.exists():
        kept = picture.parent / BEFORE / picture.name
        kept.parent.mkdir(exist_ok=True)
        picture.replace(kept)


def share_changed(before: Path, now: Path) -> float:
    """How much of two pictures differs, in shares of the larger one's pixels; what only one of them has differs."""
    with Image.open(before) as first, Image.open(now) as second:
        size = (max(first.width, second.width), max(first.height, second.height))
        both = [Image.new("RGB", size, color) for color in ("black", "white")]
        for canvas, picture in zip(both, (first, second), strict=True):
            canvas.paste(picture.convert("RGB"))
    bands = ImageChops.difference(*both).split()
    largest = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    same = sum(largest.histogram()[:NOTICED])
    return 1 - same / (size[0] * size[1])


def changes(folder: Path) -> list[Change]:
    """Of all pictures of a folder: new ones, then the most changed first."""
    found = []
    for now in sorted(folder.glob("*.png")):
        before = folder / BEFORE / now.name
        found.append(Change(now.stem, share_changed(before, now) if before.exists() else None))
    return sorted(found, key=lambda change: (change.share is not None, -(change.share or 0.0), change.name))


def write_sheet(folder: Path) -> Path:
    """Write `index.html` beside the pictures."""
    found = changes(folder)
    sheet = folder / "index.html"
    sheet.write_text(SHEET.format(count=len(found), figures="\n".join(map(_figure, found))), encoding="utf-8")
    return sheet


def _figure(change: Change) -> str:
    name = html.escape(change.name)
    now = f'<a href="{name}.png"><img loading="lazy" alt="now" src="{name}.png"></a>'
    if change.share is None:
        return f"<figure><figcaption><b>{name}</b>: new</figcaption><div><span></span>{now}</div></figure>"
    before = f'<a href="{BEFORE}/{name}.png"><img loading="lazy" alt="before" src="{BEFORE}/{name}.png"></a>'
    said = f"{change.share:.1%} changed"
    return f"<figure><figcaption><b>{name}</b>: {said}</figcaption><div>{before}{now}</div></figure>"
