"""What a plan is taken away as: the device map as JSON, YAML and Python, and a draft that uses it."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from lora_backend.config.config_writing import dump_yaml, with_values
from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.config.patch import DELETE
from lora_backend.escaping import visible_lines
from lora_backend.i18n import N_
from lora_backend.planning.plan import Plan
from lora_backend.views.strip_picture import Theme, strip_svg
from pages.parts.plan.question import CONFIG_KEYS
from pages.parts.plan.work import Work
from pages.parts.shell import addresses
from pages.parts.shell.language import language, t
from pages.parts.shell.markdown import escape
from pages.parts.shell.navigation import CONFIG
from pages.parts.shell.services import installation
from pages.parts.widgets.picture import png_button


def map_texts(plan: Plan) -> dict[str, str]:
    """The device map in each of the three languages, by file ending."""
    placed = plan.device_map
    return {
        "json": json.dumps(placed, indent=1),
        "yaml": dump_yaml({"device_map": placed}),
        "py": "device_map = {\n" + "".join(f"    {name!r}: {device!r},\n" for name, device in placed.items()) + "}\n",
    }


def show_export(work: Work) -> None:
    """Downloads, and the text to copy."""
    names = {"json": "JSON", "yaml": "YAML", "py": "Python"}
    texts = map_texts(work.plan)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.segmented_control(
            t(N_("Device map as")),
            list(names),
            format_func=lambda ending: escape(names[ending]),
            default="json",
            required=True,
            key="export_as",
        )
        ending = str(chosen or "json")
        st.download_button(
            t(N_("Download")),
            texts[ending],
            file_name=f"device_map.{ending}",
            icon=":material/download:",
            on_click="ignore",
            key="export_map",
        )
    st.code(visible_lines(texts[ending]), language={"py": "python"}.get(ending, ending), height=260)
    st.caption(t(N_("Works as it is with accelerate and transformers: `device_map=` of from_pretrained.")))
    if work.plan.assignment[-1] != work.plan.assignment[0] and not work.plan.profile.is_tied:
        st.caption(
            t(
                N_(
                    "The plan leaves the logits on the GPU that holds the head, as every run here does. In your own code, load the model by `getEquipAdaptorModel` with this map; after `from_pretrained`, accelerate copies them back to the batch's GPU."
                )
            )
        )


def picture_buttons(work: Work) -> None:
    """The plan as one picture for a slide, in the reader's language and theme."""
    theme: Theme = "dark" if st.context.theme.type == "dark" else "light"
    svg = strip_svg(work.plan, work.question.model, language(), theme)
    st.download_button(
        t(N_("Picture (SVG)")),
        svg,
        file_name="plan.svg",
        mime="image/svg+xml",
        on_click="ignore",
        key="plan_picture",
        help=t(N_("A picture of this plan for slides: where each block goes, and how much stays free.")),
    )
    png_button(svg, name="plan.png", key="plan_picture_png")


def use_in_config(work: Work) -> None:
    """A button that opens a new draft with the model, these settings and, for a split, this map.

    It is the page's act where the plan fits; where it does not, what makes it fit is.
    """
    is_act = work.plan.verdict == "fits"
    if st.button(
        t(N_("Use in config")),
        icon=":material/tune:",
        key="use_in_config",
        type="primary" if is_act else "secondary",
    ):
        draft = new_draft(installation().drafts, draft_text(work))
        st.switch_page(CONFIG, query_params={addresses.DRAFT: draft.id})


def draft_text(work: Work) -> str:
    """The draft's text: the planned draft's own where there is one, with what the address changes."""
    asked = work.question.params.get(addresses.DRAFT)
    text = open_draft(installation().drafts, asked).text() if asked else ""
    changes: dict[str, Any] = {"model_name": work.question.model}
    changes |= {name: work.question.value(name) for name in CONFIG_KEYS if name in work.question.params}
    is_placed = work.plan.strategy == "layer_split" or (work.is_by_hand and work.plan.strategy == "single")
    changes["device_map"] = work.plan.device_map if is_placed else DELETE
    if is_placed:  # the map wins over it anyway
        changes["use_balanced_device_map"] = DELETE
    return with_values(text, changes)
