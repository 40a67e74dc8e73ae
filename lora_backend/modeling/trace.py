"""Make a profile of a model by tracing its own training step, without its bytes.

The first block and one more of each kind are traced, at three sizes: from these follows how each tensor grows with
rows, tokens and rank. A model of full depth at any size is then a sum of the parts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, UntraceableError, first_line
from lora_backend.i18n import N_, Message
from lora_backend.modeling.blocks import find_blocks
from lora_backend.modeling.loss import TILE_BYTES
from lora_backend.modeling.meta import (
    build_base,
    build_meta,
    keep_blocks,
    model_config,
    module_tree,
    set_rank,
    signature,
    trained,
    untrainable,
)
from lora_backend.modeling.stand_in import stand_in_for_quantized
from lora_backend.modeling.step import FakeStep, among_new_objects, outer_modules
from lora_backend.modeling.tracker import Recording
from lora_backend.planning.formula import formula_profile
from lora_backend.planning.profile import NOTHING, Part, Profile, TraceSettings, Unit
from lora_backend.planning.scaling import EXPONENTS, Size, Vector, highest, identify
from lora_backend.preflight.trees import tree_of
from lora_backend.settings import load_settings

logger = logging.getLogger(__name__)
Report = Callable[[Message, float], None]
ERROR_EXACT = 0.01
"""What a composed peak differs from a full trace by at most, where every tensor's growth is known exactly."""
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
    kinds, kind_of_block, kept = _kinds(meta.blocks)
    keep_blocks(meta, kept)
    units = {name: meta.base.get_submodule(name) for name in outer_modules(meta.base, meta.blocks_path)}
    counts = {id(module): _parameters(module) for module in [*units.values(), *meta.blocks]}
    trains = {id(module): trained(module, config.r) for module in [*units.values(), *meta.blocks]}
    if settings.quantization:
        stand_in_for_quantized(meta.base, settings.quantization, settings.precision)
    step, recordings = FakeStep(meta, settings), []
    tile = tile_tokens(meta.base.config)
    sizes = trace_sizes(settings, windows, positions, tile)
    notes: list[tuple[int, int, dict[int, int]]] = []
    rank = config.r
    for number, size in enumerate(sizes):
        done = Message(N_("Tracing a training step ({number} of {count})"), {"number": number + 1, "count": len(sizes)})
        report(done, 0.3 + 0.2 * number)
        set_rank(meta.model, rank, size.rank)
        rank = size.rank
        try:
            recordings.append(step.run(size).recording)
        except ModelError:
            raise
        except Exception as error:  # whatever a family's code does with tensors that have no values
            raise UntraceableError(
                N_("The model's training step cannot be traced: {reason}"), reason=first_line(error)
            ) from error
        notes.append((step.logits_bytes, step.hidden_bytes, dict(step.side_bytes)))
    parts, is_exact = cut(recordings, sizes)
    released = [released_by(recordings, sizes, index) for index in range(len(kinds))]

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
    sides = identify(sizes, np.array([[note[2][index] for note in notes] for index in range(len(kept))], float))[0]
    whole = identify(sizes, np.array([[note[0] for note in notes], [note[1] for note in notes]], float))[0]
    return Profile(
        settings=settings,
        method="traced",
        expected_error=ERROR_EXACT if is_exact else ERROR_FITTED,
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
    )


def profile_for(facts: Mapping[str, Any], config: TrainingConfig, report: Report = lambda *_: None) -> Profile:
    """The profile that `config` (its `precision` resolved) needs: traced, or from a formula where that fails.

    Raises `ModelError` where the model cannot be built at all.
    """
    with untrainable("model_name"):
        architecture = model_config(facts)
        _keep_tree(facts)
    settings = TraceSettings.of(config, config.precision, attention_windows(architecture), tile_tokens(architecture))
    try:
        return trace_profile(facts, config, settings, report)
    except UntraceableError as error:
        logger.warning("%s", error)
        return _named(formula_profile(facts, config, settings), build_base(facts, settings))


def _keep_tree(facts: Mapping[str, Any]) -> None:
    """A config that is planned can be held against the model's modules from then on, and without torch."""
    try:
        tree_of(facts, module_tree, load_settings())
    except OSError as error:  # it cannot be kept; the plan does without it
        logger.warning("The model's modules cannot be kept: %s", error)


