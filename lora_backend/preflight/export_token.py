"""Whether anything can be pushed at all: told before an hour is spent on what then cannot go up."""

from __future__ import annotations

from lora_backend.hub.hub_client import hub_token
from lora_backend.i18n import N_
from lora_backend.preflight.export_place import ExportError


def refuse_without_token() -> None:
    """Raise `ExportError` where no token of a hub is set."""
    if hub_token() is None:
        raise ExportError(N_("No hub token is set. Set `HF_TOKEN` or run `hf auth login`, then push again."))
