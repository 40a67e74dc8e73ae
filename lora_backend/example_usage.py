"""A tour of what is there, run for real: `python -m lora_backend.example_usage [--quick]`, or this file itself.

On the demo model (prepared first, some minutes), or with `--quick` on a tiny one in half a minute. Everything
happens in a temporary workspace; nothing is left behind but the demo model's cache.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: its own folder must not hide the package
    sys.path[0] = str(Path(__file__).resolve().parents[1])


def main(argv: list[str] | None = None) -> int:
    """Run the parts one after the other, and say what each does."""
    from lora_backend.terminal import while_read

    return while_read(lambda: _tour(argv))


def _tour(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="example_usage", description="A tour of the backend on a real model.")
    parser.add_argument("--quick", action="store_true", help="a tiny model in place of the demo's")
    quick = parser.parse_args(argv).quick
    with tempfile.TemporaryDirectory(prefix="flightdeck-tour-") as folder:
        os.environ["FLIGHTDECK_WORKSPACE"] = folder
        model = tiny_model(Path(folder) / "model") if quick else demo_model()
        config: dict[str, Any] = {
            "model_name": str(model),
            "r": 8,
            "alpha": 16,
            "target_modules": ["q_proj", "v_proj"],
            "target_layers": [0, 1],
            "batch_size": 2,
            "target_batch_size": 4,
            "num_epochs": 1,
            "learning_rate": 1e-3,
            "precision": "fp32",
            "logging_steps": 1,
            "check_r_consistency": True,
        }
        show_config_check(config)
        show_device_map(config)
        show_rank_check(config)
        show_training(config)
    return 0


def say(text: str) -> None:
    """Head a part of the tour."""
    print(f"\n=== {text}")


def demo_model() -> Path:
    """The demo's model, prepared where it is not yet."""
    from lora_backend.demo.model import prepare_demo_model
    from lora_backend.installation import this_installation

    say("Preparing the demo model (once)")
    return prepare_demo_model(this_installation().cache, lambda message, fraction: print(f"{fraction:4.0%} {message}"))


def tiny_model(folder: Path) -> Path:
    """A Llama of two blocks with a tokenizer that knows single characters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    say("Making a tiny model")
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {token: index for index, token in enumerate(["<unk>", "</s>", *characters])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106 - no password
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>").save_pretrained(folder)  # noqa: S106
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=len(vocabulary), eos_token_id=1, **sizes)).save_pretrained(folder)
    return folder


def show_config_check(config: dict[str, Any]) -> None:
    """What the check says of a good config, and of one with three faults."""
    from lora_backend import check_config_consistency

    say("Config check: a good config")
    result = check_config_consistency(config)
    print("is_valid:", result["is_valid"])
    print("differs from the defaults:", ", ".join(result["differences"]))
    say("Config check: three faults in one config, all found at once")
    result = check_config_consistency({**config, "learnin_rate": 1e-4, "r": "16", "target_layers": [1, 99]})
    for finding in result["findings"]:
        print(f"{finding['severity']}: {finding['message']} {finding['remedy']}")


def show_device_map(config: dict[str, Any]) -> None:
    """Plan the model over GPUs that are not there, then load it with a map on the CPU."""
    from lora_backend import apply_balanced_device_map, create_balanced_device_map

    say("Balanced device map: a 14B model over GPUs of 24, 12 and 8 GiB, planned for training")
    wanted = {"batch_size": 1, "max_length": 2048, "gradient_checkpointing": True}
    placed = create_balanced_device_map("Qwen/Qwen2.5-14B", gpus="24,12,8", config=wanted)
    for device in sorted(set(placed.values()), key=str):
        names = [name for name, where in placed.items() if where == device]
        print(f"GPU {device}: {len(names)} modules, from {names[0]} to {names[-1]}")
    say("Balanced device map: this model, loaded with one on the CPU")
    model, tokenizer, actual = apply_balanced_device_map(
        config["model_name"], {"force_balance": False, "exclude_cpu": False, "precision": config["precision"]}
    )
    print(type(model).__name__, "with", len(tokenizer), "tokens on", actual)


def show_rank_check(config: dict[str, Any]) -> None:
    """Build the model with its adapter, and prove the rank of every layer."""
    from lora_backend import check_lora_r_consistency, getEquipAdaptorModel

    say("Rank check: the model as the config asks")
    model = getEquipAdaptorModel(config)
    result = check_lora_r_consistency(model, config)
    print("is_consistent:", result["is_consistent"], result["actual_r_values"])
    say("Rank check: the same model against a config that asks for another rank")
    result = check_lora_r_consistency(model, {**config, "r": 16})
    print("is_consistent:", result["is_consistent"], "mismatched:", result["mismatched_layers"])


def show_training(config: dict[str, Any]) -> None:
    """Train on a DataLoader of one's own; the call is a run with a folder of its own."""
    from torch.utils.data import DataLoader
    from transformers import DataCollatorForSeq2Seq

    from lora_backend import buildandTrainLoraModel, check_lora_r_consistency
    from lora_backend.installation import this_installation
    from lora_backend.modeling.load import load_tokenizer
    from lora_backend.runs.record.run_store import list_runs
    from lora_backend.tokens.label_rows import label_rows
    from lora_backend.tokens.labels import LabelRules

    say("Training on a DataLoader of one's own")
    tokenizer = load_tokenizer(config["model_name"])
    rows = [{"prompt": f"{n} plus one is ", "completion": f"{n + 1}"} for n in range(16)]
    dataset = label_rows(rows, tokenizer, LabelRules(max_length=64))
    dataloader = DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=DataCollatorForSeq2Seq(tokenizer))
    buildandTrainLoraModel(
        config=config,
        dataloader=dataloader,
        precision=config["precision"],
        pkg="tour",
        version="1.0.0",
        knowledge_type="sums",
    )
    run = list_runs(this_installation().runs)[0]
    print(
        "run:",
        run.id,
        "state:",
        run.state().state,
        "files:",
        ", ".join(sorted(path.name for path in run.path.iterdir())),
    )
    published = this_installation().workspace / "adapters" / "tour" / "1.0.0" / "sums"
    say("The published adapter, read back from its files")
    print("is_consistent:", check_lora_r_consistency(published, config)["is_consistent"], "in", published)


if __name__ == "__main__":
    sys.exit(main())
