"""Where a chat's model is computed: the GPU that is leased for it and given up to a run, or the CPU that runs share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from lora_backend.chats.documents import Sampling
from lora_backend.errors import ModelError
from lora_backend.hardware.visible import environment_of
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.preflight.chat_room import ChatRoom, chat_room
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.runs.processes.lease_requests import LOOK_EVERY_S, is_wanted
from lora_backend.runs.processes.leases import CPU, Lease, holders, release, take
from lora_backend.runs.record.job_documents import Column

GIVEN_UP = N_("{run} needs this GPU, so the model was unloaded in the middle of this answer. Ask again to load it where there is room.")  # fmt: skip


@dataclass(frozen=True)
class ChatDevice:
    """Where the model goes, and the lease on it."""

    room: ChatRoom
    leases: tuple[Lease, ...]
    """Held until this process ends; none on the CPU."""

    @property
    def torch_device(self) -> str:
        """The one GPU that this process is shown is the first; a torch that was built without CUDA sees none."""
        return "cpu" if self.room.device == CPU or not torch.cuda.is_available() else "cuda:0"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which torch sees this device and no other."""
        return environment_of([] if self.room.device == CPU else [self.room.device])


def choose_device(
    base_model: str,
    columns: Sequence[Column],
    sampling: Sampling,
    installation: Installation,
    policy: PathPolicy,
    prompt_tokens: int,
) -> ChatDevice:
    """The device on which these columns fit, leased. Raises `ModelError` with the figures where they fit on none."""
    tried: list[str] = []
    while True:
        room = chat_room(
            base_model, columns, sampling, installation, policy, prompt_tokens=prompt_tokens, without=tried
        )
        if room.message is not None:
            raise ModelError(room.message.template, **room.message.values)
        if room.device == CPU:
            return ChatDevice(room, ())
        leases = take(installation.leases, [room.device], installation.chats, clock=installation.clock)
        if leases is not None and is_wanted(installation.leases, room.device) is None:
            return ChatDevice(room, tuple(leases))
        release(leases or ())
        tried.append(room.device)


def refuse_no_room(
    base_model: str,
    columns: Sequence[Column],
    sampling: Sampling,
    installation: Installation,
    policy: PathPolicy,
    prompt_tokens: int,
    device: ChatDevice,
    held_bytes: int,
) -> None:
    """Raise `ModelError` where a model that is loaded has no room for these columns and this length. `held_bytes`: of it."""
    room = chat_room(
        base_model, columns, sampling, installation, policy,
        prompt_tokens=prompt_tokens, freed_bytes=held_bytes, only=device.room.device,
    )  # fmt: skip
    if room.message is not None:
        raise ModelError(room.message.template, **room.message.values)


def leave_when_wanted(device: ChatDevice, installation: Installation, leave: Callable[[Message], None]) -> None:
    """Call `leave` from a thread, with the reason, as soon as a run wants the GPU; it ends this process."""
    if device.room.device == CPU:
        return

    def look() -> None:
        waiting = threading.Event()
        while not waiting.wait(LOOK_EVERY_S):
            run = is_wanted(installation.leases, device.room.device)
            if run is not None:
                return leave(Message(GIVEN_UP, {"run": run}))
        return None

    threading.Thread(target=look, daemon=True).start()


class SharedCores:
    """Threads that answering takes: one while a run trains on the CPU, else as many as torch began with."""

    def __init__(self, installation: Installation) -> None:
        self._leases = installation.leases
        self._all = torch.get_num_threads()

    def settle(self) -> int:
        """Take as many as there are to take now; gives their number."""
        wanted = 1 if holders(self._leases, [CPU]) else self._all
        if torch.get_num_threads() != wanted:
            torch.set_num_threads(wanted)
        return wanted
