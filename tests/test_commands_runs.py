"""`runs …` as a terminal and a script see it, with real processes of stand-in trainers where a run's state matters."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.atomic import write_json
from lora_backend.cli import main
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.installation import this_installation
from lora_backend.launching import launch
from lora_backend.runs.checkpoints.manifest import write_manifest
from lora_backend.runs.processes.queue import start_or_queue
from lora_backend.runs.record.failures import failure
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.runs.record.transitions import request_stop
from lora_backend.verification.rank_documents import empty_report
from lora_backend.verification.ranks import RankRule
from lora_backend.verification.records import layer_record
from lora_backend.verification.shapes import LoraLayer
from tests.command_line import strict
from tests.run_files import add_point, add_start, attempt_of, end_run, make_run, put_answers, record_of, set_status
from tests.runs.stand_in import HEAD, TRAIN, kill, let_end
from tests.stub_runs import MakeRun, stub_runs
from tests.tiny import CHAT_TEMPLATE, chats, make_published, prompts, stub_model, write_rows
from tests.waiting import until

DEAF = HEAD + "set_status(RUN, state='running', trainer=identify(os.getpid()).to_json())\ntime.sleep(60)\n"
"""A trainer that hears no stop."""
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def ask(capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `runs …` and gives its exit code and its one document; the same question in words must not fail either."""

    def ask(*words: str, in_words: bool = True) -> tuple[int, Any]:
        for language in ("en", "zh") if in_words else ():
            main(["runs", *words, "--lang", language])
            said = capsys.readouterr()
            assert (said.out + said.err).strip()
        code = main(["runs", *words, "--json", "--lang", "en"])
        return code, strict(capsys.readouterr().out)

    return ask


@pytest.fixture
def make(workspace: Path) -> Iterator[MakeRun]:
    yield from stub_runs(workspace)


@pytest.fixture
def started(make: MakeRun, workspace: Path) -> MakeRun:
    """Like `make`, and queued: it runs where nobody has the CPU."""

    def started(*words: str, **more: Any) -> RunStore:
        run = make(*words, state="queued", **more)
        add_start(run, device_uuids=[])
        if start_or_queue(run, workspace):
            until(lambda: run.state().state == "running", f"{run.id} runs")
        return run

    return started


def checkpoint(run: RunStore, step: int) -> Path:
    path = run.checkpoints / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "adapter_model.safetensors").write_bytes(b"x" * 100)
    write_manifest(path, step)
    return path


# ------------------------------------------------------------------------------------------------------ looking


def test_the_list_is_narrowed_by_words_states_and_tags_and_shows_the_columns_asked_for(make: MakeRun, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    for name in ("a1", "b2", "c3"):
        end_run(make(name), "finished" if name != "b2" else "failed")
    write_labels(make("d4").path, archived=True)
    write_labels(list_runs(make("e5").path.parent)[-1].path, tags=["best", "faq"])  # of a1

    def ids(*words: str) -> list[str]:
        code, document = ask("list", *words)
        assert code == 0
        return [row["id"] for row in document["runs"]]

    assert ids() == ["e5", "c3", "b2", "a1"]
    assert ids("--archived") == ["e5", "d4", "c3", "b2", "a1"]
    assert ids("--state", "finished", "failed", "--filter", "b2") == ["b2"]
    assert ids("--tag", "faq", "--tag", "best") == ["a1"]
    assert ids("--filter", "nothing of the kind") == []
    main(["runs", "list", "--columns", "batch_size,tokens_per_s", "--state", "failed"])
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "State", "Name", "Started", "Step", "batch_size", "tokens_per_s", "Tags"]
    assert line.split()[-2:] == ["4", "–"]
    assert line[head.index("batch_size") :].startswith("4  ")


