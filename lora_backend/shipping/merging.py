"""Merge an adapter into its base model: shard by shard where its files allow that, else through the loaded model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lora_backend.errors import DiskFullError, FlightdeckError, ModelError
from lora_backend.formats import size
from lora_backend.i18n import N_, Message
from lora_backend.modeling.live_tree import tree_of_model
from lora_backend.modeling.meta import build_base
from lora_backend.models.describe import read_json_object, read_model_config
from lora_backend.models.find import find_model
from lora_backend.models.quantized import quantized_as
from lora_backend.models.tree import ModuleTree
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.runs.processes.job_progress import JobProgress
from lora_backend.runs.record.job_documents import ExportDtype, ExportedFile, ExportRequest, ExportResult, Proof
from lora_backend.shipping.adapter_changes import AdapterChanges, read_changes, refuse_unfit, ties_with
from lora_backend.shipping.checkpoint_names import CheckpointNames, checkpoint_names
from lora_backend.shipping.loaded_merge import merge_loaded, refuse_too_large
from lora_backend.shipping.merged_proof import (
    adapted_logits,
    compute_precision,
    logits_proof,
    no_logits_proof,
    tensors_proof,
)
from lora_backend.shipping.sharded_merge import ShardPlan, merge_shards, plan_shards
from lora_backend.shipping.weight_files import DTYPES, WeightFiles
from lora_backend.verification.adapter_folder import read_adapter_config
from lora_backend.verification.other_base import other_base
from lora_backend.verification.passport import FILE as PASSPORT
from lora_backend.verification.passport import base_in_passport

WORDS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16"}
"""`--dtype` → safetensors' word."""
PRECISIONS: dict[str, ExportDtype] = {"F64": "fp32", "F32": "fp32", "F16": "fp16", "BF16": "bf16"}
TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
LEFT_BEHIND = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx", ".ot", ".index.json", ".py")
"""Endings of files that hold weights, list those that do, or hold code, which is not run here."""
MOST_COPIED_BYTES = 256 * 2**20
TOKENIZER = ("tokenizer", "special_tokens_map", "added_tokens", "chat_template", "vocab", "merges", "spiece")
"""Beginnings of the names of files that an adapter's folder may have too, and that then count."""


@dataclass(frozen=True)
class Subject:
    """What is merged into what."""

    base: Path
    base_name: str
    adapter: Path
    facts: Mapping[str, Any]
    files: WeightFiles
    dtype: str | None
    """safetensors' word; None: as the base model's files."""

    @property
    def stored(self) -> ExportDtype:
        """fp32, fp16 or bf16: of most bytes of what is written."""
        if self.dtype is not None:
            return PRECISIONS[self.dtype]
        return PRECISIONS[self.own_dtype]

    @property
    def own_dtype(self) -> str:
        """Of most bytes of the base model's files."""
        sizes: dict[str, int] = {}
        for header in self.files.headers.values():
            for info in header.values():
                sizes[info.dtype] = sizes.get(info.dtype, 0) + info.size_bytes
        plain = {word: count for word, count in sizes.items() if word in DTYPES}
        return max(plain, key=lambda word: plain[word], default="F32")


def merge_adapter(request: ExportRequest, adapter: Path, output: Path, progress: JobProgress) -> ExportResult:
    """Write the base model with the adapter of `adapter` in its weights into the folder `output`, under the names and in
    the dtype of its own files, or in `request.dtype`; its config, tokenizer and chat template beside them.

    Shard by shard, with a few tensors in memory, where each matrix that the adapter changes is one tensor of the files;
    else through the loaded model. Raises `ModelError` for a base model that is not here, is another one or is quantized,
    for an adapter that does not fit, and for what nobody can merge; `DiskFullError` before the first byte.
    """
    progress.stage("reading")
    subject = _subject(request, adapter)
    refuse_unfit(subject.facts, adapter)
    base = build_base(subject.facts, TraceSettings())
    names = checkpoint_names(base, subject.files.places)
    tree, changes = tree_of_model(base), read_changes(base, adapter)
    if not changes.by_parameter and not changes.others:
        raise ModelError(N_("The adapter in {path} has no LoRA layers. Choose another folder."), path=str(adapter))
    plan = _plan(subject, names, changes, tree)
    _refuse_full(plan.total_bytes if isinstance(plan, ShardPlan) else _bytes_written(subject), output)
    if not isinstance(plan, ShardPlan):
        refuse_too_large(subject.files.total_bytes, plan)
    precision = compute_precision(subject.files.total_bytes, DTYPES[subject.own_dtype].itemsize)
    before = None if precision is None else adapted_logits(subject.base, adapter, precision)

    progress.stage("merging")
    output.mkdir(parents=True, exist_ok=True)
    made = _in_shards(plan, output, progress) if isinstance(plan, ShardPlan) else _in_memory(subject, output, plan)
    _write_companions(subject, output, is_untied=made.is_untied)
    progress.stage("checking")
    if before is None or precision is None:
        proof = no_logits_proof(subject.files.total_bytes)
    else:
        proof = logits_proof(before, output, precision, subject.stored)
    return _result(output, [made.proof, proof], [*made.notes, *_notes(made, adapter)])


class _Made(NamedTuple):
    """What was written of weights."""

    proof: Proof
    is_untied: bool
    notes: tuple[Message, ...] = ()


def _in_shards(plan: ShardPlan, output: Path, progress: JobProgress) -> _Made:
    merge_shards(plan, output, progress.at)
    progress.stage("checking")
    return _Made(tensors_proof(plan, output, progress.at), plan.is_untied)


