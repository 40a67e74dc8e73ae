"""Whether a base model and the adapters of a chat fit the memory that is free: asked before anything is loaded."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lora_backend.chats.documents import Sampling
from lora_backend.formats import size
from lora_backend.hardware.inventory import Gpu, read_gpus, read_host
from lora_backend.hardware.visible import visible_gpus
from lora_backend.i18n import N_, Message, Plural
from lora_backend.installation import Installation
from lora_backend.models.base_headers import PLAIN
from lora_backend.models.describe import describe_model, read_model_config
from lora_backend.models.headers import DTYPE_BITS, TensorInfo, read_folder_headers
from lora_backend.models.quantized import quantized_as
from lora_backend.planning.cost.memory import CONTEXT_BYTES, RESERVE
from lora_backend.preflight.path_policy import PathPolicy
from lora_backend.runs.processes.lease_requests import is_chat, is_wanted
from lora_backend.runs.processes.leases import CPU, holders
from lora_backend.runs.record.job_documents import Column
from lora_backend.verification.adapter_folder import adapter_within, is_pickled, read_adapter_headers

PROMPT_TOKENS = 1024
"""Of a prompt that is not written yet."""
READ_AT_ONCE = 1024
"""Tokens of a prompt in one forward."""


@dataclass(frozen=True)
class ChatRoom:
    """Where a chat's models go, what they need there, and what is free."""

    device: str
    """`cpu`, or the UUID of a GPU."""
    device_name: Message
    """For people."""
    weights_bytes: int
    adapters_bytes: int
    cache_bytes: int
    """Keys and values of every column, at the asked length."""
    work_bytes: int
    """What passes through one block while a prompt is read, logits, and on a GPU its context."""
    free_bytes: int
    is_completion: bool
    """The model has no chat template: prompts are gone on from, not answered."""
    max_positions: int | None
    """Tokens that the model reads at most, prompt and answer together."""
    message: Message | None = None
    """Why it does not fit; None where it does."""

    @property
    def needed_bytes(self) -> int:
        return self.weights_bytes + self.adapters_bytes + self.cache_bytes + self.work_bytes


def chat_room(
    base_model: str,
    columns: Sequence[Column],
    sampling: Sampling,
    installation: Installation,
    policy: PathPolicy,
    *,
    prompt_tokens: int = PROMPT_TOKENS,
    freed_bytes: int = 0,
    without: Container[str] = (),
    only: str | None = None,
) -> ChatRoom:
    """Look where these columns fit: on the freest GPU that no run holds or wants, else in host memory.

    `prompt_tokens`: of the longest prompt, with the chat before it. `freed_bytes`: what a model that is loaded now holds
    of `only`, or of host memory. `without`: UUIDs of GPUs that are not looked at. `only`: the device that is. Raises `ModelError` where base model or an adapter cannot be found or read.
    """
    path = policy.model(base_model)
    need = _Need.of(path, columns, sampling, policy, prompt_tokens)
    gpus = visible_gpus(read_gpus().gpus, installation.environment)[0]
    if only is not None:
        free = [replace(gpu, used_bytes=gpu.used_bytes - freed_bytes) for gpu in gpus if gpu.uuid == only]
    else:
        free = [gpu for gpu in gpus if gpu.uuid not in without and not _is_taken(gpu, installation)]
    rooms = [need.on_gpu(gpu) for gpu in sorted(free, key=lambda gpu: -gpu.free_bytes)]
    if only in (None, CPU) or not rooms:
        host = read_host(installation.cache)
        rooms.append(need.on_host(host.memory_available_bytes + freed_bytes, computes_bf16=host.computes_bf16))
    return next((room for room in rooms if room.message is None), rooms[0])


def _is_taken(gpu: Gpu, installation: Installation) -> bool:
    held = any(not is_chat(holder) for holder in holders(installation.leases, [gpu.uuid]))
    return held or is_wanted(installation.leases, gpu.uuid) is not None


