"""Whether an adapter that stands where a run would publish is that run's own, of an earlier start."""

from __future__ import annotations

from pathlib import Path

from lora_backend.runs.folder import RunFolder
from lora_backend.verification.passport import file_sha256

WEIGHTS = "adapter_model.safetensors"


def is_published_by(run: RunFolder, target: Path) -> bool:
    """Same weights, to the byte, as the adapter of this start or of one before."""
    try:
        published = file_sha256(target / WEIGHTS)
        ours = [run.adapter, *run.attempts.glob("*.adapter")]
        return any(file_sha256(adapter / WEIGHTS) == published for adapter in ours if (adapter / WEIGHTS).is_file())
    except OSError:
        return False
