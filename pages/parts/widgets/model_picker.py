"""Pick a base model: one of this machine with what its weights take here, one of the catalogue, or any folder or hub id."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from lora_backend.escaping import visible
from lora_backend.formats import rough_size
from lora_backend.i18n import N_
from lora_backend.installation import path_of
from lora_backend.models.catalogue import catalogue
from lora_backend.models.find import HUB_ID
from lora_backend.models.local import LocalModel
from lora_backend.preflight.weights_room import BF16_BYTES, MemoryHere, Room, memory_here, room_for, room_words
from pages.parts.shell import addresses
from pages.parts.shell.failing import safely
from pages.parts.shell.language import t
from pages.parts.shell.markdown import Markdown
from pages.parts.shell.navigation import MODELS
from pages.parts.shell.services import installation
from pages.parts.widgets.models_here import MODELS_LAST_S, found_models
from pages.parts.widgets.picker_field import PickerField

BETWEEN = " · "
"""Stands behind the name in an option."""
SIGNS: dict[Room, str] = {"one_gpu": "✓", "several_gpus": "✓ ≥ 2 GPU", "memory": "✓", "none": "✗"}
"""The same in every language, for a page that changes its language must know its options again."""
NOT_HERE = "↓"


@dataclass(frozen=True)
class _Known:
    """A model that is here, or that the catalogue has."""

    weights_bytes: int
    room: Room
    is_here: bool

    def option(self, name: str) -> str:
        """A folder by its own name first: the way there, which a narrow field cuts off, stands behind."""
        folder = Path(name) if Path(name).is_absolute() else None
        parts = [folder.name if folder else name, rough_size(self.weights_bytes), SIGNS[self.room]]
        return BETWEEN.join([*parts, *([] if self.is_here else [NOT_HERE]), *([str(folder.parent)] if folder else [])])


def model_picker(label: Markdown, current: str | None, field: PickerField, help_text: Markdown | None) -> None:
    """A select box in which a name may be typed as well; below it what the chosen one takes here, or where to get it.

    `current`: what it says now, whatever that is. Whoever reads the session's state asks `picked_name` what it means.
    """
    known = _known(tuple(found_models()))
    if field.key not in st.session_state or st.session_state[field.key] != current:
        st.session_state[field.key] = current  # an index would leave no way to clear the field
    options = list(dict.fromkeys([*([current] if current else []), *known]))
    st.selectbox(
        label,
        options,
        index=None,
        key=field.key,
        format_func=lambda name: visible(known[name].option(name) if name in known else name),
        accept_new_options=True,
        placeholder=t(N_("Choose one, or type a folder or a hub id")),
        on_change=safely(field.on_change),
        args=field.args,
        help=help_text,
        disabled=field.disabled,
        label_visibility=field.label_visibility,
    )
    if current:
        _say_of(current, known.get(current))


def picked_name(choice: object) -> str:
    """The model that a choice means; empty for none. An option of a page that is no longer up to date has more than the name."""
    text = choice.strip() if isinstance(choice, str) else ""
    is_listed = BETWEEN in text and text not in _known(tuple(found_models()))
    if not is_listed:
        return text
    first, *_, last = text.split(BETWEEN)
    return str(Path(last, first)) if Path(last).is_absolute() else first


def download_link(name: str, label: Markdown | None = None) -> None:
    """The way to the page on which a hub's model is downloaded; nothing for what is no hub id. `label`: where the model
    stands beside it."""
    if is_hub_id(name):
        st.page_link(
            MODELS,
            label=label or t(N_("Download {model}"), model=name),
            icon=":material/download:",
            query_params={addresses.MODEL: name},
        )


def is_hub_id(name: str) -> bool:
    """Whether a name is an id of the hub, and no folder of this machine."""
    path = path_of(name)
    return HUB_ID.fullmatch(name) is not None and path is not None and not path.exists()


def _say_of(name: str, known: _Known | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if known is not None:
            weights = t(
                N_("Weights: {size}, {room}."), size=rough_size(known.weights_bytes), room=room_words(known.room)
            )
            st.caption(weights, width="content")
        if known is None or not known.is_here:
            download_link(name, t(N_("Download")) if known else None)


@st.cache_data(show_spinner=False, ttl=MODELS_LAST_S, max_entries=8)
def _known(here: tuple[LocalModel, ...]) -> dict[str, _Known]:
    """Models of this machine by name, then those of the catalogue."""
    memory = memory_here(installation())
    local = {model.name: _one(model.size_bytes, memory, is_here=True) for model in here}
    others = {model.name: _one(model.parameters * BF16_BYTES, memory, is_here=False) for model in catalogue()}
    return local | {name: one for name, one in others.items() if name not in local}


def _one(weights_bytes: int, memory: MemoryHere, *, is_here: bool) -> _Known:
    return _Known(weights_bytes, room_for(weights_bytes, memory), is_here)
