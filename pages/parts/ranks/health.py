"""What the adapter's values say, read by the torch process; and from it, ranks for the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.drafts import new_draft
from lora_backend.errors import WorkerError
from lora_backend.i18n import N_, Plural
from lora_backend.verification.layer_health import LayerHealth, read_healths
from lora_backend.verification.passport import tensors_sha256
from lora_backend.verification.proposal import as_rank_pattern, propose_ranks
from lora_backend.verification.rank_documents import RankReport
from pages.parts.ranks import session
from pages.parts.shell import addresses
from pages.parts.shell.language import say, t
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation, worker

DEADLINE_S = 300.0


def read_health(adapter: Path) -> dict[str, LayerHealth]:
    """A button that has the values read; layer → health, empty until then. The answer stays for these very tensors."""
    question = (str(adapter), tensors_sha256(adapter))
    asked, found = st.session_state.get(session.HEALTH, (None, {}))
    if asked == question:
        return dict(found)
    if st.button(t(N_("Read the values: norm and effective rank")), icon=":material/monitor_heart:", key="read_health"):
        with st.status(t(N_("Reading the adapter's tensors")), expanded=False) as status:
            try:
                answer = worker().ask("read_health", {"adapter": str(adapter)}, DEADLINE_S)
            except WorkerError as error:
                status.update(label=say(error.message), state="error")
                return {}
        st.session_state[session.HEALTH] = (question, read_healths(answer))
        st.rerun()  # what was asked for stands in the place of the question
    return {}


def show_health(
    health: Mapping[str, LayerHealth], report: RankReport, config: Mapping[str, Any], text: str | None
) -> None:
    """What stands out, and a draft for the next run whose ranks follow what each layer used."""
    broken = [name for name, record in health.items() if record.has_nonfinite]
    idle = [name for name, record in health.items() if record.adds_nothing]
    if broken:
        st.error(
            t(
                Plural(
                    "NaN or infinity in {count} layer, first {name}.",
                    "NaN or infinity in {count} layers, first {name}.",
                ),
                count=len(broken),
                name=broken[0],
            ),
            icon=":material/error:",
        )
    if idle:
        st.warning(
            t(
                Plural(
                    "{count} layer adds nothing (A or B is all zero), first {name}.",
                    "{count} layers add nothing (A or B is all zero), first {name}.",
                ),
                count=len(idle),
                name=idle[0],
            ),
            icon=":material/warning:",
        )
    ranks = {name: rank for name, rank in report.actual_r_values.items() if isinstance(rank, int)}
    proposed = propose_ranks(health.values(), ranks)
    if not proposed:
        return
    r, pattern = as_rank_pattern(proposed)
    used = sum(record.effective_rank or 0 for record in health.values())
    st.caption(
        t(
            Plural(
                "The layers use {used} of {count} rank (effective rank: exp of the entropy of the singular values). The same total, shared out by use, gives ranks from {low} to {high}.",
                "The layers use {used} of {count} ranks (effective rank: exp of the entropy of the singular values). The same total, shared out by use, gives ranks from {low} to {high}.",
            ),
            used=round(used),
            count=sum(ranks.values()),
            low=min(proposed.values()),
            high=max(proposed.values()),
        )
    )
    if st.button(t(N_("Open a draft with these ranks")), icon=":material/tune:", key="propose"):
        own = {key: value for key, value in config.items() if value is not None}
        draft = new_draft(installation().drafts, with_values(text or dump_yaml(own), {"r": r, "rank_pattern": pattern}))
        st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})