def _named(profile: Profile, model: PreTrainedModel) -> Profile:
    """A formula's profile with the model's own names: what is made behind the blocks, but for what only turns angles,
    counts as the head's."""
    found = find_blocks(model)
    assert found is not None, "build_meta has found them"
    path = found[0]
    last = path.rpartition(".")[2]
    holder = model.get_submodule(path.rpartition(".")[0])
    siblings = [name for name, _ in holder.named_children()]
    behind = set(siblings[siblings.index(last) + 1 :])
    head = model.get_output_embeddings()

    def is_head(name: str) -> bool:
        module = model.get_submodule(name)
        return module is head or (name.rpartition(".")[2] in behind and any(True for _ in module.parameters()))

    names = outer_modules(model, path)
    return replace(
        profile,
        blocks_path=path,
        embed_modules=tuple(name for name in names if not is_head(name)),
        head_modules=tuple(name for name in names if is_head(name)),
        kind_of_block=(0,) * len(found[1]),
        windows=attention_windows(model.config),
    )


@among_new_objects()
def full_trace(
    facts: Mapping[str, Any], config: TrainingConfig, settings: TraceSettings, size: Size
) -> tuple[int, int]:
    """Bytes of the weights, and peak bytes beside them, of a step in which every block of the model is traced.

    What profiles are held against; the adapter's rank is that of `size`.
    """
    meta = build_meta(facts, settings, config.model_copy(update={"r": size.rank}))
    if settings.quantization:
        stand_in_for_quantized(meta.base, settings.quantization, settings.precision)
    step = FakeStep(meta, settings)
    peak_bytes = step.run(size).peak_bytes()
    return _frozen_bytes(meta.model, set()), peak_bytes


def attention_windows(config: Any) -> tuple[int, ...]:
    """Lengths of a model's attention windows in tokens; a row as long as one needs a mask."""
    text = config.get_text_config(decoder=True)
    types = getattr(text, "layer_types", None) or ()
    windows = set()
    for kind, name in (("sliding_attention", "sliding_window"), ("chunked_attention", "attention_chunk_size")):
        length = getattr(text, name, None)
        if isinstance(length, int) and (kind in types or not types):
            windows.add(length)
    return tuple(sorted(windows))


