"""What plans say to numbers that make no sense."""

from __future__ import annotations

SMALLEST, CAUSAL = (
    "must be at least 1. Check the file.",
    "only causal language models, such as Llama or Qwen3, are trained here.",
)

NO_DEVICE = "A training step would take more than a million GiB, which no device has."
