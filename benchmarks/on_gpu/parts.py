"""What is proved and measured on a card, part by part. Each takes the card, the sizes and what the parts before it found."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.on_gpu import equality, memory
from benchmarks.on_gpu.card import Card
from benchmarks.on_gpu.outcome import LeftOutError, Outcome
from benchmarks.on_gpu.sizes import PUBLISHED_TOKENS_PER_S, Sizes
from benchmarks.on_gpu.training import (
    Trained,
    config_of,
    loaded,
    made_on_device,
    precision_of,
    rows_of,
    saved_model,
    train_ours,
    train_trl,
)

Found = Mapping[str, Outcome]


def bf16(card: Card, sizes: Sizes, _: Found) -> Outcome:
    """A small model in bf16, by the product's own loop."""
    return _small_training(card, sizes, {})


def nf4(card: Card, sizes: Sizes, _: Found) -> Outcome:
    """The same with its linear layers in 4 bits."""
    import bitsandbytes  # noqa: F401  # is missing here, if anywhere

    return _small_training(card, sizes, {"quantization": "nf4"})


def _small_training(card: Card, sizes: Sizes, keys: dict[str, Any]) -> Outcome:
    config = config_of(precision=precision_of(card), batch_size=2, max_steps=sizes.steps, **keys)
    rows = rows_of(2, sizes.row_tokens, sizes.small["vocab_size"]) * sizes.steps  # always the same batch: it is learned
    with tempfile.TemporaryDirectory() as folder:
        model = loaded(saved_model(sizes.small, Path(folder)), config, card)
        trained = train_ours(model, config, rows, card)
    first, last = trained.losses[0], trained.losses[-1]
    good = len(trained.losses) == sizes.steps and math.isfinite(last) and last < first
    speed = trained.tokens_per_s(2)
    words = f"the loss falls from {first:.3f} to {last:.3f} in {sizes.steps} steps; {speed:.0f} tokens/s"
    figures = {"losses": trained.losses, "tokens_per_s": speed}
    return Outcome("holds" if good else "fails", words, figures=figures)


