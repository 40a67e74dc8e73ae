"""How the machines of a run meet: on this one, by threads that each have a run folder, with facts that are made up."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lora_backend.machines import doorbell
from lora_backend.machines.compared import MachineFacts, SetFacts, difference
from lora_backend.machines.desk import Desk
from lora_backend.machines.guest import Joining
from lora_backend.machines.guest_session import GuestSession
from lora_backend.machines.host_session import HostSession
from lora_backend.machines.machine_messages import LastWord, Place, Verdict
from lora_backend.machines.network import MachinesError, free_port, interface_of, listen_at, split_endpoint
from lora_backend.machines.wire import MAX_LINE_BYTES
from lora_backend.runs.record.attempts import BaseIdentity
from lora_backend.runs.record.failures import PEER_LOST, failure
from lora_backend.runs.record.peer_documents import PeerProcess, SaidFailure
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_stop
from tests.run_files import add_start, make_run, set_status
from tests.waiting import until

HERE, CODE = "127.0.0.1", "a-code"
FACTS: dict[str, Any] = {
    "node": 0, "num_nodes": 2, "host": "one", "num_processes": 1, "strategy": "ddp", "precision": "fp32", "python": "3.12",
    "commit": "a" * 40, "versions": {"torch": "2.13.0", "bitsandbytes": None}, "config": {"learning_rate": 0.1, "seed": 1},
    "base": BaseIdentity(config_sha256="c", weights_sha256="w", tokenizer_sha256="t"),
    "rows": [SetFacts(key="dataset", path="/data/one.jsonl", sha256="1")],
}  # fmt: skip
Meeting = Callable[..., "Machine"]


def facts(node: int = 0, **other: Any) -> MachineFacts:
    return MachineFacts(**(FACTS | {"node": node, "host": ("one", "two", "three")[node]} | other))


class Machine(threading.Thread):
    """One machine that goes to the meeting; `came` is what it got there, `error` why it did not."""

    def __init__(self, folder: RunStore, endpoint: str, mine: MachineFacts, code: str, within_s: float) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.came: Any = None
        self.error: MachinesError | None = None
        self._way, self._facts = (endpoint, code, within_s), mine

    @property
    def said(self) -> str:
        """Why it was not to be."""
        assert self.error is not None
        return str(self.error)

    def run(self) -> None:
        try:
            if self._facts.node == 0:
                with Desk(self.folder, *self._way) as desk:
                    gathered = desk.gather(self._facts)
                self.came = HostSession(self.folder, *gathered) if gathered else None
            else:
                joined = Joining(self.folder, *self._way).join(self._facts)
                self.came = GuestSession(self.folder, *joined, self._facts.node) if joined else None
        except MachinesError as error:
            self.error = error


@pytest.fixture
def endpoint() -> str:
    return f"{HERE}:{free_port()}"


@pytest.fixture
def machine(tmp_path: Path, endpoint: str) -> Iterator[Meeting]:
    """Starts machines that go to one meeting."""
    started: list[Machine] = []

    def start(node: int = 0, code: str = CODE, within_s: float = 60.0, **other: Any) -> Machine:
        folder = make_run(tmp_path / f"ws{len(started)}" / "runs", config={}, config_text="", argv=["true"])
        num_nodes = other.get("num_nodes", 2)
        meeting = {"node": node, "endpoint": endpoint, "code": code}
        add_start(folder, strategy="ddp", num_processes=1, num_nodes=num_nodes, meeting=meeting)
        started.append(Machine(folder, endpoint, facts(node, **other), code, within_s))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        if one.is_alive():
            request_stop(one.folder)
        one.join(30)
        if one.came is not None:
            one.came.leave(LastWord())


def ended(*machines: Machine) -> None:
    for one in machines:
        one.join(60)
        assert not one.is_alive()


def detail_of(one: Machine) -> str:
    return str(one.folder.read_status().attempt.detail)


def test_machines_that_are_alike_meet_in_whatever_order_they_come(machine: Meeting, endpoint: str) -> None:
    third = machine(2, num_nodes=3)
    until(lambda: detail_of(third) == f"Waiting for machine 1 at {endpoint}")
    first = machine(num_nodes=3)
    until(lambda: detail_of(first) == detail_of(third) == f"Waiting for machine 2 of 3 at {endpoint}")
    second = machine(1, num_nodes=3)
    ended(first, second, third)
    assert first.error is second.error is third.error is None
    stores = {(one.came.store.address, one.came.store.port, one.came.store.run_id) for one in (first, second, third)}
    assert len(stores) == 1
    assert {one.came.store.interface for one in (first, second, third)} == {"lo"}
    assert first.folder.read_status().attempt.stage == "starting"


DIFFERENCES: dict[str, tuple[dict[str, Any], str]] = {
    "nodes": ({"num_nodes": 3}, "Machine 2 (two) was started for 3 machines and machine 1 (one) for 2. Give both the same number."),
    "processes": ({"num_processes": 2}, "Machine 2 (two) would train with 2 processes and machine 1 (one) with 1. Set `num_processes` to a number that each machine has GPUs for."),
    "device": ({"device": "cuda"}, "Machine 2 (two) would train on GPUs and machine 1 (one) on the CPU. Train on GPUs on both, or on both on the CPU."),
    "commit": ({"commit": "b" * 40}, "Machine 2 (two) has commit bbbbbbbbbbbb of this program, machine 1 (one) aaaaaaaaaaaa. Check out the same on both."),
    "package": ({"versions": {"torch": "2.12.0"}}, "Machine 2 (two) has torch 2.12.0, machine 1 (one) 2.13.0. Install the same version on both."),
    "python": ({"python": "3.11"}, "Machine 2 (two) has Python 3.11, machine 1 (one) 3.12. Install the same version on both."),
    "config": ({"config": {"learning_rate": 0.2, "seed": 1}}, "`learning_rate` is 0.2 on machine 2 (two) and 0.1 on machine 1 (one). Start both with the same config."),
    "precision": ({"precision": "bf16"}, "`precision` is bf16 on machine 2 (two) and fp32 on machine 1 (one). Start both with the same config."),
    "base": ({"base": BaseIdentity(config_sha256="c", weights_sha256="x")}, "Machine 2 (two) and machine 1 (one) do not have the same weights of the base model. Copy the files from one to the other."),
    "data": ({"rows": [SetFacts(key="dataset", path="/data/two.jsonl", sha256="2")]}, "The rows of `dataset` on machine 2 (two), /data/two.jsonl, are not those on machine 1 (one), /data/one.jsonl. Copy the file from one machine to the other."),
}  # fmt: skip


@pytest.mark.parametrize("what", DIFFERENCES)
def test_what_machines_have_otherwise_is_named(what: str) -> None:
    other, sentence = DIFFERENCES[what]
    found = difference(facts(), facts(1, **other))
    assert found is not None
    assert found.text("en") == sentence
    assert found.text("zh") != sentence


@pytest.mark.parametrize("other", [{}, {"commit": None}, {"versions": {"torch": "2.13.0", "bitsandbytes": "1"}}, {"rows": [SetFacts(key="dataset", path="/elsewhere", sha256="1")]}])  # fmt: skip
def test_what_does_not_matter_is_no_difference(other: dict[str, Any]) -> None:
    assert difference(facts(), facts(1, **other)) is None


def test_a_difference_ends_it_on_all_machines_with_one_sentence(machine: Meeting) -> None:
    second = machine(1, num_nodes=3)
    first = machine(num_nodes=3)
    until(lambda: "machine 3 of 3" in detail_of(second))
    third = machine(2, num_nodes=3, versions={"torch": "2.12.0"})
    ended(first, second, third)
    said = "Machine 3 (three) has torch 2.12.0, machine 1 (one) 2.13.0. Install the same version on both."
    assert [one.said for one in (first, second, third)] == [said] * 3


def test_who_has_another_code_is_sent_away_and_the_meeting_goes_on(machine: Meeting, endpoint: str) -> None:
    first, stranger = machine(), machine(1, code="another")
    ended(stranger)
    assert stranger.said == f"The run waiting at {endpoint} has another code. Copy the command for this machine again from the first machine."  # fmt: skip
    second = machine(1)
    ended(first, second)
    assert first.came is not None
    assert second.came is not None


@pytest.mark.parametrize("node", [1, 2])
def test_a_number_that_another_machine_has_or_that_there_is_not_is_refused(node: int, machine: Meeting) -> None:
    first = machine(num_nodes=3 if node == 1 else 2)
    if node == 1:
        second = machine(1, num_nodes=3)
        until(lambda: "machine 3 of 3" in detail_of(second))
    wrong = machine(node, num_nodes=3 if node == 1 else 2, host="third")
    ended(wrong)
    assert wrong.said == {
        1: "Another machine (two) has `--node 1` already. Give each machine a number of its own, from 0 on.",
        2: "Of 2 machines none is `--node 2`: numbers go from 0 to 1.",
    }[node]  # fmt: skip
    assert first.is_alive()


def test_machines_that_never_come_are_named(machine: Meeting, endpoint: str) -> None:
    first = machine(num_nodes=3, within_s=0.2)
    ended(first)
    assert first.said == f"Not all machines reached {endpoint} within 1 min; missing: 2, 3. Check their logs: the run was not started there, or the machine cannot reach this one on that port."  # fmt: skip


def test_a_first_machine_that_does_not_answer_is_named(machine: Meeting, endpoint: str) -> None:
    second = machine(1, within_s=0.2)
    ended(second)
    port = endpoint.rpartition(":")[2]
    assert second.said == f"Machine 1 did not answer at {endpoint} within 1 min: Connection refused. Check that its run was started, and that its firewall allows port {port}."  # fmt: skip


def test_a_machine_that_nobody_reaches_is_named_before_anything_is_loaded(
    machine: Meeting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell.Doorbell, "_answer", lambda bell: bell._listener.close())
    first, second = machine(), machine(1)
    ended(first, second)
    assert first.said == second.said
    assert "cannot reach machine" in first.said
    assert first.said.endswith("Open the firewall between them for all ports, or give an endpoint on a network that they share.")  # fmt: skip


def test_another_program_on_the_port_is_no_machine() -> None:
    bell = doorbell.Doorbell(HERE, 1)
    try:
        (found,) = doorbell.unreached([Place(node=2, address=HERE, port=bell.place.port)], own=0)
        assert found.reason == "another program answered"
        assert doorbell.unreached([bell.place], own=0) == []
    finally:
        bell.close()


@pytest.mark.parametrize("who", ["first", "second"])
def test_a_stop_on_any_machine_ends_the_waiting_on_all(who: str, machine: Meeting) -> None:
    first, second = machine(num_nodes=3), machine(1, num_nodes=3)
    until(lambda: "machine 3 of 3" in detail_of(second))
    request_stop({"first": first, "second": second}[who].folder, "somebody")
    ended(first, second)
    assert first.came is second.came is None
    assert first.error is second.error is None
    for one in (first, second):
        request = one.folder.read_stop_request()
        assert request is not None
        assert request.actor == "somebody"


def test_a_stop_ends_the_waiting_for_a_machine_that_is_not_there(machine: Meeting, endpoint: str) -> None:
    second = machine(1)
    until(lambda: "machine 1" in detail_of(second))
    request_stop(second.folder)
    ended(second)
    assert (second.came, second.error) == (None, None)


def test_who_left_before_all_were_there_may_come_again(machine: Meeting) -> None:
    first, second = machine(num_nodes=3), machine(1, num_nodes=3)
    until(lambda: "machine 3 of 3" in detail_of(second))
    hello = json.dumps({"kind": "Hello", "code": CODE, "address": HERE, "port": 1, "facts": facts(2, num_nodes=3).to_json()})  # fmt: skip
    call(first, hello + "\n").close()
    again = machine(2, num_nodes=3)
    ended(first, second, again)
    assert first.came is not None


def call(first: Machine, said: str | bytes) -> socket.socket:
    """A program that connects to where machines meet."""
    connection = socket.create_connection(split_endpoint(first._way[0]), 10)
    connection.settimeout(30)
    connection.sendall(said.encode() if isinstance(said, str) else said)
    return connection


@pytest.mark.parametrize(
    "said",
    [
        "GET / HTTP/1.1\r\n\r\n", "\n", "{}\n", "[]\n", '{"kind": "Hello"}\n', '{"kind": "Go"}\n', b"\xff\xfe\n", b"x" * (MAX_LINE_BYTES + 1),
        '{"kind": "Doing", "peers": []}\n', '{"kind": "__class__"}\n', "[" * 100_000 + "\n",
    ],
)  # fmt: skip
def test_whoever_says_something_else_is_hung_up_on(said: str | bytes, machine: Meeting) -> None:
    first = machine()
    until(lambda: "machine 2 of 2" in detail_of(first))
    stranger = call(first, said)
    try:
        assert stranger.recv(1) == b""
    except ConnectionError:  # closed with something unread
        pass
    second = machine(1)
    ended(first, second)
    assert first.came is not None


def test_a_port_in_use_is_said_at_once(endpoint: str) -> None:
    port = int(endpoint.rpartition(":")[2])
    with listen_at(endpoint), pytest.raises(MachinesError, match=f"Port {port} is in use on this machine. Choose"):
        listen_at(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("203.0.113.9:29500", "203.0.113.9 is not an address of this machine. Use an address of the first machine"),
        ("no.such.machine.invalid:29500", "No machine is known by the name no.such.machine.invalid here."),
        ("here", "`here` is not an address to meet at."),
        ("here:0", "`here:0` is not an address to meet at."),
        ("here:99999", "`here:99999` is not an address to meet at."),
        (":29500", "`:29500` is not an address to meet at."),
    ],
)
def test_an_endpoint_that_is_none_is_said_to_be(endpoint: str, sentence: str) -> None:
    with pytest.raises(MachinesError) as caught:
        listen_at(endpoint)
    assert str(caught.value).startswith(sentence)


def test_an_endpoint_may_be_a_name_or_an_address_of_ipv6() -> None:
    assert split_endpoint("gpu1.example:29500") == ("gpu1.example", 29500)
    assert split_endpoint("[fe80::1]:29500") == ("fe80::1", 29500)
    assert interface_of(HERE) == "lo"
    assert interface_of("203.0.113.9") is None


# ------------------------------------------------------------------------------------------------ while it trains


@pytest.fixture
def pair(machine: Meeting) -> tuple[Machine, Machine]:
    """Two machines that train, with a process each."""
    first, second = machine(), machine(1)
    ended(first, second)
    for node, one in enumerate((first, second)):
        set_status(one.folder, peers=[PeerProcess(rank=node, node=node, host=("one", "two")[node])])
    return first, second


def tick(*machines: Machine, failed: Machine | None = None) -> bool:
    """Let them hear of one another; false, for whoever waits for something else."""
    for one in machines:
        one.came.tick(has_failed=one is failed)
    return False


def peers_of(one: Machine) -> list[tuple[int, int, str, bool]]:
    return [(peer.rank, peer.node, peer.host, peer.failure is not None) for peer in one.folder.read_status().attempt.peers]  # fmt: skip


def settled(*words: tuple[Machine, LastWord]) -> list[Verdict]:
    """How each of the machines ends; the first waits for the others."""
    found: dict[int, Verdict] = {}

    def settle(place: int, one: Machine, word: LastWord) -> None:
        found[place] = one.came.settle(word)

    threads = [threading.Thread(target=settle, args=(place, *pair)) for place, pair in enumerate(words)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [found[place] for place in range(len(words))]


def said(text: str, cause: str = "code") -> SaidFailure:
    found = failure(PEER_LOST, rank=0) if cause == PEER_LOST else failure("start", reason=text)
    return SaidFailure(cause=cause, message=found.message, rank=1)


def test_every_machine_shows_the_processes_and_steps_of_all(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    set_status(first.folder, step=7, total_steps=9, stage="training", eta_s=3.0)

    def is_shown() -> bool:
        tick(first, second)
        return len(peers_of(first)) == len(peers_of(second)) == 2 and second.folder.read_status().step == 7

    until(is_shown)
    assert peers_of(first) == peers_of(second) == [(0, 0, "one", False), (1, 1, "two", False)]
    status = second.folder.read_status()
    assert (status.total_steps, status.attempt.stage, status.attempt.eta_s) == (9, "training", 3.0)


@pytest.mark.parametrize("who", [0, 1])
def test_a_stop_on_any_machine_is_one_on_all(who: int, pair: tuple[Machine, Machine]) -> None:
    request_stop(pair[who].folder, "somebody")
    until(lambda: tick(*pair) or all(one.folder.stop_request.exists() for one in pair))
    request = pair[1 - who].folder.read_stop_request()
    assert request is not None
    assert request.actor == "somebody"


def test_a_checkpoint_that_is_asked_for_anywhere_is_saved_by_the_first(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    set_status(second.folder, state="starting")
    set_status(second.folder, state="running")
    (second.folder.save_request).write_text("{}")
    until(lambda: tick(*pair) or first.folder.save_request.exists())
    assert not second.folder.save_request.exists()


def test_the_failure_that_is_its_own_is_told_on_all_machines(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    own, lost = LastWord(failure=said("bad"), follows=0, age_s=0.1), LastWord(failure=said("", PEER_LOST), follows=2, age_s=1)  # fmt: skip
    assert settled((first, lost), (second, own)) == [Verdict(failure=own.failure)] * 2


def test_of_two_failures_the_earlier_is_told(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    late, early = LastWord(failure=said("late"), age_s=1), LastWord(failure=said("early"), age_s=100)
    assert settled((first, late), (second, early)) == [Verdict(failure=early.failure)] * 2


def test_all_end_as_the_first_has(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    set_status(first.folder, outcome="stopped", outcome_cause="max_time", step=5)
    verdicts = settled((first, LastWord()), (second, LastWord(failure=said("", PEER_LOST), follows=2)))
    assert [(one.outcome, one.cause) for one in verdicts] == [("stopped", "max_time")] * 2
    assert second.folder.read_status().step == 5


def test_a_process_that_fails_on_one_machine_is_known_on_the_others(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    set_status(second.folder, peers=[PeerProcess(rank=1, node=1, host="two", failure=said("bad"))])
    until(lambda: tick(*pair) or first.came.has_fallen)
    assert peers_of(first)[1] == (1, 1, "two", True)
    until(lambda: tick(*pair, failed=first) or second.came.has_fallen)


@pytest.mark.parametrize("who", [0, 1])
def test_a_machine_that_is_gone_is_named(who: int, pair: tuple[Machine, Machine]) -> None:
    """Where nobody has a better word."""
    gone, left = pair[who], pair[1 - who]
    for wire in [gone.came._wire] if who else [guest.wire for guest in gone.came._guests]:
        wire.close()
    until(lambda: tick(left) or left.came.has_fallen)
    (verdict,) = settled((left, LastWord(failure=said("", PEER_LOST), follows=2)))
    assert verdict.failure is not None
    name = "machine 2 (two)" if who else f"machine 1 ({HERE})"
    assert str(verdict.failure.message) == f"The connection to {name} was lost: it was closed."
    assert verdict.failure.cause == "machine_lost"


def test_a_machine_says_nothing_of_the_processes_of_another(pair: tuple[Machine, Machine]) -> None:
    first, second = pair
    set_status(second.folder, peers=[PeerProcess(rank=0, node=1, host="evil"), PeerProcess(rank=1, node=1, host="two")])
    until(lambda: tick(*pair) or len(peers_of(first)) == 2)
    assert peers_of(first) == [(0, 0, "one", False), (1, 1, "two", False)]
