"""Where the other machines of a run reach this one: an address of its own, and a port."""

from __future__ import annotations

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.escaping import visible
from lora_backend.hardware.addresses import network_addresses
from lora_backend.i18n import N_
from lora_backend.launching.meeting import FIRST_PORT, default_endpoint, endpoint_parts
from pages.parts.shell.language import t
from pages.parts.shell.services import installation


def meeting_fields(key: str, num_nodes: int, before: str | None = None) -> str | None:
    """Ask for the endpoint of a run of `num_nodes` machines, and say what will happen; None where this machine has no
    address. `before`: the endpoint that it had."""
    hosts = {one.host: one.interface for one in network_addresses()}
    known, port = _parts(before)
    if known is not None and known not in hosts:
        hosts = {**hosts, known: "–"}
    if not hosts:
        st.warning(
            t(N_("This machine has no address on a network, so no other machine can join.")), icon=":material/lan:"
        )
        return None
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="bottom"):
            host = st.selectbox(
                t(N_("This machine's address")),
                list(hosts),
                list(hosts).index(known) if known is not None else 0,
                format_func=lambda one: visible(f"{one} ({hosts[one]})"),
                key=f"{key}-host",
                help=t(N_("The other machines connect to it, so it must be one that they can reach.")),
                width=260,
            )
            chosen = st.number_input(t(N_("Port")), 1, 65535, port or _free_port(host), key=f"{key}-port", width=140)
        st.caption(
            t(
                N_(
                    "{count} machines train together, and this is the first. Once the run is started, its page shows the command for each of the others; training begins when all have joined."
                ),
                count=num_nodes,
            )
        )
    return f"{host}:{chosen}"


def _parts(endpoint: str | None) -> tuple[str | None, int | None]:
    try:
        return (None, None) if endpoint is None else endpoint_parts(endpoint)
    except FlightdeckError:  # of a run that was copied here
        return None, None


def _free_port(host: str) -> int:
    try:
        return endpoint_parts(default_endpoint(installation().runs, host))[1]
    except FlightdeckError:  # said when it is launched
        return FIRST_PORT
