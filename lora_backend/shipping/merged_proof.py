"""What proves a merged model: its tensors against W + scale·B·A, and its answers against the adapter's on the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.formats import number, size
from lora_backend.i18n import N_, Message, Plural
from lora_backend.modeling.devices import free_bytes
from lora_backend.modeling.load import load_model, vocabulary_size
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.runs.record.job_documents import ExportDtype, Proof
from lora_backend.shipping.merged_weights import merged, ulps_apart
from lora_backend.shipping.sharded_merge import ShardPlan
from lora_backend.shipping.weight_files import DTYPES, WeightFiles

MOST_ULPS = 1.0
ROWS, TOKENS = 2, 24
"""Of made-up text that both models read."""
TOLERANCE = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
"""How far the logits may be apart on average, as a share of how far they are spread: a weight of a merged model is rounded
to the last of its 24, 11 or 8 digits, and one of the adapter is not."""
ROOM = 1.25
"""Of the weights' bytes: what loading and a short forward pass take."""


def tensors_proof(plan: ShardPlan, output: Path, done: Callable[[float], None]) -> Proof:
    """Read the written files again: each changed matrix is held against W + scale·B·A in fp32, rounded once, every other
    tensor against the base model's, bit by bit."""
    written = WeightFiles(output)
    furthest, worst, changed_others = 0.0, "", 0
    names = [item.name for path in plan.files.files for item in plan.stored(path)]
    missing = set(names) ^ set(written.places)
    for place, name in enumerate(names):
        done(place / len(names))
        if name in missing:
            continue
        found, base = written.tensor(name), plan.files.tensor(plan.source(name))
        change, dtype = plan.changes.get(name), DTYPES.get(plan.dtype_of(name))
        if change is None:
            wanted = base if dtype is None else base.to(dtype)
            changed_others += not _is_same(found, wanted)
            continue
        assert dtype is not None
        apart = ulps_apart(found, merged(base, change).to(dtype))
        if apart > furthest or not worst:
            furthest, worst = apart, name
    written.close()
    plan.files.close()
    values = {
        "matrices": len(plan.changes), "others": len(names) - len(plan.changes), "ulps": number(furthest), "name": worst,
        "count": changed_others + len(missing),
    }  # fmt: skip
    if missing or changed_others:
        wrong = Plural(
            "{count} tensor that the adapter does not change is not the base model's.",
            "{count} tensors that the adapter does not change are not the base model's.",
        )
        return Proof(code="tensors", passed=False, message=Message(wrong, values))
    said = N_(
        "{matrices} tensors are W + scale·B·A in fp32, at most {ulps} units in the last place apart ({name}); the other {others} are the base model's, bit for bit."
    )
    return Proof(code="tensors", passed=furthest <= MOST_ULPS, message=Message(said, values))


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return torch.equal(one, other) or bool(torch.equal(*(part.reshape(-1).view(torch.uint8) for part in (one, other))))


class Logits(NamedTuple):
    """What one model says to the made-up text, fp32, rows × tokens × words."""

    base: torch.Tensor
    adapted: torch.Tensor


def compute_precision(weights_bytes: int, itemsize: int) -> ExportDtype | None:
    """The precision that base model and adapter are run in: fp32 where that fits into free memory, else bf16; None where
    neither does."""
    free = free_bytes(torch.device("cpu"))
    choices: tuple[tuple[ExportDtype, int], ...] = (("fp32", 4), ("bf16", 2))
    for precision, bytes_each in choices:
        if weights_bytes / itemsize * bytes_each * ROOM <= free:
            return precision
    return None


def adapted_logits(base: Path, adapter: Path, precision: ExportDtype) -> Logits:
    """Of the adapter on its base model, before anything is merged."""
    model = load_model(_loading(base, precision))
    words = made_up_text(model)
    plain = _logits_of(model, words)
    with_adapter: PeftModel = load_adapter(model, adapter).model
    return Logits(plain, _logits_of(with_adapter, words))


def logits_proof(before: Logits, output: Path, precision: ExportDtype, stored: ExportDtype) -> Proof:
    """The merged model, read from its files, against the adapter on its base. `stored`: what it is stored in."""
    model = load_model(_loading(output, precision))
    after = _logits_of(model, made_up_text(model))
    spread = float(before.adapted.std()) or 1.0
    apart = (after - before.adapted).abs()
    same = int((after.argmax(-1) == before.adapted.argmax(-1)).sum())
    coarsest = max(TOLERANCE[precision], TOLERANCE[stored])
    values = {
        "apart": number(float(apart.max())),
        "moved": number(float((before.adapted - before.base).abs().max())),
        "same": same,
        "count": after[..., 0].numel(),
    }
    said = N_(
        "The merged model's logits differ from the adapter's on its base by at most {apart}; the adapter itself moves them by up to {moved}. The likeliest token is the same at {same} of {count} places."
    )
    passed = bool(torch.isfinite(after).all()) and float(apart.mean()) <= coarsest * spread
    return Proof(code="logits", passed=passed, message=Message(said, values))


def no_logits_proof(weights_bytes: int) -> Proof:
    """Where the model does not fit into memory."""
    values = {"needed": size(weights_bytes * ROOM), "free": size(free_bytes(torch.device("cpu")))}
    said = N_("The logits were not compared: loading the model needs {needed} of memory, but only {free} are free.")
    return Proof(code="logits", passed=None, message=Message(said, values))


def made_up_text(model: PreTrainedModel) -> torch.Tensor:
    """Rows of token ids, always the same for one size of vocabulary."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, vocabulary_size(model) or 2, (ROWS, TOKENS), generator=generator)


def _logits_of(model: Any, words: torch.Tensor) -> torch.Tensor:
    model.eval()
    positions = getattr(getattr(model, "config", None), "max_position_embeddings", None) or TOKENS
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=words[:, :positions], use_cache=False).logits
    return logits.float()


def _loading(path: Path, precision: ExportDtype) -> TrainingConfig:
    return TrainingConfig(model_name=str(path.resolve()), device_map="cpu", precision=precision)