@dataclass(frozen=True)
class _Need:
    """What the columns need, by the size of a value."""

    name: str
    tensors: Mapping[str, TensorInfo]
    adapters: Sequence[Mapping[str, TensorInfo]]
    facts: Mapping[str, Any]
    num_columns: int
    tokens: int
    """Of prompt and answer together."""
    prompt_tokens: int
    is_completion: bool
    max_positions: int | None

    @classmethod
    def of(
        cls, path: Path, columns: Sequence[Column], sampling: Sampling, policy: PathPolicy, prompt_tokens: int
    ) -> _Need:
        facts = read_model_config(path)
        described = describe_model(path, facts)
        tokens = prompt_tokens + sampling.max_new_tokens
        most = described.max_positions
        folders = [adapter_within(policy.adapter(column.adapter)) for column in columns if column.adapter]
        return cls(
            str(path),
            read_folder_headers(path, "model") if path.is_dir() else {},
            [{} if is_pickled(folder) else read_adapter_headers(folder) for folder in folders],
            facts,
            max(len(columns), 1),
            tokens if most is None else min(tokens, most),
            prompt_tokens,
            not described.has_chat_template,
            most,
        )

    def on_gpu(self, gpu: Gpu) -> ChatRoom:
        name = Message(N_("GPU {index} ({name})"), {"index": gpu.index, "name": gpu.name})
        return self._room(gpu.uuid, name, 2, gpu.free_bytes, CONTEXT_BYTES)

    def on_host(self, free_bytes: int, *, computes_bf16: bool) -> ChatRoom:
        return self._room(CPU, Message(N_("this machine's memory")), 2 if computes_bf16 else 4, free_bytes, 0)

    def _room(self, device: str, name: Message, value_bytes: int, free_bytes: int, context_bytes: int) -> ChatRoom:
        width, per_token = self._widths()
        room = ChatRoom(
            device,
            name,
            weights_bytes=_in_memory(self.tensors, value_bytes, _packed_bits(self.facts)),
            # PEFT holds an adapter in fp32 whatever its base model is in.
            adapters_bytes=sum(_in_memory(tensors, 4, 8) for tensors in self.adapters),
            cache_bytes=self.num_columns * self.tokens * per_token * value_bytes,
            work_bytes=round(min(self.prompt_tokens, READ_AT_ONCE) * width * value_bytes * (1 + RESERVE))
            + 12 * int(self._text_facts.get("vocab_size") or 0)
            + context_bytes,
            free_bytes=free_bytes,
            is_completion=self.is_completion,
            max_positions=self.max_positions,
        )
        if room.needed_bytes <= free_bytes:
            return room
        return replace(room, message=self._does_not_fit(room))

    def _does_not_fit(self, room: ChatRoom) -> Message:
        said = Plural(
            "{name} does not fit {device}: {needed} are needed ({weights} of weights, {adapters} of adapters, {cache} for the {tokens} tokens of {count} column, {work} to compute), and {free} are free. Ask for shorter answers, or take a smaller model.",
            "{name} does not fit {device}: {needed} are needed ({weights} of weights, {adapters} of adapters, {cache} for the {tokens} tokens of each of {count} columns, {work} to compute), and {free} are free. Ask for shorter answers or fewer columns, or take a smaller model.",
        )  # fmt: skip
        parts = {"weights": room.weights_bytes, "adapters": room.adapters_bytes, "cache": room.cache_bytes}
        sizes = {name: size(amount) for name, amount in {**parts, "work": room.work_bytes}.items()}
        figures = {"needed": size(room.needed_bytes), "free": size(room.free_bytes), "tokens": f"{self.tokens:,}"}
        return Message(
            said, {"name": self.name, "device": room.device_name, "count": self.num_columns, **sizes, **figures}
        )

    def _widths(self) -> tuple[int, int]:
        """Values that pass through a block for each token of a prompt, and those that the cache keeps of a token."""
        facts = self._text_facts
        hidden = _count(facts, "hidden_size", "n_embd", "d_model") or 0
        heads = _count(facts, "num_attention_heads", "n_head", "n_heads") or 1
        kept = _count(facts, "num_key_value_heads") or heads
        head = _count(facts, "head_dim") or hidden // heads
        blocks = _count(facts, "num_hidden_layers", "n_layer", "n_layers") or 0
        inner = _count(facts, "intermediate_size", "n_inner", "d_ff") or 4 * hidden
        return 8 * hidden + 3 * inner, 2 * blocks * kept * head

    @property
    def _text_facts(self) -> Mapping[str, Any]:
        inner = self.facts.get("text_config")
        return inner if isinstance(inner, Mapping) else self.facts


def _count(facts: Mapping[str, Any], *names: str) -> int | None:
    return next((facts[name] for name in names if type(facts.get(name)) is int and facts[name] > 0), None)


def _packed_bits(facts: Mapping[str, Any]) -> int:
    """Bits of a weight in tensors that are packed and unpacked at loading; 0 where they stay as they are."""
    quantized = quantized_as(facts)
    return 4 if quantized is not None and quantized.treatment == "expanded" else 0


def _in_memory(tensors: Mapping[str, TensorInfo], value_bytes: int, packed_bits: int) -> int:
    """Bytes of the tensors once they are loaded: whole weights in the dtype that is computed in, packed ones as they are,
    or unpacked."""
    total = 0
    for info in tensors.values():
        if info.dtype in PLAIN:
            total += math.prod(info.shape) * value_bytes
        elif packed_bits and DTYPE_BITS.get(info.dtype, 0) >= 8:
            total += info.size_bytes * 8 // packed_bits * value_bytes
        else:
            total += info.size_bytes
    return total
