"""A run that waited: it starts without a question, and its log says where its plan has become tight meanwhile."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from lora_backend.hardware.inventory import Gpu, GpuInventory
from lora_backend.installation import this_installation
from lora_backend.preflight.doubts_now import doubts_now
from lora_backend.runs.record.attempts import Attempt
from lora_backend.training import start_facts
from tests.resolving import from_here
from tests.run_files import add_start, make_run

GIB = 2**30


def device(total: float, more: float, uuid: str | None = "GPU-a", index: int | str = 0) -> dict[str, Any]:
    return {"index": index, "uuid": uuid, "name": "A", "total_bytes": int(total * GIB), "uncertainty_bytes": int(more * GIB)}  # fmt: skip


def on(used: float) -> GpuInventory:
    return GpuInventory((Gpu(0, "GPU-a", "A", 24 * GIB, int(used * GIB), (8, 0)),))


@pytest.mark.parametrize(
    ("used", "planned", "said"),
    [
        (0, [device(20, 2)], 0),
        (3, [device(20, 2)], 1),
        (5, [device(20, 2)], 1),
        (3, [device(20, 2), device(0, 0, "GPU-b", 1)], 1),
        (23, [device(20, 2, "GPU-gone")], 0),
        (0, [device(1, 1, None, "cpu")], 0),
        (0, [device(10**6, 0, None, "cpu")], 1),
        (23, [device(20, 2, None, 0)], 0),
        (23, [{"index": 0}], 0),
    ],
)
def test_each_device_that_is_tight_or_over_now_is_one_sentence(
    used: float, planned: list[dict[str, Any]], said: int
) -> None:
    found = [
        message.text("en")
        for message in doubts_now(Attempt.read({"plan": {"devices": planned}}), this_installation(), lambda: on(used))
    ]
    assert len(found) == said
    if used == 3 and said:
        assert found == ["A has 21.00 GiB free now. The plan expects 20.00 GiB there, and up to 2.00 GiB more."]  # fmt: skip


@pytest.mark.parametrize("attempt", [{}, {"plan": None}, {"plan": {}}])
def test_a_start_without_a_plan_has_nothing_to_doubt(attempt: dict[str, Any]) -> None:
    assert list(doubts_now(Attempt.read(attempt), this_installation())) == []


def test_the_trainer_of_a_run_that_was_planned_before_logs_it_and_asks_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(start_facts, "doubts_now", lambda attempt, here: doubts_now(attempt, here, lambda: on(3)))
    run = make_run(tmp_path, config={"model_name": "m"}, config_text="", argv=None)
    add_start(run, plan={"devices": [device(20, 2)], "verdict": "fits"}, device_uuids=["GPU-a"])
    with caplog.at_level(logging.WARNING):
        start_facts.plan_here(from_here({"model_name": "m"}), run)
    assert [record.message for record in caplog.records] == ["plan: A has 21.00 GiB free now. The plan expects 20.00 GiB there, and up to 2.00 GiB more."]  # fmt: skip
