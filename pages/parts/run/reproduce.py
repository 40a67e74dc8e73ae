"""How to make a run again, and what is not any more as it was then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.config.config_writing import dump_yaml
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.runs.history.reproduce import Reproduction, ThenNow, reproduction
from lora_backend.runs.record.run_store import RunStore
from pages.parts.run import session
from pages.parts.shell.language import say, t
from pages.parts.shell.services import resolved
from pages.parts.widgets.frames import markdown_frame

MAX_YAML_LINES, MAX_YAML_PX = 40, 480


def run_reproduce(run: RunStore) -> None:
    """The config as it ran, the command, and on request whether data, versions and code are still the same."""
    text = run.config_text()
    if text is None:
        st.info(t(N_("The run's config file is gone.")))
    else:
        _yaml(text)
    before, now = run.read_record().config, run.config_as_changed()
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    if changed:
        st.caption(t(N_("Changed on resume:")))
        _yaml(dump_yaml(changed))
    st.subheader(t(N_("Reproduce")), anchor=False)
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
    found: Reproduction = known[1]
    for message in known[2]:
        st.warning(say(message), icon=":material/folder_off:")
    if found.command:
        st.code(visible_lines(found.command), language="bash", wrap_lines=True)
    if found.is_as_recorded:
        st.success(t(N_("No differences found.")), icon=":material/check_circle:")
    for message in found.base_model:
        st.warning(say(message), icon=":material/difference:")
    for number, said in found.starts:
        for message in said:
            st.caption(t(N_("Start {number}: {difference}"), number=number, difference=message))
    heads = [t(N_("What")), t(N_("Then")), t(N_("Now"))]
    st.table(markdown_frame(heads, _rows(found)).set_index(heads[0]))


def _yaml(text: str) -> None:
    """As it is; one that names each of 80 blocks scrolls, so that it does not push the rest off the screen."""
    shown = visible_lines(text)
    st.code(shown, language="yaml", height=MAX_YAML_PX if shown.count("\n") > MAX_YAML_LINES else "content")


def _rows(found: Reproduction) -> list[tuple[str, str, str]]:
    sides = {
        t(N_("Hash of the data")): found.data_sha256,
        t(N_("Commit of the code")): found.commit,
        **found.versions,
    }
    same = t(N_("as before"))
    if found.data_of_steps:
        del sides[t(N_("Hash of the data"))]
        sides |= {_steps(one): ThenNow(one["data_sha256"], found.data_sha256.now) for one in found.data_of_steps}
    rows = [
        (name, _text(side.then), same if side.differs is False else _text(side.now)) for name, side in sides.items()
    ]
    if found.was_modified:
        rows.append((t(N_("Uncommitted changes")), t(N_("yes")), "–"))
    return rows


def _steps(one: Mapping[str, Any]) -> str:
    last = "" if one["last_step"] is None else one["last_step"]
    return t(N_("Hash of the data of steps {first} to {last}"), first=one["first_step"], last=last)


def _text(value: Any) -> str:
    return "–" if value is None else str(value)[:16] if len(str(value)) == 64 else str(value)
