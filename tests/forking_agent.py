"""The agent of a run as `train` is it, but that its processes are forked: `python -m tests.forking_agent RUN_DIR [WORK]`.

They need not import torch each for itself, which takes most of the time of a run of a tiny model. All else is real: processes,
signals, sockets, files. `WORK` is what they do in the place of training, by its name in `FAILURES`.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import Popen
from typing import Any, NoReturn

import torch
from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

import lora_backend.trainer.direct_run
from lora_backend.cli import main
from lora_backend.installation import Installation
from lora_backend.peers.peers import Peers
from lora_backend.runs.record.run_store import RunStore
from lora_backend.trainer import agent, peer
from lora_backend.training.reporter import nan_loss

FAILS_AT, FAILING_RANK = 5, 1
TICK_S = 0.01


class ForkingPopen(Popen[bytes]):
    """Starts a process of a run without a new Python."""

    def _execute_child(self, args: Sequence[str], *more: Any) -> None:
        assert tuple(args[1:3]) == ("-m", agent.PEER_MODULE), args
        environment = more[5]
        self.pid = os.fork()
        if self.pid == 0:
            _be_peer(args[3:], environment)
        self._child_created = True


def _be_peer(words: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """As after an exec: no descriptor, handler or variable of the agent's is left."""
    code = 1
    try:
        os.setsid()
        for name in ("", "lora_backend"):
            logging.getLogger(name).handlers.clear()
        os.closerange(3, 4096)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["peer", *words]
        peer.main()
        code = 0
    finally:
        sys.stderr.flush()
        os._exit(code)


def fail() -> None:
    raise ValueError("a bad thing")


def run_out_of_memory() -> None:
    raise MemoryError


def crash() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


def leave_without_a_word() -> None:
    os._exit(0)


def leave_with_a_code() -> None:
    os._exit(7)


def diverge() -> None:
    raise nan_loss(FAILS_AT, 0)


FAILURES: dict[str, Callable[[], None]] = {
    "fail": fail,
    "deaf": fail,
    "memory": run_out_of_memory,
    "crash": crash,
    "silent": leave_without_a_word,
    "code": leave_with_a_code,
    "nan": diverge,
    "steps": lambda: None,
    "busy": lambda: None,
}
"""What one of the processes does in the middle of its work. With `deaf` the other one hears no SIGTERM then, with `busy`
nobody hears of a stop."""


def instead_of_training(kind: str) -> Callable[..., None]:
    def work(folder: RunStore, installation: Installation, peers: Peers, **_: object) -> None:
        for step in range(1_000_000):
            if step == FAILS_AT and peers.rank == FAILING_RANK:
                FAILURES[kind]()
            if step == FAILS_AT and kind == "deaf":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                while True:
                    time.sleep(TICK_S)
            peers.summed(torch.ones(8))
            if peers.is_first:
                with folder.changing_status() as status:
                    status.state, status.step, status.attempt.stage = "running", step, "training"
            if peers.agreed(folder.stop_request.exists() and kind != "busy"):
                break
            time.sleep(TICK_S)
        if peers.is_first:
            with folder.changing_status() as status:
                status.attempt.outcome = "stopped"

    return work


def be_agent(path: str, kind: str | None = None) -> NoReturn:
    """A whole process."""
    subprocess_handler.Popen = ForkingPopen
    if kind is not None:
        lora_backend.trainer.direct_run.train_by_config = instead_of_training(kind)
    sys.exit(main(["train", str(Path(path) / "config.yaml"), "--run-dir", path, "--lang", "en"]))


def be_forked_agent(path: str, kind: str | None, log: str) -> NoReturn:
    """The same for one that is forked itself, as from a terminal, which is the file `log`."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    be_agent(path, kind)


if __name__ == "__main__":
    be_agent(*sys.argv[1:])
