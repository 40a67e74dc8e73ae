"""Make a profile of a model by tracing its own training step, without its bytes.

The first block and one more of each kind are traced, at three sizes: from these follows how each tensor grows with
rows, tokens and rank. A model of full depth at any size is then a sum of the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntraceableError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.modeling.meta import (
    build_meta,
    keep_blocks,
    pack,
    set_rank,
    signature,
    trained,
)
from lora_backend.modeling.step import FakeStep, among_new_objects, outer_modules
from lora_backend.modeling.step_parts import cut, released_by
from lora_backend.modeling.trace_sizes import (
    attention_windows,
    max_positions,
    scan_chunk,
    short_sizes,
    tile_tokens,
    trace_sizes,
)
from lora_backend.modeling.tracker import Deadline, LongScanError, Recording
from lora_backend.planning.profile import NOTHING, Profile, TraceSettings, Unit
from lora_backend.planning.scaling import Size, Vector, identify

Report = Callable[[Message, float], None]
ERROR_EXACT = 0.01
"""What a composed peak differs from a full trace by at most, where every tensor's growth is known exactly."""
OPERATIONS_OF_A_PART = 1500
"""In one block's forward or backward pass: more means that it goes through a row token by token, or through many experts."""
TRACE_SECONDS = 20
"""Of a processor, for all sizes together."""
ERROR_FITTED = 0.03
"""Where the order of events changes with the size, and only the parts' sums could be fitted."""


@among_new_objects()
def trace_profile(
    facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings, report: Report = lambda *_: None
) -> Profile:
    """The profile of the model that `facts` (a `config.json`) describes, with the adapter that `config` asks for.

    Reads no weights. Raises `ModelError` where the family cannot be built or traced.
    """
    report(Message(N_("Building the model without its weights")), 0.1)
    meta = build_meta(facts, settings, config)
    positions = max_positions(meta.base.config)
    windows = attention_windows(meta.base.config)
    outer = outer_modules(meta.base, meta.blocks_path)
    counts_of_outer = {name: _parameters(meta.base.get_submodule(name), set()) for name in outer}
    earlier: set[int] = set()
    counts = {id(block): _parameters(block, earlier) for block in meta.blocks}
    pack(meta, settings.precision)
    kinds, kind_of_block, kept = _kinds(meta.blocks)
    keep_blocks(meta, kept)
    units = {name: meta.base.get_submodule(name) for name in outer}
    counts |= {id(module): counts_of_outer[name] for name, module in units.items()}
    trains = {id(module): trained(module, config.r) for module in [*units.values(), *meta.blocks]}
    step = FakeStep(meta, settings, Deadline(TRACE_SECONDS))
    tile = tile_tokens(meta.base.config)
    chunk = scan_chunk(meta.base.config, meta.blocks)
    sizes = trace_sizes(settings, windows, positions, tile, chunk)
    try:
        steps = _recorded(step, config.r, sizes, report, OPERATIONS_OF_A_PART)
    except LongScanError:
        sizes = short_sizes(settings, chunk)
        steps = _recorded(step, sizes[0].rank, sizes, report)
    recordings = [one.recording for one in steps]
    parts, is_exact = cut(recordings, sizes, chunk)
    released = [released_by(recordings, sizes, index, chunk) for index in range(len(kinds))]

    seen: set[int] = set()
    loose_bytes = _loose_bytes(meta.base, meta.blocks_path)

    def unit(
        modules: list[nn.Module], label: str, side: Vector = NOTHING.delta, released: Vector = NOTHING.delta
    ) -> Unit:
        weights_bytes = sum(_frozen_bytes(module, seen) for module in modules)
        weights_bytes += loose_bytes if label == "embed" else 0
        return Unit(
            parameters=sum(counts[id(module)] for module in modules)
            if label != "head"
            else sum(counts[id(module)] for module in modules) - tied,
            weights_bytes=weights_bytes,
            trained=tuple(tensors for module in modules for tensors in trains[id(module)]),
            forward=parts.get(f"forward {label}", NOTHING),
            backward=parts.get(f"backward {label}", NOTHING),
            side_inputs=side,
            released=released,
        )

    head_names = [name for name in units if step.unit_of_module.get(name) == "head"]
    embed_names = [name for name in units if name not in head_names]
    tied = _shared_parameters([units[name] for name in embed_names], [units[name] for name in head_names])
    sides = identify(
        sizes, np.array([[one.side_bytes[index] for one in steps] for index in range(len(kept))], float), chunk
    )[0]
    whole = identify(
        sizes, np.array([[one.logits_bytes for one in steps], [one.hidden_bytes for one in steps]], float), chunk
    )[0]
    return Profile(
        settings=settings,
        method="traced",
        expected_error=max(
            ERROR_EXACT if is_exact else ERROR_FITTED, meta.packing.expected_error if meta.packing else 0
        ),
        model_type=meta.base.config.model_type,
        max_positions=positions,
        windows=windows,
        tile_tokens=tile,
        is_tied=bool(tied),
        blocks_path=meta.blocks_path,
        embed_modules=tuple(embed_names),
        head_modules=tuple(head_names),
        embed=unit([units[name] for name in embed_names], "embed"),
        kinds=tuple(
            unit([meta.blocks[index]], str(index), sides[index], released[index]) for index in range(len(kinds))
        ),
        kind_of_block=tuple(kind_of_block),
        head=unit([units[name] for name in head_names], "head"),
        returns=parts["return"],
        logits=whole[0],
        hidden=whole[1],
        token_multiple=chunk,
    )


