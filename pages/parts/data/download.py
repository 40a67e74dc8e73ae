"""The tokens of the rows as a file: what is trained, to be held against what was expected or read by another tool."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from lora_backend.i18n import N_, Plural
from pages.parts.data import session
from pages.parts.data.counted import Counted, show_state, tokens
from pages.parts.data.subject import Subject
from pages.parts.shell.failing import safely
from pages.parts.shell.language import sentences, t


def download_tokens(subject: Subject) -> None:
    """A way to the file, which is made when somebody asks for it."""
    if subject.model is None:
        return
    with st.popover(t(N_("Download tokens")), icon=":material/download:"):
        st.caption(
            t(
                N_(
                    "JSONL: `input_ids`, `labels` (-100: not trained) and `tokens` of each row as it is trained, after the cut. The first 2,000 rows."
                )
            )
        )
        asked = (str(subject.path), str(subject.model))
        if st.session_state.get(session.TOKENS_ASKED) != asked:
            st.button(
                t(N_("Prepare the file")),
                icon=":material/token:",
                key="prepare_tokens",
                on_click=safely(_ask),
                args=(asked,),
            )
            return
        answer = tokens(subject)
        if isinstance(answer, Counted):
            show_state(answer)
            return
        said = [t(Plural("{count} row.", "{count} rows."), count=f"{answer['rows']:,}")]
        if not answer["is_whole"]:
            said.append(t(N_("Not all rows are in the file.")))
        st.caption(sentences(said))
        st.download_button(
            t(N_("Download")),
            str(answer["text"]),
            file_name=f"{Path(subject.path.name).stem}.tokens.jsonl",
            mime="application/jsonl",
            icon=":material/download:",
            on_click="ignore",
            key="download_tokens",
        )


def _ask(asked: tuple[str, str]) -> None:
    st.session_state[session.TOKENS_ASKED] = asked
