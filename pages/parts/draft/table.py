"""Many runs from a table: what each row will be, and their launch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from lora_backend.config.drafts import Draft
from lora_backend.config.short_values import in_short
from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.table import Launched, TableLaunch, Variant, preview_apart
from lora_backend.launching.table_rows import read_table
from lora_backend.os_errors import in_words
from lora_backend.planning.verdict import Verdict
from lora_backend.preflight.placement import TightError
from pages.parts.draft import session
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import explain, language, say, t, t_plain
from pages.parts.shell.navigation import RUNS
from pages.parts.shell.services import browser_policy, installation
from pages.parts.widgets.frames import frame
from pages.parts.widgets.tracing import count_within, trace_within

EXAMPLE = "name\tversion\tlearning_rate\nslow\t1\t5e-5\nfast\t2\t2e-4"
MAX_TABLE_MB = 1
MOST_SHOWN = 10
"""Rows whose errors are written out."""


def many_runs(draft: Draft, text: str) -> None:
    """A table pasted or uploaded, its preview, and one button that starts all rows; `text` is the base config.

    The table is kept with the draft, so a reload loses nothing of it.
    """
    table_key, tag_key = f"table-{draft.id}", f"table-tag-{draft.id}"
    st.session_state.setdefault(table_key, draft.table())
    chosen = draft.table_tag()
    st.session_state.setdefault(tag_key, f"table-{draft.id}" if chosen is None else chosen)
    with st.expander(
        t(N_("Runs from a table")), icon=":material/table_rows:", expanded=bool(st.session_state[table_key])
    ):
        st.caption(
            t(
                N_(
                    "The first line lists keys (`name` is the name of the run); each line below is one run of this config with those values. An empty cell keeps this config's value."
                )
            )
        )
        left, right = st.columns([2, 1])
        table = left.text_area(
            t(N_("Paste a table: from a spreadsheet, or CSV")),
            height=160,
            key=table_key,
            placeholder=EXAMPLE,
            on_change=safely(_keep),
            args=(draft,),
            kwargs={"table": True},
        )
        with right:
            st.file_uploader(
                t(N_("Or upload one")),
                type=["csv", "tsv", "txt"],
                max_upload_size=MAX_TABLE_MB,
                key=f"table-file-{draft.id}",
                on_change=safely(_take_file),
                args=(draft,),
            )
            tag = st.text_input(
                t(N_("Tag for all of them")),
                key=tag_key,
                max_chars=40,
                on_change=safely(_keep),
                args=(draft,),
                kwargs={"tag": True},
            ).strip()
        if problem := st.session_state.pop(session.TABLE_PROBLEM, None):
            st.error(say(problem), icon=":material/error:")
        if table.strip():
            _rows(draft, text, table, tag)


def _keep(draft: Draft, *, table: bool = False, tag: bool = False) -> None:
    """Keep the field that was changed; the other may have been changed in another tab."""
    try:
        draft.keep_table(
            table=st.session_state[f"table-{draft.id}"] if table else None,
            tag=st.session_state[f"table-tag-{draft.id}"].strip() if tag else None,
        )
    except FlightdeckError as error:
        st.session_state[session.TABLE_PROBLEM] = error.message
    except OSError as error:
        st.session_state[session.TABLE_PROBLEM] = in_words(error, installation().workspace).message


def _take_file(draft: Draft) -> None:
    """Put an uploaded table into the field, where it can be mended."""
    file = st.session_state[f"table-file-{draft.id}"]
    if file is None:
        return
    try:
        st.session_state[f"table-{draft.id}"] = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        problem = Message(N_("{file} is not UTF-8 text. Save it as CSV in UTF-8."), {"file": file.name})
        st.session_state[session.TABLE_PROBLEM] = problem
        return
    _keep(draft, table=True)


def _rows(draft: Draft, text: str, table: str, tag: str) -> None:
    try:
        variants = _variants(text, table)
    except FlightdeckError as error:
        st.error(say(error.message), icon=":material/error:")
        return
    names = _launch_names(variants, tag)
    runs = {variant.line: draft.launched(names[variant.line]) for variant in variants}
    keys = dict.fromkeys(row.key for variant in variants for row in variant.differences)
    order = [t(N_("Line")), t(N_("Name")), *keys, t(N_("Verdict"))]
    anyway = bool(st.session_state.get("table_anyway"))
    rows = [_row(variant, runs[variant.line], anyway=anyway) for variant in variants]
    st.dataframe(frame(rows, order).fillna(""), hide_index=True)
    bad = [variant for variant in variants if not variant.can_start(anyway=anyway)]
    launched = [run_id for run_id in runs.values() if run_id]
    if bad:
        st.warning(
            t(N_("Rows with errors: {count}. Fix them before you start."), count=len(bad)),
            icon=":material/block:",
        )
        for variant in bad[:MOST_SHOWN]:
            st.caption(t(N_("Line {line}: {reason}"), line=variant.line, reason=variant.problems(anyway=anyway)))
    elif launched:
        st.info(
            t(
                Plural(
                    "{count} of {rows} was started before. Each row starts only once; another tag makes them new runs.",
                    "{count} of {rows} were started before. Each row starts only once; another tag makes them new runs.",
                ),
                count=len(launched),
                rows=Message(Plural("{count} row", "{count} rows"), {"count": len(variants)}),
            ),
            icon=":material/info:",
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        start = st.button(
            t(Plural("Start {count} run", "Start {count} runs"), count=len(variants) - len(launched)),
            type="primary",
            icon=":material/rocket_launch:",
            disabled=bool(bad) or len(launched) == len(variants),
            key="start_table",
        )
        anyway = st.checkbox(t(N_("Include runs whose plan does not fit")), key="table_anyway")
        if launched and tag:
            st.page_link(
                RUNS,
                label=t(N_("Show these runs")),
                icon=":material/show_chart:",
                query_params={addresses.RUN_FILTER: tag},
            )
    waiting = [variant for variant in variants if not runs[variant.line]]
    asked = _asked_again(text, table, tag)
    if start:
        _start(draft, waiting, names, (text, table, tag), accepts="over" if anyway else "fits")
    elif asked:
        _start(draft, waiting, names, (text, table, tag), accepts="tight")


def _variants(text: str, table: str) -> list[Variant]:
    """The preview, made once for the same config and table: a thousand rows are checked in some seconds."""
    known = st.session_state.get(session.TABLE_PREVIEW)
    if known is not None and known[:2] == (text, table):
        found: list[Variant] = known[2]
        return found
    place = st.empty()
    with place, st.spinner(t(N_("Checking every row …"))):
        found = preview_apart(
            text, read_table(table), installation(), lambda done: place.progress(done, t(N_("Checking every row …")))
        )
    place.empty()
    st.session_state[session.TABLE_PREVIEW] = (text, table, found)
    return found


def _row(variant: Variant, run_id: str | None, *, anyway: bool) -> dict[str, Any]:
    """One row of the preview: its place in the table, what it changes, and what stands in its way."""
    if run_id:
        verdict = t_plain(N_("started as {id}"), id=run_id)
    elif variant.can_start(anyway=anyway):
        verdict = "⚠ " + t(N_("tight")) if variant.start.warnings else "✓ " + t(N_("can start"))
    else:
        found = [*variant.result.errors, *variant.start.blocking(anyway=anyway)]
        wrong = dict.fromkeys(finding.key for finding in found if finding.key)
        verdict = "✗ " + (", ".join(wrong) or t(N_("see below")))
    return {
        t(N_("Line")): variant.line,
        t(N_("Name")): variant.name or "–",
        **{
            row.key: row.value if isinstance(row.value, str) else in_short(row.key, row.value, 60, language())
            for row in variant.differences
        },
        t(N_("Verdict")): verdict,
    }


def _launch_names(variants: Sequence[Variant], tag: str) -> dict[int, str]:
    """Line → the name of its launch: of what the row says and not of where it stands, so that a mended row starts alone."""
    names: dict[int, str] = {}
    for variant in variants:
        said = f"{variant.text}\0{variant.name or ''}\0{tag}".encode("utf-8", "surrogatepass")
        name = f"table-{hashlib.sha256(said).hexdigest()[:12]}"
        names[variant.line] = (
            f"{name}-{sum(other.startswith(name) for other in names.values())}"  # a row that stands there twice
        )
    return names


def _asked_again(*asked: str) -> bool:
    """What a start of this very table leaves whose plans are tight: the question, once for all rows, and its answer."""
    known = st.session_state.get(session.TABLE_IN_DOUBT)
    if known is None or known[0] != asked:
        return False
    st.warning(say(known[1]), icon=":material/memory_alt:")
    return st.button(t(N_("Start anyway")), icon=":material/rocket_launch:", key="start_table_anyway")


def _start(
    draft: Draft,
    variants: Sequence[Variant],
    names: Mapping[int, str],
    asked: tuple[str, str, str],
    *,
    accepts: Verdict,
) -> None:
    """Start the rows, or have it confirmed; `asked` is the config, the table and the tag."""
    st.session_state.pop(session.TABLE_IN_DOUBT, None)
    total, tag = len(variants), asked[2]
    with st.status(t(N_("Planning what each device will hold …")), expanded=True) as status:
        bar = st.progress(0.0)
        try:
            found = TableLaunch(installation(), browser_policy(), trace_within(status), count_within(status)).start_all(
                variants,
                StartOptions(accepts=accepts),
                tags=[tag],
                once=lambda variant, launch: draft.launch_once(names[variant.line], launch),
                progress=lambda done: bar.progress(
                    done / total, t(N_("Run {done} of {total}"), done=done, total=total)
                ),
            )
        except TightError as error:
            st.session_state[session.TABLE_IN_DOUBT] = (asked, error.message)
            st.rerun()
        except (FlightdeckError, OSError) as error:
            status.update(label=t(N_("Not started")), state="error", expanded=True)
            st.error(explain(error), icon=":material/error:")
            return
        refused = [one for one in found if one.run is None]
        if refused:
            status.update(
                label=t(
                    Plural("{count} of {rows} was not started.", "{count} of {rows} were not started."),
                    count=len(refused),
                    rows=Message(Plural("{count} row", "{count} rows"), {"count": total}),
                ),
                state="error",
                expanded=True,
            )
            _refusals(refused)
            return
    st.switch_page(RUNS, query_params={addresses.RUN_FILTER: tag} if tag else {})


def _refusals(refused: Sequence[Launched]) -> None:
    for one in refused:
        st.error(
            t(N_("Line {line}: {reason}"), line=one.variant.line, reason=one.error or ""),
            icon=":material/error:",
        )
