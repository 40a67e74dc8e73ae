"""Before launch: the rank that every layer will have, from the model's structure alone."""

from __future__ import annotations

import streamlit as st

from lora_backend.errors import ExpressionError
from lora_backend.i18n import N_, Message, Plural
from lora_backend.models.refused_targets import adaptable
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.verification.rank_report import expected_ranks
from pages.parts.shell.language import say, t
from pages.parts.widgets.frames import markdown_frame


def show_expected_ranks(config: ResolvedConfig) -> None:
    """One row a module: how many blocks get which rank; nothing is loaded for it."""
    with st.expander(t(N_("Ranks that this run will have")), icon=":material/verified:"):
        model, tree, values = config.description, config.facts.tree, config.document.values
        names = (
            adaptable(model.linear_names, model.model_type) if model else ()
        )  # where there is none the findings say why
        names = names if tree is None else (*tree.all_linear, *tree.all_linear_parameters)
        if not names:
            st.caption(t(N_("The model's layers are not known here: its safetensors files are not on this machine.")))
            return
        try:
            ranks = expected_ranks(values, names, tree)
        except ExpressionError as error:
            st.caption(say(error.message))
            return
        except (TypeError, ValueError, AttributeError):  # values of a wrong type; the findings name them
            ranks = {}
        if not ranks:
            st.caption(t(N_("This config puts a LoRA on no layer of the model.")))
            return
        if set(ranks) <= set(names):
            st.caption(
                t(
                    Plural("{count} of {layers} gets a LoRA.", "{count} of {layers} get a LoRA."),
                    count=len(ranks),
                    layers=Message(Plural("{count} linear layer", "{count} linear layers"), {"count": len(names)}),
                )
            )
        else:
            st.caption(t(Plural("{count} layer gets a LoRA.", "{count} layers get a LoRA."), count=len(ranks)))
        groups: dict[tuple[str, int], int] = {}
        for name, rank in ranks.items():
            group = (name.rsplit(".", 1)[-1], rank)
            groups[group] = groups.get(group, 0) + 1
        rows = [(module, rank, count) for (module, rank), count in groups.items()]
        st.table(markdown_frame([t(N_("Module")), t(N_("Rank")), t(N_("Layers"))], rows))
