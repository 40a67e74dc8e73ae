"""A chart that stays where it is while its data change.

`st.plotly_chart` takes a figure with new data for another chart, whatever its key: the browser draws it anew, and a zoom
or a hidden trace is lost. This one keeps its element and hands the new figure to `Plotly.react`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lora_backend.i18n import N_
from pages.parts.shell.language import t_plain
from pages.parts.widgets.assets import mount, served

if TYPE_CHECKING:
    import plotly.graph_objects as go


def show_chart(figure: go.Figure, *, key: str, alt: str, height: int | None = None) -> None:
    """Draw `figure`, `height` (else the layout's) pixels high.

    `alt`: what it shows, in a few words of the reader's language, for who cannot see it; text, not Markdown. Its points
    are a table at the press of a button. A zoom and hidden traces outlive new data as long as `key` is the same.
    """
    import plotly

    figure.update_layout(uirevision=key)
    served("plotly", Path(plotly.__file__).parent / "package_data")
    height = height or int(figure.layout.height or 300)
    figure.update_layout(height=None)
    words = {
        "picture": t_plain(N_("Save as PNG")),
        "table": t_plain(N_("Show the data")),
        "chart": t_plain(N_("Show the chart")),
        "all": t_plain(N_("Reset zoom")),
        "missing": t_plain(N_("The chart could not be drawn: reload the page.")),
    }
    data = {"figure": figure.to_json(), "alt": alt, "height": height, "words": words, "plotly": plotly.__version__}
    mount("chart", key=key, data=data, height=height)
