"""A line of a run's `samples.jsonl`."""

from __future__ import annotations

from lora_backend.typed_json import Count, Document, Number


class Sample(Document):
    """A line of `samples.jsonl`: what the adapter answered to a question of the config while it was being trained."""

    step: Count
    """Optimizer steps that were done."""
    question: str = ""
    """The last message of the chat that was asked."""
    answer: str = ""
    """The adapter's."""
    time: Number | None = None
    """When all questions of that step were answered."""
