"""What the processes of a test do together: train run after run with the real recipe, and write down how each ended."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaForCausalLM

from lora_backend.errors import FlightdeckError
from lora_backend.installation import this_installation
from lora_backend.modeling.step import micro_batch_step
from lora_backend.peers.gradients import share_first_weights, sum_gradients
from lora_backend.peers.peers import Alone, Peers
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.resolve import resolve
from lora_backend.runs.checkpoints.manifest import newest_whole
from lora_backend.runs.record.run_store import RunStore
from lora_backend.runs.record.transitions import request_save, request_stop
from lora_backend.trainer.session import training_session
from lora_backend.training import loop, reporter
from lora_backend.training.evaluation_pass import evaluation_pass
from lora_backend.training.recipe import train
from tests.run_files import start_again
from tests.training.helpers import at_line

JOBS = "jobs.json"
SIZES = (
    (4, torch.float32),
    (30, torch.float32),
    (5, torch.float32),
    (6, torch.bfloat16),
    (7, torch.bfloat16),
    (3, torch.float32),
)
"""Of inputs: the second's weight is larger than a bucket, the third's fits beside nothing of it."""


def train_all(peers: Peers, folder: Path) -> None:
    """Each job of `jobs.json` in turn: a run's folder (`run`) and what is done to it (`act`); how it ended goes to
    `<number>.<rank>.json`."""
    (folder / f"gradients.{peers.rank}.json").write_text(json.dumps(sum_like_ddp(peers)))
    for number, job in enumerate(json.loads((folder / JOBS).read_text())):
        found = train_run(peers, RunStore(Path(job["run"])), job["act"], job["changes"])
        (folder / f"{number}.{peers.rank}.json").write_text(json.dumps(found))


class Parts(nn.Module):
    """Layers of several sizes and dtypes; one is only trained by the first process, one by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(size, size + 3, dtype=dtype) for size, dtype in SIZES)
        self.of_first, self.unused = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, rank: int) -> torch.Tensor:
        given = torch.Generator().manual_seed(rank)
        made = [
            layer(torch.rand(2, layer.in_features, generator=given).to(layer.weight.dtype)) for layer in self.layers
        ]
        made += [self.of_first(torch.rand(2, 4, generator=given))] if rank == 0 else []
        return torch.stack([one.float().square().sum() for one in made]).sum()


def sum_like_ddp(peers: Peers) -> dict[str, Any]:
    """Gradients by one sum of ours, in small buckets, and by torch's DistributedDataParallel, which takes their mean: twice
    that, which is exact."""
    torch.manual_seed(0)
    of_first = Parts()
    torch.manual_seed(peers.rank)
    ours = Parts()
    share_first_weights(list(ours.parameters()), peers)
    pairs = zip(ours.parameters(), of_first.parameters(), strict=True)
    shared = all(torch.equal(one, other) for one, other in pairs)
    theirs = DistributedDataParallel(copy.deepcopy(ours), find_unused_parameters=True)
    ours(peers.rank).backward()
    theirs(peers.rank).backward()
    sum_gradients(list(ours.parameters()), peers, bucket_bytes=600)
    wanted = {name: one.grad for name, one in theirs.module.named_parameters()}
    found = {name: one.grad for name, one in ours.named_parameters()}
    with_grad = {name: grad for name, grad in found.items() if grad is not None}
    differing = [name for name, grad in with_grad.items() if not torch.equal(grad, 2 * wanted[name])]
    return {
        "shared": shared,
        "differing": differing,
        "compared": len(with_grad),
        "without": sorted(found.keys() - with_grad.keys()),
    }


def train_run(peers: Peers, run: RunStore, act: str = "", changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """How it ended at this process: its error, if one, and the sum of all trained weights."""
    if act == "resume":
        if peers.is_first:
            newest, _ = newest_whole(run)
            start_again(run, "starting", resume_from=newest and newest.name, changes=changes or {}, plan=None)
        peers.wait_for_all()
    installation = this_installation().around(run.path)
    try:
        with ACTS[act](run, peers), _session(run, peers):
            resolved = resolve(run.config_as_changed(), installation, AnyPath(installation.folder))
            resolved.validated()
            model = train(resolved, run, peers=peers)
    except FlightdeckError as error:
        return {"error": type(error).__name__, "said": error.message.text("en")}
    finally:
        peers.wait_for_all()
    assert model is not None
    return {"weights": [one.double().sum().item() for one in model.parameters() if one.requires_grad]}


def _session(run: RunStore, peers: Peers) -> contextlib.AbstractContextManager[None]:
    return training_session(run, this_installation()) if peers.is_first else contextlib.nullcontext()


@contextlib.contextmanager
def _stop(run: RunStore, peers: Peers) -> Iterator[None]:
    """Asked for while step 6 is logged: the next is given up."""
    with at_line("step 6 of", lambda: request_stop(run)) if peers.is_first else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _stop_within(run: RunStore, peers: Peers) -> Iterator[None]:
    """Asked for by the last process, in its first pass of a step: the others may or may not see it before their next."""
    real, calls = micro_batch_step, iter(range(1, 1000))

    def watched(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == 5 and peers.rank == peers.size - 1:
            request_stop(run)
        return real(*args, **kwargs)

    with mock.patch.object(loop, "micro_batch_step", watched):
        yield


@contextlib.contextmanager
def _stop_evaluation(run: RunStore, peers: Peers) -> Iterator[None]:
    """Asked for by the last process, when it begins the evaluation of step 4."""
    real = evaluation_pass

    def watched(*args: Any, **kwargs: Any) -> Any:
        if peers.rank == peers.size - 1:
            request_stop(run)
        return real(*args, **kwargs)

    with mock.patch.object(loop, "evaluation_pass", watched):
        yield


@contextlib.contextmanager
def _save(run: RunStore, peers: Peers) -> Iterator[None]:
    with at_line("step 3 of", lambda: request_save(run)) if peers.is_first else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def _late(run: RunStore, peers: Peers) -> Iterator[None]:
    """The clock of the first process, and of no other, goes ahead by two hours while step 3 is logged."""
    if not peers.is_first:
        yield
        return
    ahead_s = [0.0]
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + ahead_s[0])
    with mock.patch.object(reporter, "time", clock), at_line("step 3 of", lambda: ahead_s.insert(0, 7200.0)):
        yield


@contextlib.contextmanager
def averaging() -> Iterator[None]:
    """Llama as one of the models that take no count of labels."""
    with mock.patch.object(LlamaForCausalLM, "accepts_loss_kwargs", False, create=True):
        yield


@contextlib.contextmanager
def _averaging(run: RunStore, peers: Peers) -> Iterator[None]:
    with averaging():
        yield


@contextlib.contextmanager
def _nothing(run: RunStore, peers: Peers) -> Iterator[None]:
    yield


ACTS = {
    "": _nothing, "resume": _nothing, "stop": _stop, "stop within": _stop_within, "stop evaluation": _stop_evaluation, "save": _save, "late": _late, "averaging": _averaging,
}  # fmt: skip


def alone(run: RunStore, act: str = "", changes: dict[str, Any] | None = None) -> RunStore:
    """The same by one process, this one."""
    found = train_run(Alone(), run, act, changes)
    assert "error" not in found, found
    return run
