"""The bar that stays at the top of a draft: what is wrong with it, *Fix all*, *Plan*, *Launch*."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from lora_backend.config.check import CheckResult
from lora_backend.config.drafts import Draft
from lora_backend.config.findings import Finding
from lora_backend.config.fix_all import can_be_fixed
from lora_backend.i18n import N_, Plural
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.startable import Startable
from pages.parts.draft.fixing import ask_to_fix_all
from pages.parts.shell import addresses
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown, bold, joined
from pages.parts.shell.navigation import PLAN
from pages.parts.widgets.findings import counted


def beside_blockers(result: CheckResult, start: Startable) -> list[Finding]:
    """The findings but for those that stand among what keeps the draft from starting here."""
    blocked = {(blocker.code, blocker.key) for blocker in start.blockers}
    return [finding for finding in result.findings if (finding.code, finding.key) not in blocked]


def show_bar(draft: Draft, config: ResolvedConfig, remarks: Sequence[Finding], start: Startable) -> bool:
    """The bar; whether *Launch* was pressed. `remarks` are the findings that are not among the blockers."""
    with st.container(
        key="config_bar", horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", gap="small"
    ):
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            st.markdown(_verdict(remarks, start), width="content")
            if can_be_fixed([*remarks, *start.blockers]) and st.button(
                t(N_("Fix all")),
                icon=":material/auto_fix_high:",
                key="fix_all",
                help=t(N_("Shows the changes first.")),
            ):
                ask_to_fix_all(draft, config.document)
        with st.container(horizontal=True, vertical_alignment="center", width="content", gap="small"):
            st.page_link(
                PLAN,
                label=t(N_("Plan")),
                icon=":material/memory:",
                query_params={addresses.DRAFT: draft.id},
                help=t(N_("See which GPU holds which part of the model.")),
            )
            return st.button(
                t(N_("Launch")),
                type="primary",
                icon=":material/rocket_launch:",
                key="launch",
                disabled=not config.result.is_valid or start.answer is False,
                help=_why_not(config.result, start),
            )


def _verdict(remarks: Sequence[Finding], start: Startable) -> Markdown:
    """Errors and warnings, and what else has to be done before a start; else that there is nothing."""
    parts = counted(remarks)
    if start.blockers:
        to_do = t(Plural("{count} thing to do", "{count} things to do"), count=len(start.blockers))
        parts.append(Markdown(f":material/checklist: {bold(to_do)}"))
    if parts:
        return joined(" · ", parts)
    return Markdown(f":green[:material/check_circle: {bold(t(N_('No problems found.')))}]")


def _why_not(result: CheckResult, start: Startable) -> Markdown | None:
    """What to do first, where the draft cannot be launched."""
    told = {(blocker.code, blocker.key) for blocker in start.blockers}
    if any((error.code, error.key) not in told for error in result.errors):
        return t(N_("Fix the errors first."))
    return t(N_("See below for what is missing.")) if start.answer is False or not result.is_valid else None
