"""The machines that train a run together: what to run on each, and whether it has come."""

from __future__ import annotations

import streamlit as st

from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.views.machines_view import ShownMachine, config_name, machines_of, part_of
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import bold, code
from pages.parts.shell.services import installation


def run_machines(run: RunStore, state: RunState) -> None:
    """On the first, until all have come, the command for each of the others; on those where the results are."""
    if part := part_of(run.read_attempt()):
        st.info(say(part), icon=":material/lan:")
        return
    machines = machines_of(run, installation().network)
    if state.has_ended or all(one.is_here for one in machines):
        return
    with st.container(border=True, key="other_machines"):
        st.markdown(bold(t(N_("Start the other machines"))))
        if state.state == "queued":
            st.caption(t(N_("This machine is waiting for its devices. Start the others once it has begun.")))
        else:
            st.caption(t(N_("The run begins when all machines have joined.")))
        goes_on = any(one.anew is not None for one in machines)
        if not goes_on:
            _config_file(
                run,
                N_(
                    "Copy the config to each of them as {name}. If model and data are in other places there, set them with `--set`."
                ),
            )
        for one in machines:
            _machine(one, one.command)
        if goes_on:
            with st.expander(t(N_("A machine has no folder of this run"))):
                _config_file(run, N_("Copy the config there as {name} and run this instead:"))
                for one in machines:
                    _machine(one, one.anew or one.command)


def _config_file(run: RunStore, sentence: str) -> None:
    text = run.config_text()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(t(sentence, name=code(config_name(run))))
        if text is not None:
            st.download_button(
                t(N_("Download the config")),
                text,
                file_name=config_name(run),
                mime="application/yaml",
                icon=":material/download:",
                on_click="ignore",
                key="machines_config",
            )


def _machine(one: ShownMachine, command: str) -> None:
    st.markdown(say(one.title))
    if not one.is_here:
        st.code(visible_lines(command), language="bash", wrap_lines=True)
