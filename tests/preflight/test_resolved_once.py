"""Whatever is asked of a config, its paths are bound once, its model is found and described once, its data read once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.schema import TrainingConfig
from lora_backend.data.example_file import open_examples
from lora_backend.data.row_file import sha256_of_rows
from lora_backend.data.summary import summary_of
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.requests import StartOptions
from lora_backend.launching.table import TableLaunch, preview
from lora_backend.launching.table_rows import Row
from lora_backend.models.describe import describe_model, read_model_config
from lora_backend.models.find import find_model
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.trainer.direct_run import train_in_folder
from tests.pages.plan_page import SMALL, profile_of
from tests.resolving import launch_from_browser, resume_from_here
from tests.run_files import end_run, set_attempt
from tests.tiny import stub_model, write_rows
from tests.training.helpers import made

OUTERMOST: tuple[Callable[..., Any], ...] = (find_model, describe_model, read_model_config, summary_of, sha256_of_rows)
ONCE = {"find_model": 1, "describe_model": 1, "read_model_config": 1, "summary_of": 1, "model": 1, "data": 1}
Counts = Counter[str]


def trace(_: Mapping[str, Any], config: TrainingConfig) -> Profile:
    return profile_of(config)


def counting(counts: Counts, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[name] += 1
        return function(*args, **kwargs)

    return counted


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often each of the outermost functions was called, by whichever of our modules."""
    counts = Counts()
    ours = [module for name, module in sys.modules.items() if name.startswith(("lora_backend", "pages"))]
    for function in OUTERMOST:
        for module in ours:
            for name, value in list(vars(module).items()):
                if value is function:
                    monkeypatch.setattr(module, name, counting(counts, function.__name__, function))
    for policy in (AnyPath, BrowserRoots):
        for method in ("model", "data"):
            monkeypatch.setattr(policy, method, counting(counts, method, getattr(policy, method)))
    return counts


@pytest.fixture
def text(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of a config whose model and data are here; what is launched is made, and not started."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for module in ("launch", "resume"):
        monkeypatch.setattr(f"lora_backend.launching.{module}.start_or_queue", lambda *_: False)
    model = stub_model(tmp_path / "m", SMALL)
    data = write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}] * 4)
    text = dump_yaml({"model_name": str(model), "dataset": str(data), "r": 4, "alpha": 8})
    Path("c.yaml").write_text(text)
    return text


def test_a_launch_resolves_once(text: str, counts: Counts) -> None:
    run = launch_from_browser(text, this_installation(), trace)
    assert counts == ONCE
    assert run.read_record().data_sha256 == sha256_of_rows(Path("rows.jsonl"))


