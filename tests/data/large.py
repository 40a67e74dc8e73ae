"""Data sets too large to read on a page's way."""

from __future__ import annotations

import json

from lora_backend.data.summary import INLINE_BYTES

ROW = json.dumps({"prompt": "a" * 200, "completion": "b" * 800}).encode() + b"\n"

LARGE = ROW * (INLINE_BYTES // len(ROW) + 1)
