"""Which files of an adapter's folder are taken along when it is exported or pushed, told before anything is copied."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lora_backend.models.find import ADAPTER_CONFIG
from lora_backend.models.identity import TOKENIZER_FILES
from lora_backend.verification.passport import FILE as PASSPORT

WEIGHTS = re.compile(r"adapter_model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
WRITTEN_ANEW = frozenset({ADAPTER_CONFIG, PASSPORT})
MADE = ("README.md", "loss.svg", "config.yaml")
"""What an export adds where it is known: card, curve, the user's config."""


@dataclass(frozen=True)
class AdapterFiles:
    """The files right in the folder."""

    kept: tuple[Path, ...]
    """Taken along: weights, config, passport, tokenizer."""
    beside: tuple[str, ...]
    """Names of all others, which stay: an optimizer's state, an old card."""

    @property
    def size_bytes(self) -> int:
        """Of those that are taken along."""
        return sum(path.stat().st_size for path in self.kept)


def adapter_files(adapter: Path) -> AdapterFiles:
    """What is in the folder `adapter`, in the order of names. Raises `OSError` where it cannot be read."""
    entries = sorted(adapter.iterdir())
    kept = [path for path in entries if WEIGHTS.fullmatch(path.name) or path.name in {*WRITTEN_ANEW, *TOKENIZER_FILES}]
    kept = [path for path in kept if path.is_file()]
    return AdapterFiles(tuple(kept), tuple(path.name for path in entries if path not in kept and path.name not in MADE))
