"""`serve`: the dashboard, from the clone in which this package stands."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import N_

APP = Path(__file__).parents[2] / "app.py"
"""Streamlit finds `pages/` and `.streamlit/` beside it; the workspace stays that of the current folder."""


def serve(arguments: argparse.Namespace) -> NoReturn:
    """Become Streamlit's server: what stops this process stops the dashboard."""
    if not APP.is_file():
        raise FlightdeckError(
            N_(
                "The dashboard runs from a clone of the project, but {path} does not exist. Install from the clone: pip install -e ."
            ),
            path=str(APP),
        )
    if not _is_free(arguments.port):
        raise FlightdeckError(
            N_("Port {port} is in use or not allowed. Choose another: --port 8600 (make run PORT=8600)"),
            port=arguments.port,
        )
    command = [sys.executable, "-m", "streamlit", "run", str(APP), "--server.port", str(arguments.port)]
    os.execv(sys.executable, command)  # noqa: S606


def _is_free(port: int) -> bool:
    # Streamlit itself says it with a traceback, or by an exit code alone.
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True
