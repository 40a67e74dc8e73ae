"""Ways to save memory: the best one at once, the others where they are asked for, each one click away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import streamlit as st

from lora_backend.errors import WorkerError
from lora_backend.formats import gib
from lora_backend.i18n import N_
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.report import split_note
from lora_backend.planning.targets import GIB
from pages.parts.plan.controls import set_param
from pages.parts.plan.moves import back_to_best
from pages.parts.plan.question import as_text
from pages.parts.plan.trace import offer_again
from pages.parts.plan.work import Work
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.markdown import Markdown, code, joined

TITLES = {
    "best_placement": N_("Reset to the optimal placement"),
    "balanced": N_("Balance the GPUs"),
    "chunked_loss": N_("Compute the loss in tiles"),
    "gradient_checkpointing": N_("Turn on gradient checkpointing"),
    "smaller_batch": N_("Make the batch smaller"),
    "optimizer_8bit": N_("Use an 8-bit optimizer"),
    "quantization": N_("Load the weights in 4 bits"),
    "fewer_targets": N_("Adapt attention only"),
    "shorter_rows": N_("Shorten rows"),
    "together": N_("Combine these changes"),
    "one_more_gpu": N_("Add one more GPU"),
}
BADGES: dict[str, tuple[str, Literal["green", "orange"], str]] = {
    "fits": (N_("fits with this"), "green", ":material/check:"),
    "tight": (N_("tight with this"), "orange", ":material/warning:"),
    "over": (N_("not enough on its own"), "orange", ":material/close:"),
}


def show_best_remedy(work: Work) -> None:
    """What makes it fit, or fit beyond doubt; nothing where it does. May wait for traces, and says how far they are."""
    if work.plan.verdict == "fits":
        return
    with st.container(key="plan_remedies"):
        best, stopped = _best(work)
        if best is not None:
            _remedy(work, best, is_best=True)
        if stopped is not None:
            _not_known(stopped)
        elif best is not None:
            more = st.expander(t(N_("More ways to save memory")), key="plan_more_remedies", on_change="rerun")
            if more.open:
                with more:
                    _others(work, best)
        elif work.plan.verdict == "over":
            st.info(
                t(N_("No setting makes this model fit here. Choose larger GPUs, more of them, or a smaller model.")),
                icon=":material/info:",
            )


def show_split(work: Work, share: int | None) -> None:
    """What a split is worth, and one click to a single GPU where that holds the run as safely: filled up to `share` percent."""
    note = split_note(work.plan)
    if note is None:
        return
    if share is None:
        st.caption(say(note))
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.info(say(note), icon=":material/info:")
        st.button(
            t(N_("Use one GPU")),
            icon=":material/looks_one:",
            key="use_one_gpu",
            on_click=safely(_use_one_gpu),
            args=(work, share),
        )


def _use_one_gpu(work: Work, share: int) -> None:
    set_param("goal", "fewest", work.question.default("goal"))
    set_param("max_utilisation", share, work.question.default("max_utilisation"))
    back_to_best(work)


def _remedies(work: Work) -> Iterator[Advice]:
    """Held against the placement that is shown; where it is only tight, no others than those that make it safe."""
    placed = work.plan.assignment if work.is_by_hand else None
    found = advise(work.planner, work.config, work.plan, work.question.options(work.config), placed)
    return (remedy for remedy in found if work.plan.verdict == "over" or remedy.is_enough)


def _best(work: Work) -> tuple[Advice | None, WorkerError | None]:
    """The first that is enough; only where there is none, all have to be looked at. And why not all of them could be."""
    seen: list[Advice] = []
    try:
        for remedy in _remedies(work):
            seen.append(remedy)
            if remedy.is_enough:
                return remedy, None
    except WorkerError as error:
        return next(iter(best_first(seen)), None), error
    return next(iter(best_first(seen)), None), None


def _others(work: Work, best: Advice) -> None:
    """Each as soon as it is known."""
    num_others = 0
    try:
        for remedy in _remedies(work):
            if remedy.code != best.code or remedy.change != best.change:
                _remedy(work, remedy, is_best=False)
                num_others += 1
    except WorkerError as error:
        _not_known(error)
        return
    if not num_others:
        st.caption(t(N_("There are no others.")))


def _not_known(error: WorkerError) -> None:
    st.info(t(N_("Ways to save memory are not known: {reason}"), reason=say(error.message)), icon=":material/info:")
    offer_again("remedies")


def _remedy(work: Work, remedy: Advice, *, is_best: bool) -> None:
    """The best in a box of its own; the others lie in the box that unfolds."""
    key = f"{'best' if is_best else 'more'}-{remedy.code}"
    with st.container(
        border=is_best, horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key=key
    ):
        with st.container(width="stretch", gap=None):
            change = ", ".join(f"{name}: {as_text(value)}" for name, value in remedy.change.to_json().items())
            title = t(TITLES[remedy.code])
            words, color, icon = BADGES[remedy.verdict]
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                st.markdown(f"**{title}**", width="content")
                st.badge(t(words), color=color, icon=icon)
            if change:
                st.markdown(code(change))
            st.caption(joined(" · ", _effects(work, remedy)))
        st.button(
            t(N_("Apply")),
            key=f"apply-{key}",
            type="primary" if is_best else "secondary",
            on_click=safely(_apply),
            args=(work, remedy),
        )


def _effects(work: Work, remedy: Advice) -> Iterator[Markdown]:
    before, after = (f"{100 * plan.bottleneck_utilisation:.0f}" for plan in (work.plan, remedy.plan))
    yield t(N_("busiest device {before}% → {after}%"), before=before, after=after)
    if remedy.code == "one_more_gpu":
        yield t(N_("takes {size} off the others"), size=gib(remedy.saves_bytes))
    elif remedy.change:
        yield t(N_("saves {size} in total"), size=gib(remedy.saves_bytes))
    if remedy.change and remedy.slowdown is None:
        yield t(N_("changes what is learned, not only how fast"))
    elif remedy.change and remedy.slower_percent > 0:
        yield t(N_("about {percent}% slower"), percent=remedy.slower_percent)
    elif remedy.change and remedy.slower_percent < 0:
        yield t(N_("about {percent}% faster"), percent=-remedy.slower_percent)
    yield say(remedy.price)


def _apply(work: Work, remedy: Advice) -> None:
    if remedy.code == "best_placement":
        back_to_best(work)
    elif remedy.code == "balanced":
        set_param("goal", "balance", work.question.default("goal"))
        back_to_best(work)
    elif remedy.code == "one_more_gpu":
        new = remedy.plan.devices[-1].target
        words = [
            target.spec.name if target.spec else f"{target.total_bytes / GIB:g}"
            for target in [*work.planner.targets, new]
        ]
        set_param(addresses.GPUS, ",".join(words))
    for key, value in remedy.change.to_json().items():
        set_param(key, value, work.question.default(key))