def tile_tokens(config: Any) -> int:
    """Tokens in a tile of the chunked loss."""
    return max(TILE_BYTES // (4 * config.get_text_config(decoder=True).vocab_size), 1)


def max_positions(config: Any) -> int | None:
    """How many tokens a row may have, by the model's config."""
    text = config.get_text_config(decoder=True)
    names = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
    return next((int(getattr(text, name)) for name in names if getattr(text, name, None)), None)


def trace_sizes(settings: TraceSettings, windows: tuple[int, ...], positions: int | None, tile: int) -> list[Size]:
    """Three sizes whose ratios tell all monomials apart, on the same side of every attention window.

    `tile` is the number of tokens in a tile of the chunked loss: all sizes have several, or all have one.
    """
    rows = (2, 3, 5) if settings.padded else (1, 1, 1)
    longer = [window - 1 for window in windows if window > settings.tokens_above]
    high = min([*longer, positions or 2**20])
    low = max(settings.tokens_above, min(384, high // 3), 8)
    if settings.is_tiled:
        # Two tiles and more; where rows cannot be so long, more than one.
        low = max(low, min(2 * tile // rows[0] + 1, max(high * 2 // 3, tile // rows[0] + 1), high - 4))
    elif settings.loss_type == "chunked_nll":
        high = min(high, max(tile // rows[-1], 4))
        low = min(low, max(high // 3, 1))
    high = max(min(high, 3 * low), low + 4)
    tokens = [low, low + (high - low) * 3 // 10, high - (high - low) // 10]
    # Odd lengths are padded by some kernels; where there is room, take what users take.
    tokens = [-(-number // 8) * 8 for number in tokens[:2]] + [tokens[2] // 8 * 8] if high - low > 80 else tokens
    return [Size(*size) for size in zip(rows, tokens, (8, 20, 36), strict=True)]


def cut(recordings: list[Recording], sizes: list[Size]) -> tuple[dict[str, Part], bool]:
    """The parts of a step by the label they begin with, and whether all of them are exact.

    Where a part's events are the same at every size, the growth of each tensor is identified, and the peak is the
    highest of the running sums. Where they differ (tiles of a loss, say), the part's own figures are identified.
    """
    stretches = [_stretches(recording) for recording in recordings]
    labels = list(stretches[0])
    if any(list(other) != labels for other in stretches):
        raise UntraceableError(N_("The model's training step cannot be traced: its blocks run in another order at another size."))  # fmt: skip
    parts, all_exact = {}, True
    for label in labels:
        seen = [other[label] for other in stretches]
        parts[label], is_exact = _part([changes for changes, _ in seen], [flops for _, flops in seen], sizes)
        all_exact &= is_exact
    return parts, all_exact


def _part(changes: list[NDArray[Any]], flops: list[NDArray[Any]], sizes: list[Size]) -> tuple[Part, bool]:
    zero = np.zeros((1, len(EXPONENTS)))
    if all(np.array_equal(np.sign(other), np.sign(changes[0])) for other in changes):
        growth, is_known = identify(sizes, np.array(changes).T)
        if is_known.all():
            running = np.concatenate([zero, np.cumsum(growth, axis=0)])
            return Part(tuple(highest(running)), running[-1], _sum_of_flops(flops, sizes)), True
    running_sums = [np.concatenate([[0.0], np.cumsum(other)]) for other in changes]
    figures, is_known = identify(
        sizes, np.array([[run.max() for run in running_sums], [run[-1] for run in running_sums]])
    )
    return Part((figures[0],), figures[1], _sum_of_flops(flops, sizes)), bool(is_known.all())


def _sum_of_flops(flops: list[NDArray[Any]], sizes: list[Size]) -> Vector:
    if len({len(other) for other in flops}) == 1:
        return identify(sizes, np.array(flops).T)[0].sum(axis=0)
    return identify(sizes, np.array([[other.sum() for other in flops]]))[0][0]


AFTER_BLOCKS = ("forward head", "return", "backward head")


def _marks(recording: Recording) -> list[tuple[str, int]]:
    return [("forward embed", 0), *recording.marks, ("", len(recording.storages))]


def _stretches(recording: Recording) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Per part, the bytes that each event adds or takes away, and the FLOPs of each operation.

    What blocks in the middle made and let go only behind the last of them is left out of the parts there, for their
    number differs in the whole model; see `released_by`.
    """
    flop_events = np.array([event for event, _ in recording.flops], int)
    flop_counts = np.array([count for _, count in recording.flops], float)
    made_in, middle = _made_in(recording), _middle_blocks(recording)
    found = {}
    for (label, start), (_, stop) in pairwise(_marks(recording)):
        numbers: list[int] = []
        # What is let go at one moment goes in no certain order.
        for is_new, run in groupby(recording.storages[start:stop], key=lambda number: number >= 0):
            together = list(run)
            numbers += together if is_new else sorted(together, reverse=True)
        if label in AFTER_BLOCKS:
            numbers = [number for number in numbers if number >= 0 or made_in[-number - 1] not in middle]
        changes = [recording.sizes_bytes[n] if n >= 0 else -recording.sizes_bytes[-n - 1] for n in numbers]
        inside = (flop_events >= start) & (flop_events < stop)
        found[label] = (np.array(changes, float), flop_counts[inside])
    return found


def released_by(recordings: list[Recording], sizes: list[Size], block: int) -> Vector:
    """Bytes that a middle block's forward pass leaves until all blocks are done: autocast's casts of weights."""
    found = []
    if f"forward {block}" not in _middle_blocks(recordings[0]):
        return NOTHING.delta
    for recording in recordings:
        made_in = _made_in(recording)
        freed = {
            -number - 1
            for (label, start), (_, stop) in pairwise(_marks(recording))
            if label in AFTER_BLOCKS
            for number in recording.storages[start:stop]
            if number < 0
        }
        mine = [recording.sizes_bytes[number] for number in sorted(freed) if made_in[number] == f"forward {block}"]
        found.append(np.array(mine, float))
    if len({len(mine) for mine in found}) == 1:
        return identify(sizes, np.array(found).T)[0].sum(axis=0)
    return identify(sizes, np.array([[mine.sum() for mine in found]]))[0][0]


def _made_in(recording: Recording) -> list[str]:
    """Per storage, the part in which it appeared."""
    made_in = [""] * len(recording.sizes_bytes)
    for (label, start), (_, stop) in pairwise(_marks(recording)):
        for number in recording.storages[start:stop]:
            if number >= 0:
                made_in[number] = label
    return made_in


def _middle_blocks(recording: Recording) -> set[str]:
    """Labels of the blocks that stand for more than one: all but the first and the last."""
    blocks = [label for label, _ in recording.marks if label.startswith("forward ") and label.split()[1].isdigit()]
    return set(blocks[1:-1])


def _kinds(blocks: nn.ModuleList) -> tuple[list[str], list[int], list[int]]:
    """Kinds of blocks, the kind of each, and a block for each kind.

    The first and the last are kinds of their own: what a block leaves to be let go by the next one stays behind the last.
    So are those before which nothing trains: their inputs need no gradient.
    """
    kinds: list[str] = []
    kind_of_block, kept = [], []
    is_reached = False
    for index, block in enumerate(blocks):
        kind = "first" if index == 0 else "last" if index == len(blocks) - 1 else f"{is_reached} {signature(block)}"
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


def _parameters(module: nn.Module) -> int:
    """Of the base model: all but the adapter's."""
    return sum(p.numel() for name, p in module.named_parameters() if "lora_" not in name and ".modules_to_save." not in name)  # fmt: skip


def _shared_parameters(one: list[nn.Module], other: list[nn.Module]) -> int:
    ids = {id(parameter) for module in one for parameter in module.parameters()}
    return sum(p.numel() for module in other for p in module.parameters() if id(p) in ids)
