"""A run that two machines train, each with a network, a host name and a workspace of its own."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.config_writing import dump_yaml
from lora_backend.runs.checkpoints.manifest import checkpoints_of, newest_whole
from lora_backend.runs.processes.trainer_command import trainer_command
from lora_backend.runs.record.process_identity import is_alive
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.machine_networks import Host, agent_on, two_hosts, why_not
from tests.peer_runs import (
    START_S,
    end_all,
    forked,
    last_step,
    left_of,
    peer_of,
    peers_of,
    screen_of,
    wait_for_nothing_left,
)
from tests.run_files import add_start, attempt_of, log_tail, make_run, points_of, start_again
from tests.runs.stand_in import who
from tests.tiny import chats, write_rows
from tests.training.helpers import adapter_bytes, curve, run, until
from tests.training.peer_trainings import WITHIN, adapters_apart, compared

REASON = why_not()
pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(REASON is not None, reason=str(REASON))]
Make = Callable[..., dict[str, Any]]
PORT = 29500
TOGETHER: dict[str, Any] = {"strategy": "ddp", "num_processes": 1, "num_nodes": 2, "plan": None}


class Pair:
    """A run on two machines: a folder on each."""

    def __init__(self, hosts: tuple[Host, Host], runs: tuple[RunStore, RunStore], together: dict[str, Any]) -> None:
        self.hosts, self.runs, self.code, self.together = hosts, runs, secrets.token_hex(8), together
        self.agents: list[BaseProcess] = []

    def meeting(self, node: int) -> dict[str, Any]:
        endpoint = f"{self.hosts[0].address}:{PORT}"
        return {**self.together, "meeting": {"node": node, "endpoint": endpoint, "code": self.code}}

    def start(self, work: str | None = None) -> None:
        """The second first, for it waits for the other as well."""
        self.agents = [agent_on(self.hosts[node], self.runs[node], work) for node in (1, 0)][::-1]

    def resume(self, checkpoint: str | None) -> None:
        for node, one in enumerate(self.runs):
            start_again(one, "starting", resume_from=checkpoint, **self.meeting(node))
        self.start()

    def is_training(self) -> bool:
        """Both processes are there, and the first machine shows them."""
        for one in self.runs:
            assert not one.exit_json.exists(), self.logs()
        return self.runs[0].state().step > 0 and len(peers_of(self.runs[0])) == len(peers_of(self.runs[1])) == 2

    def wait(self) -> None:
        """Both have ended, and nothing of them is left."""
        for agent in self.agents:
            agent.join(START_S)
        for one in self.runs:
            wait_for_nothing_left(one)

    def sentences(self) -> list[str]:
        return [str(one.state().message) for one in self.runs]

    def logs(self) -> str:
        return "\n".join(f"--- {one.path}\n{log_tail(one, 3000)}" for one in self.runs)


@pytest.fixture
def pair(config: Make, tmp_path: Path) -> Iterator[Callable[..., Pair]]:
    """Makes a run on two machines; `second`: keys that the second machine's config has otherwise, `together`: how they train."""
    made: list[Pair] = []
    with two_hosts() as hosts:

        def make(second: dict[str, Any] | None = None, together: dict[str, Any] | None = None, **changes: Any) -> Pair:
            values = config(**{"target_batch_size": 8, **changes})
            runs = [
                folder_of(
                    tmp_path / f"machine{node}" / "runs" / f"run{len(made)}", values | (second or {} if node else {})
                )
                for node in (0, 1)
            ]
            made.append(Pair(hosts, (runs[0], runs[1]), TOGETHER | (together or {})))
            for node, one in enumerate(runs):
                add_start(one, **made[-1].meeting(node))
            return made[-1]

        yield make
        for one in made:
            for folder in one.runs:
                end_all(folder)


