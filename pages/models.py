"""Models: what is on this machine, what the hub has, what is being downloaded."""

from __future__ import annotations

from pages.parts.shell.guard import guard

guard()

import streamlit as st

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_
from pages.parts.models.downloads import show_downloads
from pages.parts.models.look_up import look_up_box
from pages.parts.models.on_disk import show_models_here, show_uploaded_adapters
from pages.parts.shell.header import page_header
from pages.parts.shell.language import explain, t

page_header(t(N_("Models")), t(N_("Models on this machine, and downloads from the hub.")), docs="models")
try:
    look_up_box()
    show_downloads()
    show_models_here()
    show_uploaded_adapters()
except (FlightdeckError, OSError) as error:
    st.error(explain(error), icon=":material/error:")
