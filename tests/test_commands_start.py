"""`runs start` as a terminal and a script see it: alone, on the first of several machines, and on the others."""

from __future__ import annotations

import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lora_backend.cli import main
from lora_backend.errors import ModelError
from lora_backend.hardware import addresses
from lora_backend.launching import launch
from lora_backend.runs.record.meetings import first_run_of
from lora_backend.runs.record.run_store import RunStore
from tests.command_line import strict
from tests.runs.stand_in import HEAD, TRAIN, let_end
from tests.stub_runs import stub_runs
from tests.tiny import CHAT_TEMPLATE, chats, stub_model, write_rows
from tests.waiting import until

TWO = "strategy: ddp\nnum_processes: 1\nbatch_size: 1\ntarget_batch_size: 2\n"
LLAMA = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "architectures": ["LlamaForCausalLM"]}  # fmt: skip
Ask = Callable[..., tuple[int, Any]]


@pytest.fixture
def base(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A config in the current folder. Its trainer will be a stand-in, and nothing is traced."""
    here = tmp_path / "here"
    stub_model(here / "models" / "m", LLAMA)
    (here / "models" / "m" / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    write_rows(here / "d.jsonl", chats())
    (here / "c.yaml").write_text(f"model_name: models/m  # ours\ndataset: d.jsonl\nr: 4\nprecision: fp32\n{TWO}")

    def trace(*_: object) -> None:
        raise ModelError("not traced here")

    for module in ("run_start", "run_acts"):
        monkeypatch.setattr(f"lora_backend.commands.{module}.trace_here", trace)
    monkeypatch.setattr(
        launch, "trainer_command", lambda path: [sys.executable, "-c", HEAD + TRAIN, str(path), "--run-dir", str(path)]
    )
    monkeypatch.chdir(here)
    yield here / "c.yaml"
    for _ in stub_runs(workspace):
        pass  # ends what it started


@pytest.fixture
def ask(base: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `runs …` for its exit code and its one document."""

    def ask(*words: str) -> tuple[int, Any]:
        code = main(["runs", *words, "--json", "--lang", "en"])
        return code, strict(capsys.readouterr().out)

    return ask


def free_port() -> int:
    found = addresses.free_port(29600)
    assert found is not None
    return found


def run_of(document: dict[str, Any]) -> RunStore:
    return RunStore(Path(document["path"]))


def ended(run: RunStore) -> None:
    until(lambda: run.state().state == "running", f"{run.id} runs")
    let_end(run)
    until(run.exit_json.exists, f"{run.id} ends")


def test_one_run_is_started_in_the_background_and_says_how_to_watch_it(ask: Ask, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    words = ["--set", "strategy=single", "--set", "num_processes=null", "--name", "mine", "--tag", "shop"]
    code, document = ask("start", "c.yaml", *words)
    assert (code, document["meeting"], document["commands"]) == (0, None, [])
    run = run_of(document)
    record = run.read_record()
    assert (record.name, record.config["strategy"]) == ("mine", "single")
    assert Path(record.config["model_name"]).is_absolute()
    assert "# ours" in run.config_yaml.read_text()
    ended(run)
    assert main(["runs", "start", "c.yaml", *words, "--lang", "en"]) == 0
    said = capsys.readouterr().out
    assert ": started." in said
    assert "Watch it with: flightdeck runs show " in said
    assert "On machine" not in said


def test_the_first_machine_prints_the_command_with_which_the_second_makes_its_part(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth 0")
    monkeypatch.setenv("NOT_OF_THE_NETWORK", "x")
    endpoint = f"127.0.0.1:{free_port()}"
    code, document = ask("start", "c.yaml", "--nodes", "2", "--endpoint", endpoint, "--set", "r=8")
    assert code == 0, document
    first = run_of(document)
    meeting = first.read_attempt().meeting
    assert meeting is not None
    assert (meeting.node, meeting.endpoint, first_run_of(meeting.code)) == (0, endpoint, first.id)
    assert first.read_attempt().num_nodes == 2
    assert first.read_record().config["num_nodes"] == 2
    (command,) = document["commands"]
    assert command == (
        f"NCCL_SOCKET_IFNAME='eth 0' flightdeck runs start c.yaml --nodes 2 --node 1 --endpoint {endpoint} "
        f"--code {meeting.code} --set r=8"
    )
    ended(first)
    words = shlex.split(command)[2:]
    assert main([*words, "--lang", "en"]) == 0
    said = capsys.readouterr().out
    assert f"Machine 2 of 2. The run's results are on the first machine, {endpoint} (run {first.id})." in said
    second = RunStore(first.path.with_name(f"{first.id}-m2"))
    at_second = second.read_attempt().meeting
    assert at_second == meeting.model_copy(update={"node": 1})
    assert second.read_record().config["r"] == 8
    ended(second)


def test_what_is_settled_on_the_first_machine_is_settled_for_all(ask: Ask, base: Path) -> None:
    base.write_text(base.read_text().replace("strategy: ddp\n", ""))
    code, document = ask("start", "c.yaml", "--nodes", "2", "--endpoint", f"127.0.0.1:{free_port()}")
    assert code == 0, document
    assert document["commands"][0].endswith(" --set strategy=ddp")
    run = run_of(document)
    assert run.read_record().config["strategy"] == "ddp"
    assert "strategy: ddp" in run.config_yaml.read_text()
    ended(run)


def test_both_machines_go_on_with_a_new_code(ask: Ask) -> None:
    endpoint = f"127.0.0.1:{free_port()}"
    _, document = ask("start", "c.yaml", "--nodes", "2", "--endpoint", endpoint)
    first, before = run_of(document), document["meeting"]["code"]
    assert ask(*shlex.split(document["commands"][0])[2:])[0] == 0
    second = RunStore(first.path.with_name(f"{first.id}-m2"))
    for run in (first, second):
        ended(run)
        (run.path / "go").unlink()
    code, document = ask("resume", first.id, "--set", "num_epochs=9")
    assert code == 0, document
    meeting = document["meeting"]
    assert (meeting["endpoint"], meeting["code"] != before) == (endpoint, True)
    assert document["commands"] == [
        f"flightdeck runs resume {second.id} --endpoint {endpoint} --code {meeting['code']} --set num_epochs=9"
    ]
    code, answer = ask(*shlex.split(document["commands"][0])[2:])
    assert code == 0, answer
    assert "continues from the checkpoint that the first machine sends" in answer["message"]
    assert second.read_attempt().meeting.code == meeting["code"]  # type: ignore[union-attr]
    assert second.read_attempt().changes == {"num_epochs": 9}
    ended(first)
    ended(second)
    # One goes on alone only where the checkpoints are.
    alone = ("--set", "num_nodes=1", "--set", "strategy=auto", "--set", "num_processes=null", "--set", "num_epochs=12")
    assert "are on the first machine. Resume" in ask("resume", second.id, *alone)[1]["error"]
    (first.path / "go").unlink()
    code, document = ask("resume", first.id, *alone)
    assert code == 0, document
    assert "meeting" not in document
    assert first.read_attempt().num_peers == 1
    ended(first)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--endpoint", "10.0.0.1"], 2, "is not an endpoint. Write a name or an address and a port"),
        (["--endpoint", "10.0.0.1:0"], 2, "is not an endpoint"),
        (["--endpoint", "[::1:29500"], 2, "is not an endpoint"),
        (["--endpoint", "[2001:db8::7]:29500"], 1, "[2001:db8::7] is not an address of this machine"),
        (["--endpoint", "203.0.113.7:29500"], 1, "203.0.113.7 is not an address of this machine"),
        (["--endpoint", "0.0.0.0:29500"], 1, "0.0.0.0 is not an address of this machine"),
        (["--endpoint", f"{'x' * 64}.invalid:29500"], 1, "No machine is known as xxx"),
        (["--node", "1"], 2, "`--node 1` needs `--endpoint` and `--code`"),
        (["--node", "2", "--endpoint", "10.0.0.1:29500", "--code", "x"], 2, "are numbered from 0 to 1"),
        (["--node", "-1"], 2, "`--node -1` is out of range"),
        (["--node", "1", "--endpoint", "10.0.0.1:29500", "--code", "../x"], 2, "is not what the first machine printed"),
        (["--code", "a.0123456789abcdef"], 2, "`--code` is for the other machines"),
    ],
)
def test_what_cannot_be_met_is_refused_before_anything_is_made(
    words: list[str], code: int, said: str, ask: Ask, workspace: Path
) -> None:
    found, document = ask("start", "c.yaml", "--nodes", "2", *words)
    assert (found, said in document["error"]) == (code, True), document
    assert not list((workspace / "runs").glob("*"))


def test_a_port_in_use_is_refused_with_one_that_is_free(ask: Ask) -> None:
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        code, document = ask("start", "c.yaml", "--nodes", "2", "--endpoint", f"127.0.0.1:{port}")
    assert code == 1
    assert f"Port {port} is in use on this machine." in document["error"]
    assert document["error"].endswith(" is free.")


def test_words_of_several_machines_are_refused_for_one(ask: Ask) -> None:
    code, document = ask("start", "c.yaml", "--set", "num_processes=2", "--endpoint", "127.0.0.1:29500")
    assert (code, "are for several machines" in document["error"]) == (2, True)


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"strategy": "single"}, "not_of_strategy"),
        ({"strategy": "layer_split"}, "not_of_strategy"),
        ({"target_batch_size": "1"}, "fewer_passes_than_processes"),
        ({"num_processes": "3"}, "fewer_passes_than_processes"),
    ],
)
def test_keys_that_several_machines_cannot_have_are_findings(keys: dict[str, str], code: str, ask: Ask) -> None:
    words = [word for key, value in keys.items() for word in ("--set", f"{key}={value}")]
    found, document = ask("start", "c.yaml", "--nodes", "2", *words)
    assert (found, code in [finding["code"] for finding in document["findings"]]) == (1, True), document


