"""Every page through Streamlit's own AppTest: renders, says what to do when empty, does what its buttons say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import list_runs
from lora_backend.views.rank_view import ranks_beside
from tests.pages.screens import PAGES, ROOT, charts, finished_run, show, texts
from tests.run_files import make_run
from tests.tiny import chats, write_rows

pytestmark = pytest.mark.usefixtures("places")


WAYS_ON = {
    "home": ("", ["Start the demo"]),
    "config": ("Set up a run", ["Open as a draft", "New config", "Start from this"]),
    "data": ("Choose or upload a data set", ["Look at the demo's data", "Open a config"]),
    "models": ("On this machine", []),
    "plan": ("Choose a model and the GPUs", ["Llama-3.1-70B on 80,48,24"]),
    "playground": ("There is no model on this machine yet.", ["To the demo", "Get a model"]),
    "runs": ("No runs yet.", ["To the demo", "Open a config"]),
    "verify": ("Choose an adapter, upload one, or type its folder.", ["To the demo", "Open a config"]),
}
"""What each page says where nothing is there yet, and the buttons and links that lead on."""


@pytest.mark.parametrize("page", PAGES)
def test_every_page_shows_without_a_workspace_and_says_what_to_do(page: str) -> None:
    at = show(page)
    assert at.title[0].value
    sentence, ways = WAYS_ON[page]
    assert sentence in texts(at)
    offered = {
        element.label
        for kind in ("button", "page_link")
        for element in at.get(kind)
        if not getattr(element, "disabled", False)
    }
    assert set(ways) <= offered


def test_no_page_imports_torch_or_what_brings_it(tmp_path: Path) -> None:
    run = finished_run(metrics__jsonl='{"step": 1, "loss": 2.0}\n')
    draft = new_draft(this_installation().drafts, "model_name: m\nr: 4\n")
    write_rows(tmp_path / "chats.jsonl", chats())
    script = f"""
