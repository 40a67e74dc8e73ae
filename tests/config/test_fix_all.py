"""All fixes at once: one after the other, each on what the one before has left, with an end."""

from __future__ import annotations

from collections.abc import Sequence

from lora_backend.config.check import check_config
from lora_backend.config.config_text import ConfigDocument, parse_config
from lora_backend.config.findings import Finding, Fix
from lora_backend.config.fix_all import can_be_fixed, fix_all
from lora_backend.config.patch import Patch
from lora_backend.i18n import Message

EIGHT = """\
# a teammate's config
model_name: m
dataset: d.jsonl
lora_rank: 8          # how much it may learn
lora_alpha: 16
dropout: 0.05
learnin_rate: 5e-4
num_epochs: "2"
precison: auto
seed: "7"
batch_size: "4"
"""


def look(document: ConfigDocument) -> Sequence[Finding]:
    return check_config(document).findings


def test_eight_faults_are_fixed_as_one_edit() -> None:
    document = parse_config(EIGHT)
    assert sum(finding.severity == "error" for finding in look(document)) == 8
    found = fix_all(document, look)
    assert len(found.applied) == 8
    assert found.left == ()
    wanted = {"r": 8, "alpha": 16, "lora_dropout": 0.05, "learning_rate": 5e-4, "num_epochs": 2, "precision": "auto"}
    values = parse_config(found.text).values
    assert {key: values[key] for key in wanted} == wanted
    assert check_config(parse_config(found.text)).is_valid
    assert "r: 8          # how much it may learn\nalpha: 16\n" in found.text


def test_what_has_no_fix_is_left_to_somebody() -> None:
    found = fix_all(parse_config("model_name:\nlora_rank: 8\n"), look)
    assert [finding.key for finding in found.left] == ["model_name"]
    assert "r: 8" in found.text


def test_two_names_of_one_key_are_settled_one_after_the_other() -> None:
    found = fix_all(parse_config("model_name: m\nlora_rank: 8\nlora_r: 16\n"), look)
    assert parse_config(found.text).values == {"model_name": "m", "r": 8}


def test_fixes_that_undo_one_another_come_to_an_end() -> None:
    def to_and_fro(document: ConfigDocument) -> Sequence[Finding]:
        other = 8 if document.values["r"] == 4 else 4
        said = Message("r")
        return [Finding("error", "x", said, said, "r", 1, (Fix(Patch({"r": other}), said),))]

    found = fix_all(parse_config("r: 4\n"), to_and_fro)
    assert (found.text, len(found.applied), len(found.left)) == ("r: 8\n", 1, 1)


def test_a_hint_is_left_alone() -> None:
    said = Message("r")
    hint = Finding("hint", "x", said, said, "r", 1, (Fix(Patch({"r": 8}), said),))
    assert not can_be_fixed([hint])
    assert fix_all(parse_config("r: 4\n"), lambda _: [hint]).text == "r: 4\n"