def _in_memory(subject: Subject, output: Path, why: str) -> _Made:
    """`why`: what the base model's files do not hold one to one."""
    largest = max(sum(info.size_bytes for info in header.values()) for header in subject.files.headers.values())
    proof, is_untied = merge_loaded(
        subject.base,
        subject.adapter,
        output,
        precision=PRECISIONS[subject.own_dtype],
        dtype=DTYPES[subject.dtype] if subject.dtype else None,
        shard_bytes=max(largest, 1),
    )
    said = N_("{name} is not one tensor in the model's files, so it was merged in memory.")
    return _Made(proof, is_untied, (Message(said, {"name": why}),))


def _notes(made: _Made, adapter: Path) -> Iterator[Message]:
    """What whoever takes the model along should know."""
    if made.is_untied:
        yield Message(
            N_(
                "The adapter changes one end of the tied embedding alone, so embedding and head are two tensors now (`tie_word_embeddings` is false)."
            )
        )
    try:
        trained = read_json_object(adapter / PASSPORT).get("config")
    except FlightdeckError:
        return
    if isinstance(trained, dict) and trained.get("quantization") is not None:
        yield Message(
            N_("The adapter was trained on a quantized base model ({word}) and is merged into its full weights."),
            {"word": str(trained["quantization"])},
        )


def _subject(request: ExportRequest, adapter: Path) -> Subject:
    """Raises `ModelError` where the base model is not here, or is not the adapter's."""
    own = (read_adapter_config(adapter) or {}).get("base_model_name_or_path")
    name = request.base_model or own or base_in_passport(adapter).get("name")
    if not name:
        raise ModelError(N_("The adapter does not name its base model. Set it with `--model`."))
    try:
        base = find_model(str(name))
    except ModelError as error:
        raise ModelError(N_("{why} Or set the base model with `--model`."), why=error.message) from error
    if base.is_file():
        raise ModelError(
            N_("{path} describes a model but has no weights. Name the folder that has them."), path=str(base)
        )
    made_on = other_base(adapter, base, str(name), own, find_model)
    if made_on is not None:
        raise ModelError(
            N_("The adapter was trained on {other}, not on {base}. Set its base model with `--model`."),
            other=made_on,
            base=str(name),
        )
    facts = read_model_config(base)
    quantized = quantized_as(facts)
    if quantized is not None:
        raise ModelError(
            N_(
                "The weights of {base} are quantized ({method}), so nothing can be added to them. Name the folder with the full weights with `--model`."
            ),
            base=str(name),
            method=quantized.method,
        )
    dtype = WORDS[request.dtype] if request.dtype is not None else None
    return Subject(base, str(name), adapter, facts, WeightFiles(base), dtype)


def _plan(subject: Subject, names: CheckpointNames, changes: AdapterChanges, tree: ModuleTree) -> ShardPlan | str:
    """How the shards are written, or what it is that they do not hold one to one."""
    if changes.others:
        return changes.others[0]
    apart = {name for name, first in tree.tied.items() if _are_two(subject.files, names.one_to_one, name, first)}
    ties = ties_with(tree, apart, changes.by_parameter, names.one_to_one)
    return plan_shards(subject.files, changes.by_parameter, names.one_to_one, ties, subject.dtype)


def _are_two(files: WeightFiles, names: Mapping[str, str], name: str, first: str) -> bool:
    """Whether a tie of the model's config is none: transformers ties nothing that its files hold twice and differently."""
    if name not in names or first not in names:
        return False
    return not torch.equal(files.tensor(names[name]), files.tensor(names[first]))


def _bytes_written(subject: Subject) -> int:
    own = DTYPES[subject.own_dtype].itemsize
    return subject.files.total_bytes * (DTYPES[subject.dtype].itemsize if subject.dtype else own) // own


def _refuse_full(needed_bytes: int, output: Path) -> None:
    above = next(folder for folder in (output, *output.parents) if folder.is_dir())
    free = shutil.disk_usage(above).free
    if needed_bytes > free:
        raise DiskFullError(
            N_(
                "The merged model needs {needed}, but only {free} are free at {path}. Free some space, or choose another place."
            ),
            needed=size(needed_bytes),
            free=size(free),
            path=str(above),
        )


def _write_companions(subject: Subject, output: Path, *, is_untied: bool) -> None:
    """All that stands beside the weights, copied; what the adapter's folder has of a tokenizer counts before the base's."""
    for path in [*sorted(subject.base.iterdir()), *sorted(subject.base.glob("additional_chat_templates/*"))]:
        is_left = path.name.endswith(LEFT_BEHIND) or path.name.startswith((".", "README"))
        if path.is_file() and not is_left and path.stat().st_size <= MOST_COPIED_BYTES:
            target = output / path.relative_to(subject.base)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
    for path in sorted(subject.adapter.iterdir()):
        if path.name.startswith(TOKENIZER) and path.is_file() and not path.is_symlink():
            shutil.copyfile(path, output / path.name)
    config = dict(read_json_object(subject.base / "config.json"))
    if subject.dtype is not None:
        key = "torch_dtype" if "torch_dtype" in config else "dtype"
        config[key] = TORCH_NAMES[subject.dtype]
    if is_untied:
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                part["tie_word_embeddings"] = False
    (output / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _result(output: Path, proofs: list[Proof], notes: list[Message]) -> ExportResult:
    files = [
        ExportedFile(name=str(path.relative_to(output)), size_bytes=path.stat().st_size)
        for path in sorted(output.rglob("*"))
        if path.is_file()
    ]
    return ExportResult(
        to="merged",
        output=str(output),
        files=files,
        size_bytes=sum(file.size_bytes for file in files),
        proofs=proofs,
        notes=notes,
    )
