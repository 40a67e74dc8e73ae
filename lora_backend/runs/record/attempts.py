"""What is known of one start of a run: `attempts/<n>.json`. The launcher writes it, then the trainer adds to it."""

from __future__ import annotations

from typing import Any, Literal

from lora_backend.clusters.cluster_documents import ClusterRequest
from lora_backend.planning.plan_document import PlanDocument, Strategy
from lora_backend.planning.verdict import Verdict
from lora_backend.runs.record.documents import CodeVersion
from lora_backend.runs.record.peer_documents import MachineMeeting
from lora_backend.typed_json import Count, Document, Number, Part, Sentence

NumBytes = int | float
"""Of a device; a measurement from elsewhere may have a fraction."""


ASKED = ("resume_from", "changes", "restarts_schedule", "argv", "actor", "damaged", "accepted_data_sha256")
"""What whoever resumes a run says of the new attempt, whatever is planned for it."""


class BaseIdentity(Document):
    """Hashes by which a base model is known again; None for what is not there."""

    config_sha256: str | None = None
    """Of its config.json."""
    weights_sha256: str | None = None
    """Sampled: names, sizes, and some places in each file."""
    tokenizer_sha256: str | None = None
    """Of the files that make tokens and the chat's form."""
    revision: str | None = None
    """Of a model in the hub's cache."""


class HeldTensors(Part):
    """What one device holds in a step, by component; bytes."""

    device: int | str
    """In the numbers of the plan."""
    rank: Count | None = None
    """Of several processes, the one that holds it."""
    weights: NumBytes | None = None
    """Of the base model, buffers with them."""
    adapter: NumBytes | None = None
    """The trained parameters."""
    gradients: NumBytes | None = None
    """Of micro-batches before the measured one."""
    optimizer: NumBytes | None = None
    """The optimizer's states."""
    moving: NumBytes | None = None
    """What comes and goes within the step, at its peak."""
    tensors: NumBytes | None = None
    """All of them together."""
    process: NumBytes | None = None
    """What driver or system say of the whole process."""


class MeasuredRows(Part):
    """The rows of a micro-batch that was measured."""

    rows: Count | None = None
    """How many they are."""
    tokens: Count | None = None
    """Of a row, padding included; of the longest, where nothing is padded."""
    padded: bool | None = None
    """Whether some rows were padded to the length of the longest."""
    lengths: list[Count] | None = None
    """Tokens of each row, where they went through one behind the other, without padding; absent: they did not."""
    labelled: Count | None = None
    """Tokens that are learned."""


class PeerRows(MeasuredRows):
    """Those of one of several processes."""

    rank: Count
    """The process."""


class Measured(MeasuredRows):
    """What one micro-batch really held, and which one that was. Of several processes each measured one of its own: the rows
    that stand here are those of the first."""

    step: Count | None = None
    """The optimizer step that it belonged to."""
    peers: list[PeerRows] = []
    """The rows of each of several processes."""
    devices: list[HeldTensors] = []
    """Each device that the trainer used; of several processes those of each, by rank."""

    def rows_of(self, rank: int | None) -> MeasuredRows:
        """What a process had; None: the one that trained alone."""
        return next((peer for peer in self.peers if peer.rank == rank), self)


class Expected(Part):
    """What the memory model says of that very micro-batch."""

    devices: list[HeldTensors]
    """Each device of the plan; of several processes the device of each, by rank."""


class PlannedTime(Part):
    """How long all steps take by the plan's estimate, without what comes before and behind them; seconds."""

    fast_s: Number
    """If all is as fast as is likely."""
    slow_s: Number
    """If all is as slow as is likely."""
    num_steps: Count
    """Optimizer steps of the whole run."""


class DamagedCheckpoint(Part):
    """A checkpoint that was passed over, and what is wrong with it."""

    checkpoint: str
    """Its folder's name."""
    problems: list[str]
    """A few words for each file."""


class ReadSet(Part):
    """A data set as a start has read it."""

    path: str
    """Where it was: a file, or a folder of them."""
    split: str | None = None
    """Which of its splits was read, where the config names one."""
    sha256: str
    """Of its bytes."""