import sys
from streamlit.testing.v1 import AppTest
visits = [("home", {{}}), ("config", {{"draft": "{draft.id}"}}), ("data", {{"dataset": "chats.jsonl"}}), ("models", {{"model": "org/m"}}), ("docs", {{"page": "check"}}), ("plan", {{}}), ("playground", {{}}), ("runs", {{"run": "{run.id}"}}), ("verify", {{}})]
for page, query in visits:
    at = AppTest.from_file("app.py", default_timeout=30).run()
    if page != "home":
        at.switch_page(f"pages/{{page}}.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
print([name for name in ("torch", "transformers", "peft", "trl", "accelerate", "datasets") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1] == "[]", done.stderr


def test_a_draft_shows_its_findings_with_line_and_its_coloured_differences() -> None:
    draft = new_draft(this_installation().drafts, "model_name: m\nr: 4\nlearnin_rate: 1e-4\n")
    at = show("config", draft=draft.id)
    assert any("**error, line 3**" in item.value and "learnin_rate" in item.value for item in at.markdown)
    assert "Did you mean `learning_rate`?" in texts(at)
    assert at.button(key="launch").disabled
    table = at.table[0].value
    assert "learnin_rate" in table.to_string()
    assert "unknown" in table.to_string()


def test_a_field_of_the_form_changes_its_key_and_keeps_the_comments() -> None:
    draft = new_draft(this_installation().drafts, "# mine\nmodel_name: m\nr: 4   # rank\n")
    at = show("config", draft=draft.id)
    field = next(item for item in at.number_input if item.label == "r")
    field.set_value(8).run()
    assert not at.exception
    assert draft.text().startswith("# mine\nmodel_name: m\nr: 8")
    assert "# rank" in draft.text()
    assert any("r: 8" in area.value for area in at.text_area), "the text view shows what the form wrote"


def test_a_field_set_back_to_its_default_takes_the_line_out() -> None:
    draft = new_draft(this_installation().drafts, "model_name: m\nr: 4\n")
    at = show("config", draft=draft.id)
    next(item for item in at.number_input if item.label == "r").set_value(16).run()
    assert draft.text() == "model_name: m\n"


def test_text_that_does_not_parse_names_the_line_and_keeps_the_draft() -> None:
    draft = new_draft(this_installation().drafts, "model_name: m\n")
    at = show("config", draft=draft.id)
    area = next(area for area in at.text_area if "YAML" in area.label)
    area.set_value("model_name: m\nr: [1\n").run()
    assert not at.exception
    assert any("**error, line" in item.value for item in at.markdown)
    assert draft.text() == "model_name: m\nr: [1\n", "nothing that was typed is lost"


def test_an_uploaded_file_becomes_a_draft_with_an_address(tmp_path: Path) -> None:
    at = show("config")
    at.file_uploader[0].upload("mine.json", b'{"model_name": "m", "r": 4}').run()
    assert not at.exception
    drafts = list(this_installation().drafts.iterdir())
    assert (drafts[0] / "config.yaml").read_text() == "model_name: m\nr: 4\n"


def test_an_upload_that_is_no_text_is_one_sentence() -> None:
    at = show("config")
    at.file_uploader[0].upload("picture.yaml", b"\x89PNG\r\n\x1a\n\x00\xff").run()
    assert "UTF-8" in at.error[0].value
    assert not this_installation().drafts.exists()


def test_a_config_of_a_megabyte_is_refused_with_a_sentence() -> None:
    at = show("config")
    at.file_uploader[0].upload("big.yaml", b"a: 1\n" * 200_000).run()
    assert not at.exception
    assert "1000000" in at.error[0].value


@pytest.mark.parametrize(
    ("page", "query"),
    [("runs", {"run": "20200101-000000-dead"}), ("runs", {"run": "../../etc"}), ("config", {"draft": "zzz"})],
)
def test_an_address_of_something_that_is_gone_says_so(page: str, query: dict[str, str]) -> None:
    at = show(page, **query)
    assert at.warning, "one sentence, and a way on"


def test_a_finished_run_shows_figures_curves_config_ranks_and_answers() -> None:
    row = '{"question": "How tall?", "group": "english", "expect": ["9"], "base_answer": "no idea", "base_correct": false, "adapter_answer": "9 m", "adapter_correct": true}'
    run = finished_run(
        metrics__jsonl='{"step": 1, "loss": 3.0, "learning_rate": 0.1}\n{"step": 2, "loss": 0.25, "eval_loss": 0.5}\n',
        answers__jsonl=row + "\n",
        train__log="first line\nlast line\n",
    )
    at = show("runs", run=run.id)
    figures = {metric.label: metric.value for metric in at.metric}
    assert figures["Loss"] == "3 → 0.25"
    assert figures["Evaluation loss"] == "0.5"
    assert len(charts(at)) == 2, "loss and learning rate; of the others there are no points"
    shown = texts(at)
    assert "model_name: m" in shown
    assert "last line" in shown
    assert list(at.table[0].value.iloc[0]) == ["How tall?", "✗ no idea", "✓ 9 m"]


def test_a_stop_is_asked_for_with_one_click() -> None:
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=None)
    at = show("runs", run=run.id)
    at.button(key="stop_run").click().run()
    assert run.stop_request.exists()


def test_the_folder_of_a_run_may_vanish_under_its_open_page() -> None:
    import shutil

    run = finished_run()
    at = show("runs", run=run.id)
    shutil.rmtree(run.path)
    at.run()
    assert not at.exception
    assert "not found" in at.warning[0].value


def test_verify_refuses_a_folder_outside_the_roots(tmp_path: Path) -> None:
    at = show("verify", adapter="/etc")
    assert "outside" in at.error[0].value


def test_verify_says_what_a_folder_without_adapter_is(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    at = show("verify", adapter=str(tmp_path / "plain"))
    assert any("adapter_config.json" in error.value for error in at.error)


def test_a_launch_that_cannot_start_is_one_sentence_and_leaves_no_run(tmp_path: Path) -> None:
    draft = new_draft(this_installation().drafts, f"model_name: {tmp_path}/none\n")
    at = show("config", draft=draft.id)
    assert at.button(key="launch").disabled
    assert "To do before it can start here" in texts(at)
    assert "There is no model folder" in texts(at)
    assert list_runs(this_installation().runs) == []


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_rank_table_has_every_column_in_every_language(lang: str) -> None:
    layer = {
        "name": "model.layers.3.q_proj",
        "block": 3,
        "module": "q_proj",
        "expected_r": 4,
        "config_r": 4,
        "a_r": 4,
        "b_r": 2,
        "state": "a_against_b",
    }
    report = {
        "is_consistent": False,
        "status": "mismatch",
        "expected_r": 4,
        "mismatched_layers": [layer["name"]],
        "warnings": [],
        "layers": [layer],
    }
    run = finished_run(rank_report__json=json.dumps(report))
    at = show("runs", run=run.id, lang=lang)
    (table,) = at.dataframe
    assert list(table.value.iloc[0])[1:] == ["model.layers.3.q_proj", 3, "q_proj", 4, 4, 4, 2]
    assert len(set(table.value.columns)) == 8


def rank_report(status: str = "ok", state: str = "ok", **more: Any) -> dict[str, Any]:
    name = "model.layers.0.q_proj"
    layer = {"name": name, "block": 0, "module": "q_proj", "expected_r": 4, "config_r": 4, "a_r": 4, "b_r": 4, "state": state}  # fmt: skip
    return {
        "is_consistent": {"ok": True, "mismatch": False}.get(status), "status": status, "expected_r": 4,
        "mismatched_layers": [] if status == "ok" else [name], "warnings": [], "layers": [layer], **more,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("report", "box", "said"),
    [
        (rank_report(), "success", "1 of 1 LoRA layer has the expected rank"),
        (rank_report(warnings=["unmatched_target"]), "warning", "1 warning needs your attention"),
        (rank_report(saved=rank_report(warnings=["base_not_compared"])), "success", "has the expected rank"),
        (rank_report(saved=rank_report("mismatch", "mismatch")), "error", "has the wrong rank"),
        (rank_report("undetermined", "undetermined"), "info", "Shapes alone do not determine"),
        (rank_report("mismatch", "no_magnitude"), "error", "no magnitude vector"),
        (rank_report("mismatch", differences=[{"code": "other_shape", "name": "a.lora_A"}]), "error", "another shape"),
    ],
)  # fmt: skip
def test_a_runs_ranks_are_green_only_where_nothing_of_them_is_in_doubt(
    report: dict[str, Any], box: str, said: str
) -> None:
    at = show("runs", run=finished_run(rank_report__json=json.dumps(report)).id)
    shown = {kind: [one.value for one in getattr(at, kind)] for kind in ("success", "warning", "error", "info")}
    assert any(said in text for text in shown[box]), shown
    assert box == "success" or not any("LoRA" in text for text in shown["success"])


def test_a_pickled_adapter_is_read_by_the_torch_process(tmp_path: Path) -> None:
    import torch

    (tmp_path / "old").mkdir()
    (tmp_path / "old/adapter_config.json").write_text(
        '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}'
    )
    key = "base_model.model.model.layers.0.self_attn.q_proj"
    tensors = {f"{key}.lora_A.weight": torch.ones(4, 8), f"{key}.lora_B.weight": torch.ones(8, 4)}
    torch.save(tensors, tmp_path / "old/adapter_model.bin")
    at = show("verify", adapter=str(tmp_path / "old"))
    assert any("1 of 1 LoRA layer has" in warning.value for warning in at.warning), (
        "right, and compared with no base model"
    )


def adapter_folder(path: Path, rank: int, modules: Sequence[str] = ("q_proj",)) -> Path:
    import numpy as np
    from safetensors.numpy import save_file

    path.mkdir()
    own = {"peft_type": "LORA", "r": rank, "lora_alpha": 8, "target_modules": list(modules)}
    (path / "adapter_config.json").write_text(json.dumps(own))
    tensors: dict[str, Any] = {}
    for module in modules:
        key = f"base_model.model.model.layers.0.self_attn.{module}"
        tensors |= {
            f"{key}.lora_A.weight": np.ones((rank, 8), "float32"),
            f"{key}.lora_B.weight": np.ones((8, rank), "float32"),
        }
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def test_an_adapter_is_held_against_a_config_from_a_path_and_beside_another_folder(tmp_path: Path) -> None:
    one, other = adapter_folder(tmp_path / "one", 4), adapter_folder(tmp_path / "two", 2)
    (tmp_path / "asked.yaml").write_text("model_name: m\nr: 8\ntarget_modules: [q_proj]\n")
    at = show("verify", adapter=str(one), config=str(tmp_path / "asked.yaml"), other=str(other))
    assert any("1 of 1 LoRA layer has the wrong rank" in error.value for error in at.error)
    assert at.query_params["config"] == str(tmp_path / "asked.yaml"), "the link carries the whole question"
    shown = [list(table.value.iloc[0]) for table in at.dataframe]
    assert any(4 in row and 2 in row for row in shown), shown
    at.text_input(key="verify_config_path").set_value("/etc/passwd").run()
    assert any("outside" in error.value for error in at.error)
    at.text_input(key="verify_config_path").set_value("").run()
    assert any("1 of 1 LoRA layer has" in warning.value for warning in at.warning), (
        "right, and compared with no base model"
    )
    assert "config" not in at.query_params


def test_a_wrong_config_is_told_by_its_own_rank_what_it_does_not_target_and_the_values_of_both(tmp_path: Path) -> None:
    one = adapter_folder(tmp_path / "one", 4, ("q_proj", "v_proj"))
    (tmp_path / "asked.yaml").write_text("model_name: m\nr: 32\nalpha: 64\ntarget_modules: [q_proj]\n")
    at = show("verify", adapter=str(one), config=str(tmp_path / "asked.yaml"))
    labels = ["Ranks on disk", "Provenance", "Loaded in memory", "Compare adapters", "Truncate"]
    assert [tab.label for tab in at.tabs] == labels
    table = at.dataframe[0].value
    assert table["Expected rank"].tolist() == ["32", "–"], "nothing is expected of what is not targeted"
    assert table["adapter_config.json"].tolist() == [4, 4]
    assert [state.split(" ", 1)[1] for state in table["State"]] == ["wrong rank", "not targeted"]
    (parts,) = (found.value for found in at.table if "Here now" in found.value)
    assert parts.set_index("What").loc["`r`"].tolist() == ["✗\u00a0different", "`4`", "`32`"]


@pytest.mark.parametrize(
    ("lang", "said"), [("en", "Ranks OK, not compared with a base model"), ("zh", "尚未与基座模型比对")]
)
def test_ranks_that_agree_without_a_base_model_are_amber(lang: str, said: str, tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path / "one", 4)
    at = show("verify", adapter=str(folder), lang=lang)
    assert [said in warning.value for warning in at.warning] == [True]
    assert not at.success


def test_another_alpha_is_not_green_and_has_the_scaling_of_both(tmp_path: Path) -> None:
    (tmp_path / "asked.yaml").write_text("model_name: m\nr: 4\nalpha: 64\ntarget_modules: [q_proj]\n")
    at = show("verify", adapter=str(adapter_folder(tmp_path / "one", 4)), config=str(tmp_path / "asked.yaml"))
    assert not at.success
    assert "It is not what it says." in at.error[0].value
    row = at.dataframe[0].value.iloc[0]
    assert (row["Expected alpha"], row["Alpha"], row["Expected scaling"], row["Scaling"]) == (64, 8, 16, 2)
    assert row["State"] == "~ other scaling"
    assert "wrong_scaling" in texts(at)


def test_a_layer_that_the_other_adapter_lacks_is_missing_and_not_changed() -> None:
    one, other = {"a": 4, "b": 4, "c": 4}, {"a": 4, "b": 8, "d": 4}
    shown = ranks_beside(one, other)
    assert {row[1]: str(row[0]) for row in shown.rows} == {
        "a": "= same rank", "b": "~ other rank", "c": "− missing in the other", "d": "− missing here",
    }  # fmt: skip


def test_two_adapters_stand_side_by_side_from_block_to_block_what_differs_first() -> None:
    ranks = {f"model.layers.{block}.q_proj": 4 for block in (10, 2, 3)}
    shown = ranks_beside(ranks, ranks | {"model.layers.2.q_proj": 8})
    assert [str(row[1]).split(".")[2] for row in shown.rows] == ["2", "3", "10"]


def test_a_link_to_a_run_keeps_no_config_of_an_adapter(tmp_path: Path) -> None:
    run = finished_run()
    run.adapter.mkdir()
    assert "config" not in show("verify", run=run.id, config="other.yaml").query_params
