"""Can it start here, now? Check, launch, table, trainer and page give one answer to each situation."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.commands.data import count_here
from lora_backend.commands.plan import trace_here
from lora_backend.commands.start_words import start_text
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import new_draft
from lora_backend.config.schema import TrainingConfig
from lora_backend.config_checker import check_config_consistency
from lora_backend.data.data_question import DataQuestion
from lora_backend.data.data_report import DataReport
from lora_backend.errors import FlightdeckError, WorkerError
from lora_backend.installation import Installation, this_installation
from lora_backend.launching.launch import launch
from lora_backend.launching.requests import StartRequest
from lora_backend.launching.table import preview
from lora_backend.launching.table_rows import Row
from lora_backend.modeling.meta import module_tree
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight import libraries, placement
from lora_backend.preflight.blockers import blocker_of
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.preflight.startable import CannotStartError, judge, startable
from lora_backend.preflight.trees import tree_of
from lora_backend.runs.processes.recovery import recover
from lora_backend.runs.record.run_store import list_runs
from lora_backend.runs.record.transitions import request_stop
from tests.pages.plan_page import SMALL, profile_of
from tests.pages.screens import show, texts
from tests.preflight.machines import Patch, on
from tests.resolving import from_browser, from_here, launch_from_browser, resume_from_here
from tests.run_files import attempt_of, end_run, make_run
from tests.tiny import make_published, stub_model, write_rows
from tests.waiting import until

Arrange = Callable[[Path, Patch], None]
BIG = {"batch_size": 16, "max_length": 2048}


def trace(_: Mapping[str, Any], config: TrainingConfig) -> Profile:
    return profile_of(config)


def nothing(place: Path, patch: Patch) -> None:
    """The machine as it is."""


def without(package: str) -> Arrange:
    found = libraries.version_of
    return lambda _, patch: patch.setattr(
        libraries, "version_of", lambda name: None if name == package else found(name)
    )


def with_package(package: str) -> Arrange:
    found = libraries.version_of
    return lambda _, patch: patch.setattr(
        libraries, "version_of", lambda name: "9.9" if name == package else found(name)
    )


def free(free_bytes: int) -> Arrange:
    usage = shutil._ntuple_diskusage(2**40, 2**40 - free_bytes, free_bytes)
    return lambda _, patch: patch.setattr("shutil.disk_usage", lambda _: usage)


def read_only(place: Path, patch: Patch) -> None:
    may = os.access
    patch.setattr("os.access", lambda path, mode: mode & os.W_OK == 0 and may(path, mode))


def published(place: Path, patch: Patch) -> None:
    make_published(place / "ws/adapters/p/1")


@dataclass(frozen=True)
class Situation:
    """A change of a good config, or of its surroundings, and what stands in the way then."""

    name: str
    codes: tuple[str, ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    arrange: Arrange = nothing
    is_text_valid: bool = True


def written(name: str, content: str) -> Arrange:
    def arrange(place: Path, patch: Patch) -> None:
        (place / name).write_text(content)

    return arrange


def stored_as(method: str) -> Arrange:
    return written("m/config.json", json.dumps(SMALL | {"quantization_config": {"quant_method": method}}))


def modules_known(place: Path, patch: Patch) -> None:
    """Somebody planned with this model before."""
    tree_of(json.loads((place / "m/config.json").read_text()), module_tree, this_installation())


def strict_template(place: Path, patch: Patch) -> None:
    """A chat template that takes no turn of the system, and a row that has one."""
    template = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system, please') }}{% endif %}<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    (place / "m/chat_template.jinja").write_text(template)
    answered = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_rows(place / "chats.jsonl", [{"messages": answered}, {"messages": [{"role": "system", "content": "c"}, *answered]}])  # fmt: skip


def chats_alone(place: Path, patch: Patch) -> None:
    strict_template(place, patch)
    (place / "m/chat_template.jinja").unlink()


def long_prompts(place: Path, patch: Patch) -> None:
    write_rows(place / "long.jsonl", [{"prompt": "the tower " * 20, "completion": "is tall"}] * 4)


SITUATIONS = [
    Situation("no data set", ("no_data",), {"dataset": ...}),
    Situation("a data set that is not there", ("dataset_unusable",), {"dataset": "gone.jsonl"}),
    Situation("a data set with a bad line", ("dataset_unusable",), {"dataset": "bad.jsonl"}, written("bad.jsonl", "{")),
    Situation("an empty data set", ("dataset_unusable",), {"dataset": "empty.jsonl"}, written("empty.jsonl", "\n")),
    Situation("questions that are not there", ("questions_unusable",), {"questions": "gone.jsonl"}),
    Situation("no model", ("missing_key",), {"model_name": None}, is_text_valid=False),
    Situation("a model that is not there", ("model_name_unusable",), {"model_name": "some/model"}),
    Situation("a model's damaged weights", ("model_name_unusable",), arrange=written("m/model.safetensors", "x")),
    Situation("a model without weights", ("no_weights",), arrange=lambda place, _: (place / "m/model.safetensors").unlink()),
    Situation("a model without a tokenizer", ("no_tokenizer",), arrange=lambda place, _: (place / "m/tokenizer.json").unlink()),
    Situation("a model that is quantized already", ("quantized_already",), {"quantization": "nf4"}, stored_as("fp8"), is_text_valid=False),
    Situation("a model stored as nothing trains", ("quantized_untrainable",), arrange=stored_as("nvfp4"), is_text_valid=False),
    Situation("a model whose packed weights need a package", ("model_library_missing",), arrange=stored_as("gptq")),
    Situation("an encoder", ("not_causal",), arrange=written("m/config.json", json.dumps(SMALL | {"model_type": "bert"})), is_text_valid=False),
    Situation("no bitsandbytes", ("library_missing",), {"quantization": "nf4"}, without("bitsandbytes")),
    Situation("no kernels of the hub", ("library_missing",), {"attn_implementation": "kernels-community/flash-attn2"}),
    Situation("FlashAttention without a GPU", ("kernel_without_gpu",), {"attn_implementation": "flash_attention_2"}, with_package("flash-attn")),
    Situation("an adapter that is published there", ("already_published",), {"pkg": "p", "version": "1"}, published),
    Situation("something else where the adapter would go", ("not_an_adapter",), {"pkg": "p", "version": "2"}, lambda place, _: (place / "ws/adapters/p/2/thesis").mkdir(parents=True)),
    Situation("Flightdeck's own folder", ("publication_forbidden",), {"output_dir": ".", "pkg": "runs", "version": "1"}, is_text_valid=False),
    Situation("fp16 without a GPU", ("fp16_without_gpu",), {"precision": "fp16"}),
    Situation("a map with a GPU that is not there", ("no_such_device",), {"device_map": {"": 2}}, lambda _, patch: on(patch, "24,24")),
    Situation("a map that leaves modules out", ("device_map_unusable",), {"device_map": {"lm_head": 0}}, lambda _, patch: on(patch, "24,24")),
    Situation("modules in host memory", ("device_map_unusable",), {"device_map": {"model": 0, "lm_head": "cpu"}}, lambda _, patch: on(patch, "24,24")),
    Situation("no GPU where balancing is forced", ("no_gpu_has_enough",), {"use_balanced_device_map": True, "force_balance": True}),
    Situation("a plan that does not fit", ("does_not_fit",), BIG, lambda _, patch: on(patch, "12")),
    Situation("a full disk", ("disk_full",), arrange=free(2**20)),
    Situation("a workspace that nobody may write", ("workspace_unwritable",), arrange=read_only),
    Situation("a module to save that is not there", ("unmatched_module_to_save",), {"modules_to_save": ["nonsense"]}, modules_known),
    Situation("a dotted name that no module has", ("unmatched_target",), {"target_modules": ["mlp.q_proj"]}, modules_known),
    Situation("a block as a target", ("unfit_target",), {"target_modules": ["q_proj", "mlp"]}, modules_known),
    Situation("a row that the chat template refuses", ("template_refuses_rows",), {"dataset": "chats.jsonl"}, strict_template),
    Situation("chats for a model without a template", ("no_chat_template",), {"dataset": "chats.jsonl"}, chats_alone, is_text_valid=False),
    Situation("rows that are all cut before their answers", ("nothing_to_train_on",), {"dataset": "long.jsonl", "max_length": 16}, long_prompts),
    Situation("no row to evaluate has a trained token", ("nothing_to_evaluate",), {"eval_dataset": "long.jsonl", "max_length": 16}, long_prompts),
    Situation("a row to evaluate that the chat template refuses", ("template_refuses_rows",), {"eval_dataset": "chats.jsonl"}, strict_template),
    Situation("several at once", ("model_name_unusable", "no_data"), {"dataset": ..., "model_name": "some/model"}),
]  # fmt: skip
OUTSIDE = [
    Situation("a data set outside the roots", ("dataset_unusable",), {"dataset": "/etc/hostname"}, is_text_valid=False),
    Situation("a model outside the roots", ("model_name_unusable",), {"model_name": "/etc"}, is_text_valid=False),
]
"""What only who comes through the browser is refused."""


@pytest.fixture
def place(workspace: Path, tmp_path: Path, monkeypatch: Patch) -> Iterator[Path]:
    """A folder with a model and data, on a machine without a GPU; the model's cost is known."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    stub_model(tmp_path / "m", SMALL)
    write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}] * 4)
    (workspace / "drafts").mkdir(parents=True)
    on(monkeypatch, "")
    monkeypatch.setattr("pages.parts.draft.launch.trace_within", lambda _: trace)
    yield tmp_path
    for run in list_runs(workspace / "runs"):
        request_stop(run)