class Attempt(Document):
    """One start of a run. What is absent was not known, or the start never came so far."""

    number: Count = 0
    """Counted from 1; 0 where there is none yet."""
    time: Number | None = None
    """When it was launched or queued."""
    actor: str | None = None
    """Who resumed it; of the first start `run.json` says it."""
    argv: list[str] | None = None
    """Of a resume: the command that was found for it."""

    plan: PlanDocument | None = None
    """Written and None: there is no plan, and `note` says why. Not written: the trainer plans."""
    fallback: Sentence | None = None
    """Why the balanced map that was asked for is not used."""
    planned_time: PlannedTime | None = None
    """Of a run that was to wait when it was planned; absent where its rows or the rates of its devices were not known."""
    note: Sentence | None = None
    """Why there is no plan."""
    strategy: Strategy | None = None
    """How its GPUs share the work, as it was settled for this start."""
    strategy_note: Sentence | None = None
    """Why it is that one, where the config leaves it open."""
    num_processes: Count = 1
    """That train together on each machine."""
    num_nodes: Count = 1
    """Machines that train together."""
    meeting: MachineMeeting | None = None
    """Where these machines find one another."""
    cluster: ClusterRequest | None = None
    """The cluster that it trains on; absent: this machine. It is planned on the machine that the cluster gives it."""
    device_uuids: list[str | None] = []
    """GPUs of the plan, in the model's order; of several processes in the order of their ranks."""
    environment: dict[str, str] = {}
    """Variables with which the trainer sees these GPUs and no others."""
    anyway: bool = False
    """It starts although its plan does not fit."""
    accepted: Verdict | None = None
    """Of a plan that does not fit beyond doubt: what whoever started it accepted."""
    shares: bool = False
    """It starts beside other runs, and leases nothing."""

    resume_from: str | None = None
    """Name of the checkpoint that it goes on from. Written and None: from the first step, whatever is there."""
    damaged: list[DamagedCheckpoint] = []
    """Checkpoints that whoever resumed it passed over."""
    changes: dict[str, Any] = {}
    """Keys of the config that are other ones from this start on."""
    restarts_schedule: list[str] = []
    """Those of them that the learning rate's schedule is made of."""
    accepted_data_sha256: str | None = None
    """Of changed data in which it may go on."""

    passed_over: list[DamagedCheckpoint] = []
    """Checkpoints that the trainer passed over. All from here on is written by the trainer."""
    from_step: Count | None = None
    """The step that it goes on from."""
    resume_note: Sentence | None = None
    """Why it does not go on to the bit as if nothing had happened, where another number of processes trains on."""
    num_threads: Count | None = None
    """Of torch, on the CPU."""
    data_sha256: str | None = None
    """Of the bytes that its rows were read from; of several sets one hash for all."""
    data_sets: list[ReadSet] = []
    """Each set by itself."""
    eval_sha256: str | None = None
    """Of the rows that are evaluated, where they are a file of their own."""
    questions_sha256: str | None = None
    """Of the file of questions."""
    init_adapter_sha256: str | None = None
    """Of the weights that its adapter began with, where the config names an adapter."""
    precision: str | None = None
    """What it trains in."""
    batching: Literal["flat", "padded", "packed"] | None = None
    """How rows share a forward pass: one behind the other, padded to the longest, or in lines filled with them."""
    batching_note: Sentence | None = None
    """Why rows are padded where the config leaves that to the model."""
    base: BaseIdentity | None = None
    """The base model that it found."""
    versions: dict[str, str | None] | None = None
    """Package → version."""
    python: str | None = None
    """Its version."""
    platform: str | None = None
    """Kernel and machine, as Python names them."""
    code: CodeVersion | None = None
    """Of this program."""
    loaded_device_map: dict[str, int | str] | None = None
    """Module → device as the model was really loaded, in the numbers of the plan."""
    vocab_size: Count | None = None
    """Tokens that the base model knows."""
    adapter_step: Count | None = None
    """The step of the adapter that the run ended with, where that is to be the best checkpoint's."""
    tracker_runs: dict[str, str] = {}
    """Tracker of `report_to` → its own id of the run, where it gives one: the next start goes on in that."""
    measured: Measured | None = None
    """The memory of its second step."""
    expected: Expected | None = None
    """What was planned for that very step."""

    def learn(self, more: Attempt) -> None:
        """Take what another one says of the same start."""
        for name in more.model_fields_set:
            setattr(self, name, getattr(more, name))

    @property
    def gpus(self) -> list[str]:
        """UUIDs of the GPUs of its plan; empty on the CPU, and where accelerate places the model."""
        return [uuid for uuid in self.device_uuids if uuid]

    @property
    def planned_bytes(self) -> dict[str, int]:
        """UUID → bytes of its plan.

        Older versions name no UUIDs there: what holds something stands in the order of `device_uuids`.
        """
        if self.plan is None:
            return {}
        used = self.plan.used
        if any(device.uuid for device in used):
            return {device.uuid: int(device.total_bytes) for device in used if device.uuid}
        if len(used) != len(self.device_uuids):
            used = [self.plan.devices[index] for index in sorted(set(self.plan.assignment or ()))]
        return {uuid: int(device.total_bytes) for uuid, device in zip(self.device_uuids, used, strict=False) if uuid}

    def asked_like(self, before: Attempt) -> Attempt:
        """This plan, for what another attempt was asked to do: its checkpoint, changes and command."""
        kept = {name: getattr(before, name) for name in ASKED if name in before.model_fields_set}
        return self.model_copy(
            update={name: value for name, value in kept.items() if name not in self.model_fields_set}
        )

    @property
    def num_peers(self) -> int:
        """Processes that train together, on all machines; 1 where one trains alone."""
        return self.num_processes * self.num_nodes if self.strategy in ("ddp", "fsdp") else 1

    @property
    def is_planned(self) -> bool:
        """Whether its launcher has planned it, be it to the end that there is no plan."""
        return "plan" in self.model_fields_set

    @property
    def names_checkpoint(self) -> bool:
        """Whether it was said what to go on from, be it from nothing."""
        return "resume_from" in self.model_fields_set
