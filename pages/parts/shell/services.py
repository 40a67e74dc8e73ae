"""What all sessions of one dashboard share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from lora_backend.chats.chat_client import ChatClient
from lora_backend.chats.chat_store import ChatStore
from lora_backend.chats.kept_answers import KeptAnswers
from lora_backend.config.config_text import ConfigDocument
from lora_backend.installation import Installation, this_installation
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.preflight.resolve import ResolvedConfig, resolve
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.worker_client import WorkerClient


def installation() -> Installation:
    """The places of this installation."""
    return this_installation()


def resolved(config: ConfigDocument | Mapping[str, Any]) -> ResolvedConfig:
    """What a config that came through the browser names: its paths are bound to the roots."""
    return resolve(config, installation(), browser_policy())


def browser_policy() -> PathPolicy:
    """What the browser may name."""
    return BrowserRoots(installation())


@st.cache_resource(show_spinner=False)
def worker() -> WorkerClient:
    """The one torch process of this dashboard, started at its first question."""
    return WorkerClient()


def chat_client() -> ChatClient:
    """The one process of this dashboard that holds a model to chat with, started at the first question."""
    return kept_answers().client


def kept_answers() -> KeptAnswers:
    """The chats of this installation, and the answers that are being written."""
    return _kept_answers(str(installation().workspace), installation())


@st.cache_resource(show_spinner=False)
def _kept_answers(workspace: str, _installation: Installation) -> KeptAnswers:
    store = ChatStore(_installation.chats, _installation.clock)
    return KeptAnswers(ChatClient(_installation), store)
