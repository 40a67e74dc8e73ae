"""The plan page's controls. The address is the truth: a control shows what it says and writes its one word into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from lora_backend.config.schema import KEYS
from lora_backend.config.spelling import words_of
from lora_backend.escaping import visible
from lora_backend.i18n import N_
from lora_backend.planning.remedies import ATTENTION_TARGETS
from lora_backend.planning.split.chosen_split import Goal
from pages.parts.plan.question import CONFIG_KEYS, CURRENCIES, Question, as_text
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t, t_plain
from pages.parts.shell.markdown import Markdown, escape
from pages.parts.widgets.model_picker import model_picker, picked_name
from pages.parts.widgets.picker_field import PickerField

LADDERS = {
    "batch_size": (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128),
    "max_length": (128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768, 65536, 131072),
    "r": (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256),
}
"""Steps of the sliders; a value between them that the address names is one more step."""
STEPS: dict[str, tuple[float, float]] = {"min_memory_gb": (0.5, 0.0), "num_epochs": (1.0, 0.1)}
"""Step and least value of a number; others are whole and at least 1, or in tenths."""
OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "lion_8bit", "adafactor", "sgd")
"""The usual ones; one that the address names is one more."""
PREFIX = "plan-"


def set_param(name: str, value: Any, default: Any = None) -> None:
    """Write one word into the address; what is the default anyway leaves it."""
    text = as_text(value)
    if text == as_text(default) or text == "":
        st.query_params.pop(name, None)
    else:
        st.query_params[name] = text


def model_and_gpus(question: Question) -> None:
    """The two that every plan needs."""
    left, right = st.columns([3, 2])
    with left:
        help_text = t(
            N_(
                "✓ its weights fit here, ✗ they do not, ↓ not on this machine. Planning needs no download: the published config.json of every listed model is known. You can also type the path of a config.json."
            )
        )
        field = PickerField(PREFIX + addresses.MODEL, _write_model)
        model_picker(t(N_("Model")), question.model or None, field, help_text)
    _show(addresses.GPUS, question.gpus or "")
    right.text_input(
        t(N_("GPUs")),
        key=PREFIX + addresses.GPUS,
        placeholder=t(N_("this machine")),
        on_change=safely(_write_word),
        args=(addresses.GPUS,),
        max_chars=200,
        help=t(N_("GiB of each, such as 24,12,8, or names, such as 2xRTX-4090,A100-40G. Empty: this machine.")),
    )


def settings_bar(question: Question) -> None:
    """Every other setting, in the sidebar, so that a change is seen beside its effect."""
    with st.sidebar:
        st.markdown(f"**{t(N_('Training'))}**")
        asked = [name for name in CONFIG_KEYS if name not in LADDERS and name != "num_epochs"]
        for name in (*LADDERS, *asked):
            if KEYS[name].group != "devices":
                _control(question, name)
        st.markdown(f"**{t(N_('Placement'))}**")
        _goal(question)
        if question.value("goal") in ("fewest", "speed"):
            _number(
                question,
                "max_utilisation",
                step=5,
                least=1,
                label=t(N_("Fill each GPU up to (%)")),
                help_text=t(N_("If no placement stays within it, GPUs are filled further.")),
            )
        for name in asked:
            if KEYS[name].group == "devices":
                _control(question, name)
        st.markdown(f"**{t(N_('Time and cost'))}**")
        _number(question, "rows", step=100, least=1, label=t(N_("Rows of data")))
        _control(question, "num_epochs")
        _number(question, "price", step=0.1, least=0.0, label=t(N_("Price of one GPU for an hour")))
        _choice(question, "currency", CURRENCIES, label=t(N_("Currency")))


def _show(name: str, value: Any) -> None:
    """Have the control `name` show `value`; left alone where it does, so that nothing is typed over."""
    if PREFIX + name not in st.session_state or st.session_state[PREFIX + name] != value:
        st.session_state[PREFIX + name] = value


def _write_model() -> None:
    set_param(addresses.MODEL, picked_name(st.session_state[PREFIX + addresses.MODEL]))


def _write_word(name: str) -> None:
    set_param(name, (st.session_state[PREFIX + name] or "").strip())


def _write(name: str, default: Any) -> None:
    value = st.session_state[PREFIX + name]
    if name == "target_modules":
        value = "all-linear" if not value or value[-1] == "all-linear" else [v for v in value if v != "all-linear"]
    set_param(name, value, default)


def _shared(question: Question, name: str, label: Markdown | None, help_text: Markdown | None) -> dict[str, Any]:
    key = KEYS.get(name)
    unit = t_plain(key.unit) if key and key.unit else ""
    return {
        "label": label or escape(f"{name} ({unit})" if unit and unit not in name else name),
        "help": help_text or (t(key.help) if key else None),
        "key": PREFIX + name,
        "on_change": safely(_write),
        "args": (name, question.default(name)),
    }


def _control(question: Question, name: str) -> None:
    """The control of a key of the config, by what the key takes."""
    kind, words = CONFIG_KEYS[name], words_of(KEYS[name])
    if name in LADDERS:
        _ladder(question, name)
    elif kind is list:
        _targets(question)
    elif kind is bool:
        _switch(question, name)
    elif words:
        unset = (None,) if KEYS[name].default is None else ()
        _choice(question, name, OPTIMIZERS if name == "optim" else (*unset, *words))
    else:
        step, least = STEPS.get(name, (1, 1) if kind is int else (0.1, 0.0))
        _number(question, name, step=step, least=least)


def _ladder(question: Question, name: str) -> None:
    value = question.value(name)
    steps = sorted({*LADDERS[name], *([value] if isinstance(value, int) and value > 0 else [])})
    _show(name, value if value in steps else question.default(name))
    st.select_slider(options=steps, format_func=escape, **_shared(question, name, None, None))


def _switch(question: Question, name: str) -> None:
    _show(name, bool(question.value(name)))
    st.toggle(**_shared(question, name, None, None))


def _choice(
    question: Question,
    name: str,
    options: Sequence[Any],
    label: Markdown | None = None,
    help_text: Markdown | None = None,
) -> None:
    value = question.value(name)
    _show(name, value)
    words = list(dict.fromkeys([*options, value]))
    st.selectbox(
        options=words,
        placeholder=t(N_("unset")),
        format_func=lambda word: t_plain(N_("unset")) if word is None else visible(str(word)),
        **_shared(question, name, label, help_text),
    )


GOALS: dict[Goal, tuple[str, str]] = {
    "balance": (N_("balance"), N_("every GPU as free as possible")),
    "fewest": (N_("fewest GPUs"), N_("as few as possible")),
    "speed": (N_("speed"), N_("the shortest step that fits")),
}


def _goal(question: Question) -> None:
    _show("goal", question.value("goal"))
    st.radio(
        options=list(GOALS),
        format_func=lambda goal: t(GOALS[goal][0]),
        captions=[t(line) for _, line in GOALS.values()],
        **_shared(question, "goal", t(N_("Goal")), t(N_("What the planner optimizes the placement for."))),
    )


def _number(
    question: Question,
    name: str,
    *,
    step: float,
    least: float,
    label: Markdown | None = None,
    help_text: Markdown | None = None,
) -> None:
    value = question.value(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value >= least
    kind = type(step)
    _show(name, kind(value) if usable else None)
    st.number_input(
        min_value=least,
        step=step,
        value=None,
        format="%g" if kind is float else "%d",
        placeholder=t(N_("unset")),
        **_shared(question, name, label, help_text),
    )


def _targets(question: Question) -> None:
    value = question.value("target_modules")
    chosen = [value] if isinstance(value, str) else [str(item) for item in value]
    _show("target_modules", chosen)
    usual = ["all-linear", *ATTENTION_TARGETS, "k_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    st.multiselect(
        options=list(dict.fromkeys([*usual, *chosen])),
        accept_new_options=True,
        placeholder=t(N_("unset")),
        format_func=visible,
        **_shared(question, "target_modules", None, None),
    )