class _Seen(NamedTuple):
    """A step at one size."""

    recording: Recording
    logits_bytes: int
    hidden_bytes: int
    side_bytes: dict[int, int]


def _recorded(
    step: FakeStep, rank: int, sizes: list[Size], report: Report, most_operations: int | None = None
) -> list[_Seen]:
    """The step of a model whose adapter has `rank`, at each size.

    Raises `LongScanError` where a part of the first takes more than `most_operations`, and `UntraceableError`.
    """
    seen = []
    for number, size in enumerate(sizes):
        done = Message(N_("Tracing a training step ({number} of {count})"), {"number": number + 1, "count": len(sizes)})
        report(done, 0.3 + 0.2 * number)
        set_rank(step.meta.model, rank, size.rank)
        rank = size.rank
        try:
            recording = step.run(size, most_operations if number == 0 else None).recording
        except (ModelError, LongScanError):
            raise
        except Exception as error:  # whatever a family's code does with tensors that have no values
            raise UntraceableError(
                N_("The model's training step cannot be traced: {reason}"), reason=first_line(error)
            ) from error
        seen.append(_Seen(recording, step.logits_bytes, step.hidden_bytes, dict(step.side_bytes)))
    return seen


@among_new_objects()
def full_trace(
    facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings, size: Size
) -> tuple[int, int]:
    """Bytes of the weights, and peak bytes beside them, of a step in which every block of the model is traced.

    What profiles are held against; the adapter's rank is that of `size`.
    """
    meta = build_meta(facts, settings, config.model_copy(update={"r": size.rank}))
    pack(meta, settings.precision)
    step = FakeStep(meta, settings)
    peak_bytes = step.run(size).peak_bytes()
    return _frozen_bytes(meta.model, set()), peak_bytes


def _kinds(blocks: nn.ModuleList) -> tuple[list[str], list[int], list[int]]:
    """Kinds of blocks, the kind of each, and a block for each kind.

    The first and the last are kinds of their own: what a block leaves to be let go by the next one stays behind the last.
    So are those before which nothing trains: their inputs need no gradient. And those that share weights with one before
    them (Zamba's attention): they are there once.
    """
    kinds: list[str] = []
    kind_of_block, kept = [], []
    is_reached = False
    earlier: set[int] = set()
    for index, block in enumerate(blocks):
        own = {id(parameter) for parameter in block.parameters()}
        kind = f"{is_reached} {bool(own & earlier)} {signature(block)}"
        kind = "first" if index == 0 else "last" if index == len(blocks) - 1 else kind
        earlier |= own
        if kind not in kinds:
            kinds.append(kind)
            kept.append(index)
        kind_of_block.append(kinds.index(kind))
        is_reached |= any(parameter.requires_grad for parameter in block.parameters())
    return kinds, kind_of_block, kept


def _frozen(module: nn.Module) -> list[Any]:
    found = [parameter for parameter in module.parameters() if not parameter.requires_grad]
    return [*found, *module.buffers()]


def _frozen_bytes(module: nn.Module, seen: set[int]) -> int:
    """Bytes of what does not train, of tensors not in `seen`; adds them to it."""
    size_bytes = 0
    for tensor in _frozen(module):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            size_bytes += tensor.numel() * tensor.element_size()
    return size_bytes


def _loose_bytes(model: nn.Module, blocks_path: str) -> int:
    """Buffers of the modules that hold the blocks, and of none inside of them (GPT-BigCode's mask); they lie with the inputs."""
    parts = blocks_path.split(".")
    holders = [model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts))]
    return sum(b.numel() * b.element_size() for holder in holders for b in holder._buffers.values() if b is not None)


def _parameters(module: nn.Module, earlier: set[int]) -> int:
    """Of the base model: all but the adapter's, and but those in `earlier`; adds them to it."""
    own = [p for name, p in module.named_parameters() if "lora_" not in name and ".modules_to_save." not in name]
    count = sum(parameter.numel() for parameter in own if id(parameter) not in earlier)
    earlier |= {id(parameter) for parameter in own}
    return count


def _shared_parameters(one: list[nn.Module], other: list[nn.Module]) -> int:
    ids = {id(parameter) for module in one for parameter in module.parameters()}
    return sum(p.numel() for module in other for p in module.parameters() if id(p) in ids)
