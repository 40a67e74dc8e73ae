"""Flat batches and fused LoRA in the plan: held against real steps on the CPU, counted tensor by tensor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.i18n import N_
from lora_backend.kernels import causal_tiles
from lora_backend.kernels import flat_attention as kernel
from lora_backend.kernels.causal_tiles import TILE, Shaping
from lora_backend.kernels.fused_lora import use_fused_lora
from lora_backend.modeling import profiling
from lora_backend.modeling.adapter import attach_adapter
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.few_tiles import few_tiles, pairs
from lora_backend.modeling.flat_model import flat_attention
from lora_backend.modeling.loss import ChunkedLoss
from lora_backend.modeling.meta import model_config
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.step import LossPath, micro_batch_step
from lora_backend.modeling.trace import full_trace
from lora_backend.modeling.tracker import TensorTracker
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size, monomials
from lora_backend.planning.cost.trace_settings import Batch, TraceSettings
from tests.often import often
from tests.planning.profiles import CONFIG, LLAMA, MIXTRAL, WINDOWS, profile_of

RANK, WORDS = 16, 2048
SIZES: dict[str, Any] = {
    "vocab_size": WORDS, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "max_position_embeddings": 4096, "head_dim": 32,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma2": {"sliding_window": 96},
    "mistral": {"sliding_window": 64},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 128, "intermediate_size": 128},
}
"""Grouped heads; windows, capped scores; a window in every block; sinks and experts."""
BF16: dict[str, Any] = {"precision": "bf16"}
FP32: dict[str, Any] = {"precision": "fp32"}
CHECKPOINTING = {"gradient_checkpointing": True}
OWN_LOSS = {"loss_type": "nll"}
NOT_FUSED = {"fused_lora": False}
UNEVEN, ONE, EQUAL = (30, 50, 41, 33), (700,), (600, 600)


def facts_of(family: str) -> dict[str, Any]:
    return {"model_type": family, **SIZES, **FAMILIES[family]}


def config_of(lengths: tuple[int, ...], **keys: Any) -> TrainingConfig:
    return TrainingConfig(model_name="any", r=RANK, batch_size=len(lengths), max_length=max(lengths), **keys)


def measured(facts: dict[str, Any], config: TrainingConfig, lengths: tuple[int, ...]) -> int:
    """Bytes of the weights, and of what comes and goes in a flat step of these rows."""
    torch.manual_seed(0)
    dtype = torch.float32 if config.precision == "fp32" else torch.bfloat16
    model = attach_adapter(AutoModelForCausalLM.from_config(model_config(facts), dtype=dtype), config)
    if config.fused_lora:
        assert use_fused_lora(model).layers
    path = LossPath.of(model, None if config.loss_type == "nll" else ChunkedLoss(model))
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    model.train()
    ids = torch.randint(0, WORDS, (1, sum(lengths)))
    labels = torch.cat([torch.tensor([-100, *row[1:]]) for row in ids[0].split(lengths)])[None]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    batch = {"input_ids": ids, "labels": labels, "position_ids": positions, "lengths": lengths}
    with flat_attention(model):
        for _ in range(2):  # the first leaves what modules keep for later
            model.zero_grad()
            with TensorTracker([*model.parameters(), *model.buffers(), ids, labels, positions]) as tracker:
                micro_batch_step(model, batch, precision=config.precision, loss_path=path, num_items=WORDS)
    frozen = [*(one for one in model.parameters() if not one.requires_grad), *model.buffers()]
    weights_bytes = sum(one.numel() * one.element_size() for one in frozen)
    return int(weights_bytes + tracker.peak_bytes())


def planned(profile: Profile, size: Size) -> int:
    memory = Memory(profile, Workload(size, on_gpu=False))
    held = memory.device(range(memory.num_units))
    return held.tensors - held.adapter - held.optimizer


ALWAYS = [
    ("llama", FP32 | OWN_LOSS, UNEVEN),
    ("llama", BF16 | NOT_FUSED | CHECKPOINTING, ONE),
    ("gemma2", BF16 | CHECKPOINTING | OWN_LOSS, EQUAL),
    ("mistral", BF16, UNEVEN),
    ("gpt_oss", FP32 | CHECKPOINTING, ONE),
]
"""Each family, key and kind of rows; `make soak` has more of their combinations."""
CASES = [
    *ALWAYS, ("llama", BF16 | CHECKPOINTING, UNEVEN), ("llama", BF16, EQUAL), ("gemma2", FP32, (200, 120)),
]  # fmt: skip


@pytest.mark.parametrize(("family", "keys", "lengths"), often(CASES, ALWAYS), ids=str)
def test_a_real_flat_step_takes_what_was_planned_for_just_its_rows(
    family: str, keys: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    facts, config, total = facts_of(family), config_of(lengths, **keys), sum(lengths)
    labelled = (total - len(lengths)) / total
    batch = Batch(len(lengths), max(lengths), len(set(lengths)) > 1, labelled, lengths)
    profile = profile_for(facts, config, batch=batch)
    assert (profile.method, profile.taken.batching) == ("traced", "flat")
    assert profile.taken.loss_type == ("nll" if keys.get("loss_type") == "nll" else "chunked_nll")
    assert planned(profile, Size(1, total, RANK)) == pytest.approx(measured(facts, config, lengths), rel=0.01)


@pytest.mark.parametrize(
    ("family", "keys", "lengths"),
    [
        pytest.param("llama", FP32, EQUAL, marks=pytest.mark.soak),
        ("llama", BF16 | CHECKPOINTING, (300, 300, 300, 300)),
        ("gemma2", FP32 | CHECKPOINTING, ONE),
        ("gpt_oss", BF16, EQUAL),
    ],
    ids=str,
)
def test_the_longest_flat_batch_takes_what_the_plan_says_and_its_settings_are_found_again(
    family: str, keys: dict[str, Any], lengths: tuple[int, ...]
) -> None:
    facts, config = facts_of(family), config_of(lengths, **keys)
    profile = profile_for(facts, config)
    assert (profile.method, profile.taken.batching) == ("traced", "flat")
    found = planned(profile, Size(len(lengths), max(lengths), RANK))
    assert found == pytest.approx(measured(facts, config, lengths), rel=0.01)
    asked = TraceSettings.of(config, config.precision, profile.windows, profile.tile_tokens)
    assert profile.serves(asked), "by what the config asks for, whatever came of it"
    other = TraceSettings.of(
        config.model_copy(update={"batch_size": 9 - len(lengths)}), config.precision, profile.windows, 2**20
    )
    assert profile.serves(other) is (profile.tile_tokens >= sum(lengths)), "one row more is no other step"


@pytest.mark.parametrize(
    ("facts", "chosen"),
    [
        pytest.param(LLAMA, {"fused_lora": True}, marks=pytest.mark.soak),
        (LLAMA, {"fused_lora": True, "loss_type": "auto", **CHECKPOINTING}),
        (WINDOWS, {"fused_lora": True, "precision": "fp32", "tokens_above": 512}),
        (MIXTRAL, {"fused_lora": True}),
    ],
    ids=["llama", "chunked, checkpointing", "behind a window", "mixture"],
)
def test_sizes_that_were_not_traced_are_predicted(facts: dict[str, Any], chosen: dict[str, Any]) -> None:
    """To the byte; which experts are visited in which order is none of the sizes', and may be off by a hundredth."""
    settings = TraceSettings(batching="flat", **chosen)
    profile = profile_of(facts, settings)
    assert profile.method == "traced"
    for size in (Size(1, 1000, 8), Size(4, 1300, 16)):
        traced = sum(full_trace(facts, CONFIG, settings, size))
        assert planned(profile, size) == (pytest.approx(traced, rel=0.01) if facts is MIXTRAL else traced)


