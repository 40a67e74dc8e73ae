"""Planned memory against real steps on the CPU: a small random model of many families, saved, loaded and trained.

Held against torch's own allocator events (its profiler) over a whole optimizer step: forward, backward and update, with the
optimizer's states there. Everything counts: weights, adapter, states, and the most that came and went at once. Each step
runs in a process of its own.

    python -m benchmarks.real_steps                 every case
    python -m benchmarks.real_steps mamba2 mixtral  the cases whose names begin so
"""

from __future__ import annotations

import gc
import itertools
import json
import logging
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BLOCKS, WORDS, RANK = 4, 4096, 16
MEASURES: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "word_embed_proj_dim"), 256),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "shared_intermediate_size", "block_ff_dim"), 384),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), BLOCKS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank", "q_lora_rank"), 64),
    "rotary_dim": 16,
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 64),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_experts_per_tok": 2,
    **dict.fromkeys(("n_group", "topk_group", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_headdim", "mamba_head_dim"), 64),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    **dict.fromkeys(("mamba_d_state", "state_size", "ssm_state_size"), 16),
    "mamba_d_ssm": 512,
    "lru_width": 256,
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 32),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), WORDS),
    "hidden_size_per_layer_input": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}  # fmt: skip
"""Of each key that gives a size, by whatever name a family has for it."""
BY_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types", "rope_parameters", "activation_sparsity_pattern")
"""Lists with an entry a block, and factors by position: the family makes them anew for fewer blocks."""
OF_FAMILY: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 64},  # expand × hidden size
    "granitemoehybrid": {"layer_types": ["mamba", "attention", "mamba", "mamba"]},
    "zamba2": {"layers_block_type": ["mamba", "hybrid", "mamba", "mamba"], "hybrid_layer_ids": [1], "num_mem_blocks": 1, "attention_hidden_size": 512, "attention_head_dim": 128},
    "lfm2": {"full_attn_idxs": [1]},
    "bamba": {"attn_layer_indices": [1]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 4, "expert_layer_period": 2, "mamba_dt_rank": 8},
    "kimi_linear": {"layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"]},
    "deepseek_v3": {"num_key_value_heads": 4},
    "deepseek_v2": {"num_key_value_heads": 4, "num_experts_per_tok": 2},
    "gemma3n_text": {"num_kv_shared_layers": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
}  # fmt: skip
DENSE = (
    "llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "phi", "phi3", "gpt2", "gpt_neox", "opt", "bloom",
    "falcon", "mpt", "starcoder2", "cohere2", "stablelm", "smollm3", "granite", "exaone4", "glm4", "gptj", "gemma3n_text",
)  # fmt: skip
MIXTURES = ("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "deepseek_v2", "deepseek_v3", "gpt_oss", "granitemoe")
SCANS = (
    "mamba", "mamba2", "falcon_mamba", "bamba", "jamba", "falcon_h1", "granitemoehybrid", "zamba2", "recurrent_gemma",
    "qwen3_next", "qwen3_5_text", "nemotron_h", "lfm2", "kimi_linear", "olmo_hybrid",
)  # fmt: skip
"""State-space models, linear attention and recurrences."""
ROW: dict[str, Any] = {"batch_size": 1, "max_length": 300, "precision": "fp32"}
PADDED: dict[str, Any] = {"batch_size": 3, "max_length": 134, "precision": "bf16", "gradient_checkpointing": True}
NF4: dict[str, Any] = {"batch_size": 1, "max_length": 300, "precision": "bf16", "quantization": "nf4"}
CHUNKED: dict[str, Any] = {"batch_size": 2, "max_length": 200, "precision": "fp32", "loss_type": "chunked_nll"}


def cases() -> dict[str, tuple[str, dict[str, Any]]]:
    """Name → (family, keys of the config)."""
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for family in (*DENSE, *MIXTURES, *SCANS):
        found[f"{family}, one row, fp32"] = family, ROW
        padded = PADDED | ({"precision": "fp32", "gradient_checkpointing": False} if family in MIXTURES else {})
        found[f"{family}, padded, {padded['precision']}"] = family, padded
    found |= {f"{family}, nf4": (family, NF4) for family in ("llama", "qwen2", "gpt2", "mixtral")}
    found |= {f"{family}, chunked loss": (family, CHUNKED) for family in ("llama", "gemma2", "olmoe")}
    return found


def main() -> None:
    wanted = tuple(sys.argv[1:])
    errors: list[float] = []
    print("family, setting | method | planned, MiB | by allocator events | planned − real | of what comes and goes")
    for name in cases():
        if wanted and not name.startswith(wanted):
            continue
        asked = [sys.executable, "-m", "benchmarks.real_steps", "--one", name]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        line = done.stdout.strip().rpartition("\n")[2]
        if done.returncode or not line.startswith("{"):
            print(f"{name} | fails: {done.stderr.strip().rpartition(chr(10))[2][:200]}", flush=True)
            continue
        found = json.loads(line)
        errors.append(found["planned"] / found["real"] - 1)
        moving = found["planned_moving"] / found["real_moving"] - 1
        print(
            f"{name} | {found['method']} | {found['planned'] / 2**20:.2f} | {found['real'] / 2**20:.2f}"
            f" | {errors[-1]:+.3%} | {moving:+.2%}",
            flush=True,
        )
    if errors:
        print(
            f"{len(errors)} steps: median error {statistics.median(map(abs, errors)):.4%}, worst {max(errors):+.2%} over and {min(errors):+.2%} under"
        )


def small_config(family: str) -> Any:
    """The family's default config with small measures."""
    from transformers import AutoConfig

    def shrunk(values: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in values.items() if key not in BY_LAYER}
        return {key: MEASURES[key] if key in MEASURES and value is not None else value for key, value in kept.items()}

    values = shrunk(AutoConfig.for_model(family).to_dict())
    ids = {key: MEASURES[key] for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    own = {
        key: value
        for key, value in values.items()
        if key not in ("model_type", "transformers_version", "architectures")
    }
    return AutoConfig.for_model(family, **own | ids | OF_FAMILY.get(family, {}))


def _beside(parameter: Any) -> list[Any]:
    """Tensors that bitsandbytes keeps beside a 4-bit weight: scales, their own scales, and the two tables."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return []
    found = [state.absmax, state.code]
    return found + ([state.offset, state.state2.absmax, state.state2.code] if state.nested else [])


def measure_one(name: str) -> dict[str, Any]:
    """Bytes that were planned for a real step and those that it took."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.data import DataLoader
    from transformers import AutoModelForCausalLM

    from lora_backend.config.schema import TrainingConfig
    from lora_backend.modeling.adapter import attach_adapter
    from lora_backend.modeling.load import load_model
    from lora_backend.modeling.profiling import profile_for
    from lora_backend.planning.cost.memory import Memory, Workload
    from lora_backend.planning.cost.scaling import Size
    from lora_backend.planning.cost.trace_settings import Batch
    from lora_backend.runs.record.run_store import RunStore
    from lora_backend.training.assembly import Data, assemble, fresh_state
    from lora_backend.training.loop import fit
    from lora_backend.training.reporter import RunReporter

    family, keys = cases()[name]
    torch.manual_seed(0)

    class Profiled(RunReporter):
        """From the first step's end to the second's, torch's profiler watches."""

        profiler: Any = None

        def step_done(self, step: int, epoch: float) -> None:
            if step == 1:
                gc.collect()  # what the first step left in circles would be seen to go
                self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
                self.profiler.start()
            else:
                self.profiler.stop()

        def shall_save(self, step: int) -> bool:
            return False

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        AutoModelForCausalLM.from_config(small_config(family), dtype=torch.float32).save_pretrained(folder)
        facts = json.loads((folder / "config.json").read_text())
        config = TrainingConfig(model_name=str(folder), r=RANK, max_steps=2, save_steps=99, **keys)
        rows, tokens = config.batch_size, config.max_length
        model = attach_adapter(load_model(config), config)
        ids = torch.randint(3, WORDS, (rows, tokens))
        labels, mask = ids.clone(), torch.ones_like(ids)
        if rows > 1:
            mask[0, -7:] = 0
        if config.loss_type == "chunked_nll":
            labels[:, : tokens // 2] = -100  # the question: nothing is learned from it
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        batches: Any = [{key: tensor[row] for key, tensor in batch.items()} for row in range(rows)] * 2
        run = RunStore(Path(place) / "run")
        run.path.mkdir()
        training = assemble(model, config, config.precision, Data(loader=DataLoader(batches, batch_size=rows)))
        state, reporter = fresh_state(model, training), Profiled(run)
        reporter.memory.result = {}  # measured here, by another instrument
        fit(training, state, reporter)
        events = reporter.profiler.profiler.kineto_results.events()
        moving = max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
        states = [value for held in state.optimizer.state.values() for value in held.values()]
        held = [*model.parameters(), *model.buffers(), *(state for state in states if isinstance(state, torch.Tensor))]
        held += [tensor for parameter in model.parameters() for tensor in _beside(parameter)]
        there = sum(tensor.numel() * tensor.element_size() for tensor in held)
        labelled = int((labels[:, 1:] != -100).sum()) / labels.numel()
        profile_ = profile_for(facts, config, batch=Batch(rows, tokens, uneven=rows > 1, labelled=labelled))
        memory = Memory(profile_, Workload(Size(rows, tokens, RANK), optim=config.optim, on_gpu=False))
        planned = memory.device(range(memory.num_units))
    return {
        "method": profile_.method,
        "planned": planned.tensors,
        "planned_moving": planned.gradients + planned.activations + planned.logits,
        "real": there + moving,
        "real_moving": moving,
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        print(json.dumps(measure_one(sys.argv[2])))
    else:
        main()
