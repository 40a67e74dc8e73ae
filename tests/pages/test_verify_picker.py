"""Verify's list of adapters: of runs, checkpoints and folders, an upload beside it, and an address that says which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.run_store import RunStore
from tests.adapter_files import adapter_files, write_adapter, zipped
from tests.pages.screens import show, texts
from tests.run_files import end_run, make_run

pytestmark = pytest.mark.usefixtures("places")


def run_with_adapter(name: str = "mine", rank: int = 4) -> RunStore:
    config = {"model_name": "org/tiny", "r": rank, "target_modules": ["q_proj"]}
    run = make_run(this_installation().runs, config=config, config_text="", argv=None, name=name)
    write_adapter(run.adapter, rank)
    write_adapter(run.checkpoints / "checkpoint-7/adapter", rank)
    (run.checkpoints / "checkpoint-7/manifest.json").write_text("{}")
    end_run(run, "finished")
    return run


def field(at: AppTest, key: str = "picked", lang: str = "en") -> Any:
    return at.selectbox(key=f"{key}-{lang}")


def ranks(at: AppTest) -> list[str]:
    return [box.value for kind in ("success", "warning", "error") for box in at.get(kind) if "LoRA layer" in box.value]


def test_a_run_and_its_checkpoint_are_picked_from_one_list_and_kept_in_the_address() -> None:
    run = run_with_adapter()
    at = show("verify")
    assert field(at).options == [f"mine · {run.id} → tiny", f"mine · {run.id} · step 7 → tiny"]
    field(at).select(f"run:{run.id}").run()
    assert at.query_params["run"] == run.id
    assert "adapter" not in at.query_params
    assert ranks(at)
    field(at).select(f"run:{run.id}/7").run()
    assert at.query_params["adapter"] == f"runs/{run.id}/checkpoints/checkpoint-7/adapter"
    assert "run" not in at.query_params
    assert ranks(at)
    field(at).select(None).run()
    assert not {"run", "adapter"} & set(at.query_params)
    assert "Choose an adapter" in texts(at)


@pytest.mark.parametrize("words", ["runs/{id}/adapter", "{ws}/runs/{id}/adapter"])
def test_an_address_that_names_a_runs_folder_shows_the_run_in_the_list(words: str) -> None:
    run = run_with_adapter()
    at = show("verify", adapter=words.format(id=run.id, ws=this_installation().workspace))
    assert field(at).value == f"run:{run.id}"
    assert ranks(at)


def test_a_checkpoints_own_folder_is_it_too() -> None:
    run = run_with_adapter()
    at = show("verify", adapter=f"runs/{run.id}/checkpoints/checkpoint-7")
    assert field(at).value == f"run:{run.id}/7"
    assert ranks(at)


def test_a_folder_is_typed_and_one_outside_the_roots_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "elsewhere/mine")
    at = show("verify")
    field(at).set_value("no/such/folder")
    at = show("verify", adapter="/etc")
    assert field(at).value == "/etc", "to be corrected"
    assert "outside" in at.error[0].value
    at = show("verify", adapter=str(folder))
    assert ranks(at)


def test_an_uploaded_zip_is_verified_at_once_and_has_an_address() -> None:
    at = show("verify")
    at.file_uploader(key="verify_upload").set_value([("shop.zip", zipped(adapter_files()), "application/zip")]).run()
    assert not at.exception
    (folder,) = this_installation().uploaded_adapters.iterdir()
    assert at.query_params["adapter"] == f"uploaded_adapters/{folder.name}"
    assert field(at).value == str(folder)
    assert ranks(at)
    again = show("verify", adapter=at.query_params["adapter"])
    assert ranks(again) == ranks(at)


def test_two_uploaded_files_are_an_adapter_and_what_is_none_is_one_sentence() -> None:
    at = show("verify")
    files = [(name, data, "application/octet-stream") for name, data in adapter_files().items()]
    at.file_uploader(key="verify_upload").set_value(files[:1]).run()
    assert any("has no weights" in error.value for error in at.error)
    assert not at.query_params.get("adapter")
    assert not list(this_installation().uploaded_adapters.glob("*"))
    at.file_uploader(key="verify_upload").set_value(files).run()
    assert ranks(at)
    assert not at.error


def test_a_second_adapter_is_compared_by_the_same_list() -> None:
    one, other = run_with_adapter("one", 4), run_with_adapter("two", 2)
    at = show("verify", run=one.id)
    field(at, "other").select(f"run:{other.id}").run()
    assert at.query_params["other"] == f"runs/{other.id}/adapter"
    assert any({2, 4} <= set(table.value.iloc[0]) for table in at.dataframe)
    (other.adapter / "notes.txt").symlink_to("/etc/hostname")
    at = show("verify", run=one.id, other=f"runs/{other.id}/adapter")
    assert any("symbolic link" in error.value for error in at.error)


def test_names_with_markup_are_text_in_the_list_and_a_language_keeps_what_is_chosen() -> None:
    run = run_with_adapter("<b>x</b> [a](http://example.org)\x1b[31m")
    at = show("verify", run=run.id, lang="zh")
    assert field(at, lang="zh").value == f"run:{run.id}"
    assert field(at, lang="zh").options[0].startswith("<b>x</b> [a](http://example.org)\\x1b[31m · ")