def test_a_check_resolves_once(text: str, counts: Counts, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "c.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["is_valid"]
    assert counts == ONCE


def test_a_plan_finds_its_model_once_and_reads_no_rows_for_a_check(
    text: str, counts: Counts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lora_backend.commands.plan.trace_here", trace)
    main(["plan", "c.yaml", "--gpus", "24", "--json"])
    assert json.loads(capsys.readouterr().out)["devices"]
    assert counts == {"find_model": 1, "read_model_config": 1, "model": 1, "data": 1}


def test_a_row_of_a_table_is_resolved_once_to_be_shown_and_once_to_be_launched(text: str, counts: Counts) -> None:
    installation = this_installation()
    policy = BrowserRoots(installation)
    variants = preview(text, [Row(1, {})], installation, policy)
    assert counts == ONCE
    counts.clear()
    (launched,) = TableLaunch(installation, policy, trace).start_all(variants)
    assert launched.run is not None
    assert counts == ONCE, "asked whether it is tight, and launched"


@pytest.mark.parametrize("changes", [{}, {"save_steps": 7}])
def test_a_resume_resolves_once(changes: dict[str, Any], text: str, counts: Counts) -> None:
    installation = this_installation()
    run = launch_from_browser(text, installation, trace)
    end_run(run, "failed", cause="killed")
    counts.clear()
    resume_from_here(run, installation, trace, changes)
    assert counts == ONCE


def test_a_resume_at_the_command_line_looks_at_its_model_no_second_time(
    text: str, counts: Counts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = launch_from_browser(text, this_installation(), trace)
    end_run(run, "failed", cause="killed")
    set_attempt(run, versions={}, base={"config_sha256": "another"})
    monkeypatch.setattr("lora_backend.commands.run_acts.trace_here", trace)
    monkeypatch.setattr("lora_backend.commands.run_acts.count_here", None)  # which loads its tokenizer
    counts.clear()
    assert main(["runs", "resume", run.id, "--lang", "en"]) == 0, capsys.readouterr().out
    assert counts == ONCE
    assert "base model" in capsys.readouterr().out, "it was held against the one of before"


def test_a_question_about_a_tight_table_is_no_second_resolving(text: str, counts: Counts) -> None:
    installation = this_installation()
    policy = BrowserRoots(installation)
    table = TableLaunch(installation, policy, trace)
    variants = preview(text, [Row(1, {})], installation, policy)
    counts.clear()
    table.start_all(variants, StartOptions(accepts="fits"))
    table.start_all(variants, StartOptions(accepts="tight"))
    assert counts == ONCE


def test_the_trainer_checks_and_plans_from_what_it_resolved_once(
    config: Callable[..., dict[str, Any]], workspace: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond that it finds the folder for the weights and for the tokenizer, and reads the rows that it trains on."""
    folder = made(workspace, config(max_steps=1))
    counts.clear()
    monkeypatch.setattr("lora_backend.training.data.open_examples", counting(counts, "trained_on", open_examples))
    train_in_folder(folder)
    assert (counts["model"], counts["data"], counts["summary_of"], counts["sha256_of_rows"]) == (1, 1, 1, 0)
    assert counts["trained_on"] == 1
    assert counts["find_model"] <= 4


def test_a_run_whose_changed_data_is_accepted_is_resolved_once(
    config: Callable[..., dict[str, Any]], workspace: Path, counts: Counts
) -> None:
    values = config(max_steps=1)
    folder = made(workspace, values)
    record = json.loads(folder.run_json.read_text())
    folder.run_json.write_text(json.dumps(record | {"data_sha256": "0" * 64}))
    counts.clear()
    assert main(["train", str(folder.config_yaml), "--run-dir", str(folder.path), "--accept-changed-data"]) == 0
    assert (counts["model"], counts["data"]) == (1, 1)
    assert folder.read_attempt().accepted_data_sha256 == sha256_of_rows(Path(values["dataset"]))


def test_where_a_trainer_leases_and_publishes_follows_from_its_run(tmp_path: Path) -> None:
    elsewhere = this_installation({"FLIGHTDECK_WORKSPACE": str(tmp_path / "here"), "FLIGHTDECK_OUTPUT_ROOTS": "/out"})
    found = elsewhere.around(tmp_path / "there/runs/one")
    assert found.workspace == tmp_path / "there"
    assert found.output_roots == (tmp_path / "there", Path("/out"))
    assert tmp_path / "there/data" in found.data_roots
    assert elsewhere.around(tmp_path / "some/folder") == elsewhere, "a run beside a workspace is of this installation"
    assert Installation.from_json(json.loads(json.dumps(found.to_json()))) == found


@pytest.mark.parametrize("name", ["m", "./m", "m/config.json"])
def test_a_relative_model_counts_from_the_folder_that_the_entry_was_started_in_and_is_bound(
    name: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = this_installation()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for policy in (AnyPath(installation.folder), BrowserRoots(installation)):
        resolved = resolve({"model_name": name, "r": 4}, installation, policy)
        assert resolved.model_path == tmp_path / name
        assert resolved.values["model_name"] == str(tmp_path / name)
        assert resolved.document.values["model_name"] == name


def test_the_id_of_a_model_stays_what_it_is(text: str) -> None:
    installation = this_installation()
    assert (
        resolve({"model_name": "some/model"}, installation, AnyPath(installation.folder)).values["model_name"]
        == "some/model"
    )
