"""What an optimizer is given: which parameters at which rate and decay, and whether torch has one kernel for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.trainer_pt_utils import get_parameter_names

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import first_line

WITHOUT_DECAY = (r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)")
"""Parameters that weight decay leaves alone, by their names (transformers, `Trainer.get_decay_parameter_names`)."""
EMBEDDING_RATE = 1e-6
"""Of adapters of embeddings under LoRA+, whatever the others' rate: the default of its authors, PEFT and LLaMA-Factory."""


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """What trains: at each rate first what weight decay holds, then what it leaves alone, as transformers groups it.

    With `loraplus_lr_ratio` the B's, and what is a vector, have a rate of their own, and adapters of embeddings another
    (LoRA+, Hayou et al. 2024, arXiv 2402.12354; grouped as PEFT's `create_loraplus_optimizer` does). A's stand first,
    so that the first group's rate is the one that is shown.
    """
    decaying = set(get_parameter_names(model, [nn.LayerNorm], list(WITHOUT_DECAY)))
    rates = {"A": config.learning_rate}
    if config.loraplus_lr_ratio is not None:
        rates |= {"B": config.learning_rate * config.loraplus_lr_ratio, "embedding": EMBEDDING_RATE}
    groups: dict[tuple[str, bool], dict[str, Any]] = {
        (half, decays): {"params": [], "weight_decay": config.weight_decay if decays else 0.0}
        | ({"lr": rate} if len(rates) > 1 else {})
        for half, rate in rates.items()
        for decays in (True, False)
    }
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            half = _half(name, parameter) if len(rates) > 1 else "A"
            groups[half, name in decaying]["params"].append(parameter)
    return list(groups.values())


def _half(name: str, parameter: nn.Parameter) -> str:
    if ".lora_embedding_" in name:
        return "embedding"
    return "B" if ".lora_B." in name or parameter.ndim == 1 else "A"


def why_not_fused(parameters: list[nn.Parameter]) -> str | None:
    """What torch says against one kernel for a whole step, on a device or in a number format of these parameters.

    It is tried, on one number for each: which devices have it depends on the release, and torch tells nobody before.
    """
    for device, dtype in dict.fromkeys((one.device, one.dtype) for one in parameters):
        tried = nn.Parameter(torch.zeros(1, device=device, dtype=dtype))
        tried.grad = torch.zeros_like(tried)
        try:
            torch.optim.AdamW([tried], fused=True).step()
        except (RuntimeError, NotImplementedError) as error:
            return str(first_line(error))
    return None


def keep_tables_in_32_bits(model: nn.Module) -> None:
    """As transformers does. For this model alone: bitsandbytes remembers for the whole process, and by position, which
    tensors of an earlier model keep their states in 32 bits."""
    from bitsandbytes.optim import optimizer  # takes a second, and most runs do without

    manager: Any = optimizer.GlobalOptimManager.get_instance()  # type: ignore[no-untyped-call]
    manager.initialize()
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            manager.register_module_override(module, "weight", {"optim_bits": 32})
