"""What all sessions of one dashboard share."""

from __future__ import annotations

import streamlit as st

from lora_backend.settings import Settings, load_settings
from lora_backend.worker_client import WorkerClient


def settings() -> Settings:
    """The places of this installation."""
    return load_settings()


@st.cache_resource(show_spinner=False)
def worker() -> WorkerClient:
    """The one torch process of this dashboard, started at its first question."""
    return WorkerClient()
