"""Small models and adapters of the layouts that PEFT writes."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MixtralConfig, MixtralForCausalLM

ATTENTION = "model.layers.{}.self_attn.{}"


def llama(blocks: int = 2) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, num_hidden_layers=blocks, **sizes))


def gpt2() -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=16))


def mixtral() -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "num_key_value_heads": 1}
    return MixtralForCausalLM(MixtralConfig(vocab_size=32, num_hidden_layers=1, num_local_experts=4, **sizes))


class Zoo(nn.Module):
    """Layers that language models rarely have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(4, 6, 3), nn.Conv2d(4, 6, 3)
        self.grouped = nn.Conv2d(8, 12, 3, groups=4)
        self.table, self.attention = nn.Embedding(9, 8), nn.MultiheadAttention(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def lora(r: int = 4, targets: Any = ("q_proj", "v_proj"), **more: Any) -> LoraConfig:
    return LoraConfig(r=r, target_modules=targets if isinstance(targets, str) else list(targets), lora_alpha=8, **more)


def trained(model: Any) -> Any:
    """As if trained: every adapter tensor random."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model


def own(model: Any) -> Any:
    return model.peft_config["default"]
