"""The page parts of an export: buttons that say what they take, a result with proofs, a download that is bound."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from streamlit.testing.v1 import AppTest

from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.preflight.export_place import ZIP_MARK
from lora_backend.runs.record.job_documents import ExportedFile, ExportResult, Proof
from lora_backend.runs.record.run_store import RunStore, list_runs
from pages.parts.run.job_page import RESULTS
from tests.pages.screens import texts
from tests.run_files import end_run, make_run
from tests.tiny import make_published, stub_model
from tests.waiting import until


@pytest.fixture(autouse=True)
def _places(places: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _result_page(path: str) -> None:
    from pathlib import Path

    from lora_backend.runs.record.run_store import RunStore
    from pages.parts.job.exported import show_export

    show_export(RunStore(Path(path)))


def _job_that_ends_before_ones_eyes(path: str) -> None:
    from pathlib import Path

    import streamlit as st

    from lora_backend.runs.record.run_store import RunStore
    from pages.parts.run import job_page

    passes = st.session_state.setdefault("passes", [])

    def draw(_: RunStore) -> None:
        passes[-1] = "drawn"

    passes.append("not drawn")
    job_page.RESULTS["export"] = draw
    job_page._job(RunStore(Path(path)), is_live=len(passes) == 1)


BUTTONS = """
from pathlib import Path
import streamlit as st
from pages.parts.job.export_form import export_buttons
from pages.parts.shell.failing import show_failures

def buttons():
    show_failures()
    export_buttons(Path({path!r}), None)

st.navigation([st.Page(buttons, default=True), st.Page("pages/runs.py")]).run()
"""


def buttons(adapter: Path, folder: Path) -> AppTest:
    """The buttons in an app with a page of runs, to which they link."""
    (folder / "app/pages").mkdir(parents=True)
    (folder / "app/pages/runs.py").write_text("")
    (folder / "app/app.py").write_text(BUTTONS.format(path=str(adapter)))
    at = AppTest.from_file(str(folder / "app/app.py"), default_timeout=60).run()
    assert not at.exception, at.exception
    return at


def page(script: Any, path: Path) -> AppTest:
    at = AppTest.from_function(script, args=(str(path),), default_timeout=60).run()
    assert not at.exception, at.exception
    return at


def job_with(result: ExportResult | None) -> RunStore:
    run = make_run(this_installation().runs, kind="export", config={"adapter": "/a", "to": "adapter"}, config_text="", argv=None)  # fmt: skip
    if result is not None:
        run.write_result(result)
    end_run(run, "finished")
    return run


def result_at(path: Path, **more: Any) -> ExportResult:
    proofs = [
        Proof(
            code="tensors",
            passed=True,
            message=Message(N_("The weights are identical to the adapter's, byte for byte.")),
        ),
        Proof(code="loads", passed=None, message=Message(N_("Not loaded: the base model is not on this machine."))),
    ]
    files = [ExportedFile(name="mine.zip", size_bytes=3 * 2**20, sha256="ab" * 32)]
    plain = ExportResult(to="adapter", output=str(path), files=files, size_bytes=3 * 2**20, proofs=proofs, commands=["llama-cli --lora <x>"])  # fmt: skip
    return plain.but(**more)


def downloads(at: AppTest) -> int:
    return len(at.get("download_button"))


def test_proofs_files_commands_and_the_download(tmp_path: Path) -> None:
    run = job_with(None)
    run.output.mkdir()
    (run.output / "mine.zip").write_bytes(b"PK" + ZIP_MARK)
    run.write_result(result_at(run.output / "mine.zip", ranks={"a": 2, "b": 4}))
    at = page(_result_page, run.path)
    said = texts(at)
    assert "1 file, 3.00 MiB" in said
    assert ":green[✓ Weights: passed]** · The weights are identical to the adapter's, byte for byte." in said
    assert ":gray[– Loads elsewhere: not checked]" in said
    assert "Truncated to ranks 2 to 4." in said
    assert "llama-cli --lora <x>" in said
    assert downloads(at) == 1


def test_the_end_of_a_job_that_one_looks_on_is_drawn_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A button to download with is a new one each time it is drawn, and a click on the one before comes to nothing."""
    monkeypatch.setitem(RESULTS, "export", RESULTS["export"])
    at = page(_job_that_ends_before_ones_eyes, job_with(result_at(tmp_path / "gone")).path)
    assert at.session_state["passes"] == ["not drawn", "drawn"]