def folder_of(path: Path, values: dict[str, Any]) -> RunStore:
    text = dump_yaml(values)
    return make_run(path.parent, config=values, config_text=text, argv=trainer_command(path), path=path)


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fsdp", marks=pytest.mark.soak)])
def test_two_machines_train_what_one_process_trains_and_go_on_from_a_checkpoint_of_the_first(
    strategy: str, pair: Callable[..., Pair], config: Make, workspace: Path
) -> None:
    both = pair(num_epochs=6, save_steps=4, together={"strategy": strategy})
    first, second = both.runs
    both.start()
    both.wait()
    assert [one.state().state for one in both.runs] == ["finished", "finished"], both.logs()
    whole = curve(first), adapter_bytes(first)
    assert [len(checkpoints_of(one)) for one in both.runs] == [3, 0]
    both.resume("checkpoint-4")
    both.wait()
    assert [one.state().state for one in both.runs] == ["finished", "finished"], both.logs()
    assert (curve(first), adapter_bytes(first)) == whole
    assert [path.name for path in checkpoints_of(second)] == ["checkpoint-4"]
    assert "checkpoint-4 came from machine 1" in second.peer_log(1).read_text()
    for one in both.runs:
        shown = [(peer.rank, peer.node, peer.host, peer.is_done) for peer in peers_of(one)]
        assert shown == [(0, 0, "gpu-one", True), (1, 1, "gpu-two", True)]
    assert (second.state().step, second.state().total_steps) == (first.state().step, first.state().total_steps)
    assert (first.adapter / "adapter_model.safetensors").is_file()
    assert not second.adapter.exists()
    alone = run(workspace, config(target_batch_size=8, num_epochs=6))
    assert [row["step"] for row in points_of(first)] == [row["step"] for row in points_of(alone)]
    assert max(compared(first, alone, "loss"), adapters_apart(first, alone)) <= WITHIN, curve(first)


@pytest.mark.soak
def test_two_machines_end_with_the_best_checkpoint_which_the_first_alone_has(
    pair: Callable[..., Pair], config: Make, workspace: Path
) -> None:
    """The figure does not change at first, so the first evaluation is the best."""
    best = {
        "max_steps": 12, "val_size": 0.25, "eval_strategy": "steps", "eval_steps": 2, "save_steps": 2, "metric_for_best_model": "token_accuracy",
        "load_best_model_at_end": True, "learning_rate": 1e-4,
    }  # fmt: skip
    both = pair(**best)
    first, second = both.runs
    both.start()
    both.wait()
    assert [one.state().state for one in both.runs] == ["finished", "finished"], both.logs()
    alone = run(workspace, config(target_batch_size=8, **best))
    assert attempt_of(first)["adapter_step"] == attempt_of(alone)["adapter_step"] == 2
    assert adapters_apart(first, alone) <= WITHIN
    assert "no checkpoint was evaluated" not in second.peer_log(1).read_text()


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.soak), 1])
def test_a_process_that_is_killed_ends_the_run_on_both_machines_and_is_named(
    rank: int, pair: Callable[..., Pair]
) -> None:
    both = pair()
    both.start("steps")
    until(both.is_training, START_S)
    found = peers_of(both.runs[rank])[rank].process
    assert found is not None
    os.kill(found.pid, signal.SIGKILL)
    both.wait()
    assert [(one.state().state, one.state().cause) for one in both.runs] == [("failed", "killed")] * 2, both.logs()
    assert both.sentences() == [f"Process {rank} on gpu-{('one', 'two')[rank]} was ended by SIGKILL."] * 2


@pytest.mark.soak
@pytest.mark.parametrize("work", ["fail", "code", "silent", "memory", "crash"])
def test_the_error_of_a_process_is_that_of_the_run_on_both_machines(work: str, pair: Callable[..., Pair]) -> None:
    said = {
        "fail": "Process 1 on gpu-two: The run failed with ValueError: a bad thing",
        "code": "Process 1 on gpu-two ended with code 7 without saying why. See its log.",
        "silent": "Process 1 on gpu-two ended with code 0 without saying why. See its log.",
        "memory": "Process 1 on gpu-two: The machine ran out of memory.",
        "crash": "Process 1 on gpu-two crashed with SIGSEGV.",
    }
    both = pair()
    both.start(work)
    both.wait()
    assert both.sentences() == [said[work]] * 2, both.logs()
    assert said[work] in screen_of(both.runs[0]).read_text()


@pytest.mark.soak
@pytest.mark.parametrize("node", [0, 1])
def test_a_machine_whose_agent_is_killed_is_named_by_the_other(node: int, pair: Callable[..., Pair]) -> None:
    both = pair()
    both.start("steps")
    until(both.is_training, START_S)
    agent = who(both.runs[node], "trainer")
    os.kill(agent.pid, signal.SIGKILL)
    until(lambda: not is_alive(agent))
    left = both.runs[1 - node]
    both.agents[1 - node].join(START_S)
    wait_for_nothing_left(left)
    name = "machine 2 (gpu-two)" if node else f"machine 1 ({both.hosts[0].address})"
    assert left.state().cause == "machine_lost", both.logs()
    assert str(left.state().message).startswith(f"The connection to {name} was lost")
    until(lambda: not left_of(both.runs[node]))


