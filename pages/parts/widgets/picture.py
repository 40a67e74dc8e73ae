"""A picture that a page made as SVG, saved as PNG by the browser: it has the fonts, and draws what the reader would see."""

from __future__ import annotations

from lora_backend.i18n import N_
from pages.parts.shell.language import t_plain
from pages.parts.widgets.assets import mount


def png_button(svg: str, *, name: str, key: str) -> None:
    """`svg` is a whole document of ours; `name` is the file's, with its ending."""
    words = {
        "label": t_plain(N_("Picture (PNG)")),
        "failed": t_plain(N_("The picture could not be drawn: save it as SVG.")),
    }
    mount("picture", key=key, data={"svg": svg, "name": name, **words}, height=44, width="content")
