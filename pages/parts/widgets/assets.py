"""Components of our own, whose scripts and styles are files in `assets/`.

The content security policy lets a browser run files of this server alone. Streamlit turns a component's inline script
into a blob, which is none, so ours are files; it serves such files for components that a manifest names, and reads
manifests of installed packages only. The screens are no package, so the manifest is handed over here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.components.v2.get_bidi_component_manager import get_bidi_component_manager
from streamlit.components.v2.manifest_scanner import ComponentConfig, ComponentManifest

PROJECT = "flightdeck"
ASSETS = Path(__file__).with_name("assets")


def mount(name: str, *, key: str, data: Any, height: int, **callbacks: Any) -> Any:
    """Draw the component whose files are `assets/<name>.js` and `assets/<name>.css`; `height` in pixels.

    `callbacks`: `on_<state>_change`, as Streamlit takes them; what it returns has the states.
    """
    served(name, ASSETS)
    return _component(name)(key=key, data=data, height=height, **callbacks)


def served(name: str, folder: Path) -> None:
    """Let the server give out the files of `folder`, below `_stcore/bidi-components/flightdeck.<name>/`."""
    manager = get_bidi_component_manager()
    if manager.get_component_path(f"{PROJECT}.{name}") is None:
        config = ComponentConfig(name, asset_dir=folder.name)
        manager.register_from_manifest(ComponentManifest(PROJECT, "1", [config]), folder.parent)


@cache
def _component(name: str) -> Any:
    # Not isolated: plotly.js writes its styles into the page's head, and a shadow root would not see them.
    return st.components.v2.component(f"{PROJECT}.{name}", js=f"{name}.js", css=f"{name}.css", isolate_styles=False)