def test_attentions_work_is_counted_for_all_tiles_and_examples() -> None:
    """Each query meets the keys of its own row up to the end of its tile."""
    block = profile_of(LLAMA, TraceSettings(batching="flat", fused_lora=True)).kinds[1]
    rows, tokens, rank, width = 3, 64 * 12, 16, LLAMA["hidden_size"]
    linear = block.parameters - 2 * width + block.trainable(rank)
    attention = 2 * 2 * rows * width * tokens * (tokens + TILE) // 2
    counted = block.forward.flops @ monomials(Size(rows, tokens, rank))
    assert counted == pytest.approx(2 * rows * tokens * linear + attention, rel=1e-6)
    assert pairs(300, Shaping(1.0)) == pytest.approx(sum(min(64 * (n // 64 + 1), 300) for n in range(300)), rel=0.05)
    seen = sum(min(n // 64 * 64 + 64, 300) - max(n // 64 * 64 - 99, 0) for n in range(300))
    assert pairs(300, Shaping(1.0, window=100)) == pytest.approx(seen, rel=0.05)


def test_a_trace_computes_two_tiles_and_two_rows_whatever_the_size() -> None:
    query, key = torch.randn(1, 4, 6 * 200, 16), torch.randn(1, 2, 6 * 200, 16)
    module = torch.nn.Module()
    operations, own = set(), vars(kernel)["attend"]
    for lengths in ((200,) * 6, (600, 600), (400, 400, 400)):
        with TensorTracker() as tracker, few_tiles(tracker, alone=True):
            kernel.flat_attention_forward(module, query, key, key, example_lengths=lengths)
        operations.add(len(tracker.recording.storages))
    assert len(operations) == 1
    assert vars(kernel)["attend"] is own, "as it was before"


def test_a_model_that_cannot_take_flat_batches_is_planned_padded_and_says_why() -> None:
    """ALiBi is a bias of padded rows; training pads them for the same reason."""
    facts = {"model_type": "bloom", "vocab_size": 512, "hidden_size": 64, "n_layer": 3, "n_head": 4}
    config = config_of((300, 300, 300), **FP32)
    profile = profile_for(facts, config)
    assert (profile.settings.batching, profile.taken.batching, profile.method) == ("flat", "padded", "traced")
    assert profile.taken.why_padded is not None
    assert "bloom" in profile.taken.why_padded.text("en")
    padded = profile_for(facts, config.model_copy(update={"batching": "padded"}))
    assert planned(profile, Size(3, 500, 8)) == planned(padded, Size(3, 500, 8)), "with the mask that padded rows need"
    again = Profile.from_json(profile.to_json())
    assert again.taken == profile.taken


def test_a_step_that_fails_flat_is_planned_as_training_would_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a trial on values finds in training, a failing trace finds here."""

    def fails(*_: Any, **__: Any) -> Any:
        raise ModelError(N_("{layer} is not told where the rows of a batch end."), layer="Attention")

    monkeypatch.setattr(causal_tiles, "attend", fails)
    profile = profile_for(LLAMA, config_of(EQUAL, **FP32))
    assert (profile.taken.batching, profile.taken.loss_type) == ("padded", "nll")
    assert "not told" in str(profile.taken.why_padded)
    monkeypatch.setattr(profiling, "trace_profile", fails)
    with pytest.raises(ModelError, match="not told"):
        profile_for(LLAMA, config_of(EQUAL, **FP32))


def test_a_loss_that_cannot_be_had_in_pieces_is_planned_from_all_logits_only_where_that_was_left_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuses(self: Any, *_: Any, **__: Any) -> None:
        raise ModelError(N_("no backbone"))

    monkeypatch.setattr("lora_backend.modeling.taken_step.ChunkedLoss.__init__", refuses)
    found = profile_for(LLAMA, config_of(EQUAL, **FP32))
    assert (found.settings.loss_type, found.taken.loss_type, found.taken.batching) == ("auto", "nll", "flat")
    with pytest.raises(ModelError, match="no backbone"):
        profile_for(LLAMA, config_of(EQUAL, loss_type="chunked_nll", **FP32))
