"""A plan: how devices share the work, which of them each module lives on, and what every one will hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lora_backend.errors import DeviceError, PlanError, TooLittleMemoryError
from lora_backend.i18n import N_, Plural
from lora_backend.planning.cost.memory import Breakdown, Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.plan_document import PlanDocument, PlannedBreakdown, PlannedDevice, Strategy
from lora_backend.planning.split.chosen_split import Goal, split_for
from lora_backend.planning.targets import GIB, Target
from lora_backend.planning.verdict import Verdict, uncertainty_bytes, verdict_of, worst_of


@dataclass(frozen=True)
class Options:
    """How the placement is chosen; the config's keys have the same names."""

    force_balance: bool = False
    min_memory_gb: float = 2.0
    """GPUs with less memory for us are left out."""
    goal: Goal = "balance"
    max_utilisation: float = 0.9
    """For `fewest` and `speed`: how full a device may be, if anything keeps within it."""


@dataclass(frozen=True)
class DevicePlan:
    """One device and what it will hold."""

    target: Target
    units: tuple[int, ...]
    """0 is the embedding, then the blocks from 1 on, then the head where it is a tensor of its own."""
    blocks: tuple[int, ...]
    breakdown: Breakdown
    expected_error: float
    """Of the tensors in `breakdown`, as a share: the profile's."""
    gathered_bytes: int = 0
    """fsdp: of `breakdown.weights`, what is there for a moment and belongs to the other processes."""

    @property
    def verdict(self) -> Verdict:
        return verdict_of(self.breakdown.total, self.uncertainty_bytes, self.target.capacity_bytes)

    @property
    def uncertainty_bytes(self) -> int:
        """By how much the true peak may be above what is planned."""
        return uncertainty_bytes(self.breakdown, self.expected_error, self.target.capacity_bytes)

    @property
    def utilisation(self) -> float:
        """Planned bytes / capacity; infinite where there is no capacity and something is placed."""
        if not self.breakdown.total:
            return 0.0
        return self.breakdown.total / self.target.capacity_bytes if self.target.capacity_bytes else float("inf")

    @property
    def free_bytes(self) -> int:
        """Negative where it is over."""
        return self.target.capacity_bytes - self.breakdown.total


@dataclass(frozen=True)
class Plan:
    """How a model is trained on devices, with their predicted bytes; every target is listed, those without work with no blocks."""

    strategy: Strategy
    devices: tuple[DevicePlan, ...]
    assignment: tuple[int, ...]
    """Per unit, the position of its device in `devices`; empty where every process computes the whole model."""
    profile: Profile
    workload: Workload
    num_processes: int = 1
    """That train together on this machine."""
    num_nodes: int = 1
    """Machines that train together."""
    is_exact: bool = True
    """False where the placement is not proven to be the best one (very many different devices)."""

    @property
    def fits(self) -> bool:
        """Whether no device is over what is free there; `verdict` says whether that is beyond doubt."""
        return self.bottleneck_utilisation <= 1

    @property
    def verdict(self) -> Verdict:
        return worst_of(device.verdict for device in self.devices)

    @property
    def bottleneck_utilisation(self) -> float:
        return max(device.utilisation for device in self.devices)

    @property
    def bottleneck(self) -> DevicePlan:
        return max(self.devices, key=lambda device: device.utilisation)

    @property
    def used(self) -> tuple[DevicePlan, ...]:
        return tuple(device for device in self.devices if device.units)

    @property
    def pipeline(self) -> tuple[DevicePlan, ...]:
        """The devices in use in the model's order, the embedding's first; of several processes in the order of their ranks."""
        return tuple(self.devices[index] for index in dict.fromkeys(self.assignment)) or self.used

    @property
    def is_shared(self) -> bool:
        """Whether several processes train together, each of which computes the whole model."""
        return self.strategy in ("ddp", "fsdp")

    @property
    def device_map(self) -> dict[str, int | str]:
        """Module → device, as accelerate and transformers take it: every module named once, no block split. Empty where
        every process has a model of its own."""
        if self.is_shared:
            return {}
        return device_map(self.profile, [self.devices[index].target.device for index in self.assignment])

    def document(self) -> PlanDocument:
        """As files and commands hold it."""
        return PlanDocument(
            fits=self.fits,
            verdict=self.verdict,
            strategy=self.strategy,
            device_map=self.device_map or None,
            num_processes=self.num_processes,
            num_nodes=self.num_nodes,
            bottleneck_utilisation=self.bottleneck_utilisation,
            devices=[_document(device) for device in self.devices],
        )


def _document(device: DevicePlan) -> PlannedDevice:
    return PlannedDevice(
        index=device.target.device,
        uuid=device.target.uuid,
        name=device.target.name,
        capacity_bytes=device.target.capacity_bytes,
        breakdown=PlannedBreakdown(**vars(device.breakdown)),
        total_bytes=device.breakdown.total,
        utilisation=device.utilisation,
        verdict=device.verdict,
        uncertainty_bytes=device.uncertainty_bytes,
        gathered_bytes=device.gathered_bytes,
        blocks=list(device.blocks),
    )


def device_map(profile: Profile, devices: Sequence[int | str]) -> dict[str, int | str]:
    """Module → device from the device of each unit. Tied weights are together, for they are one unit."""
    placed: dict[str, int | str] = dict.fromkeys(profile.embed_modules, devices[0])
    blocks = len(profile.kind_of_block)
    placed |= {f"{profile.blocks_path}.{block}": devices[block + 1] for block in range(blocks)}
    return placed | dict.fromkeys(profile.head_modules, devices[0] if profile.is_tied else devices[blocks + 1])