def resume(card: Card, sizes: Sizes, _: Found) -> Outcome:
    """A run that was stopped and went on is the run that was not, to the bit."""
    from tests.tiny import chats, make_model, write_rows
    from tests.training.helpers import adapter_bytes, curve, resumed, run, stopped_at

    with tempfile.TemporaryDirectory() as folder, _workspace(Path(folder)) as workspace:
        values = {
            "model_name": str(make_model(Path(folder) / "model")),
            "dataset": str(write_rows(Path(folder) / "chats.jsonl", chats())),
            "r": 4, "alpha": 8, "learning_rate": 2e-2, "batch_size": 4, "max_steps": sizes.steps, "logging_steps": 1,
            "precision": precision_of(card), "deterministic": True, "check_r_consistency": True,
        }  # fmt: skip
        whole = run(workspace, values)
        parted = resumed(stopped_at(workspace, values, sizes.steps // 2))
        same_curve, same_adapter = curve(parted) == curve(whole), adapter_bytes(parted) == adapter_bytes(whole)
    words = f"stopped at step {sizes.steps // 2} of {sizes.steps} and resumed: " + (
        "losses and adapter are the same to the bit"
        if same_curve and same_adapter
        else f"losses {'equal' if same_curve else 'differ'}, adapter {'equal' if same_adapter else 'differs'}"
    )
    return Outcome("holds" if same_curve and same_adapter else "fails", words)


@contextmanager
def _workspace(folder: Path) -> Iterator[Path]:
    names = ("FLIGHTDECK_WORKSPACE", "FLIGHTDECK_MODEL_ROOTS", "FLIGHTDECK_DATA_ROOTS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict(zip(names, (str(folder / "ws"), str(folder), str(folder)), strict=True)))
    try:
        yield folder / "ws"
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def large(card: Card, sizes: Sizes, _: Found) -> Outcome:
    """Tokens per second of the large model as Flightdeck trains it."""
    import torch

    from lora_backend.modeling.out_of_memory import is_out_of_memory

    micro, per_step = sizes.micro_batch, sizes.micro_batch * sizes.accumulation
    config = config_of(
        precision=precision_of(card), batch_size=micro, target_batch_size=per_step, max_steps=sizes.timed_steps + 1
    )
    rows = rows_of(per_step, sizes.large_tokens, sizes.large["vocab_size"]) * (sizes.timed_steps + 1)
    model = made_on_device(sizes.large, config, card)
    checkpointing = False
    trained: Trained | None = None
    card.forget_peak()
    try:
        trained = train_ours(model, config, rows, card)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    if trained is None:  # outside of the `except`, whose traceback holds the step's tensors
        checkpointing = True
        model.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        card.forget_peak()
        trained = train_ours(model, config.model_copy(update={"gradient_checkpointing": True}), rows, card)
    return _speed(trained, sizes, card, checkpointing)


def trl(card: Card, sizes: Sizes, found: Found) -> Outcome:
    """The same model and batch by TRL's SFTTrainer."""
    import trl as _  # noqa: F401  # is missing here, if anywhere

    ours = found.get("tokens/s, Flightdeck")
    checkpointing = bool(ours and ours.figures.get("checkpointing"))
    rows = rows_of(sizes.micro_batch * sizes.accumulation, sizes.large_tokens, sizes.large["vocab_size"])
    model = made_on_device(sizes.large, config_of(precision=precision_of(card)), card)
    card.forget_peak()
    trained = train_trl(model, sizes, rows * (sizes.timed_steps + 1), card, checkpointing=checkpointing)
    outcome = _speed(trained, sizes, card, checkpointing)
    if ours and (speed := ours.figures.get("tokens_per_s")):
        ratio = speed / outcome.figures["tokens_per_s"]
        outcome.figures["flightdeck_to_trl"] = ratio
        outcome.words += f"; Flightdeck is {ratio:.2f} times as fast"
    return outcome


def _speed(trained: Trained, sizes: Sizes, card: Card, checkpointing: bool) -> Outcome:
    speed, peak = trained.tokens_per_s(1), card.peak_bytes()
    step_s = (trained.ends[-1] - trained.ends[0]) / (len(trained.ends) - 1)
    words = (
        f"{speed:.0f} tokens/s, {step_s:.2f} s a step of {sizes.micro_batch} × {sizes.accumulation} × {sizes.large_tokens} tokens, "
        f"peak {memory.gib(peak)}{', with gradient checkpointing, for without it memory ran out' if checkpointing else ''}"
    )
    figures = {
        "tokens_per_s": speed, "step_s": step_s, "peak_bytes": peak, "checkpointing": checkpointing, "losses": trained.losses,
        "published_tokens_per_s_on_one_h100": PUBLISHED_TOKENS_PER_S,
    }  # fmt: skip
    lines = [("published, one H100 (NVIDIA NeMo Automodel)", f"{PUBLISHED_TOKENS_PER_S}", f"{speed:.0f}", "tokens/s")]
    return Outcome("measured", words, lines, figures)


class Part(NamedTuple):
    """One thing to prove or measure. `limit_s`: its deadline, its process's start included."""

    name: str
    act: Callable[[Card, Sizes, Found], Outcome]
    limit_s: float


PARTS = (
    Part("bf16 training", bf16, 45),
    Part("nf4 training", nf4, 45),
    Part("plan against memory", memory.plan, 60),
    Part("flat equals padded", equality.flat, 40),
    Part("fused LoRA equals PEFT's", equality.fused, 40),
    Part("tokens/s, Flightdeck", large, 110),
    Part("tokens/s, TRL", trl, 110),
    Part("resume to the bit", resume, 60),
    Part("layer split", equality.split, 40),
)
PROOFS = tuple(part for part in PARTS if not part.name.startswith("tokens/s"))
"""Those that hold or fail, whatever the card."""


def act_safely(part: Part, card: Card | None, sizes: Sizes, found: Found) -> Outcome:
    """What a part found; why it was left out, or how it failed, in words."""
    try:
        if card is None:
            raise LeftOutError("there is no NVIDIA GPU here that torch sees")
        outcome = part.act(card, sizes, found)
    except LeftOutError as why:
        outcome = Outcome("left out", str(why))
    except ModuleNotFoundError as error:
        outcome = Outcome("left out", f"the package {(error.name or str(error)).partition('.')[0]} is not installed")
    except ImportError as error:
        outcome = Outcome("left out", f"what is installed here lacks something: {error}")
    except Exception as error:  # one part's failure is told, and leaves the others
        words = (str(error).strip().splitlines() or [""])[0]
        outcome = Outcome("fails", f"{type(error).__name__}: {words}")
    outcome.part = part.name
    return outcome
