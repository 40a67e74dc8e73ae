"""How long the rows are: a histogram with what `max_length` cuts, and what padding costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lora_backend.config.schema import KEYS
from lora_backend.data.data_report import TokenCounts
from lora_backend.i18n import N_, Plural
from lora_backend.views.data_view import LengthBar, length_bars
from pages.parts.data.question import Question
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t, t_plain
from pages.parts.shell.markdown import escape
from pages.parts.widgets.chart import show_chart
from pages.parts.widgets.charts import LOSS, MARK, in_chart

WHOLE, CUT = LOSS, "#d9534f"
MOST_TOKENS, MOST_ROWS = 1_000_000, 4096
PREFIX = "data-"


def length_settings(question: Question) -> None:
    """What rows are cut at, and how many are padded together; the address keeps both."""
    with st.container(horizontal=True):
        for name, most in (("max_length", MOST_TOKENS), ("batch_size", MOST_ROWS)):
            value = question.value(name)
            usable = value if isinstance(value, int) and 1 <= value <= most else KEYS[name].default
            key = PREFIX + name
            if st.session_state.get(key) != usable:
                st.session_state[key] = usable
            st.number_input(
                escape(name),
                min_value=2 if name == "max_length" else 1,
                max_value=most,
                step=1,
                key=key,
                width=180,
                on_change=safely(_write),
                args=(name, question.base.get(name, KEYS[name].default)),
                help=t(KEYS[name].help),
            )


def show_lengths(counts: TokenCounts) -> None:
    """The histogram and two sentences on it."""
    bars = length_bars(counts)
    if not any(bar.rows for bar in bars):
        st.info(t(N_("No row could be counted.")), icon=":material/info:")
        return
    show_chart(histogram(bars, counts.max_length), key="data_lengths", alt=t_plain(N_("Rows by length in tokens")))
    if counts.cut:
        st.markdown(
            t(
                Plural("{count} row is longer than `max_length` {limit} (striped). The longest has {longest} tokens.", "{count} rows are longer than `max_length` {limit} (striped). The longest has {longest} tokens."),
                count=f"{counts.cut:,}",
                limit=counts.max_length,
                longest=f"{counts.longest:,}",
            )
        )  # fmt: skip
    else:
        st.markdown(t(N_("No row is cut: the longest has {longest} tokens."), longest=f"{counts.longest:,}"))
    padded = counts.padded_share
    if 0 < padded < 1:
        st.markdown(
            t(
                N_(
                    "Padded batches (`batching: padded`) make every epoch {factor} times as long: {share} of what the model computes only fills them up."
                ),
                factor=f"{1 / (1 - padded):.2f}",
                share=f"{padded:.0%}",
            )
        )


def histogram(bars: Sequence[LengthBar], max_length: int) -> Any:
    """Rows over tokens; a dashed line at `max_length`, and red what is beyond it."""
    import plotly.graph_objects as go

    last = max((place for place, bar in enumerate(bars) if bar.rows), default=0)
    shown = list(bars)[: last + 1]
    figure = go.Figure()
    for name, color, is_cut in ((N_("kept whole"), WHOLE, False), (N_("cut"), CUT, True)):
        part = [bar for bar in shown if bar.is_cut == is_cut]
        figure.add_bar(
            x=[_range(bar) for bar in part],
            y=[bar.rows for bar in part],
            name=in_chart(t_plain(name)),
            marker={"color": color, **({"pattern": {"shape": "/"}} if is_cut else {})},
            hovertemplate=f"%{{x}} {t(N_('tokens'))}: %{{y:,}} {t(N_('rows'))}<extra></extra>",
        )
    edge = sum(not bar.is_cut for bar in shown)
    if any(bar.is_cut for bar in shown):
        figure.add_shape(
            type="line",
            x0=edge - 0.5,
            x1=edge - 0.5,
            y0=0,
            y1=1,
            yref="paper",
            line={"color": MARK, "width": 2, "dash": "dash"},
        )
        figure.add_annotation(
            x=edge - 0.5,
            y=1,
            yref="paper",
            yanchor="bottom",
            text=in_chart(f"max_length {max_length:,}"),
            showarrow=False,
        )
    figure.update_layout(
        height=320,
        bargap=0.06,
        margin={"l": 8, "r": 8, "t": 28, "b": 8},
        showlegend=any(bar.is_cut for bar in shown),
        legend={"orientation": "h", "y": 1.12, "yanchor": "bottom", "x": 0},
        xaxis={"title": t(N_("Tokens of a row")), "type": "category", "categoryorder": "array", "categoryarray": [_range(bar) for bar in shown]},
        yaxis={"title": t(N_("Rows")), "rangemode": "tozero"},
    )  # fmt: skip
    return figure


def _range(bar: LengthBar) -> str:
    first = bar.above + 1
    return f"{first:,}" if first == bar.upto else f"{first:,}–{bar.upto:,}"


def _write(name: str, default: Any) -> None:
    value = st.session_state[PREFIX + name]
    if value is None or value == default:
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = str(value)
