"""Launch a draft on a cluster: which one, and what its job asks for. Nothing is shown where there is none."""

from __future__ import annotations

from typing import Any

import streamlit as st

from lora_backend.clusters.cluster_documents import ClusterKind
from lora_backend.clusters.cluster_request import NAMES, clusters_here, request_for
from lora_backend.clusters.ray_jobs import ray_address
from lora_backend.config.check import CheckResult
from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import Draft
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from lora_backend.launching.on_cluster import launch_on_cluster
from lora_backend.launching.requests import StartRequest
from lora_backend.preflight.resolve import resolve
from pages.parts.draft.edit import shown_text
from pages.parts.shell import addresses
from pages.parts.shell.language import explain, t
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.tracing import count_within

NUMBERS: dict[ClusterKind, dict[str, tuple[str, int | None]]] = {
    "slurm": {
        "gpus_per_node": (N_("GPUs"), 1),
        "cpus_per_task": (N_("CPU cores"), None),
        "mem_gb": (N_("Memory, GB"), None),
        "timeout_min": (N_("Time limit, minutes"), None),
    },
    "ray": {
        "num_gpus": (N_("GPUs"), 1),
        "num_cpus": (N_("CPU cores"), 1),
        "memory_gb": (N_("Memory, GB"), None),
    },
}
"""Setting → label, and what stands there at first; None: the cluster decides."""
TEXTS: dict[ClusterKind, dict[str, str]] = {
    "slurm": {"partition": N_("Partition"), "account": N_("Account"), "qos": "QOS"},
    "ray": {},
}


def launch_elsewhere(draft: Draft, result: CheckResult) -> None:
    """Where this machine reaches a cluster: its settings, and a button of its own."""
    found = clusters_here(installation().environment)
    if not found:
        return
    with st.expander(t(N_("Launch on a cluster")), icon=":material/dns:", key=f"cluster-{draft.id}"):
        kind = found[0]
        if len(found) > 1:
            kind = st.segmented_control(
                t(N_("Cluster")),
                found,
                default=kind,
                required=True,
                format_func=lambda name: t(NAMES[name]),
                key=f"cluster-kind-{draft.id}",
            )
        settings = _settings(draft, kind)
        st.caption(
            t(
                N_("It is planned once its job has started, for the GPUs of that machine. That machine must see the workspace {folder} under the same path."),
                folder=str(installation().workspace),
            )
        )  # fmt: skip
        if kind == "ray":
            st.caption(t(N_("Ray's dashboard: {address}"), address=ray_address(installation().environment)))
        if st.button(
            t(N_("Launch on {cluster}"), cluster=NAMES[kind]),
            icon=":material/rocket_launch:",
            key="launch_on_cluster",
            disabled=not result.is_valid,
        ):
            _launch(draft, kind, settings)


def _settings(draft: Draft, kind: ClusterKind) -> dict[str, Any]:
    """What was filled in."""
    given: dict[str, Any] = {}
    with st.container(horizontal=True):
        for name, (label, default) in NUMBERS[kind].items():
            given[name] = st.number_input(
                t(label), min_value=0, value=default, step=1, width=150, key=f"cluster-{name}-{draft.id}"
            )
    if TEXTS[kind]:
        with st.container(horizontal=True):
            for name, label in TEXTS[kind].items():
                given[name] = st.text_input(t(label), width=150, key=f"cluster-{name}-{draft.id}").strip()
    return {name: value for name, value in given.items() if value not in (None, "")}


def _launch(draft: Draft, kind: ClusterKind, settings: dict[str, Any]) -> None:
    with st.status(t(N_("Submitting the job …")), expanded=True) as status:
        try:
            asked = request_for(kind, settings, installation().environment)
            config = resolve(parse_config(shown_text(draft)), installation(), browser_policy())
            request, count = StartRequest(config, name=draft.name()), count_within(status)
            run_id = draft.launch_once(len(draft.launches()), lambda: launch_on_cluster(request, asked, count).id)
        except (FlightdeckError, OSError) as error:
            status.update(label=t(N_("Not started")), state="error", expanded=True)
            st.error(explain(error), icon=":material/error:")
            return
    st.switch_page(RUNS, query_params={addresses.RUN: run_id})