@pytest.mark.soak
@pytest.mark.parametrize("node", [0, 1])
def test_a_signal_on_any_machine_stops_the_run_on_both(node: int, pair: Callable[..., Pair]) -> None:
    both = pair()
    both.start("steps")
    until(both.is_training, START_S)
    os.kill(who(both.runs[node], "trainer").pid, signal.SIGINT)
    both.wait()
    assert [one.state().state for one in both.runs] == ["stopped", "stopped"], both.logs()


ACTS: dict[str, Callable[[RunStore, int], object]] = {
    "process": lambda one, node: os.kill(peer_of(one, node), signal.SIGKILL),
    "agent": lambda one, node: os.kill(who(one, "trainer").pid, signal.SIGKILL),
    "stop": lambda one, node: request_stop(one),
    "signal": lambda one, node: os.kill(who(one, "trainer").pid, signal.SIGTERM),
}


@pytest.mark.soak
def test_kills_and_stops_on_either_machine_leave_a_run_that_goes_on_to_the_bit(pair: Callable[..., Pair]) -> None:
    values = {"max_steps": 120, "num_epochs": 120, "lora_dropout": 0.1, "save_steps": 5}
    whole, both = pair(**values), pair(**values)
    whole.start()
    whole.wait()
    assert [one.state().state for one in whole.runs] == ["finished", "finished"], whole.logs()
    draw = random.Random(18)
    both.start()
    for act, node in draw.sample([(act, node) for act in ACTS for node in (0, 1)], 8):
        step = last_step(both.runs[0]) + draw.randint(0, 4)
        until(lambda step=step: both.is_training() and last_step(both.runs[0]) >= step, START_S)  # type: ignore[misc]
        ACTS[act](both.runs[node], node)
        both.wait()
        states = [one.state().state for one in both.runs]
        assert states == ["stopped"] * 2 or act in ("process", "agent"), f"{act} on {node}: {states}\n{both.logs()}"
        newest, _ = newest_whole(both.runs[0])
        both.resume(newest.name if newest else None)
    both.wait()
    assert [one.state().state for one in both.runs] == ["finished", "finished"], both.logs()
    assert curve(both.runs[0]) == curve(whole.runs[0])
    assert adapter_bytes(both.runs[0]) == adapter_bytes(whole.runs[0])


@pytest.mark.soak
def test_other_data_ends_it_before_anything_is_loaded(pair: Callable[..., Pair], tmp_path: Path) -> None:
    other = write_rows(tmp_path / "other.jsonl", chats()[1:])
    both = pair({"dataset": str(other)})
    both.start()
    both.wait()
    (sentence,) = set(both.sentences())
    assert sentence.startswith("The rows of `dataset` on machine 2 (gpu-two)"), both.logs()
    assert [one.state().cause for one in both.runs] == ["machines"] * 2
    assert peers_of(both.runs[0]) == []


@pytest.mark.soak
def test_another_config_ends_it_before_anything_is_loaded(pair: Callable[..., Pair]) -> None:
    both = pair({"learning_rate": 0.5})
    both.start()
    both.wait()
    (sentence,) = set(both.sentences())
    assert sentence.startswith("`learning_rate` is 0.5 on machine 2 (gpu-two) and 0.02 on machine 1 (gpu-one)."), both.logs()  # fmt: skip


@pytest.mark.soak
def test_a_firewall_between_them_is_found_before_anything_is_loaded(pair: Callable[..., Pair]) -> None:
    """The port to meet at is open, those that torch takes are not."""
    both = pair()
    both.hosts[1].forbid("30000-65534")
    both.start()
    both.wait()
    (sentence,) = set(both.sentences())
    assert " cannot reach machine " in sentence, both.logs()
    assert all(host.address in sentence for host in both.hosts)
    assert peers_of(both.runs[0]) == []


@pytest.mark.soak
def test_a_cable_that_is_pulled_ends_the_run_on_both(pair: Callable[..., Pair]) -> None:
    both = pair()
    both.start("steps")
    until(both.is_training, START_S)
    both.hosts[1].cut()
    both.wait()
    first, second = both.sentences()
    assert first == "The connection to machine 2 (gpu-two) was lost: nothing was heard for 60 s.", both.logs()
    assert second.startswith(f"The connection to machine 1 ({both.hosts[0].address}) was lost")


@pytest.mark.soak
def test_a_port_in_use_is_said(config: Make, workspace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        one = folder_of(workspace / "runs" / "mine", config())
        add_start(one, **TOGETHER, meeting={"node": 0, "endpoint": f"127.0.0.1:{port}", "code": "a-code"})
        agent = forked(one)
        agent.join(START_S)
    wait_for_nothing_left(one)
    assert str(one.state().message) == f"Port {port} is in use on this machine. Choose another port, and use it on every machine."  # fmt: skip
