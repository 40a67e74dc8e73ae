"""The demo's training config, and what the demo promises of its outcome."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lora_backend.demo.model import demo_model_dir
from lora_backend.runs.record.documents import Answer

DATA = Path(__file__).with_name("data")
TRAIN_FILE = DATA / "train.jsonl"
QUESTIONS_FILE = DATA / "held_out.jsonl"

PROMISED_SHARE = 0.75
"""Of all questions about the product, how many the adapter answers right."""
PROMISED_ENGLISH = 20
"""Of the 24 questions in English; every seed that was tried lies above."""
PROMISED_CHINESE = 15
"""Of the 24 questions in Chinese; every seed that was tried lies above."""


def demo_config(cache: Path) -> dict[str, object]:
    """The demo's config. `cache` is where the model is, or will be once it is prepared."""
    return {
        "model_name": str(demo_model_dir(cache)),
        "dataset": str(TRAIN_FILE),
        "questions": str(QUESTIONS_FILE),
        "max_length": 256,
        "r": 16,
        "alpha": 32,
        "target_modules": "all-linear",
        "num_epochs": 2,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "batch_size": 4,
        "precision": "auto",
        "logging_steps": 1,
        "check_r_consistency": True,
        "strict_r_check": True,
        "seed": 42,
    }


def promise_kept(answers: Iterable[Answer]) -> bool:
    """Whether the adapter learned the product and left the rest alone.

    Kept: three quarters of the questions about the product
    right with the adapter and none without it, and ordinary questions no worse than without it.
    """
    rows = list(answers)
    facts = [row for row in rows if row.group in ("english", "chinese")]
    ordinary = [row for row in rows if row.group == "ordinary"]
    learned = sum(row.adapter_correct is True for row in facts) >= PROMISED_SHARE * len(facts) > 0
    already_known = any(row.base_correct for row in facts)
    forgotten = sum(row.adapter_correct is True for row in ordinary) < sum(row.base_correct is True for row in ordinary)
    return learned and not already_known and not forgotten
