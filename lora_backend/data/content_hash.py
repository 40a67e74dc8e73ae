"""Which bytes several data sets are made of together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence


def sha256_together(hashes: Sequence[str]) -> str | None:
    """One hash for all sets that are trained on: of a single one its own. None for none."""
    if len(hashes) < 2:
        return hashes[0] if hashes else None
    return hashlib.sha256(json.dumps(list(hashes)).encode()).hexdigest()
