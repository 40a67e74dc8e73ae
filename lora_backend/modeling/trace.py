"""Make a profile of a model by tracing its own training step, without its bytes.

The first block and one more of each kind are traced, at three sizes: from these follows how each tensor grows with
rows, tokens and rank. A model of full depth at any size is then a sum of the parts. Where blocks cannot be taken out of
a model, all of them are in the trace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntraceableError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.modeling.census import Census, frozen_bytes, kinds_of
from lora_backend.modeling.fake_step import FakeStep, among_new_objects
from lora_backend.modeling.meta import build_meta, keep_blocks, pack, set_rank
from lora_backend.modeling.step_parts import cut, released_by
from lora_backend.modeling.taken_step import taken_on
from lora_backend.modeling.trace_sizes import (
    attention_windows,
    max_positions,
    scan_chunk,
    short_sizes,
    tile_tokens,
    trace_sizes,
)
from lora_backend.modeling.tracker import Deadline, LongScanError, Recording
from lora_backend.planning.cost.profile import NOTHING, Profile, Taken, Unit
from lora_backend.planning.cost.scaling import Size, identify
from lora_backend.planning.cost.trace_settings import TraceSettings

Way = Literal["numbered anew", "tables kept", "whole"]
WAYS: tuple[Way, ...] = get_args(Way)
"""How blocks are traced, the quickest first: a block of each kind as if there were no others; the same beside tables that
are made for all blocks at once (Gemma's per-layer embeddings); every block."""
Report = Callable[[Message, float], None]
ERROR_EXACT = 0.01
"""What a composed peak differs from a full trace by at most, where every tensor's growth is known exactly."""
OPERATIONS_OF_A_PART = 3000
"""In one block's forward or backward pass: more means that it goes through a row token by token, or through many experts."""
TRACE_SECONDS = 20
"""Of a processor, for all sizes together."""
ERROR_FITTED = 0.03
"""Where the order of events changes with the size, and only the parts' sums could be fitted."""


@among_new_objects()
def trace_profile(
    facts: Mapping[str, Any],
    config: TrainingConfig,
    settings: TraceSettings,
    report: Report = lambda *_: None,
    *,
    way: Way = "numbered anew",
    deadline: Deadline | None = None,
    taken: Taken | None = None,
) -> Profile:
    """The profile of the model that `facts` (a `config.json`) describes, with the adapter that `config` asks for.

    `taken`: how the step is taken, in the place of what the model's structure allows. Reads no weights. Raises `ModelError` where the family cannot be built, and `UntraceableError` where it cannot be
    traced in this `way`.
    """
    report(Message(N_("Building the model without its weights")), 0.1)
    meta = build_meta(facts, settings, config)
    taken = taken or taken_on(meta.model, settings)
    census = Census(meta, settings, taken, config.r)
    settings = taken.step_of(settings)
    kept, kind_of_block = kinds_of(meta.blocks)
    if way == "whole":
        kept = kind_of_block = list(range(len(meta.blocks)))
    else:
        keep_blocks(meta, kept, keeps_tables=way == "tables kept")
    step = FakeStep(meta, settings, deadline or Deadline(TRACE_SECONDS))
    chunk = scan_chunk(meta.base.config, meta.blocks)
    windows, positions = attention_windows(meta.base.config), max_positions(meta.base.config)
    sizes = trace_sizes(settings, windows, positions, tile_tokens(meta.base.config), chunk)
    walks_rest = False
    try:
        steps = _recorded(step, config.r, sizes, report, None if settings.lengths else OPERATIONS_OF_A_PART)
    except LongScanError:
        sizes, walks_rest = short_sizes(settings, chunk), chunk > 1
        steps = _recorded(step, sizes[0].rank, sizes, report)
    head = [name for name in census.outer if step.unit_of_module.get(name) == "head"]
    counted = census.profile(head, kept, kind_of_block)
    if counted.parameters != census.total:
        raise UntraceableError(N_("The model's training step cannot be traced: its blocks share weights."))
    profile = replace(_with_steps(counted, steps, sizes, chunk), walks_rest=walks_rest)
    return _alike_once(replace(profile, method="traced_whole")) if way == "whole" else profile


class _Seen(NamedTuple):
    """A step at one size."""

    recording: Recording
    hidden_bytes: int
    side_bytes: dict[int, int]


def _with_steps(counted: Profile, steps: list[_Seen], sizes: list[Size], chunk: int) -> Profile:
    """`counted` with what was seen of a step at three sizes."""
    recordings = [one.recording for one in steps]
    parts, is_exact = cut(recordings, sizes, chunk)
    kept = range(len(counted.kinds))
    side_bytes = np.array([[one.side_bytes.get(index, 0) for one in steps] for index in kept], float)
    sides = identify(sizes, side_bytes, chunk)[0]
    (hidden,) = identify(sizes, np.array([[one.hidden_bytes for one in steps]], float), chunk)[0]

    def moving(unit: Unit, label: str) -> Unit:
        forward, backward = (parts.get(f"{way} {label}", NOTHING) for way in ("forward", "backward"))
        return replace(unit, forward=forward, backward=backward)

    kinds = tuple(
        replace(
            moving(kind, str(index)),
            side_inputs=sides[index],
            released=released_by(recordings, sizes, index, chunk),
        )
        for index, kind in enumerate(counted.kinds)
    )
    return replace(
        counted,
        method="traced",
        expected_error=max(ERROR_EXACT if is_exact else ERROR_FITTED, counted.expected_error),
        embed=moving(counted.embed, "embed"),
        kinds=kinds,
        head=moving(counted.head, "head"),
        returns=parts["return"],
        hidden=hidden,
        token_multiple=chunk,
    )


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
        seen.append(_Seen(recording, step.hidden_bytes, dict(step.side_bytes)))
    return seen


def _alike_once(profile: Profile) -> Profile:
    """The same profile with blocks that cost the same as one kind."""
    said = [json.dumps(kind.to_json()) for kind in profile.kinds]
    firsts = list(dict.fromkeys(said))
    kinds = tuple(profile.kinds[said.index(first)] for first in firsts)
    return replace(
        profile, kinds=kinds, kind_of_block=tuple(firsts.index(said[kind]) for kind in profile.kind_of_block)
    )


@among_new_objects()
def full_trace(
    facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings, size: Size
) -> tuple[int, int]:
    """Bytes of the weights, and peak bytes beside them, of a step in which every block of the model is traced.

    What profiles are held against; the adapter's rank is that of `size`.
    """
    meta = build_meta(facts, settings, config.model_copy(update={"r": size.rank}))
    pack(meta, settings.precision)
    step = FakeStep(meta, taken_on(meta.model, settings).step_of(settings))
    peak_bytes = step.run(size).peak_bytes()
    return frozen_bytes(meta.model, set()), peak_bytes
