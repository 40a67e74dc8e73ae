"""The box in which an answer stands: green, amber or red, by its tone."""

from __future__ import annotations

import streamlit as st

BOXES = {"good": st.success, "doubt": st.warning, "bad": st.error}
