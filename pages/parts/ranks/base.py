"""An adapter beside its base model: what it was compared with, what differs, and the question to the torch process."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import streamlit as st

from lora_backend.errors import WorkerError
from lora_backend.i18n import N_, Message
from lora_backend.models.headers import TensorInfo
from lora_backend.preflight.fits import asked_fit
from lora_backend.preflight.roots import allowed_model
from lora_backend.verification.against_base import AskTree, TreeAnswer
from lora_backend.verification.base_words import WHAT_DIFFERS, comparison_words, sides_of
from lora_backend.verification.rank_documents import RankReport
from pages.parts.ranks import session
from pages.parts.shell.failing import safely
from pages.parts.shell.language import say, t
from pages.parts.shell.services import installation, worker
from pages.parts.widgets.frames import frame

SHORT = 12
"""Rows up to which a table is shown whole."""


def base_in_roots(name: str) -> Path:
    """The base model of an adapter, where the browser may see it."""
    return allowed_model(name, installation())


def fit_on_page() -> AskTree:
    """Asks the torch process where headers do not decide, with its progress on the page; kept answers come at once.

    What it did not answer is not asked again at each click, only by the button that `show_comparison` offers then.
    """

    def fit(facts: Mapping[str, Any], folder: Path, tensors: Mapping[str, TensorInfo]) -> TreeAnswer:
        asked, why = st.session_state.get(session.FITS_UNANSWERED, (None, None))
        if asked == str(folder):
            raise why
        place = st.empty()

        def progress(message: Message, _: float) -> None:
            with place:
                st.status(say(message))

        try:
            return asked_fit(worker, installation(), progress)(facts, folder, tensors)
        except WorkerError as error:
            st.session_state[session.FITS_UNANSWERED] = (str(folder), error)
            raise
        finally:
            place.empty()

    return fit


def _ask_again() -> None:
    st.session_state.pop(session.FITS_UNANSWERED, None)


def model_title(name: str | None) -> str | None:
    """A model as a sentence calls it: a folder by its own name, without the way there."""
    return Path(name).name if name and Path(name).is_absolute() else name


def show_comparison(report: RankReport, key: str) -> None:
    """What the adapter was held against, and each tensor that differs with both of its shapes. `key` tells several
    reports on one page apart."""
    for words in comparison_words(report.model_copy(update={"base": model_title(report.base)})):
        st.caption(say(words))
    if report.not_compared and session.FITS_UNANSWERED in st.session_state:
        st.button(t(N_("Compare again")), icon=":material/refresh:", key=f"ask-fit-{key}", on_click=safely(_ask_again))
    differences = report.differences
    if not differences:
        return
    rows = [
        {
            t(N_("Tensor")): item.name,
            t(N_("What differs")): t(WHAT_DIFFERS[item.code]),
            t(N_("In the file")): file,
            t(N_("In the model")): model,
        }
        for item, (file, model) in zip(differences, map(sides_of, differences), strict=True)
    ]
    st.dataframe(frame(rows), hide_index=True, height="content" if len(rows) <= SHORT else 400, placeholder="–")