def assignment_of(profile: Profile, given: Mapping[str, int | str], targets: Sequence[Target]) -> tuple[int, ...]:
    """The position in `targets` of each unit's device, as a map of modules to devices places them.

    A name stands for all below it, as in accelerate. Raises `PlanError` for a device that is not there, `DeviceError` for
    a module that no entry covers, and a map that splits a block or parts tied weights.
    """
    positions: dict[int | str, int] = {target.device: index for index, target in enumerate(targets)}
    positions |= {f"cuda:{device}": index for device, index in positions.items() if isinstance(device, int)}

    def place(module: str) -> int:
        inside = {device for name, device in given.items() if name.startswith(f"{module}.")}
        parents = [name for name in given if name in ("", module) or module.startswith(f"{name}.")]
        devices = inside or {given[max(parents, key=len)]} if parents or inside else set()
        if not devices:
            raise DeviceError(
                N_(
                    "`device_map` has no entry for {module}. Name every module, or a part of the model that contains it."
                ),
                module=module,
            )
        if len(devices) > 1:
            raise DeviceError(
                N_("`device_map` splits {module} over several devices. A block must be on one."), module=module
            )
        (device,) = devices
        if device not in positions:
            raise PlanError(
                N_(
                    "`device_map` places {module} on {device}, which is not one of the devices: {known}. Remove `device_map` and set `use_balanced_device_map: true` to get a map for the devices you have."
                ),
                module=module,
                device=device,
                known=", ".join(str(target.device) for target in targets),
            )
        return positions[device]

    blocks = [place(f"{profile.blocks_path}.{index}") for index in range(len(profile.kind_of_block))]
    ends = place(profile.embed_modules[0]), place(profile.head_modules[0])
    if profile.is_tied:
        if ends[0] != ends[1]:
            raise DeviceError(
                N_("`device_map` places {one} and {other} apart, but they are one tensor."),
                one=profile.embed_modules[0],
                other=profile.head_modules[0],
            )
        return (ends[0], *blocks)
    return (ends[0], *blocks, ends[1])


def make_plan(
    profile: Profile,
    workload: Workload,
    targets: Sequence[Target],
    options: Options | None = None,
    link_speed: LinkSpeed | None = None,
) -> Plan:
    """The placement with the least bottleneck; one that is over capacity where nothing fits.

    Raises `TooLittleMemoryError` where no target has `min_memory_gb` for us, `DeviceError` where `force_balance` asks for more devices than blocks.
    """
    options = options or Options()
    usable = usable_targets(targets, options)
    memory = Memory(profile, replace(workload, on_gpu=not all(target.is_cpu for target in targets)))
    split = split_for(
        memory,
        [targets[index] for index in usable],
        goal=options.goal,
        every_device=options.force_balance,
        max_utilisation=options.max_utilisation,
        link_speed=None if link_speed is None else lambda a, b: link_speed(usable[a], usable[b]),
    )
    assignment = tuple(usable[device] for device in split.assignment)
    return replace(score_plan(memory, targets, assignment), is_exact=split.is_exact)


def score_plan(memory: Memory, targets: Sequence[Target], assignment: Sequence[int]) -> Plan:
    """A placement as it is, never changed: what every device would hold. Any unit may be on any target."""
    if len(assignment) != memory.num_units:
        raise DeviceError(
            Plural(
                "The placement has {count} part, but the model has {units}.",
                "The placement has {count} parts, but the model has {units}.",
            ),
            count=len(assignment),
            units=memory.num_units,
        )
    held: list[list[int]] = [[] for _ in targets]
    for unit, target in enumerate(assignment):
        held[target].append(unit)
    devices = tuple(device_plan(memory, target, units) for target, units in zip(targets, held, strict=True))
    used = [device for device in devices if device.units]
    is_on_cpu = all(device.target.is_cpu for device in used)
    strategy: Strategy = "cpu" if is_on_cpu else "single" if len(used) == 1 else "layer_split"
    return Plan(strategy, devices, tuple(assignment), memory.profile, memory.workload)


def device_plan(memory: Memory, target: Target, units: Sequence[int]) -> DevicePlan:
    """What a device holds that has these units."""
    blocks = len(memory.profile.kind_of_block)
    return DevicePlan(
        target,
        tuple(units),
        tuple(unit - 1 for unit in units if 0 < unit <= blocks),
        memory.device(units),
        memory.profile.expected_error,
    )


def usable_targets(targets: Sequence[Target], options: Options) -> list[int]:
    """Positions of the targets that the planner may use. Raises `DeviceError` in the words its users know."""
    if options.force_balance:
        return list(range(len(targets)))
    usable = [
        index
        for index, target in enumerate(targets)
        if target.is_cpu or target.capacity_bytes >= options.min_memory_gb * GIB
    ]
    if not usable:
        raise no_gpu_has_enough(options.min_memory_gb)
    return usable


def no_gpu_has_enough(min_memory_gb: float) -> TooLittleMemoryError:
    """The refusal with its three remedies."""
    return TooLittleMemoryError(
        N_(
            "❌ No GPU has enough memory (at least {gb} GB needed). Free memory on a GPU (close other programs, empty the cache), lower `min_memory_gb`, or set `force_balance: true`."
        ),
        gb=f"{min_memory_gb:g}",
    )