def test_names_of_others_cannot_move_the_cursor(make: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make("a1", name="x\x1b[2J\ny")
    write_labels(run.path, tags=["\x1b[31mred"], note="one\x07\ntwo")
    (run.path / "train.log").write_text("\x1b[2Jcleared\n")
    end_run(run, "failed", cause="code", message=Message("{text}", {"text": "\x1b[2J"}))
    for words in (["list"], ["show", "a1"]):
        main(["runs", *words])
        assert "\x1b" not in capsys.readouterr().out


def test_points_that_are_no_numbers_leave_the_document_json(make: MakeRun, ask: Ask) -> None:
    for name in ("a1", "b2"):
        run = make(name)
        add_point(run, {"step": 1, "loss": float("nan"), "eval_loss": float("inf")})
        end_run(run, "finished")
    assert ask("list")[1]["runs"][0]["figures"]["loss"] is None
    assert ask("show", "a1")[0] == 0
    assert ask("compare", "a1", "b2")[0] == 0


def test_a_run_that_goes_on_shows_where_it_is(started: MakeRun, ask: Ask) -> None:
    run = started("a1")
    set_status(run, stage="training", step=3, total_steps=9, eta_s=125.0)
    layer = layer_record(LoraLayer("q", (4, 8), (8, 4)), 4, RankRule(4), None)
    run.write_rank_report(empty_report("ok", True, 4).but(layers=[layer]))
    for step in range(3):
        add_point(run, {"step": step, "loss": None, "learning_rate": 1e-4, "grad_norm": 1.0, "time": float(step)})
    checkpoint(run, 1)
    (checkpoint(run, 2) / "adapter_model.safetensors").write_bytes(b"y" * 100)
    code, document = ask("show", "a1")
    assert code == 0
    assert (document["state"], document["stage"], document["step"], document["eta_s"]) == (
        "running",
        "training",
        3,
        125.0,
    )
    assert [(one["step"], bool(one["problems"])) for one in document["checkpoints"]["list"]] == [(1, False), (2, True)]
    assert document["checkpoints"]["newest_whole"] == "checkpoint-1"
    assert document["checkpoints"]["damaged"][0]["checkpoint"] == "checkpoint-2"
    assert "nan" in [alert["kind"] for alert in document["alerts"]]
    assert "1 of 1 LoRA layer has" in document["ranks"]["verdict"]
    assert document["reproduction"]["command"] == f"python -m lora_backend train {run.config_yaml}"


def test_the_best_checkpoint_has_a_mark_and_says_by_what(
    make: MakeRun, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make("a1", config={"metric_for_best_model": "token_accuracy", "load_best_model_at_end": True})
    for step, loss, accuracy in ((1, 1.0, 0.5), (2, 3.0, 0.9), (3, 2.0, 0.1)):
        add_point(run, {"step": step, "eval_loss": loss, "eval_token_accuracy": accuracy})
        checkpoint(run, step)
    end_run(run, "finished")
    best = ask("show", "a1")[1]["checkpoints"]["best"]
    assert (best["name"], best["figure"]) == ("checkpoint-2", "eval_token_accuracy")
    main(["runs", "show", "a1"])
    lines = capsys.readouterr().out.splitlines()
    (marked,) = [line for line in lines if line.endswith("★")]
    assert "checkpoint-2" in marked
    assert "eval_token_accuracy 0.9" in marked
    assert "  ★ marks the best evaluation token accuracy; the run ends with that checkpoint's adapter." in lines


def test_a_run_that_answers_says_how_far_it_is(started: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    detail = Message(N_("{count} of {questions} questions answered"), {"count": 12, "questions": 46})
    set_status(
        started("a1"), stage="answering", step=9, total_steps=9, eta_s=20.0, fraction=0.3, detail=detail.to_json()
    )
    for language, sentence in (
        ("en", "answering the questions · 12 of 46 questions answered"),
        ("zh", "正在回答问题 · 已回答 12/46 题"),
    ):
        assert main(["runs", "show", "a1", "--lang", language]) == 0
        said = capsys.readouterr().out
        assert said.count(sentence.partition(" · ")[2]) == 1
        assert sentence in said
        assert "20" not in said.split(sentence)[1].splitlines()[1], "the steps are done: no time is left for them"


def test_a_failure_comes_with_cause_remedy_and_the_logs_last_lines(make: MakeRun, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    found = failure("disk_full")
    end_run(make("a1"), "failed", cause="disk_full", message=found.message, remedy=found.remedy, log=["one", "No space left"])  # fmt: skip
    code, document = ask("show", "a1")
    assert (code, document["cause"], document["log"]) == (1, "disk_full", ["one", "No space left"])
    assert main(["runs", "show", "a1"]) == 1
    text = capsys.readouterr().out
    assert "The disk is full." in text
    assert "Free some disk space and resume" in text
    assert "| No space left" in text


def test_verify_says_of_a_run_without_an_adapter_what_it_lacks(
    make: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    end_run(make("a1"), "stopped")
    assert main(["verify", "a1"]) == 2
    said = capsys.readouterr().err
    assert "Run a1 has no adapter. Let it finish, resume it, or name one of its checkpoints in " in said
    assert "a1/checkpoints." in said


def test_a_run_whose_processes_are_gone_is_lost_and_shows_its_own_log(started: MakeRun, ask: Ask) -> None:
    run = started("a1")
    run.train_log.write_text("the last word\n")
    kill(run, "supervisor")
    kill(run, "trainer")
    until(lambda: ask("show", "a1", in_words=False)[0] == 1, "its end is seen")
    code, document = ask("show", "a1")
    assert (code, document["log"]) == (1, ["the last word"])


@pytest.mark.parametrize("part", [{"passed_over": -1}, {"code": {"commit": True}}, {"code": {"commit": 5, "is_modified": "x"}}, {"data_sha256": 5}])  # fmt: skip
@pytest.mark.parametrize("file", ["run.json", "attempts/1.json"])
def test_a_run_with_parts_of_another_kind_is_shown(file: str, part: dict[str, Any], workspace: Path) -> None:
    run = make_run(this_installation().runs, config={"model_name": "m"}, config_text="model_name: m\n", argv=["a"])
    add_start(run, versions={"torch": "1"})
    path = run.path / file
    path.write_text(json.dumps(json.loads(path.read_text()) | part))
    for words in ([], ["--json"]):
        main(["runs", "show", run.id, *words])


def test_runs_side_by_side_differ_in_what_they_differ(
    make: MakeRun, ask: Ask, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, r, loss in (("a1", 4, 2.5), ("b2", 8, 1.5)):
        run = make(name, config={"r": r} | ({"seed": 1} if r == 8 else {}))
        add_point(run, {"step": 1, "loss": loss, "eval_loss": loss + 1, "time": 1.0})
        add_point(run, {"step": 2, "loss": loss - 1, "eval_loss": loss + 2, "time": 2.0})
        add_start(run, measured={"devices": [{"device": 0, "tensors": 2048}, {"device": 1, "tensors": 1024}]})
        put_answers(run, [{"adapter_correct": True}, {"adapter_correct": r == 8}, {"adapter_correct": None}])
        set_status(run, started_at=100.0)
        end_run(run, "finished")
    code, document = ask("compare", "a1", "b2")
    assert code == 0
    assert document["differences"] == {"r": [4, 8], "seed": [None, 1]}
    first = document["outcomes"][0]
    assert (first["last_loss"], first["lowest_eval_loss"], first["measured_bytes"]) == (1.5, 3.5, 3072)
    assert [(one["right_answers"], one["num_answers"]) for one in document["outcomes"]] == [(1, 2), (2, 2)]
    main(["runs", "compare", "a1", "b2"])
    assert "3.00 KiB" in capsys.readouterr().out


@pytest.mark.parametrize("value", [None, 1, "x", [1], {"a": 1}, float("nan"), 10**40])
def test_figures_that_another_hand_has_written_are_left_out(value: Any, make: MakeRun, ask: Ask) -> None:
    end_run(make("b2"), "finished")
    run = make("a1", config={"r": value})
    add_start(run, measured=value, device_uuids=[])
    write_json(run.rank_report_json, {"is_consistent": value, "layers": value})
    write_json(run.exit_json, {"state": "finished", "started_at": value, "log": value})
    run.run_json.write_text(json.dumps(record_of(run) | {"versions": value, "code": value}))
    for words in (["compare", "a1", "b2"], ["show", "a1"], ["list"]):
        assert ask(*words)[0] == 0


# ------------------------------------------------------------------------------------------------- stop, resume


def test_a_stop_says_when_it_ends_at_the_latest_and_an_ended_run_is_a_no(started: MakeRun, ask: Ask) -> None:
    run = started("a1")
    code, document = ask("stop", "a1", "--deadline", "60", in_words=False)
    assert code == 0
    assert document["ended_at_latest"] == pytest.approx(json.loads(run.stop_request.read_text())["time"] + 70, abs=5)
    until(lambda: run.state().has_ended, "it has ended")
    code, document = ask("stop", "a1")
    assert (code, document["state"], "has already ended" in document["error"]) == (1, "stopped", True)


def test_a_trainer_that_hears_no_stop_is_ended_at_the_deadline(started: MakeRun, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    run = started("a1", script=DEAF)
    assert main(["runs", "stop", "a1", "--wait", "--deadline", "0", "--lang", "en"]) == 0
    asked, ended = capsys.readouterr().out.splitlines()
    assert "at the latest" in asked
    assert "ended by SIGTERM" in ended
    assert run.state().cause == "stop_deadline"


def test_a_queued_run_waits_in_order_and_leaves_the_queue_when_it_is_stopped(started: MakeRun, ask: Ask) -> None:
    started("a1")
    started("b2")
    started("c3")
    code, document = ask("queue")
    assert code == 0
    assert [(row["run"], [holder["run"] for holder in row["holders"]], row["ahead"]) for row in document["queue"]] == [("b2", ["a1"], []), ("c3", ["a1"], ["b2"])]  # fmt: skip
    assert ask("show", "c3")[1]["waiting"]["ahead"] == ["b2"]
    code, document = ask("stop", "b2", in_words=False)
    assert (code, document["state"]) == (0, "stopped")
    assert [row["run"] for row in ask("queue")[1]["queue"]] == ["c3"]


def test_a_resume_says_what_changed_settings_do_and_queues_where_the_device_is_taken(started: MakeRun, ask: Ask, make: MakeRun) -> None:  # fmt: skip
    run = make("a1")
    (run.path / "train.log").touch()
    checkpoint(run, 5)
    end_run(run, "stopped")
    started("b2")
    code, document = ask("resume", "a1", "--set", "save_steps=7", "--set", "learning_rate=1e-3", in_words=False)
    assert code == 0
    assert (document["state"], document["resume_from"], document["number"]) == ("queued", "checkpoint-5", 1)
    assert set(document["changes"]["safe"]) == {"save_steps"}
    assert set(document["changes"]["restarts_schedule"]) == {"learning_rate"}
    let_end(RunStore(run.path.with_name("b2")))
    until(lambda: run.state().state == "running", "its turn comes")
    code, document = ask("resume", "a1")
    assert (code, "is running" in document["error"]) == (1, True)


def test_a_run_that_has_published_is_resumed_with_other_settings_and_replaces_its_own(
    make: MakeRun, ask: Ask, workspace: Path
) -> None:
    config = {"pkg": "p", "version": "1", "output_dir": str(workspace / "adapters"), "num_epochs": 1}
    run = make("a1", config=config)
    for folder in (run.adapter, workspace / "adapters/p/1"):
        make_published(folder, "the run's own")
    end_run(run, "finished")
    code, document = ask("resume", "a1", "--set", "num_epochs=2", in_words=False)
    assert (code, document.get("error"), document["number"]) == (0, None, 1)
    request_stop(run)


def test_changed_data_is_a_no_with_the_option_that_accepts_it(make: MakeRun, ask: Ask, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", prompts(1))
    run = make("a1", config={"dataset": str(data)}, data_sha256="0" * 64)
    end_run(run, "failed", cause="data_changed")
    code, document = ask("resume", "a1")
    assert (code, document["state"], document["cause"]) == (1, "failed", "data_changed")
    assert f"The data set {data} has changed since the run was launched (sha256 000000000000, now " in document["error"]
    assert "--accept-changed-data" in document["error"]
    code, document = ask("resume", "a1", "--accept-changed-data", in_words=False)
    assert (code, document["state"]) == (0, run.state().state)
    assert attempt_of(run)["accepted_data_sha256"]


def test_a_run_goes_on_from_the_checkpoint_that_is_named(make: MakeRun, started: MakeRun, ask: Ask) -> None:
    run = make("a1")
    for step in (5, 8):
        checkpoint(run, step)
    end_run(run, "stopped")
    started("b2")
    code, document = ask("resume", "a1", "--from", "5", "--set", "learning_rate=1e-4", in_words=False)
    assert (code, document["resume_from"]) == (0, "checkpoint-5")
    request_stop(run)


def test_a_resume_without_a_whole_checkpoint_begins_again(make: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    run = make("a1")
    end_run(run, "failed", cause="killed")
    assert main(["runs", "resume", "a1", "--set", "r=4", "--lang", "en"]) == 0
    assert "starts again from the first step" in capsys.readouterr().out
    until(lambda: run.state().state == "running", "it runs again")


@pytest.mark.parametrize(
    ("change", "word"),
    [("r=8", "`r`"), ("batch_size=x", "batch_size"), ("batch_size=0", "batch_size"), ("nonsense=1", "nonsense"), ("learning_rate=.nan", "learning_rate"), ("r", "no value")],
)  # fmt: skip
def test_a_setting_that_cannot_change_in_the_middle_is_refused_with_the_reason(change: str, word: str, make: MakeRun, ask: Ask) -> None:  # fmt: skip
    run = make("a1")
    end_run(run, "stopped")
    code, document = ask("resume", "a1", "--set", change)
    assert code == 2
    assert word in document["error"]
    assert run.exit_json.exists()


@pytest.mark.parametrize(("state", "argv"), [("finished", ["x"]), ("stopped", None)])
def test_a_run_that_has_nothing_to_go_on_with_says_so(
    state: str, argv: list[str] | None, make: MakeRun, ask: Ask
) -> None:
    end_run(make("a1", argv=argv), state)
    code, document = ask("resume", "a1")
    assert (code, document["state"], bool(document["error"])) == (1, state, True)


# -------------------------------------------------------------------------------------------------------- queue


@pytest.fixture
def base(make: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A config in the current folder, with relative paths. Its trainer will be the stand-in, and nothing is traced."""
    model = {
        "model_type": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 8,
        "num_attention_heads": 2,
        "architectures": ["LlamaForCausalLM"],
    }
    stub_model(tmp_path / "here" / "models" / "m", model)
    (tmp_path / "here" / "models" / "m" / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_rows(tmp_path / "here" / "d.jsonl", chats())
    (tmp_path / "here" / "c.yaml").write_text("model_name: models/m  # ours\ndataset: d.jsonl\nr: 4\nprecision: fp32\n")

    def trace(*_: object) -> None:
        raise ModelError("not traced here")

    monkeypatch.setattr("lora_backend.commands.run_queue.trace_here", trace)
    monkeypatch.setattr(launch, "trainer_command", lambda path: [sys.executable, "-c", HEAD + TRAIN, str(path)])
    monkeypatch.chdir(tmp_path / "here")
    for name in ("MODEL", "DATA"):
        monkeypatch.delenv(f"FLIGHTDECK_{name}_ROOTS")
    return "c.yaml"


def test_a_dry_run_says_what_each_row_would_be_and_starts_none(base: str, ask: Ask, workspace: Path) -> None:
    Path("t.csv").write_text("name,r,alpha\nsmall,2,\nlarge,,64\n")
    code, document = ask("queue", base, "--table", "t.csv", "--dry-run")
    assert (code, document["can_start"]) == (0, True)
    assert [(row["line"], row["name"], row["differences"]) for row in document["rows"]] == [
        (2, "small", {"r": {"base": 4, "value": 2}}),
        (3, "large", {"alpha": {"base": None, "value": 64}}),
    ]
    assert not (workspace / "runs").exists()


def test_a_row_that_cannot_start_keeps_all_from_starting(base: str, ask: Ask, workspace: Path) -> None:
    Path("t.csv").write_text("r\n2\n0\n")
    for words in (["--dry-run"], []):
        code, document = ask("queue", base, "--table", "t.csv", *words)
        assert code == 1
        assert [(row["line"], row["can_start"], len(row["errors"])) for row in document["rows"]] == [(2, True, 0), (3, False, 1)]  # fmt: skip
    assert not (workspace / "runs").exists()


def test_a_table_starts_its_first_run_and_queues_the_others_with_paths_from_here(base: str, ask: Ask, tmp_path: Path) -> None:  # fmt: skip
    Path("t.csv").write_text("name,r\nfirst,2\nsecond,3\n")
    code, document = ask("queue", base, "--table", "t.csv", in_words=False)
    assert code == 0
    assert [row["error"] for row in document["runs"]] == [None, None]
    first, second = (RunStore(Path(row["path"])) for row in document["runs"])
    assert (first.state().state in ("starting", "running"), second.state().state) == (True, "queued")
    about = record_of(first)
    assert (about["name"], about["config"]["r"]) == ("first", 2)
    assert about["config"]["dataset"] == str(tmp_path / "here" / "d.jsonl")
    assert about["config"]["model_name"] == str(tmp_path / "here" / "models" / "m")
    assert "# ours" in first.config_yaml.read_text()
    let_end(first)
    until(lambda: second.state().state == "running", "the second's turn comes")


def test_one_config_is_launched_under_its_name_and_tag(base: str, ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "queue", base, "--name", "mine", "--tag", "shop", "--lang", "en"]) == 0
    assert "started." in capsys.readouterr().out
    assert [row["name"] for row in ask("list")[1]["runs"]] == ["mine"]
    assert [row["tags"] for row in ask("list", "--tag", "shop")[1]["runs"]] == [["shop"]]


@pytest.mark.parametrize("text", ["r: [", "model_name: models/m\n", "model_name: models/m\ndataset: none.jsonl\n", "model_name: models/none\ndataset: d.jsonl\n"])  # fmt: skip
def test_a_config_that_cannot_be_launched_is_a_no(text: str, base: str, ask: Ask, workspace: Path) -> None:
    Path(base).write_text(text)
    assert ask("queue", base)[0] == 1
    assert not (workspace / "runs").exists()


# --------------------------------------------------------------------------------------------- wrong questions


@pytest.mark.parametrize("run_id", ["../a1", "a/b", "..", "", "none", "a1 ", "ünı", "x" * 300, "newer", "\ud800"])
def test_an_id_that_is_none_is_the_wrong_question(
    run_id: str, make: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    end_run(make("a1"), "finished")
    newer = make("newer")
    newer.run_json.write_text(json.dumps(json.loads(newer.run_json.read_text()) | {"format": 99}))
    for command in (["show"], ["stop"], ["resume"], ["compare", "a1"]):
        assert main(["runs", *command, run_id, "--json"]) == 2
        assert set(strict(capsys.readouterr().out)) == {"error"}
        assert main(["runs", *command, run_id]) == 2
        said = capsys.readouterr()
        assert (said.out, len(said.err.strip().splitlines())) == ("", 1)


@pytest.mark.parametrize("table", [b"", b"r\n", b"r,r\n1,2\n", b"\xff\xfe\x00", b"r,alpha\n1,2,3\n", b'r\n"1', b"r\n" * 600_000, None])  # fmt: skip
def test_a_table_that_is_none_is_the_wrong_question(table: bytes | None, base: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    if table is not None:
        Path("t.csv").write_bytes(table)
    assert main(["runs", "queue", base, "--table", "t.csv", "--json"]) == 2
    assert set(strict(capsys.readouterr().out)) == {"error"}


@pytest.mark.parametrize(
    "words",
    [
        ["queue", "none.yaml"], ["queue", "--dry-run"], ["queue", "c.yaml", "--table", "t.csv", "--name", "x"], ["list", "--columns", "r,none"],
        ["compare", "a1"], ["compare", *["a1"] * 9], ["stop", "a1", "--deadline", "nan"], ["stop", "a1", "--deadline", "-1"],
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_the_wrong_question(words: list[str], make: MakeRun, ask: Ask) -> None:
    end_run(make("a1"), "finished")
    code, document = ask(*words)
    assert (code, set(document)) == (2, {"error"})
