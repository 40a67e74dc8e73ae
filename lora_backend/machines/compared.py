"""What machines must have alike to train one run: each says what it has, and the first names what differs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from lora_backend.config.schema import KEYS
from lora_backend.config.validation import refuse_errors
from lora_backend.i18n import N_, Message
from lora_backend.machines.network import host_name
from lora_backend.models.identity import base_identity
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.runs.record.attempts import Attempt, BaseIdentity
from lora_backend.runs.record.provenance import provenance
from lora_backend.typed_json import Count, Part

OF_A_START = ("strategy", "num_processes", "num_nodes")
"""Keys that say what a start settles: that is compared as it was settled."""
NOT_FOR_TRAINING = ("streamlit",)
"""Recorded packages that have no part in it."""
MAX_SHOWN = 60
"""Letters of a value in a sentence."""
BASE = {
    "config_sha256": N_("config.json"),
    "weights_sha256": N_("weights"),
    "tokenizer_sha256": N_("tokenizer or chat template"),
}
FILES = N_(
    "Machine {number} ({host}) and machine 1 ({first}) do not have the same {what} of the base model. Copy the files from one to the other."
)


class SetFacts(Part):
    """A file of rows: where it is on its machine, and which bytes it has."""

    key: str
    """Of the config."""
    path: str
    sha256: str


class MachineFacts(Part):
    """What one machine brings to a run."""

    node: Count
    """From 0."""
    num_nodes: Count
    """For how many machines it was started."""
    host: str
    """What it calls itself."""
    num_processes: Count
    strategy: str | None = None
    precision: str | None = None
    """As it was planned."""
    device: str = "cpu"
    """The kind that it computes on: `cpu` or `cuda`."""
    commit: str | None = None
    """Of this program."""
    python: str
    """Its version, without the last number."""
    versions: dict[str, str | None]
    """Package → version."""
    config: dict[str, Any]
    """Key → value, without what names a place on the machine."""
    base: BaseIdentity | None = None
    rows: list[SetFacts]
    """All that the config names of rows, in its order."""


def facts_of(resolved: ResolvedConfig, attempt: Attempt) -> MachineFacts:
    """This machine's. Hashes its data, which may take a while; raises as the training itself where something is missing."""
    assert attempt.meeting is not None
    refuse_errors(resolved.result)
    made_by = provenance()
    return MachineFacts(
        node=attempt.meeting.node,
        num_nodes=attempt.num_nodes,
        host=host_name(),
        num_processes=attempt.num_processes,
        strategy=attempt.strategy,
        precision=attempt.plan.precision if attempt.plan else None,
        device="cuda" if attempt.gpus else "cpu",
        commit=made_by["code"].commit if made_by["code"] else None,
        python=made_by["python"].rpartition(".")[0],
        versions={name: version for name, version in made_by["versions"].items() if name not in NOT_FOR_TRAINING},
        config=_compared(resolved.config.model_dump(mode="json")),
        base=BaseIdentity(**base_identity(resolved.model_path)),
        rows=[SetFacts(key=one.key, path=one.named.path, sha256=one.sha256()) for one in resolved.rows],
    )


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if KEYS[key].portable and key not in OF_A_START}
    sets = config.get("datasets")
    return kept | ({"datasets": [{**one, "path": None} for one in sets]} if isinstance(sets, list) else {})


def difference(first: MachineFacts, other: MachineFacts) -> Message | None:
    """The first thing that `other` has otherwise than the first machine, with what to do; None where they can train together."""
    return next(_differences(first, other), None)


def _differences(first: MachineFacts, other: MachineFacts) -> Iterator[Message]:
    who = {"number": other.node + 1, "host": other.host, "first": first.host}

    def said(template: str, **values: object) -> Message:
        return Message(template, {**who, **values})

    if first.num_nodes != other.num_nodes:
        yield said(N_("Machine {number} ({host}) was started for {there} machines and machine 1 ({first}) for {here}. Give both the same number."), there=other.num_nodes, here=first.num_nodes)  # fmt: skip
    if first.num_processes != other.num_processes:
        yield said(N_("Machine {number} ({host}) would train with {there} processes and machine 1 ({first}) with {here}. Set `num_processes` to a number that each machine has GPUs for."), there=other.num_processes, here=first.num_processes)  # fmt: skip
    if first.device != other.device:
        yield said(N_("Machine {number} ({host}) would train on {there} and machine 1 ({first}) on {here}. Train on GPUs on both, or on both on the CPU."), there=_device(other.device), here=_device(first.device))  # fmt: skip
    if first.commit and other.commit and first.commit != other.commit:
        yield said(N_("Machine {number} ({host}) has commit {there} of this program, machine 1 ({first}) {here}. Check out the same on both."), there=other.commit[:12], here=first.commit[:12])  # fmt: skip
    for package, here, there in _versions(first, other):
        yield said(N_("Machine {number} ({host}) has {package} {there}, machine 1 ({first}) {here}. Install the same version on both."), package=package, there=there, here=here)  # fmt: skip
    for key, here, there in _values(first, other):
        yield said(N_("`{key}` is {there} on machine {number} ({host}) and {here} on machine 1 ({first}). Start both with the same config."), key=key, there=there, here=here)  # fmt: skip
    yield from (said(FILES, what=Message(what)) for what in _parts_of_base(first, other))
    for mine, theirs in zip(first.rows, other.rows, strict=False):
        if mine.sha256 != theirs.sha256:
            yield said(N_("The rows of `{key}` on machine {number} ({host}), {there}, are not those on machine 1 ({first}), {here}. Copy the file from one machine to the other."), key=mine.key, there=theirs.path, here=mine.path)  # fmt: skip


def _device(device: str) -> Message:
    return Message(N_("GPUs") if device == "cuda" else N_("the CPU"))


def _versions(first: MachineFacts, other: MachineFacts) -> Iterator[tuple[str, str, str]]:
    """Package, here and there; what one of them lacks is refused there, where it is needed."""
    if first.python != other.python:
        yield "Python", first.python, other.python
    for package, here in first.versions.items():
        there = other.versions.get(package)
        if here and there and here != there:
            yield package, here, there


def _values(first: MachineFacts, other: MachineFacts) -> Iterator[tuple[str, str, str]]:
    """Key, here and there."""
    settled = ("strategy", "precision")
    keys = list(dict.fromkeys([*first.config, *other.config]))
    for key in keys:
        if first.config.get(key) != other.config.get(key):
            yield key, _shown(first.config.get(key)), _shown(other.config.get(key))
    for key in settled:
        here, there = getattr(first, key), getattr(other, key)
        if here and there and here != there:
            yield key, here, there


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"


def _parts_of_base(first: MachineFacts, other: MachineFacts) -> Iterator[str]:
    """What of the base model differs, where both have it."""
    if first.base is None or other.base is None:
        return
    for name, what in BASE.items():
        here, there = getattr(first.base, name), getattr(other.base, name)
        if here and there and here != there:
            yield what