def test_several_machines_are_no_matter_of_the_foreground_or_of_a_table(ask: Ask, base: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["train", "c.yaml", "--set", "num_nodes=2", "--json", "--lang", "en"]) == 2
    assert "Start such a run with `flightdeck runs start CONFIG`" in strict(capsys.readouterr().out)["error"]
    base.write_text(base.read_text() + "num_nodes: 2\n")
    code, document = ask("queue", "c.yaml")
    assert code == 1
    assert "Start such a run with `flightdeck runs start CONFIG`" in document["rows"][0]["errors"][0]


def test_a_machine_without_a_network_says_so_and_one_with_several_says_which_it_takes(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none: tuple[addresses.Address, ...] = ()
    for module in ("launching.meeting", "commands.run_start"):
        monkeypatch.setattr(f"lora_backend.{module}.network_addresses", lambda: none)
    code, document = ask("start", "c.yaml", "--nodes", "2")
    assert (code, "has no network address" in document["error"]) == (1, True)
    none = (addresses.Address("eth0", "127.0.0.2"), addresses.Address("eth1", "127.0.0.3"))
    assert main(["runs", "start", "c.yaml", "--nodes", "2", "--lang", "en"]) == 0
    said = capsys.readouterr().out
    assert "The other machines reach this one at 127.0.0.2:" in said
    assert "127.0.0.3 (eth1); choose one with `--endpoint`" in said


def test_addresses_towards_containers_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    class Up:
        isup = True

    class Found:
        family = socket.AF_INET

        def __init__(self, address: str) -> None:
            self.address = address

    names = {"lo": "127.0.0.1", "docker0": "172.17.0.1", "eth0": "10.0.0.5"}
    monkeypatch.setattr(psutil, "net_if_stats", lambda: dict.fromkeys(names, Up()))
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: {name: [Found(one)] for name, one in names.items()})
    assert [one.host for one in addresses.network_addresses()] == ["10.0.0.5", "172.17.0.1"]
