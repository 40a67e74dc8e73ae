"""Whether an adapter is what it says, in one answer; and its layers as a map of what differs."""

from __future__ import annotations

from typing import Any

import pytest

from lora_backend.i18n import Message
from lora_backend.verification.passport import Part, Verdict
from lora_backend.verification.rank_documents import LayerRecord, RankReport, empty_report
from lora_backend.views.rank_map import rank_map, scaling_map
from lora_backend.views.rank_view import LayerRow, rank_table
from lora_backend.views.verify_view import answer, provenance_message, provenance_rows


def record(block: int, **more: Any) -> LayerRecord:
    values: dict[str, Any] = {
        "name": f"layers.{block}.q_proj", "block": block, "module": "q_proj", "expected_r": 16, "config_r": 16, "a_r": 16, "b_r": 16,
        "scaling": 2.0, "expected_scaling": 2.0, "alpha": 32, "expected_alpha": 32, "state": "ok",
    }  # fmt: skip
    return LayerRecord(**values | more)


def report(*records: LayerRecord, warnings: tuple[str, ...] = ()) -> RankReport:
    wrong = [one.name for one in records if one.state not in ("ok", "not_targeted")]
    return empty_report("mismatch" if wrong else "ok", not wrong, 16).but(
        layers=list(records), mismatched_layers=wrong, warnings=list(warnings)
    )


def part(verdict: Verdict, name: str = "tensors", **more: Any) -> Part:
    return Part(name, verdict, Message("why"), **more)


@pytest.mark.parametrize(
    ("records", "warnings", "parts", "tone", "headline"),
    [
        ([record(0)], (), ["same"], "good", "It is what it says."),
        ([record(0)], (), ["unknown"], "good", "It is what it says."),
        ([record(0)], (), ["same", "different"], "bad", "It is not what it says."),
        ([record(0)], (), ["partly"], "doubt", "It may not be what it says: look at the warnings."),
        ([record(0)], ("base_not_compared",), ["same"], "doubt", "Nothing wrong was found, but not everything could be checked."),
        ([record(0, scaling=4.0)], ("wrong_scaling",), ["same"], "doubt", "It may not be what it says: look at the warnings."),
        ([record(0, a_r=8, b_r=8, state="mismatch")], (), ["same"], "bad", "It is not what it says."),
    ],
)  # fmt: skip
def test_the_answer_is_the_worse_of_ranks_and_provenance(
    records: list[LayerRecord], warnings: tuple[str, ...], parts: list[Verdict], tone: str, headline: str
) -> None:
    found = answer(report(*records, warnings=warnings), [part(verdict) for verdict in parts])
    assert (found.tone, found.headline.text("en")) == (tone, headline)


def test_another_scaling_is_said_with_both_numbers() -> None:
    found = answer(report(record(0, scaling=4.0), warnings=("wrong_scaling",)), [])
    said = " ".join(message.text("en") for message in found.said)
    assert "1 layer is not scaled as expected, first layers.0.q_proj (4, expected 2)." in said


def test_where_no_question_applies_nothing_is_claimed() -> None:
    found = answer(empty_report("not_lora", None, None), [part("unknown", "passport")])
    assert found.tone is None
    assert found.headline.text("en") == "It cannot be checked."


def test_provenance_has_a_row_for_each_part_and_each_key_with_both_sides() -> None:
    parts = [
        part("different", "config", differing=(("alpha", 32, 64), ("r", 16, 8))),
        part("same", recorded="a" * 64, found="a" * 64),
        part("unknown", "data", recorded="b" * 64),
        part("unknown", "passport"),
    ]
    rows = [(str(row.name), row.verdict, row.recorded, row.found) for row in provenance_rows(parts)]
    assert rows == [
        ("alpha", "different", 32, 64),
        ("r", "different", 16, 8),
        ("Tensors", "same", "a" * 8, "a" * 8),
        ("Data", "unknown", "b" * 8, None),
    ]
    assert provenance_message(parts).text("en") == "Not what the adapter was trained with: Config."
    both = [part("different"), part("different", "data")]
    assert provenance_message(both).text("zh").count("，") + provenance_message(both).text("zh").count(",") >= 1


def test_the_map_has_one_colour_only_where_every_layer_is_as_expected() -> None:
    good = rank_map([LayerRow(record(block)) for block in range(3)])
    assert good is not None
    assert good.is_as_expected
    assert good.title.text("en") == "Rank: every layer has 16, as expected"
    mixed = rank_map([
        LayerRow(record(0)),
        LayerRow(record(1, a_r=8, b_r=8, state="mismatch")),
        LayerRow(record(2, a_r=16, b_r=24, state="a_against_b")),
        LayerRow(record(3, a_r=None, b_r=None, state="missing")),
        LayerRow(record(4, expected_r=None, state="not_targeted")),
    ])  # fmt: skip
    assert mixed is not None
    assert not mixed.is_as_expected
    assert mixed.title.text("en") == "Rank: 4 layers are not as expected"
    assert [cell.text for cell in mixed.cells] == ["16", "−8", "+8", "✗", "–"]
    assert [cell.said.text("en") for cell in mixed.cells[:2]] == ["rank 16, as expected", "rank 8, expected 16"]
    assert [sign.text("en") for sign in mixed.signs] == ["✗ missing", "– not targeted"]
    assert rank_map([LayerRow(record(0))]) is None, "one block is no map"


def test_twice_and_half_the_scaling_are_as_far_from_it() -> None:
    rows = [LayerRow(record(0)), LayerRow(record(1, scaling=4.0)), LayerRow(record(2, scaling=1.0))]
    found = scaling_map(rows)
    assert found is not None
    assert [cell.text for cell in found.cells] == ["2", "×2", "×0.5"]
    assert [cell.difference for cell in found.cells] == [0, 1, -1]
    assert scaling_map(rows[:1]) is None


def test_expected_scaling_stands_beside_the_actual_for_every_layer() -> None:
    heads = [head.text("en") for head in rank_table([LayerRow(record(0))]).heads]
    assert heads[-2:] == ["Expected scaling", "Scaling"]
    assert {"Expected rank", "adapter_config.json"} <= set(heads)
