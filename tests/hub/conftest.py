"""A hub of the test's own, which this process and those that it starts take for the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub_server import HubServer


@pytest.fixture
def hub(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Empty, with an empty cache and no token."""
    home = tmp_path / "hf"
    with HubServer() as server:
        places = {
            "ENDPOINT": server.endpoint,
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_HOME": str(home),
            "HF_TOKEN_PATH": str(home / "token"),
        }
        for name, value in places.items():
            monkeypatch.setattr(constants, name, value)
            monkeypatch.setenv(name if name.startswith("HF_") else f"HF_{name}", value)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield server


@pytest.fixture
def cache(hub: HubServer) -> Path:
    """Its folder, which is not made yet."""
    return Path(constants.HF_HUB_CACHE)