def test_a_proof_that_failed_is_red(tmp_path: Path) -> None:
    proof = Proof(code="read_back", passed=False, message=Message(N_("The weights differ from the adapter's.")))
    at = page(_result_page, job_with(result_at(tmp_path / "gone", proofs=[proof])).path)
    assert ":red[✗ Read back: did not pass]" in texts(at)
    assert len(at.error) == 1


def test_nothing_is_shown_before_there_is_a_result() -> None:
    assert texts(page(_result_page, job_with(None).path)).strip() == ""


@pytest.mark.parametrize("what", ["elsewhere", "not ours", "link", "folder with a link"])
def test_a_result_that_names_any_file_gives_nobody_that_file(what: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.zip"
    secret.write_bytes(b"PK" + ZIP_MARK)
    run = job_with(None)
    run.output.mkdir()
    path = run.output / "mine.zip"
    if what == "elsewhere":
        path = secret
    elif what == "not ours":
        path.write_bytes(b"PK")
    elif what == "link":
        path.symlink_to(secret)
    else:
        path = run.output / "mine"
        path.mkdir()
        (path / "file").symlink_to(secret)
    run.write_result(result_at(path))
    at = page(_result_page, run.path)
    assert downloads(at) == 0
    assert "Saved in" in texts(at)


def light_adapter(folder: Path) -> Path:
    """One that the rank check passes, made without torch, on a base model of which nobody loads anything."""
    base, adapter = stub_model(folder / "base"), make_published(folder / "adapter")
    halves = {"lora_A": (2, 16), "lora_B": (16, 2)}
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    save_file({f"{name}.{half}.weight": np.zeros(shape, np.float32) for half, shape in halves.items()}, adapter / "adapter_model.safetensors")  # fmt: skip
    own = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}  # fmt: skip
    (adapter / "adapter_config.json").write_text(json.dumps(own))
    return adapter


def test_each_button_says_what_it_takes_and_starts_a_job(tmp_path: Path) -> None:
    adapter = light_adapter(tmp_path)
    at = buttons(adapter, tmp_path)
    assert texts(at).count("Needs up to") == 5
    at.button(key="start_export_card").click().run()
    assert not at.exception
    (run,) = list_runs(this_installation().runs)
    assert at.query_params["run"] == run.id, "its page comes next"
    at = buttons(adapter, tmp_path / "again")
    request = run.read_record().config
    assert (request["to"], request["bound"], request["adapter"]) == ("card", True, str(adapter))
    until(run.exit_json.exists, "the end")
    assert run.state().state == "finished", run.train_log.read_text()
    at.text_input(key="export_place_card").input(str(tmp_path / "elsewhere.md")).run()
    assert any("must be below" in error.value for error in at.error)
    assert at.button(key="start_export_card").disabled


def test_a_push_is_asked_twice_and_private_by_default(tmp_path: Path) -> None:
    adapter = light_adapter(tmp_path)
    at = buttons(adapter, tmp_path)
    assert any("No hub token is set" in warning.value for warning in at.warning)
    assert at.button(key="start_export_hub").disabled
    assert not at.checkbox(key="push_public").value
    at.text_input(key="push_repo").input("anna/shop").run()
    assert "Goes to anna/shop. If the repository is new, it is private." in texts(at)
    at.checkbox(key="push_public").check().run()
    assert "anyone can read it" in texts(at)
    assert at.checkbox(key="push_sure_public").label == "Yes, upload these files for anyone to read."
