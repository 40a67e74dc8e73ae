"""The config editor through AppTest: every key, undo, a second tab, other bases, imports, the drafts that are there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from streamlit.testing.v1 import AppTest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import BIN, Draft, list_drafts, new_draft
from lora_backend.config.foreign.import_file import import_text
from lora_backend.config.presets import PRESETS
from lora_backend.config.schema import KEYS
from lora_backend.installation import this_installation
from tests.pages.screens import finished_run, show, texts
from tests.tiny import chats, stub_model, write_rows

pytestmark = pytest.mark.usefixtures("places")

SCRIPT = """\
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--r", type=int, default=8)
parser.add_argument("--use_balanced_device_map", type=bool, default=True)
"""
LLAMA_FACTORY = """\
model_name_or_path: m
stage: sft
finetuning_type: lora
lora_rank: 4
lora_dropot: 0.1
"""


def draft_of(text: str) -> Draft:
    return new_draft(this_installation().drafts, text)


def labelled(elements: Any, label: str) -> Any:
    return next(item for item in elements if item.label == label)


def table_of(at: AppTest) -> str:
    return str(at.table[0].value.to_string()).replace("\\", "")


def test_the_form_has_a_field_for_every_key() -> None:
    at = show("config", draft=draft_of("model_name: m\n").id)
    kinds = ("text_input", "text_area", "number_input", "selectbox", "multiselect", "toggle")
    labels = {item.label.split(" (")[0] for kind in kinds for item in getattr(at, kind)}
    assert set(KEYS) <= labels


def test_a_search_leaves_the_keys_that_have_it_in_name_or_help() -> None:
    at = show("config", draft=draft_of("model_name: m\n").id)
    at.text_input(key="config_form_search").set_value("warmup").run()
    assert [item.label for item in at.number_input] == ["warmup_ratio"]
    at.text_input(key="config_form_search").set_value("no key has this").run()
    assert any("No key" in info.value for info in at.info)


def test_a_click_puts_a_key_back_to_its_default() -> None:
    draft = draft_of("model_name: m\nr: 4\nweight_decay: 0.1\n")
    at = show("config", draft=draft.id)
    assert "0.0" in at.button(key=f"reset-{draft.id}-weight_decay").label
    at.button(key=f"reset-{draft.id}-weight_decay").click().run()
    assert draft.text() == "model_name: m\nr: 4\n"
    assert labelled(at.number_input, "weight_decay").value == 0.0


def test_a_nested_value_is_edited_as_yaml_and_a_broken_one_leaves_the_draft() -> None:
    draft = draft_of("model_name: m\n")
    at = show("config", draft=draft.id)
    labelled(at.text_area, "rank_pattern").set_value("q_proj: 8\nv_proj: 4").run()
    assert draft.text() == "model_name: m\nrank_pattern:\n  q_proj: 8\n  v_proj: 4\n"
    assert "rank_pattern[q_proj]" in table_of(at)
    labelled(at.text_area, "rank_pattern").set_value("q_proj: [8").run()
    assert "q_proj: 8" in draft.text()
    assert any("cannot be read" in error.value for error in at.error)
    labelled(at.text_area, "device_map").set_value("auto").run()
    assert "device_map: auto" in draft.text()


def test_several_data_sets_are_entered_as_a_list_of_yaml() -> None:
    draft = draft_of("model_name: m\n")
    at = show("config", draft=draft.id)
    labelled(at.text_area, "datasets").set_value("- path: a.jsonl\n- path: b.jsonl\n  share: 0.5").run()
    assert draft.text() == "model_name: m\ndatasets:\n- path: a.jsonl\n- path: b.jsonl\n  share: 0.5\n"
    assert "datasets" in table_of(at)
    labelled(at.text_area, "datasets").set_value("- path: [a").run()
    assert "b.jsonl" in draft.text(), "what is no list changes nothing"
    assert at.error
    labelled(at.text_area, "datasets").set_value("").run()
    assert draft.text() == "model_name: m\n"


def test_a_key_that_takes_words_and_true_is_picked_from_all_of_them() -> None:
    draft = draft_of("model_name: m\ninit_lora_weights: gaussian\n")
    at = show("config", draft=draft.id)
    box = labelled(at.selectbox, "init_lora_weights")
    assert box.value == "gaussian"
    box.select(False).run()
    assert "init_lora_weights: false" in draft.text()


def test_text_that_does_not_parse_keeps_the_last_good_form_to_look_at() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    labelled(at.text_area, "YAML; comments and order are kept").set_value("model_name: m\nr: [1\n").run()
    field = labelled(at.number_input, "r")
    assert (field.value, field.disabled) == (4, True)
    assert any("last text that could be read" in item.value and "ine 3" in item.value for item in at.warning)


def test_undo_and_redo_go_through_both_views() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    assert at.button(key="undo").disabled
    labelled(at.number_input, "r").set_value(8).run()
    labelled(at.text_area, "YAML; comments and order are kept").set_value("model_name: m\nr: 12\n").run()
    at.button(key="undo").click().run()
    assert labelled(at.number_input, "r").value == 8
    at.button(key="undo").click().run()
    assert (labelled(at.number_input, "r").value, at.button(key="undo").disabled) == (4, True)
    at.button(key="redo").click().run()
    assert "r: 8" in labelled(at.text_area, "YAML; comments and order are kept").value


@pytest.mark.parametrize(("answer", "kept"), [("keep_mine", "r: 8"), ("take_theirs", "r: 12")])
def test_the_second_tab_is_told_shown_the_difference_and_asked(answer: str, kept: str) -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    first, second = show("config", draft=draft.id), show("config", draft=draft.id)
    labelled(first.number_input, "r").set_value(12).run()
    labelled(second.number_input, "r").set_value(8).run()
    assert not second.exception
    assert "r: 12" in draft.text(), "nothing of the first tab is lost"
    assert any("-r: 12" in code.value and "+r: 8" in code.value for code in second.code)
    second.button(key=answer).click().run()
    assert kept in draft.text()
    assert f"{labelled(second.number_input, 'r').value}" in kept
    assert not any(button.key == answer for button in second.button)


def test_edits_of_two_tabs_that_touch_other_keys_are_merged_and_it_is_said() -> None:
    draft = draft_of("model_name: m\nr: 4  # rank\nalpha: 8\n")
    first, second = show("config", draft=draft.id), show("config", draft=draft.id)
    labelled(first.number_input, "r").set_value(12).run()
    labelled(second.number_input, "alpha").set_value(24).run()
    assert not second.exception
    assert draft.text() == "model_name: m\nr: 12  # rank\nalpha: 24\n"
    assert [toast.value for toast in second.toast] == ["Merged with changes from another tab."]
    assert labelled(second.number_input, "r").value == 12
    assert not any(button.key == "keep_mine" for button in second.button)


def test_a_tab_that_only_looks_again_shows_what_the_other_one_saved() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    draft.save("model_name: m\nr: 12\n")
    at.run()
    assert labelled(at.number_input, "r").value == 12


def test_a_finding_is_mended_by_one_click_and_that_can_be_undone() -> None:
    draft = draft_of("model_name: m\nlora_rank: 8\n")
    at = show("config", draft=draft.id)
    fix = next(button for button in at.button if button.key.startswith("fix-error"))
    fix.click().run()
    assert draft.text() == "model_name: m\nr: 8\n"
    at.button(key="undo").click().run()
    assert "lora_rank: 8" in draft.text()


def test_a_run_and_a_preset_in_the_address_are_what_is_compared_with() -> None:
    draft, run = draft_of("model_name: other\nr: 4\n"), finished_run()
    at = show("config", draft=draft.id, base=f"run:{run.id}")
    assert "other" in table_of(at)
    at = show("config", draft=draft.id, base="preset:four_bit_24gb")
    assert "quantization" in table_of(at)
    assert "not set" in table_of(at)


@pytest.mark.parametrize("base", ["run:none", "preset:none", "file:../../config.yaml", "file:none.py", "?"])
def test_a_base_that_is_not_there_is_a_sentence_and_the_defaults(base: str) -> None:
    at = show("config", draft=draft_of("model_name: m\nr: 4\n").id, base=base)
    assert at.warning
    assert labelled(at.selectbox, "Compared with").value == "defaults"


def test_a_scripts_defaults_are_compared_with_and_its_type_bool_is_pointed_out() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    at.text_area(key=f"base_text-{draft.id}").set_value(SCRIPT).run()
    at.button(key="use_base").click().run()
    assert at.query_params["base"] == "file:script.py"
    assert "use_balanced_device_map" in table_of(at), (
        "a key that is not set means something else than the script's default"
    )
    assert any("Line 4" in warning.value for warning in at.warning)
    at = show("config", draft=draft.id, base="file:script.py")
    assert "use_balanced_device_map" in table_of(at), "the script is kept with the draft"


def test_a_script_that_is_none_is_a_sentence_and_the_base_stays() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    at.text_area(key=f"base_text-{draft.id}").set_value("def broken(").run()
    at.button(key="use_base").click().run()
    assert any("Line 1" in error.value for error in at.error)
    assert "base" not in at.query_params


def test_the_unified_layout_has_a_row_for_each_side() -> None:
    at = show("config", draft=draft_of("model_name: m\nr: 4\n").id)
    at.segmented_control(key="config_diff_layout").set_value("unified").run()
    shown = table_of(at)
    assert "− 16" in shown
    assert "+ 4" in shown


@pytest.mark.parametrize("layout", ["side", "unified"])
def test_a_device_map_of_80_blocks_is_one_row_of_the_diff_that_can_be_opened(layout: str) -> None:
    placed = "".join(f"  model.layers.{block}: {block // 27}\n" for block in range(80))
    draft = draft_of(f"model_name: m\nr: 4\ndevice_map:\n  model.embed_tokens: 0\n{placed}  lm_head: 2\n")
    at = show("config", draft=draft.id, lang="en")
    at.segmented_control(key="config_diff_layout").set_value(layout).run()
    assert "80 blocks on 3 GPUs" in table_of(at)
    assert "layers.41" not in table_of(at)
    at.session_state["inside-device_map"] = True
    at.run()
    assert not at.exception
    inside = at.table[-1].value.to_string()
    assert "layers.41" in inside
    assert any("all 82 rows" in expander.label for expander in at.expander)


def test_the_draft_is_copied_as_command_python_and_the_diff_as_markdown() -> None:
    draft = draft_of("model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    codes = "\n".join(code.value for code in at.code)
    assert f"train {draft.path}/config.yaml\n" in codes
    assert "getEquipAdaptorModel(config)" in codes
    assert "| `r` | `16` | `4` |" in codes


def test_what_each_difference_does_is_said_when_asked() -> None:
    draft = draft_of("model_name: no-model\nnum_epochs: 5\nmax_steps: 10\n")
    at = show("config", draft=draft.id)
    at.button(key="consequences").click().run()
    assert not at.exception
    assert "without effect" in table_of(at)
    assert any("Without memory and time" in caption.value for caption in at.caption)


def test_model_and_data_say_what_can_be_picked(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tiny_model.parent))
    write_rows(tmp_path / "chats.jsonl", chats())
    at = show("config", draft=draft_of(f"model_name: {tiny_model}\ndataset: chats.jsonl\n").id)
    assert labelled(at.multiselect, "target_layers").options == ["0", "1"]
    assert "q_proj" in labelled(at.multiselect, "target_modules").options
    assert "128 tokens" in labelled(at.number_input, "max_length (tokens)").help
    shown = texts(at)
    assert "2 blocks (0 to 1)" in shown
    assert "16 rows" in shown
    assert "`messages`" in shown


def test_each_preset_starts_a_draft_with_its_values() -> None:
    for preset in PRESETS.values():
        at = show("config")
        at.button(key=f"preset-{preset.id}").click().run()
        assert not at.exception
        text = list_drafts(this_installation().drafts)[0].text()
        assert all(f"{key}:" in text for key in preset.values), preset.id


def test_another_tools_config_shows_every_key_before_and_after_it_is_opened() -> None:
    at = show("config")
    at.file_uploader[0].upload("lf.yaml", LLAMA_FACTORY.encode()).run()
    assert list_drafts(this_installation().drafts) == [], "nothing is made before it is asked for"
    shown = table_of(at)
    assert "lora_rank: 4" in shown
    assert "unknown" in shown
    at.button(key="open_import").click().run()
    assert not at.exception
    (draft,) = list_drafts(this_installation().drafts)
    assert "r: 4" in draft.text()
    assert any("lora_dropot" in table.value.to_string().replace("\\", "") for table in at.table)


def test_another_tools_config_can_always_be_opened_as_it_is() -> None:
    at = show("config")
    at.file_uploader[0].upload("lf.yaml", LLAMA_FACTORY.encode()).run()
    at.button(key="open_as_is").click().run()
    (draft,) = list_drafts(this_installation().drafts)
    assert draft.text() == LLAMA_FACTORY


def test_another_tools_config_that_was_opened_as_it_is_is_one_finding_and_converted_by_its_button() -> None:
    draft = draft_of(LLAMA_FACTORY)
    at = show("config", draft=draft.id)
    assert "import FILE" in texts(at)
    assert sum("**error" in item.value and "LLaMA-Factory" in item.value for item in at.markdown) == 1
    assert "lora_rank" not in table_of(at), "it is compared under our names"
    (button,) = [item for item in at.button if item.key.startswith("fix-error")]
    button.click().run()
    assert not at.exception
    wanted, found = import_text(LLAMA_FACTORY).values, parse_config(draft.text()).values
    assert found == wanted
    assert any("lora_dropot" in table.value.to_string().replace("\\", "") for table in at.table), "what became of each"


def test_a_config_of_ours_with_one_old_key_opens_as_it_is_and_each_key_has_its_fix() -> None:
    text = "model_name: m\ndataset: d.jsonl\nr: 16\nlora_alpha: 64\ndropout: 0.05\nlearnin_rate: 5e-4\nnum_epochs: 1\n"
    at = show("config")
    at.file_uploader[0].upload("mine.yaml", text.encode()).run()
    (draft,) = list_drafts(this_installation().drafts)
    assert draft.text() == text
    while fixes := [item for item in at.button if item.key.startswith("fix-error") and item.key.endswith("-0")]:
        fixes[0].click().run()
    assert not at.exception
    values = parse_config(draft.text()).values
    assert (values["alpha"], values["lora_dropout"], values["learning_rate"]) == (64, 0.05, 5e-4)


def test_json_that_says_a_key_twice_keeps_both_places() -> None:
    at = show("config")
    text = '{"model_name": "m", "r": 8,\n "r": 16}'
    at.file_uploader[0].upload("twice.json", text.encode()).run()
    (draft,) = list_drafts(this_installation().drafts)
    assert draft.text() == text
    assert "appears twice" in texts(at) or "more than once" in texts(at)


def test_each_fix_of_a_finding_has_its_own_button_that_says_what_it_does(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tiny_model.parent))
    draft = draft_of(f"model_name: {tiny_model}\ntarget_layers: [1, 2]\n")
    at = show("config", draft=draft.id)
    labels = [item.label for item in at.button if item.key.startswith("fix-error")]
    assert labels == [
        "Remove 2 from `target_layers` (keeps 1)",
        "Shift all by one: \\[0, 1\\] (it looks counted from 1)",
    ]
    next(item for item in at.button if item.key.startswith("fix-error")).click().run()
    assert parse_config(draft.text()).values["target_layers"] == [1]


def test_pasted_text_of_another_tool_is_recognised_too() -> None:
    at = show("config")
    at.text_area(key="pasted").set_value(LLAMA_FACTORY)
    labelled(at.button, "Open as a draft").click().run()
    at.button(key="open_import").click().run()
    assert "r: 4" in list_drafts(this_installation().drafts)[0].text()


def test_a_file_that_mixes_two_tools_is_refused_with_a_sentence_and_can_be_opened_as_it_is() -> None:
    at = show("config")
    mixed = "lora_rank: 4\nfinetuning_type: lora\nbase_model: m\nmicro_batch_size: 1\nsequence_len: 5\nstage: sft\n"
    at.file_uploader[0].upload("mixed.yaml", mixed.encode()).run()
    assert any("mixes" in error.value for error in at.error)
    at.button(key="open_as_is").click().run()
    assert list_drafts(this_installation().drafts)[0].text() == mixed


def test_a_config_of_ours_with_a_key_of_another_tool_is_opened_with_its_finding() -> None:
    at = show("config")
    at.file_uploader[0].upload("ours.yaml", b"model_name: m\nlora_rank: 4\n").run()
    assert any("**error" in item.value and "lora_rank" in item.value for item in at.markdown)


def test_a_draft_is_deleted_from_the_list_and_brought_back() -> None:
    draft = draft_of("model_name: some/model-7b\n")
    at = show("config")
    assert [link.label.replace("\\", "") for link in at.get("page_link")] == ["**model-7b**"]
    at.button(key=f"delete-{draft.id}").click().run()
    assert list_drafts(this_installation().drafts) == []
    at.button(key="restore_draft").click().run()
    assert [item.id for item in list_drafts(this_installation().drafts)] == [draft.id]


def test_a_draft_that_cannot_be_deleted_or_brought_back_is_a_sentence() -> None:
    draft, root = draft_of("model_name: m\n"), this_installation().drafts
    at = show("config")
    with FileLock(draft.path / "launch.lock"):
        at.button(key=f"delete-{draft.id}").click().run()
    assert not at.exception
    assert "is being launched" in at.toast[0].value
    at.button(key=f"delete-{draft.id}").click().run()
    assert list_drafts(root) == []
    shutil.copytree(root / BIN / draft.id, draft.path)  # as an editor outside may put it back
    at.button(key="restore_draft").click().run()
    assert not at.exception
    assert "exists again" in at.toast[0].value


def test_a_draft_is_written_for_another_tool_with_what_is_lost() -> None:
    draft = new_draft(
        this_installation().drafts, "model_name: org/m\ndataset: d.jsonl\nr: 4\npkg: shop\nversion: '1'\n"
    )
    at = show("config", draft=draft.id)
    at.segmented_control(key="export_tool").set_value("llamafactory").run()
    assert not at.exception
    shown = texts(at)
    assert "Not carried over to LLaMA-Factory:" in shown
    assert "`pkg`" in shown
    assert len(at.get("download_button")) == 2, "the draft, and the other tool's file"
    at.segmented_control(key="export_tool").set_value("axolotl").run()
    assert "Check before you use it with axolotl:" in texts(at), "there is no d.jsonl to look into"
    rows = this_installation().workspace / "d.jsonl"
    write_rows(rows, [{"prompt": "hi", "completion": "ho"}])
    draft.save(f"model_name: org/m\ndataset: {rows}\n")
    at = show("config", draft=draft.id)
    at.segmented_control(key="export_tool").set_value("axolotl").run()
    assert "Everything was exported for axolotl." in texts(at)
    draft.save("r: x\n")
    at = show("config", draft=draft.id)
    assert any("cannot be exported" in warning.value for warning in at.warning)


def test_a_new_config_asks_for_a_model_data_and_a_name_as_tasks_and_offers_what_is_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = stub_model(tmp_path / "models" / "m")
    write_rows(tmp_path / "chats.jsonl", chats())
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(model.parent))
    at = show("config")
    at.button(key="blank").click().run()
    (draft,) = list_drafts(this_installation().drafts)
    assert at.button(key="launch").disabled
    assert "Choose a base model" in texts(at)
    assert "Choose your data" in texts(at)
    assert "**error" not in texts(at), "an empty field is a task"
    at.selectbox(key=f"first-{draft.id}-model_name").select(str(model)).run()
    assert not at.exception
    assert parse_config(draft.text()).values["model_name"] == str(model)
    assert "Choose your data" in texts(at)
    box = at.selectbox(key=f"first-{draft.id}-dataset")
    assert "chats.jsonl" in box.options
    box.select("chats.jsonl").run()
    assert draft.text().startswith(f"model_name: {model}\ndataset: chats.jsonl\nr: 16\n")
    assert "Choose your data" not in texts(at)
    assert labelled(at.selectbox, "dataset").value == "chats.jsonl"


def test_a_draft_has_a_name_that_lists_and_its_runs_have() -> None:
    draft = draft_of("model_name: org/some-model\n")
    at = show("config", draft=draft.id)
    assert at.title[0].value == "some-model"
    at.text_input(key=f"name-{draft.id}").set_value("  Answers   for the shop ").run()
    assert not at.exception
    assert (draft.name(), at.title[0].value) == ("Answers for the shop", "Answers for the shop")
    at = show("config")
    assert [link.label for link in at.get("page_link")] == ["**Answers for the shop**"]
    draft.rename("")
    assert draft.name() is None


def test_an_import_without_data_asks_for_it_before_the_launch() -> None:
    at = show("config")
    at.file_uploader[0].upload("lf.yaml", LLAMA_FACTORY.encode()).run()
    at.button(key="open_import").click().run()
    assert at.button(key="launch").disabled
    assert "Choose your data" in texts(at)
