"""What two processes do together to hold a model that is shared out against one that is whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, Gemma3TextConfig, GPT2Config, Qwen3Config

from lora_backend.kernels.fused_lora import use_fused_lora
from lora_backend.modeling.checkpointing import checkpoint_activations
from lora_backend.modeling.step import LossPath, micro_batch_loss, micro_batch_step
from lora_backend.modeling.trained_dtype import hold_trained_in_fp32
from lora_backend.peers.peers import Alone, Peers
from lora_backend.peers.sharding import share_out
from tests.modeling.families import HEADS, LLAMA, MIXTURES, SMALL

FAMILIES: dict[str, Any] = {
    "llama": LLAMA,
    "gemma3, its head tied": Gemma3TextConfig(**SMALL, intermediate_size=24, num_hidden_layers=3, head_dim=8, sliding_window=4, **HEADS),
    "qwen3": Qwen3Config(**SMALL, intermediate_size=24, num_hidden_layers=3, head_dim=8, **HEADS),
    "gpt2": GPT2Config(vocab_size=32, n_embd=16, n_layer=3, n_head=2, n_positions=32, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0),
    "qwen3_moe": MIXTURES["qwen3_moe"],
}  # fmt: skip
ATTENTION = ["q_proj", "v_proj"]


@dataclass(frozen=True)
class Case:
    family: str
    lora: dict[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    checkpointing: bool = True
    loss_type: str = "auto"
    offload: bool = False


CASES = {
    "llama": Case("llama", {"target_modules": "all-linear"}, checkpointing=False, loss_type="nll"),
    "llama, bf16, offloaded": Case("llama", {"target_modules": "all-linear"}, "bf16", offload=True),
    "gemma3": Case("gemma3, its head tied", {"target_modules": "all-linear"}),
    "gemma3, adapted embedding": Case("gemma3, its head tied", {"target_modules": ["q_proj", "embed_tokens"]}, checkpointing=False),
    "qwen3, embedding and head trained": Case("qwen3", {"target_modules": ATTENTION, "modules_to_save": ["embed_tokens", "lm_head"]}, "bf16"),
    "gpt2": Case("gpt2", {"target_modules": ["c_attn"]}),
    "qwen3_moe, adapted experts": Case("qwen3_moe", {"target_modules": ATTENTION, "target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]}),
}  # fmt: skip


def train_long(peers: Peers, folder: Path) -> None:
    """`train_all` for fifty steps."""
    train_all(peers, folder, 50)


def train_all(peers: Peers, folder: Path, steps: int = 4) -> None:
    """Each case by all processes; what came of it goes to `<rank>.json`, and what one comes to by itself to `alone.json`."""
    torch.set_num_threads(1)
    found, alone = {}, {}
    for name, case in CASES.items():
        model = fresh(case)
        share_out(model, peers, offload=case.offload)
        found[name] = train(model, case, peers, folder / f"{name} {peers.rank}", steps)
        found[name]["is sharded"] = all(isinstance(one, DTensor) for one in frozen(model))
        if peers.is_first:
            alone[name] = train(fresh(case), case, Alone(), folder / f"{name} alone", steps)
    (folder / f"{peers.rank}.json").write_text(json.dumps(found))
    if peers.is_first:
        (folder / "alone.json").write_text(json.dumps(alone))


def fresh(case: Case) -> PeftModel:
    torch.manual_seed(0)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case.precision]
    base = AutoModelForCausalLM.from_config(FAMILIES[case.family], dtype=dtype)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, init_lora_weights=False, **case.lora))
    hold_trained_in_fp32(model)
    return model


def train(model: PeftModel, case: Case, peers: Peers, folder: Path, steps: int) -> dict[str, Any]:
    """Steps of two and three batches of unlike rows, then loss and answers of the trained model, and its saved adapter."""
    model.config.use_cache = False
    use_fused_lora(model)
    path = LossPath.verified(model, case.loss_type, case.precision)
    assert (path.chunked is not None) == (case.loss_type == "auto")
    if case.checkpointing:
        checkpoint_activations(model)
    model.train()
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=2e-3)
    losses = []
    for step in range(steps):
        losses.append(_step(model, list(batches(step)), case, path, peers))
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(str(folder))
    model.eval()
    ids = torch.arange(12).reshape(2, 6)
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 5, "pad_token_id": 0}
    with torch.no_grad():
        evaluated = model(input_ids=ids, labels=ids)["loss"].item()
        answers = [answered(model, asked)]
        with model.disable_adapter():
            answers.append(answered(model, asked))
    return {
        "losses": [*losses, evaluated],
        "answers": answers,
        "adapter": torch.cat([one.detach().flatten() for one in trained]).tolist(),
        "bytes": held_bytes(model),
    }


def answered(model: PeftModel, asked: dict[str, Any]) -> dict[str, Any]:
    """The tokens of each row, and for each of them by how much its logit lies above the next best."""
    made = model.generate(**asked, do_sample=False, output_logits=True, return_dict_in_generate=True)
    best = torch.stack(made.logits, dim=1).float().topk(2).values  # rows, tokens, 2
    new = made.sequences[:, -best.shape[1] :]
    return {"tokens": new.tolist(), "margins": (best[..., 0] - best[..., 1]).tolist()}


def _step(model: PeftModel, window: list[dict[str, Any]], case: Case, path: LossPath, peers: Peers) -> float:
    """Batch k is rank k mod size's; who has none runs the first without weight."""
    num_items = sum(int(batch["labels"][:, 1:].numel()) for batch in window)
    how: dict[str, Any] = {"precision": case.precision, "loss_path": path, "num_items": num_items}
    total = torch.zeros(())
    for first in range(0, len(window), peers.size):
        place = first + peers.rank
        if place < len(window):
            total += micro_batch_step(model, window[place], **how, passes=len(window))
        else:
            (0 * micro_batch_loss(model, window[0], **how)).backward()
    for parameter in (one for one in model.parameters() if one.requires_grad):
        parameter.grad = peers.summed(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)
    return float(peers.summed(total))


def batches(step: int) -> Iterator[dict[str, Any]]:
    for number in range(2 + step % 2):
        ids = (torch.arange(2 * (5 + number + step % 9)).reshape(2, -1) * (3 + number) + step) % 32
        yield {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def frozen(model: PeftModel) -> list[torch.Tensor]:
    """Without an embedding's weight that is saved beside the adapter on it."""
    named = model.named_parameters()
    return [one for name, one in named if not one.requires_grad and "embed_tokens.base_layer" not in name]


def held_bytes(model: PeftModel) -> int:
    local = [one.to_local() if isinstance(one, DTensor) else one for one in model.parameters()]
    return sum(one.numel() * one.element_size() for one in local)
