"""One judgement of a rank report: its sentence and its colour, which every page and command takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from lora_backend.i18n import Message, use_language
from lora_backend.verification.codes import CODES, explained
from lora_backend.verification.differences import BASE_NOT_COMPARED, Code, Difference
from lora_backend.verification.identity_check import with_identity
from lora_backend.verification.judgement import CONSISTENT, MAGNITUDES, WRONG_VALUE
from lora_backend.verification.rank_documents import (
    DifferenceRecord,
    LayerRecord,
    RankReport,
    ReportStatus,
    empty_report,
)
from lora_backend.verification.verdicts import HARMLESS, deciding, tone, verdict
from lora_backend.views.rank_view import rank_text

DOCS = Path(__file__).parents[2] / "docs"
SOURCES = [
    path for path in (Path(__file__).parents[2] / "lora_backend/verification").glob("*.py") if path.name != "codes.py"
]


def record(name: str = "model.layers.0.q_proj", state: str = "ok", **more: Any) -> LayerRecord:
    return LayerRecord(name=name, block=None, module=None, state=state, expected_r=4, config_r=4, a_r=4, b_r=4, **more)


def report(status: ReportStatus = "ok", **more: Any) -> RankReport:
    return empty_report(status, CONSISTENT.get(status), 4).but(**{"layers": [record()], **more})


@pytest.mark.parametrize(
    ("found", "colour"),
    [
        (report(), "good"),
        (report(compared="headers"), "good"),
        (report(warnings=sorted(HARMLESS)), "good"),
        (report(warnings=["base_not_compared"]), "doubt"),
        (report(warnings=["unmatched_target"]), "doubt"),
        (report(warnings=["a code of a later version"]), "doubt"),
        (report("undetermined"), "doubt"),
        (report("not_lora"), "doubt"),
        (report("mismatch"), "bad"),
    ],
)
def test_green_is_only_what_is_consistent_and_in_no_doubt(found: RankReport, colour: str) -> None:
    assert tone(found) == colour


@pytest.mark.parametrize(("file", "lang"), [("ranks.md", "en"), ("ranks.zh-CN.md", "zh")])
def test_the_guide_explains_each_code_in_the_words_of_the_page(file: str, lang: str) -> None:
    text = (DOCS / file).read_text("utf-8")
    assert [code for code in CODES if f"| `{code}` | {explained(code).text(lang)} |" not in text] == []


def test_of_a_run_the_worse_of_memory_and_file_decides() -> None:
    saved = report("mismatch", mismatched_layers=["model.layers.0.q_proj"], layers=[record(state="mismatch")])
    assert tone(report(saved=saved)) == "bad"
    assert "wrong rank" in verdict(deciding(report(saved=saved))).text("en")
    assert tone(report(warnings=["merged"], saved=report(warnings=["zero_padded"]))) == "doubt"
    assert tone(report(saved=report(warnings=["base_not_compared"]))) == "good", "it was in its own base model"
    assert tone(report("mismatch", saved=report())) == "bad"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (report(), "1 of 1 LoRA layer has the expected rank."),
        (report(compared="loaded"), "1 of 1 LoRA layer has the expected rank. Every tensor of the file is in the model."),
        (report(layers=[record()] * 2, compared="headers"), "2 of 2 LoRA layers have the expected rank. Every tensor of the file has its place in the base model."),
        (report(layers=[record(), record("v", "not_targeted")]), "1 of 2 LoRA layers has the expected rank. 1 is not targeted by the config."),
        (report(warnings=["base_not_compared"]), "Ranks OK, not compared with a base model. 1 of 1 LoRA layer has the expected rank."),
        (report(warnings=["unmatched_target", "merged"]), "1 of 1 LoRA layer has the expected rank. 1 warning needs your attention."),
        (report(warnings=["base_not_compared", "unmatched_target", "wrong_scaling"]), "Ranks OK, not compared with a base model. 1 of 1 LoRA layer has the expected rank. 2 warnings need your attention."),
    ],
)  # fmt: skip
def test_what_is_ok_says_how_far_that_goes(found: RankReport, said: str) -> None:
    assert verdict(found).text("en") == said


def test_what_is_wrong_is_told_by_its_kind() -> None:
    states = {"a": "mismatch", "b": "a_against_b", "u": "unreadable", "c": "missing", "d": "not_targeted"}
    layers = [record(), *(record(name, state) for name, state in states.items())]
    differences = [
        DifferenceRecord(code="not_in_model", name="e"),
        DifferenceRecord(code="other_values", name="f"),
    ]
    found = report("mismatch", mismatched_layers=list("abucdef"), layers=layers, differences=differences)
    assert verdict(found).text("en") == (
        "2 of 5 LoRA layers have the wrong rank, first a (4 ≠ 4), b (A 4, B 4). "
        "The tensors of 1 LoRA layer cannot be read as LoRA, first u. "
        "1 LoRA layer is not targeted by the config and has another rank than its `r`, first d. "
        "1 targeted layer has no LoRA, first c. "
        "1 tensor of the file has no place in the model, first e. "
        "1 tensor has other values than in the model, first f."
    )


def test_each_code_that_the_program_gives_is_explained_in_one_sentence_with_a_remedy() -> None:
    given = set(re.findall(r'"([a-zA-Z_]+)"', " ".join(path.read_text() for path in SOURCES)))
    known = set(CODES)
    assert {*MAGNITUDES, WRONG_VALUE, BASE_NOT_COMPARED, *get_args(Code), *HARMLESS} <= known
    assert {
        name for name in given if re.match(r"unmatched_|shadowed_|missing_layer|wrong_|other_|keys_will", name)
    } <= known
    for code, sentence in CODES.items():
        assert re.search(r"[:;.] ", sentence), f"{code} says nothing to do"
        assert explained(code).text("zh") != explained(code).text("en")
    assert "another version" in explained("a later code").text("en")


def test_a_log_has_the_scaling_where_one_is_another_than_asked() -> None:
    assert "caling" not in rank_text(report(layers=[record(scaling=2.0, expected_scaling=2.0)]))
    head, line = rank_text(report(layers=[record(scaling=2.0, expected_scaling=16.0)])).splitlines()
    assert head.split("  ")[-1].strip() == "Scaling"
    assert "Expected scaling" in head
    assert line.split()[:3] == ["~", "other", "scaling"]
    assert line.split()[-2:] == ["16", "2"]


def test_a_log_and_a_terminal_name_the_columns_in_the_readers_language() -> None:
    with use_language("zh"):
        head, line = rank_text(report(layers=[record(state="mismatch")])).splitlines()
    assert head.split()[:2] == ["状态", "层名"]
    assert "wrong rank" not in line


def test_a_report_is_read_as_it_was_written() -> None:
    whole = report(
        "mismatch",
        layers=[record(shape_a=[4, 16], alpha=8, scaling=2.0)],
        differences=[DifferenceRecord(code="other_shape", name="a.lora_A", file_shape=[4, 16], model_shape=[4, 8])],
        actual_r_values={"a": (4, 3), "b": 4, "c": (4, None), "d": None},
        base="b",
        not_compared=Message("Neither the config nor the adapter names a base model."),
        saved=report(warnings=["merged"]),
    )
    assert RankReport.read(json.loads(json.dumps(whole.to_dict()))) == whole


def test_a_layer_beyond_the_config_with_the_right_rank_is_not_said_to_have_another() -> None:
    layers = [record(), record("model.v_proj", "not_targeted")]
    difference = Difference("not_in_model", "model.v_proj.lora_A", "model.v_proj")
    found = with_identity(report(layers=layers), "headers", [difference])
    assert verdict(found).text("en") == "1 tensor of the file has no place in the model, first model.v_proj.lora_A."
