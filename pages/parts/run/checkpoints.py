"""A run's checkpoints on its page: asked for, answered, listed, and compared with their manifests byte for byte."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.formats import number, size, when
from lora_backend.i18n import N_
from lora_backend.preflight.adapter_files import adapter_files
from lora_backend.preflight.adapter_zip import MOST_ZIPPED_BYTES, zipped_adapter
from lora_backend.runs.history.checkpoint_list import Best, Checkpoint, best_of, list_checkpoints
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.states import RunState
from lora_backend.runs.record.transitions import request_save
from lora_backend.runs.record.unlinked import links_of
from lora_backend.symlinks import is_unlinked_folder
from lora_backend.views.compare_view import BEST_MARK
from lora_backend.views.run_view import best_message
from pages.parts.run import session
from pages.parts.run.go_on import resume
from pages.parts.run.resume import can_resume
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely, tell
from pages.parts.shell.language import explain, say, sentences, t, t_plain
from pages.parts.shell.navigation import TRY, VERIFY
from pages.parts.shell.services import installation
from pages.parts.widgets.charts import Columns
from pages.parts.widgets.frames import frame

HEADS = {"eval_loss": N_("Evaluation loss"), "eval_token_accuracy": N_("Token accuracy")}
"""Of what is measured in an evaluation; a run without any has no such column."""
CLOCKS_APART_S = 5.0
"""A file system's clock may be behind the one that the request was made by."""


def save_button(run: RunStore) -> None:
    """Asks for a checkpoint; while one is asked for, by whomever, it says so."""
    is_asked = run.save_request.exists()
    label = N_("Saving after this step …") if is_asked else N_("Save a checkpoint now")
    st.button(t(label), icon=":material/save:", key="save_run", on_click=safely(_ask), args=(run,), disabled=is_asked)


def _ask(run: RunStore) -> None:
    try:
        request_save(run)
    except FlightdeckError as error:
        tell(explain(error), ":material/error:")
        return
    st.session_state[session.SAVE_ASKED] = (run.id, installation().clock())
    tell(t(N_("Checkpoint requested. It is saved after the next step.")), ":material/save:")


def say_that_it_saved(run: RunStore, state: RunState) -> None:
    """Once, to whoever asked for a checkpoint here: at which step it was saved, or that there was none any more."""
    asked_run, asked_at = st.session_state.get(session.SAVE_ASKED, (None, 0.0))
    if asked_run != run.id or (run.save_request.exists() and not state.has_ended):
        return
    del st.session_state[session.SAVE_ASKED]
    newest = next(iter(list_checkpoints(run, {})[-1:]), None)
    if newest and newest.saved_at and newest.saved_at >= asked_at - CLOCKS_APART_S:
        st.toast(
            t(N_("Checkpoint saved at step {step}."), step=newest.step), icon=":material/check_circle:", duration="long"
        )
    else:
        st.toast(t(N_("Training ended before the checkpoint was saved.")), icon=":material/info:")


def run_checkpoints(run: RunStore, state: RunState, columns: Columns) -> None:
    """The list, the newest first, and what can be done with each."""
    found = list_checkpoints(run, columns)
    if not found:
        text = N_("No checkpoint was saved.") if state.has_ended else N_("The first checkpoint will show up here.")
        st.info(t(text), icon=":material/save:")
        return
    best = best_of(run, found)
    checked = _checked(run, found)
    measured = {name for name in ("eval_loss", "eval_token_accuracy") if any(getattr(one, name) is not None for one in found)}  # fmt: skip
    st.dataframe(
        frame(
            [
                {
                    t_plain(N_("Step")): one.step,
                    t_plain(N_("Saved at")): when(one.saved_at, "%Y-%m-%d %H:%M:%S"),
                    t_plain(N_("Size")): size(one.size_bytes),
                    t_plain(N_("Loss")): number(one.loss),
                    **{
                        t_plain(HEADS[name]): number(getattr(one, name)) + _star(one, best, name)
                        for name in HEADS
                        if name in measured
                    },
                    t_plain(N_("Files")): _files(one, checked),
                }
                for one in reversed(found)
            ]
        ),
        hide_index=True,
        height="content" if len(found) <= 10 else 388,
        placeholder="–",
    )
    what_is_marked = [] if best is None else [say(best_message(best))]
    st.caption(sentences([*what_is_marked, t(N_("Resume continues from the newest complete checkpoint."))]))
    with st.container(horizontal=True, vertical_alignment="bottom", key="checkpoint_acts"):
        asked = _acts(run, state, found, best)
        if st.button(t(N_("Check every byte")), icon=":material/fact_check:", key="check_checkpoints"):
            st.session_state[session.CHECKED_BYTES] = (
                _stamp(run, found),
                {one.step: one.problems for one in list_checkpoints(run, {}, hashes=True)},
            )
            st.rerun(scope="fragment" if not state.has_ended else "app")
    if asked is not None:
        resume(run, from_step=asked)


def _acts(run: RunStore, state: RunState, found: Sequence[Checkpoint], best: Best | None) -> int | None:
    """Choose one, and what to do with it; its step where the run shall go on from it."""
    steps = [one.step for one in reversed(found) if not one.problems]
    if not steps:
        return None
    marked = None if best is None else best.checkpoint.step
    step = st.selectbox(
        t(N_("Checkpoint")),
        steps,
        format_func=lambda step: t(N_("Step {step} {mark}"), step=step, mark=BEST_MARK if step == marked else ""),
        key=f"checkpoint-{run.id}",
        width=200,
    )
    adapter = run.checkpoints / f"checkpoint-{step}" / "adapter"
    goes_on = state.has_ended and can_resume(run) and st.button(t(N_("Resume from it")), icon=":material/resume:", key="resume_checkpoint")  # fmt: skip
    if is_unlinked_folder(adapter):
        if st.button(t(N_("Try it")), icon=":material/forum:", key="try_checkpoint"):
            st.switch_page(TRY, query_params={addresses.WITH: f"run:{run.id}/{step}"})
        if st.button(t(N_("Verify")), icon=":material/verified:", key="verify_checkpoint"):
            place = adapter.relative_to(installation().workspace)
            st.switch_page(VERIFY, query_params={addresses.ADAPTER: str(place)})
        if state.has_ended and adapter_files(adapter).size_bytes <= MOST_ZIPPED_BYTES and not links_of(run.path):
            st.download_button(
                t(N_("Download")),
                partial(zipped_adapter, adapter),
                file_name=f"{run.id}-{step}.zip",
                mime="application/zip",
                icon=":material/download:",
                on_click="ignore",
                key="download_checkpoint",
            )
    return step if goes_on else None


def _star(one: Checkpoint, best: Best | None, column: str) -> str:
    return f" {BEST_MARK}" if best is not None and best.checkpoint == one and best.by.column == column else ""


def _checked(run: RunStore, found: Sequence[Checkpoint]) -> dict[int, tuple[str, ...]]:
    """What a comparison of every byte found of these very checkpoints."""
    stamp, problems = st.session_state.get(session.CHECKED_BYTES, (None, {}))
    return problems if stamp == _stamp(run, found) else {}


def _stamp(run: RunStore, found: Sequence[Checkpoint]) -> tuple[object, ...]:
    return (run.id, *((one.step, one.saved_at, one.size_bytes) for one in found))


def _files(one: Checkpoint, checked: dict[int, tuple[str, ...]]) -> str:
    if problems := one.problems or checked.get(one.step, ()):
        return "✗ " + t_plain(N_("damaged: {problems}"), problems="; ".join(problems))
    return "✓ " + t_plain(N_("complete, every byte checked") if one.step in checked else N_("complete"))