def config_of(place: Path, situation: Situation, patch: Patch) -> str:
    """The config's text in that situation."""
    values = {"model_name": str(place / "m"), "dataset": "rows.jsonl", "r": 4, "alpha": 8, **situation.keys}
    situation.arrange(place, patch)
    return dump_yaml({key: value for key, value in values.items() if value is not ...})


def know_the_cost(text: str, installation: Installation) -> None:
    """Trace the config's model, as a plan would have done before."""
    with suppress(FlightdeckError, ValueError):  # what it says of the devices is asked for later
        placement.plan_start(from_here(text, installation), trace)


def know_the_rows(text: str, installation: Installation) -> None:
    """Count the config's rows, as the data page or `data` would have done before."""
    resolved = from_here(text, installation)
    for question in (*resolved.data_questions.values(), *resolved.eval_questions.values()):
        with suppress(FlightdeckError):
            count_here(question)


def refusal(act: Callable[[], object]) -> tuple[str, ...]:
    """The codes with which an act is refused."""
    with pytest.raises(FlightdeckError) as raised:
        act()
    error = raised.value
    if isinstance(error, CannotStartError):
        return tuple(blocker.code for blocker in error.blockers)
    return (blocker_of(error, judge(from_browser("")).config).code,)


def checked(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    Path("c.yaml").write_text(text)
    code = main(["check", "c.yaml", "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda found: found.name)
def test_check_launch_table_trainer_and_page_name_the_same_blockers(
    situation: Situation, place: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation = this_installation()
    text = config_of(place, situation, monkeypatch)
    know_the_cost(text, installation)
    know_the_rows(text, installation)

    code, document = checked(text, capsys)
    assert document["startable"] is False
    assert tuple(blocker["code"] for blocker in document["blockers"]) == situation.codes
    for blocker in document["blockers"]:
        assert blocker["severity"] == "error"
        assert blocker["message"]
        assert blocker["remedy"]
    assert document["is_valid"] is (code == 0) is situation.is_text_valid
    assert check_config_consistency(parse_config(text).values)["is_valid"] is situation.is_text_valid

    assert main(["check", "c.yaml", "--lang", "en"]) == code
    said = capsys.readouterr().out
    assert ("The config is valid." in said) is situation.is_text_valid
    assert "It cannot start on this machine now:" in said
    for blocker in document["blockers"]:
        assert said.count(blocker["message"]) == 1, "said once"

    (row,) = preview(text, [Row(1, {})], installation, BrowserRoots(installation))
    assert tuple(blocker.code for blocker in row.start.blockers) == situation.codes
    assert not row.can_start()
    assert startable(judge(from_browser(text, installation)), trace).blockers == row.start.blockers

    if situation.is_text_valid:
        assert refusal(lambda: launch_from_browser(text, installation, trace)) == situation.codes
    assert main(["train", "c.yaml", "--json"]) == 1
    assert [blocker["code"] for blocker in json.loads(capsys.readouterr().out)["blockers"]] == list(situation.codes)
    assert not installation.runs.exists(), "nothing was made"

    assert_the_page_says(text, document["blockers"])


TASKS = {"model_name": "Choose a base model", "dataset": "Choose your data"}
"""What the page says of an empty field, which is a task and no fault."""


def assert_the_page_says(text: str, blockers: list[dict[str, Any]]) -> None:
    at = show("config", draft=new_draft(this_installation().drafts, text).id)
    assert not at.exception
    assert at.button(key="launch").disabled
    shown = texts(at).replace("\\", "")
    tasks = [
        blocker for blocker in blockers if blocker["code"] in ("missing_key", "no_data") and blocker["key"] in TASKS
    ]
    assert all(f":material/radio_button_unchecked: **{TASKS[task['key']]}**" in shown for task in tasks)
    others = [blocker["message"] for blocker in blockers if blocker not in tasks]
    assert ("To do before it can start here" in shown) is bool(others)
    for message in others:
        assert message in shown
        findings = [box.value for box in (*at.error, *at.warning) if box.value.startswith("**")]
        assert not [said for said in findings if message in said], "said once, beside the button"


@pytest.mark.parametrize("situation", OUTSIDE, ids=lambda found: found.name)
def test_what_lies_outside_the_roots_blocks_table_launch_and_page(
    situation: Situation, place: Path, monkeypatch: Patch
) -> None:
    installation = this_installation()
    text = config_of(place, situation, monkeypatch)
    (row,) = preview(text, [Row(1, {})], installation, BrowserRoots(installation))
    assert tuple(blocker.code for blocker in row.start.blockers) == situation.codes
    with pytest.raises(FlightdeckError):
        launch_from_browser(text, installation, trace)
    blockers = [{"code": one.code, "key": one.key, "message": one.message.text("en")} for one in row.start.blockers]
    assert_the_page_says(text, blockers)


def test_a_good_config_is_startable_everywhere_and_starts(
    place: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    installation = this_installation()
    text = config_of(place, Situation("good", ()), monkeypatch)
    assert checked(text, capsys)[1]["startable"] is None, "nobody has computed yet what the model costs"
    know_the_cost(text, installation)
    assert checked(text, capsys)[1]["startable"] is None, "nobody has counted its rows yet"
    know_the_rows(text, installation)
    code, document = checked(text, capsys)
    assert (code, document["startable"], document["blockers"]) == (0, True, [])
    (row,) = preview(text, [Row(1, {})], installation, BrowserRoots(installation))
    assert row.start.answer is True
    assert row.can_start()
    at = show("config", draft=new_draft(installation.drafts, text).id)
    assert not at.button(key="launch").disabled
    assert "Cannot start" not in texts(at)
    run = launch_from_browser(text, installation, trace)
    until(lambda: recover(run).state != "queued", "the start")
    assert attempt_of(run)["plan"]["fits"]


def test_what_is_startable_trains(
    config: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "cache"))  # other tests may have counted the same rows
    values = config(num_epochs=1)
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", values["model_name"])
    installation, text = this_installation(), dump_yaml(values)
    judged = judge(from_browser(text, installation))
    assert startable(judged, trace_here).answer is None, "nobody has counted its rows yet"
    assert startable(judged, trace_here, count=count_here).answer is True
    (row,) = preview(text, [Row(1, {})], installation, BrowserRoots(installation))
    assert (checked(text, capsys)[1]["startable"], row.start.answer) == (True, True)
    assert main(["train", "c.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"


def test_rows_that_nobody_has_counted_are_counted_by_a_launch_and_refused(place: Path, monkeypatch: Patch) -> None:
    installation = this_installation()
    text = config_of(place, Situation("", (), {"dataset": "chats.jsonl"}, strict_template), monkeypatch)
    judged = judge(from_browser(text, installation))
    assert judged.blockers == ()
    (blocker,) = startable(judged, trace, count=count_here).blockers
    assert "No system, please" in blocker.message.text("en")
    assert "(row 2)" in blocker.message.text("en")
    request = StartRequest(from_browser(text, installation))
    assert refusal(lambda: launch(request, trace, count_here)) == ("template_refuses_rows",)
    assert not installation.runs.exists(), "nothing was made"


def test_a_tokenizer_that_cannot_be_loaded_is_a_blocker_and_a_process_that_died_is_not_known(
    place: Path, monkeypatch: Patch
) -> None:
    text = config_of(place, Situation("", (), arrange=written("m/tokenizer.json", "{")), monkeypatch)
    judged = judge(from_browser(text))
    (blocker,) = startable(judged, trace, count=count_here).blockers
    assert (blocker.code, blocker.key) == ("tokenizer_unusable", "model_name")

    def died(_: DataQuestion) -> DataReport:
        raise WorkerError("gone")

    answer = startable(judged, trace, count=died)
    assert (answer.answer, answer.is_counted) == (None, False)
    assert "`data CONFIG`" in start_text(answer)


def test_rows_stand_in_nobodys_way_who_brings_batches(place: Path, monkeypatch: Patch) -> None:
    text = config_of(place, Situation("", (), {"dataset": "chats.jsonl"}, strict_template), monkeypatch)
    know_the_rows(text, this_installation())
    assert [blocker.code for blocker in judge(from_here(text)).blockers] == ["template_refuses_rows"]
    assert judge(from_here(text), needs_data=False).blockers == ()


def test_an_invalid_text_is_not_looked_at_further_and_is_never_startable(
    place: Path, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = config_of(place, Situation("wrong", (), {"r": "x"}), monkeypatch)
    code, document = checked(text, capsys)
    assert (code, document["is_valid"], document["startable"], document["blockers"]) == (1, False, None, [])
    assert checked("r: [", capsys)[1]["startable"] is None


def test_what_does_not_fit_can_be_started_anyway(place: Path, monkeypatch: Patch) -> None:
    installation = this_installation()
    text = config_of(place, Situation("big", (), BIG, lambda _, patch: on(patch, "12")), monkeypatch)
    know_the_cost(text, installation)
    (row,) = preview(text, [Row(1, {})], installation, BrowserRoots(installation))
    assert not row.can_start()
    assert row.can_start(anyway=True)


def test_a_run_is_resumed_only_where_it_can_start(place: Path, monkeypatch: Patch) -> None:
    installation = this_installation()
    values = parse_config(config_of(place, Situation("good", ()), monkeypatch)).values
    values["dataset"] = str(place / "rows.jsonl")
    run = make_run(installation.runs, config=values, config_text=dump_yaml(values), argv=["x"], data_sha256=None)
    end_run(run, "failed", cause="killed")
    (place / "m/tokenizer.json").unlink()
    assert refusal(lambda: resume_from_here(run, installation, trace)) == ("no_tokenizer",)
    assert run.state().state == "failed"
