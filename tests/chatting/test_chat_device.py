"""Cores that a chat takes: all of them, and one while a run trains on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lora_backend.chatting.chat_device import SharedCores
from lora_backend.installation import this_installation
from lora_backend.runs.processes.leases import release, take


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("_two_threads")
def test_answering_takes_one_thread_while_a_run_trains_on_the_cpu_and_all_of_them_again(workspace: Path) -> None:
    installation = this_installation()
    cores = SharedCores(installation)
    assert (cores.settle(), torch.get_num_threads()) == (2, 2)
    on_a_gpu = take(installation.leases, ["GPU-a"], installation.runs / "r0")
    assert cores.settle() == 2
    training = take(installation.leases, ["cpu"], installation.runs / "r1")
    assert (cores.settle(), torch.get_num_threads()) == (1, 1)
    release(training or [])
    assert (cores.settle(), torch.get_num_threads()) == (2, 2)
    release(on_a_gpu or [])
