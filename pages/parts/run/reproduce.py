"""How to make a run again, and what is not any more as it was then."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.config.config_writing import dump_yaml
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_, Message
from lora_backend.runs.history.reproduce import reproduction
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.again_view import HEADS, NO_COMMAND, SAME, Again, again
from pages.parts.run import session
from pages.parts.shell.language import say, t
from pages.parts.shell.services import resolved
from pages.parts.widgets.frames import markdown_frame

MAX_YAML_LINES, MAX_YAML_PX = 40, 480


def run_reproduce(run: RunStore) -> None:
    """The config as it ran, the command, and on request whether data, versions and code are still the same."""
    text = run.config_text()
    if text is None:
        st.info(t(N_("The run's config file no longer exists.")))
    else:
        _yaml(text)
    before, now = run.read_record().config, run.config_as_changed()
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    if changed:
        st.caption(t(N_("Changed on resume:")))
        _yaml(dump_yaml(changed))
    st.header(t(N_("Reproduce")), anchor=False)
    known = st.session_state.get(session.REPRODUCTION)
    pressed = st.button(
        t(N_("Check what has changed")),
        icon=":material/replay:",
        key="reproduce",
        help=t(N_("Reads the whole data set to see whether it is still the same.")),
    )
    if pressed:
        # A run that was copied here may name any file; what lies outside of the roots is not read for the browser.
        config = resolved(run.read_record().config)
        files = {key: value for key, value in config.values.items() if key not in config.escapes}
        known = (run.id, reproduction(run, files=files), [error.message for error in config.escapes.values()])
        st.session_state[session.REPRODUCTION] = known
    if known is None or known[0] != run.id:
        return
    _draw(again(known[1]), known[2])


def _draw(found: Again, escapes: Sequence[Message]) -> None:
    for message in escapes:
        st.warning(say(message), icon=":material/folder_off:")
    if found.command is None:
        st.info(t(NO_COMMAND))
    else:
        st.code(visible_lines(found.command), language="bash", wrap_lines=True)
    if found.is_as_recorded:
        st.success(t(SAME), icon=":material/check_circle:")
    for message in found.warnings:
        st.warning(say(message), icon=":material/difference:")
    for message in found.notes:
        st.caption(say(message))
    heads = [t(head) for head in HEADS]
    st.table(markdown_frame(heads, [list(map(say, row)) for row in found.rows]).set_index(heads[0]))


def _yaml(text: str) -> None:
    """As it is; one that names each of 80 blocks scrolls, so that it does not push the rest off the screen."""
    shown = visible_lines(text)
    st.code(shown, language="yaml", height=MAX_YAML_PX if shown.count("\n") > MAX_YAML_LINES else "content")
