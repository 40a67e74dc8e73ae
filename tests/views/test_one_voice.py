"""Views: one sentence and one cell for whoever asks, in the reader's language."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.config.diff import ABSENT
from lora_backend.i18n import Message, use_language
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.plan import Plan, score_plan
from lora_backend.planning.targets import Target, of_words
from lora_backend.runs.history.outcome import Outcome
from lora_backend.runs.record.states import RunState
from lora_backend.terminal import aligned
from lora_backend.verification.rank_documents import LayerRecord
from lora_backend.views.compare_view import results
from lora_backend.views.plan_view import COMPONENTS, device_table
from lora_backend.views.rank_view import LayerRow, rank_table
from lora_backend.views.run_view import progress_parts, value_text
from lora_backend.views.state_view import stage_parts, state_message
from lora_backend.views.table import Table
from tests.planning.formula_plans import PROFILE, WORKLOAD


def plan_on(target: Target) -> Plan:
    """Everything on one device."""
    memory = Memory(PROFILE, WORKLOAD)
    return score_plan(memory, [target], [0] * memory.num_units)


def said(parts: list[Message]) -> list[str]:
    with use_language("en"):
        return [part.text() for part in parts]


def test_how_far_a_run_is_is_said_once_for_pages_and_commands() -> None:
    going = RunState("running", step=12, total_steps=51, eta_s=125.0)
    assert said(progress_parts(going, {})) == ["Step 12 of 51", "23%", "2 min 5 s left"]
    ended = RunState("stopped", step=12, total_steps=51, eta_s=9.0, started_at=100.0, ended_at=160.0)
    assert said(progress_parts(ended, {}, [5, 10])) == ["Step 12 of 51", "took 1 min 0 s", "last checkpoint at step 10"]
    assert progress_parts(RunState("starting"), {}) == []
    detail = Message("answered 12 of 46, about 20 s left")
    answering = RunState("running", stage="answering", step=51, total_steps=51, eta_s=20.0, detail=detail)
    assert said(progress_parts(answering, {})) == ["Step 51 of 51"], "the steps are done; the answers are not"
    assert said(stage_parts(answering)) == ["answering the questions", "answered 12 of 46, about 20 s left"]


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("r", 8, "8"), ("learning_rate", 0.000123456, "0.0001235"), ("memory_bytes", 3 << 30, "3.00 GiB"), ("optim", None, "–"),
        ("optim", ABSENT, "–"), ("optim", "sgd", '"sgd"'), ("rank_pattern", {str(number): 4 for number in range(9)}, "9 entries"),
    ],
)  # fmt: skip
def test_a_value_reads_alike_wherever_it_stands(name: str, value: Any, shown: str) -> None:
    with use_language("en"):
        assert value_text(name, value) == shown


def test_a_state_of_a_later_version_is_shown_as_it_is() -> None:
    assert state_message("resting").text("en") == "resting"


def outcome(loss: float | None, took_s: float) -> Outcome:
    return Outcome("finished", 4, 4, loss, None, took_s, True, "good", None, None, 0)


def test_of_runs_side_by_side_the_best_is_marked_where_less_is_better_in_any_case() -> None:
    found = {result.head.text("en"): result.texts("en") for result in results([outcome(1.5, 20.0), outcome(0.5, 90.0)])}
    assert found["Last loss"] == ["1.5", "0.5 ★"]
    assert found["Time"] == ["20 s", "1 min 30 s"], "a short run is not better for its time"


def test_heads_of_tables_are_in_the_readers_language() -> None:
    record = LayerRecord(name="q", block=0, module="q", expected_r=4, config_r=4, a_r=4, b_r=2, state="a_against_b")
    tables = [rank_table([LayerRow(record)]), device_table(plan_on(of_words("24")[0]))]
    for table in tables:
        words = [head for head in table.heads if head.template not in ("A", "B", "%", "adapter_config.json")]
        assert [head.text("zh") for head in words if head.text("zh") == head.text("en")] == []
    assert set(COMPONENTS.values()) <= {head.template for head in tables[1].heads}


def test_a_row_says_in_a_sign_and_a_word_what_its_colour_says() -> None:
    record = LayerRecord(name="q", block=0, module="q", expected_r=4, config_r=4, a_r=4, b_r=2, state="a_against_b")
    table = rank_table([LayerRow(record), LayerRow(record.but(state="ok", b_r=4))])
    assert [(str(row[0]), fill) for row, fill in zip(table.rows, table.fills, strict=True)] == [
        ("✗ A and B differ", "wrong"),
        ("✓ OK", "ok"),
    ]


def test_figures_of_a_table_stand_at_the_right_under_wide_chinese_heads() -> None:
    table = Table((Message("层"), Message("%")), (("a", 5), ("layer", 100), ("b", None)))
    assert table.text(1).splitlines() == ["层       %", "a        5", "layer  100", "b        –"]
    assert aligned([["a", "b"], ["ccc", "d"]]).splitlines() == ["a    b", "ccc  d"]
