"""Each rule by itself: the config that breaks it, its nearest neighbour, and the fix that leads from one to the other."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import lora_backend.config
from lora_backend.config.check import CheckResult, check_config
from lora_backend.config.check_report import diff_text, report_text
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import with_values
from lora_backend.config.diff import diff_configs
from lora_backend.config.findings import shorten
from lora_backend.config.foreign.notice import FOREIGN
from lora_backend.config.key_queries import DATA_KEYS
from lora_backend.config.patch import DELETE
from lora_backend.config.rules import RULES, Facts, row_facts
from lora_backend.config.rules.file_rules import UNUSABLE
from lora_backend.config.rules.rule import Rule
from lora_backend.config.schema import KEYS
from lora_backend.config.secrets import holds_secret, redact
from lora_backend.models.quantized import Quantized
from tests.resolving import from_here

BY_CODE = [pytest.param(rule, id=rule.code) for rule in RULES]
PACKAGE = Path(lora_backend.config.__file__).parent


def checked(lines: str, facts: Facts | None = None) -> CheckResult:
    return check_config(parse_config(f"model_name: m\n{lines}\n"), facts)


def codes(result: CheckResult) -> list[str]:
    return [finding.code for finding in result.findings]


@pytest.mark.parametrize("rule", BY_CODE)
def test_the_broken_example_breaks_this_rule_alone_and_the_fixed_one_none(rule: Rule) -> None:
    result = check_config(parse_config(rule.text(rule.broken)), rule.facts)
    assert codes(result) == [rule.code]
    (found,) = result.findings
    assert found.severity == rule.severity
    assert found.key is not None or found.line is not None
    assert found.message.text("en").endswith(".")
    assert found.remedy.text("en").endswith(".")
    facts = rule.facts if rule.fixed_facts is None else rule.fixed_facts
    assert codes(check_config(parse_config(rule.text(rule.fixed)), facts)) == []


@pytest.mark.parametrize("rule", BY_CODE)
def test_a_fix_mends_what_it_is_for_and_breaks_nothing(rule: Rule) -> None:
    text = f"# mine\n{rule.text(rule.broken)}"
    for finding in check_config(parse_config(text), rule.facts).findings:
        for fix in finding.fixes:
            mended = with_values(text, fix.changes)
            after = check_config(parse_config(mended), rule.facts)
            assert rule.code not in codes(after), fix.label.text("en")
            assert after.is_valid, fix.label.text("en")
            assert mended.startswith("# mine\n")
            values = fix.changes.applied_to(parse_config(text).values)
            assert values == parse_config(mended).values


@pytest.mark.parametrize("rule", BY_CODE)
def test_a_fix_says_what_it_does_to_every_key_and_entry(rule: Rule) -> None:
    document = parse_config(rule.text(rule.broken))
    result, before = check_config(document, rule.facts), document.values
    for finding in result.findings:
        if finding.code == FOREIGN:
            continue  # a conversion of many keys has a table of its own
        labels = [fix.label.text("en") for fix in finding.fixes]
        assert len(set(labels)) == len(labels)
        for fix, label in zip(finding.fixes, labels, strict=True):
            for key, new in fix.changes.items():
                old = before.get(key)
                if isinstance(old, list | dict) and isinstance(new, list | dict):
                    gone = [entry for entry in old if entry not in new]
                    assert shorten(new) in label or all(str(entry) in label for entry in gone), label
                elif not (new is None and key not in before):
                    assert f"`{key}" in label or "the map" in label, label


def test_most_rules_have_a_fix_for_one_click() -> None:
    """A fix can only be missing where there is more than one way, or none within the config."""
    without = {
        rule.code
        for rule in RULES
        if any(
            finding.fix is None for finding in check_config(parse_config(rule.text(rule.broken)), rule.facts).findings
        )
    }
    assert without == {
        "missing_key", "syntax", "duplicate_key", "out_of_range", "yaml_1_1", "no_expression", "expression_too_slow", "quantized_offload", "model_name_unusable",
        "dataset_unusable", "datasets_unusable", "eval_dataset_unusable", "missing_part", "questions_unusable", "init_from_adapter_unusable", "publication_forbidden", "not_an_adapter", "experts_all_linear", "towers_left_alone", "no_tokenizer", "no_chat_template",
        "output_in_use", "unequal_gpus", "not_causal", "quantized_untrainable", "quantized_expanded", "model_library_missing", "all_linear_leaves_out",
        "bad_rows_left_out", "no_rows_left", "refused_rows_left_out", *(rule.code for rule in row_facts.OF_NOTES.values()),
    }  # fmt: skip


def test_every_rule_of_every_module_is_listed_once_and_nothing_is_found_without_one() -> None:
    modules = [importlib.import_module(f"lora_backend.config.rules.{file.stem}") for file in PACKAGE.glob("rules/*.py")]
    made = {id(value): value for module in modules for value in vars(module).values() if isinstance(value, Rule)}
    assert sorted(rule.code for rule in made.values()) == sorted(rule.code for rule in RULES)
    assert len({rule.code for rule in RULES}) == len(RULES)
    for file in PACKAGE.rglob("*.py"):
        if file.name not in ("rule_input.py", "rule.py"):
            assert not re.search(r"\b(?:Finding|config\.finding)\(", file.read_text("utf-8")), file.name


def test_every_file_that_a_config_names_has_its_rule() -> None:
    assert set(UNUSABLE) == {"model_name", "init_from_adapter", *DATA_KEYS}


@pytest.mark.parametrize(
    ("key", "value", "ours", "fixed"),
    [
        ("lora_rank", 8, "r", {"r": 8}), ("lora_r", 8, "r", {"r": 8}), ("lora_alpha", 16, "alpha", {"alpha": 16}),
        ("dropout", 0.1, "lora_dropout", {"lora_dropout": 0.1}), ("per_device_train_batch_size", 2, "batch_size", {"batch_size": 2}),
        ("bf16", True, "precision", {"precision": "bf16"}),
        ("load_in_4bit", True, "quantization", {"quantization": "nf4"}), ("n_epochs", 2, "num_epochs", {"num_epochs": 2}),
        ("cutoff_len", 512, "max_length", {"max_length": 512}), ("lr", 1e-4, "learning_rate", {"learning_rate": 1e-4}),
        ("Learning-Rate", 1e-4, "learning_rate", {"learning_rate": 1e-4}), ("ｒ", 8, "r", {"r": 8}),
        ("loraadaptor_save_path_base", "x", "output_dir", {"output_dir": "x"}), ("learnin_rate", 1e-4, "learning_rate", {"learning_rate": 1e-4}),
    ],
)  # fmt: skip
def test_another_tools_name_is_told_ours_with_what_it_means_here(
    key: str, value: object, ours: str, fixed: dict[str, object]
) -> None:
    (found,) = check_config({"model_name": "m", key: value}).errors
    assert f"`{ours}`" in found.remedy.text("en")
    assert found.fix == {key: DELETE, **fixed}


@pytest.mark.parametrize(
    ("key", "value"), [("lora_rank", "many"), ("bf16", "maybe"), ("gradient_accumulation_steps", 2.5)]
)
def test_a_name_whose_value_does_not_carry_over_has_no_fix(key: str, value: object) -> None:
    (found,) = check_config({"model_name": "m", key: value}).errors
    assert found.fix is None


def test_a_renaming_never_writes_over_a_key_that_is_there() -> None:
    (found,) = check_config({"model_name": "m", "r": 4, "lora_rank": 8}).errors
    labels = {fix.label.text("en"): fix.changes for fix in found.fixes}
    assert labels == {
        "Remove `lora_rank` (keeps `r: 4`)": {"lora_rank": DELETE},
        "Replace `r: 4` with `r: 8`": {"lora_rank": DELETE, "r": 8},
    }
    assert found.fix == {"lora_rank": DELETE}, "ours wins unless it is asked to go"


def test_a_switch_that_is_off_may_go() -> None:
    (found,) = check_config({"model_name": "m", "load_in_4bit": False}).errors
    assert found.fix == {"load_in_4bit": DELETE}


@pytest.mark.parametrize(
    ("layers", "offered"),
    [
        ([1, 2, 30], [("Remove 30 from `target_layers` (keeps 1, 2)", [1, 2]), ("Shift all by one: [0, 1, 29] (it looks counted from 1)", [0, 1, 29])]),
        ([0, 1, 30], [("Remove 30 from `target_layers` (keeps 0, 1)", [0, 1])]),
        ([1, 2, 31], [("Remove 31 from `target_layers` (keeps 1, 2)", [1, 2])]),
        ([40, 41], [("Remove `target_layers`: every block gets an adapter", DELETE)]),
    ],
)  # fmt: skip
def test_a_block_beyond_the_model_is_removed_and_the_others_are_shifted_only_when_asked(
    layers: list[int], offered: list[tuple[str, object]]
) -> None:
    (found,) = check_config({"model_name": "m", "target_layers": layers}, Facts(num_blocks=30)).errors
    assert [(fix.label.text("en"), fix.changes["target_layers"]) for fix in found.fixes] == offered


def test_a_list_of_all_blocks_counted_from_one_can_be_shifted_or_taken_out() -> None:
    (found,) = check_config({"model_name": "m", "target_layers": list(range(1, 33))}).findings
    assert [fix.changes["target_layers"] for fix in found.fixes] == [list(range(32)), DELETE]


def test_no_map_and_no_switch_that_counts_is_thrown_away_by_the_first_fix() -> None:
    placed = {"model_name": "m", "device_map": {"": 0}, "use_balanced_device_map": True}
    (found,) = check_config(placed).findings
    assert found.fix == {"use_balanced_device_map": DELETE}
    assert found.fixes[1].changes == {"device_map": DELETE}


def test_the_report_for_a_terminal_shows_every_fix() -> None:
    text = report_text(check_config({"model_name": "m", "target_layers": [1, 2, 30]}, Facts(num_blocks=30)), "en")
    assert "Fix: Remove 30 from `target_layers` (keeps 1, 2)" in text
    assert "Fix: Shift all by one: [0, 1, 29]" in text


@pytest.mark.parametrize(
    "values",
    [
        {"dataset": "hf_abcdefghijklmnopqrst"}, {"r": "sk-abcdefghijklmnopqrstuv"}, {"hf_token": "hf_abcdefghijklmnopqrst"},
        {"target_modules": ["ghp_abcdefghijklmnopqrst0123"]}, {"modules_to_save": ["AKIAABCDEFGHIJKLMNOP"]}, {"wandb_api_key": "0123456789abcdef"},
        {"hf_abcdefghijklmnopqrst": 1, "dataset": "sk-abcdefghijklmnopqrstuv"},
        {"dataset": "https://u:abcdefghij@h/x"}, {"r": "s3://:abc@defghij0123456789abcdef@h"}, {"target_modules": ["ssh://git:abcdefghij@h:22/x"]},
    ],
)  # fmt: skip
def test_a_secret_is_told_of_and_never_repeated(values: dict[str, object]) -> None:
    facts = Facts(num_blocks=2, linear_modules=("q_proj",))
    result = check_config({"model_name": "m", **values}, facts)
    assert "secret_in_config" in codes(result)
    for finding in result.findings:
        labels = [fix.label.text("en") for fix in finding.fixes]
        for sentence in (finding.message.text("en"), finding.remedy.text("en"), finding.message.text("zh"), *labels):
            assert "abcdefghij" not in sentence.lower()
            assert "0123456789abcdef" not in sentence


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:secretpw@h/x", "https://u:…@h/x"), ("at http://u:p@ss:w@h:80/a?b=c@d and ftp://v:q@i", "at http://u:…@h:80/a?b=c@d and ftp://v:…@i"),
        ("https://:secretpw@h", "https://:…@h"),
        ("/work/https:/u:secretpw@h/x", "/work/https:/u:…@h/x"),
    ],
)  # fmt: skip
def test_a_password_in_an_address_is_left_out_and_its_user_and_host_stay(text: str, shown: str) -> None:
    assert redact(text) == redact(shown) == shown
    assert holds_secret("dataset", text)
    result = check_config({"model_name": "m", "dataset": text, "r": text})
    assert shown in report_text(result)
    assert text not in report_text(result)
    assert text not in diff_text(diff_configs({"dataset": text}, {}, KEYS))


def test_a_password_in_an_address_that_was_taken_for_a_path_is_in_no_finding() -> None:
    found = from_here({"model_name": "m", "dataset": "https://u:secretpw@h/x"}).result.findings
    assert {"secret_in_config", "dataset_unusable"} <= {finding.code for finding in found}
    assert not [finding for finding in found if "secretpw" in str(finding.to_dict("en"))]


@pytest.mark.parametrize(
    "text", ["https://h:8080/a@b", "ssh://git@h:22/x", "git@h:x/y.git", "https://h/a:b@c", "a:b@c", "http://[::1]:80/"]
)
def test_an_address_without_a_password_is_no_secret(text: str) -> None:
    assert redact(text) == text
    assert not holds_secret("dataset", text)


def test_a_share_of_all_rows_decides_how_many_steps_there_are() -> None:
    """100 rows, 10 held out: 90 in batches of 4 are 23 steps an epoch."""
    facts = Facts(num_rows=100)
    base = {"model_name": "m", "val_size": 0.1, "eval_strategy": "epoch", "seed": 1, "num_epochs": 2}
    assert codes(check_config({**base, "save_steps": 46}, facts)) == []
    assert codes(check_config({**base, "save_steps": 47}, facts)) == ["steps_never_come"]


def test_a_command_that_installs_packages_can_be_pasted_into_a_shell() -> None:
    facts = Facts(quantized=Quantized("gptq"), missing_for_model=("gptqmodel>=7.0.0", "optimum>=1.24.0"))
    found = {finding.code: finding for finding in check_config({"model_name": "m"}, facts).findings}
    remedy = found["model_library_missing"].remedy.text("en")
    assert "pip install 'gptqmodel>=7.0.0' 'optimum>=1.24.0'" in remedy
