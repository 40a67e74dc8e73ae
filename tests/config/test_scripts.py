"""Defaults read from a training script's source, which is never run."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_backend.config.diff import diff_configs
from lora_backend.config.schema import KEYS
from lora_backend.config.scripts import ScriptDefaults, script_defaults
from lora_backend.errors import ConfigError


def remarks(found: ScriptDefaults) -> dict[int, str]:
    return {remark.line: remark.message.text("en") for remark in found.remarks}


def argument(words: str) -> ScriptDefaults:
    return script_defaults(f"parser.add_argument({words})\n")


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ('"--lora_r", type=int, default=8', {"r": 8}), ('"--lora-alpha", default=16', {"alpha": 16}), ('"-s", "--seed", default=1', {"seed": 1}),
        ('"--lr", type=float, default="2e-5"', {"learning_rate": 2e-5}), ('"--x", dest="seed", default=3', {"seed": 3}),
        ('"--use_dora", action="store_true"', {"use_dora": False}), ('"--use_dora", action="store_false"', {"use_dora": True}),
        ('"--use_dora", action=argparse.BooleanOptionalAction, default=True', {"use_dora": True}), ('"--dataset"', {"dataset": None}),
        ('"--prompt_style", default="short"', {"prompt_style": "short"}), ('"--bf16", default=True', {"precision": "bf16"}),
        ('"--torch_dtype", default="float16"', {"torch_dtype": "float16"}), ('"--max_seq_length", default=1024 * 2', {"max_length": 2048}),
        ('"--output_dir", default=Path("out") / "a"', {"output_dir": "out/a"}), ('"--target_layers", default=[-1 + 1, 2**3]', {"target_layers": [0, 8]}),
    ],
)  # fmt: skip
def test_an_option_of_argparse_has_its_default_under_our_name(words: str, values: dict[str, Any]) -> None:
    assert argument(words).values == values


def test_a_switch_of_type_bool_is_pointed_out_with_its_line() -> None:
    found = script_defaults("import argparse\n\np.add_argument('--force_balance', type=bool, default=True)\n")
    assert found.values == {"force_balance": True}
    assert found.lines == {"force_balance": 3}
    assert "`--force_balance False` means True" in remarks(found)[3]


def test_a_dataclass_is_read_with_its_factories() -> None:
    source = """
from dataclasses import dataclass, field
RANK = 4 * 2
@dataclass
class Arguments:
    lora_rank: int = RANK
    lora_alpha: int = field(default=2 * RANK, metadata={"help": "scale"})
    target_modules: list = field(default_factory=lambda: ["q_proj", "v_proj"])
    layers: list = field(default_factory=list)
    model_name_or_path: str = field(metadata={"help": "which"})
class Other:
    seed: int = 5
"""
    found = script_defaults(source)
    assert found.values == {"r": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"], "layers": []}
    assert found.lines["alpha"] == 7
    assert "no default" in remarks(found)[10]


@pytest.mark.parametrize("written", ['{"lora_r": 8, "nested": {"a": [1, 2]}}', "dict(lora_r=8, nested={'a': [1, 2]})"])
def test_the_dict_that_is_called_like_a_config_is_read_before_a_larger_one(written: str) -> None:
    source = f'COLORS = {{"a": 1, "b": 2, "c": 3}}\nDEFAULT_CONFIG = {written}\n'
    assert script_defaults(source).values == {"r": 8, "nested": {"a": [1, 2]}}


def test_what_only_running_would_tell_is_listed_and_not_dropped() -> None:
    marker = "import pathlib\np.add_argument('--seed', default=pathlib.Path('ran').touch())\np.add_argument('--r', default=10**10**10)\n"
    found = script_defaults(marker)
    assert found.values == {}
    assert found.lines == {}
    assert set(remarks(found)) == {2, 3}
    assert "pathlib.Path('ran').touch()" in remarks(found)[2]
    assert not Path("ran").exists()


def test_a_name_that_is_set_twice_is_no_constant() -> None:
    found = script_defaults("R = 4\nif big:\n    R = 8\np.add_argument('--r', default=R)\n")
    assert found.values == {}
    assert "`R`" in remarks(found)[4]


def test_two_defaults_of_one_option_are_told_of() -> None:
    found = script_defaults("p.add_argument('--seed', default=1)\nDEFAULTS = {'seed': 2}\n")
    assert found.values == {"seed": 1}
    assert "line 1" in remarks(found)[2]


def test_what_is_read_is_the_base_of_a_diff() -> None:
    base = script_defaults("p.add_argument('--lora_r', default=8)\np.add_argument('--lr', default=1e-4)\n").values
    rows = {row.key: row.status for row in diff_configs({"r": 16, "learning_rate": 0.0001}, base, KEYS)}
    assert rows == {"r": "changed", "learning_rate": "equal"}


@pytest.mark.parametrize(
    ("source", "word"),
    [("x = (", "Line 1"), ("a = 1\nb = = 2", "Line 2"), ("a\0b", "Python"), ("x = 1", "no defaults"), ("#" * 2**21, "characters"), ("(" * 5000, "")],
)  # fmt: skip
def test_what_is_no_script_is_one_sentence(source: str, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        script_defaults(source)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_script_with_a_byte_order_mark_and_windows_lines_is_read() -> None:
    assert script_defaults("\ufeffp.add_argument('--seed',\r\n  default=1)\r\n").values == {"seed": 1}


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="p.add_argument('-x', default=1)[]{}*+\n:\\\"#@", max_size=60))
def test_no_source_makes_the_reader_raise_anything_else(noise: str) -> None:
    with suppress(ConfigError):
        script_defaults(f"p.add_argument('--a', default={noise})\n")


FUNCTION = """
import fire
def train(
    base_model: str = "org/model",
    learning_rate: float = 3e-4,
    lora_r: int = 8,
    *,
    lora_target_modules: list = ["q_proj", "v_proj"],
    prompt_style,
):
    config = LoraConfig(r=lora_r, lora_alpha=16, target_modules=lora_target_modules, bias="none", task_type="CAUSAL_LM")
    trainer = Trainer(args=TrainingArguments(learning_rate=learning_rate, optim="adamw_torch", save_steps=steps(3)))
"""


@pytest.mark.parametrize(
    "ending",
    ["fire.Fire(train)", "typer.run(train)", "tyro.cli(train)", "if __name__ == '__main__':\n    fire.Fire(train)"],
)
def test_the_parameters_of_the_function_that_is_run_are_the_options(ending: str) -> None:
    found = script_defaults(f"{FUNCTION}\n{ending}\n")
    assert found.values == {
        "model_name": "org/model", "learning_rate": 3e-4, "r": 8, "target_modules": ["q_proj", "v_proj"], "alpha": 16, "bias": "none",
        "task_type": "CAUSAL_LM", "optim": "adamw_torch",
    }  # fmt: skip
    assert found.lines["r"] == 6
    assert "no default" in remarks(found)[9]
    assert "`steps(3)`" in remarks(found)[12]
    assert found.sources[0].name.text("en") == "the function `train`"


def test_a_command_of_typer_has_its_defaults_in_options() -> None:
    source = """
@app.command()
def main(ctx, lora_r: int = typer.Option(8, help="rank"), seed: int = typer.Option(..., help="seed"), lr: float = 1e-4):
    pass
"""
    found = script_defaults(source)
    assert found.values == {"r": 8, "learning_rate": 1e-4}
    assert "`seed` has no default" in "".join(remarks(found).values())


def test_a_function_that_trains_is_read_where_the_script_declares_nothing() -> None:
    assert script_defaults("def go(model, lr=1e-4, epochs=3, lora_r=8): ...\n").values == {
        "learning_rate": 1e-4,
        "num_epochs": 3,
        "r": 8,
    }
    with pytest.raises(ConfigError, match="no defaults"):
        script_defaults("def paint(width=3, height=4, seed=1): ...\n")
    declared = script_defaults("p.add_argument('--seed', default=1)\ndef go(lr=1e-4, epochs=3, lora_r=8): ...\n")
    assert declared.values == {"seed": 1}


def test_keywords_of_the_libraries_calls_are_read_with_the_constants_around_them() -> None:
    source = """
max_seq_length = 2048
def main():
    rank = 16
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name="org/model", max_seq_length=max_seq_length, load_in_4bit=True, dtype=None, token="hf")
    model = FastLanguageModel.get_peft_model(model, r=rank, lora_alpha=32, target_modules=["q_proj"], lora_dropout=0)
    trainer = SFTTrainer(model=model, tokenizer=tokenizer, train_dataset=rows, packing=False, args=SFTConfig(
        per_device_train_batch_size=2, gradient_accumulation_steps=4, learning_rate=2e-4, optim="adamw_8bit",
        bf16=supported(), output_dir="out"))
    AutoTokenizer.from_pretrained("other")
"""
    found = script_defaults(source)
    assert found.values == {
        "model_name": "org/model", "max_length": 2048, "quantization": "nf4", "r": 16, "alpha": 32,
        "target_modules": ["q_proj"], "lora_dropout": 0, "batch_size": 2, "target_batch_size": 8,
        "learning_rate": 2e-4, "optim": "adamw_8bit", "output_dir": "out",
    }  # fmt: skip
    assert list(remarks(found)) == [10]


def test_a_model_and_its_dtype_are_read_from_the_call_that_loads_it() -> None:
    found = script_defaults(
        'AutoModelForCausalLM.from_pretrained("org/model", torch_dtype=torch.bfloat16, token="hf")\n'
    )
    assert found.values == {"model_name": "org/model", "torch_dtype": "torch.bfloat16"}
    assert "`precision`" in remarks(found)[1]


def test_what_a_call_hands_on_speaks_for_itself() -> None:
    source = """
p.add_argument('--lora_r', type=int, default=8)
p.add_argument('--lora_alpha', type=int, required=True)
LoraConfig(r=args.lora_r, lora_alpha=args.lora_alpha, lora_dropout=0.1, use_rslora=pick(args))
"""
    found = script_defaults(source)
    assert found.values == {"r": 8, "lora_dropout": 0.1}
    assert list(remarks(found)) == [3, 4]
    assert "pick(args)" in remarks(found)[4]


def test_a_declared_default_counts_before_one_that_is_handed_on() -> None:
    found = script_defaults("p.add_argument('--seed', default=1)\nTrainingArguments(seed=2)\n")
    assert found.values == {"seed": 1}
    assert "line 1" in remarks(found)[2]


def test_a_parameter_is_no_constant_though_a_name_like_it_is_set() -> None:
    found = script_defaults("rank = 8\ndef build(rank):\n    return LoraConfig(r=rank, lora_alpha=4)\n")
    assert found.values == {"alpha": 4}
    assert "`rank`" in remarks(found)[3]


@pytest.mark.parametrize(
    "source",
    [
        "from trl import SFTConfig, TrlParser\nparser = TrlParser((ModelConfig, SFTConfig))\n",
        "from trl import SFTConfig, TrlParser\nkinds = (SFTConfig,)\nparser = TrlParser(dataclass_types=kinds)\n",
        "from trl import SFTConfig\nimport transformers\ntransformers.HfArgumentParser(SFTConfig)\nload(x)\nLoraConfig(r=pick())\n",
    ],
)
def test_options_that_another_file_defines_are_refused_by_its_name(source: str) -> None:
    with pytest.raises(ConfigError) as caught:
        script_defaults(source)
    assert "`SFTConfig`" in str(caught.value)
    assert "`trl`" in str(caught.value)


def test_options_that_another_file_defines_are_pointed_out_beside_own_ones() -> None:
    source = """
from transformers import HfArgumentParser, TrainingArguments
@dataclass
class ModelArguments:
    lora_r: int = 8
HfArgumentParser((ModelArguments, TrainingArguments))
"""
    found = script_defaults(source)
    assert found.values == {"r": 8}
    assert "`TrainingArguments`" in remarks(found)[6]
    assert "ModelArguments" not in remarks(found)[6]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("val_set_size", 2000, "number of rows"), ("val_size", 500, "less than 1"), ("lora_r", 0.5, "whole number"), ("optim", "muon", "muon")],
)  # fmt: skip
def test_a_value_that_is_none_here_keeps_its_name_and_is_pointed_out(name: str, value: Any, word: str) -> None:
    found = script_defaults(f"p.add_argument('--{name}', default={value!r})\n")
    assert found.values == {name: value}
    assert word in remarks(found)[1]


def test_rows_of_a_whole_step_beside_those_of_a_forward_pass_are_the_target() -> None:
    found = script_defaults("def train(lora_r=8, batch_size=128, micro_batch_size=4): ...\nfire.Fire(train)\n")
    assert found.values == {"r": 8, "target_batch_size": 128, "batch_size": 4}


@pytest.mark.parametrize(
    "source",
    [
        "def f(lora_r={}, lr=1, epochs=2): ...\n",
        "@app.command()\ndef f(*, lora_r=typer.Option({})): ...\n",
        "LoraConfig(r={}, **x)\n",
        "AutoModel.from_pretrained({}, dtype={})\n",
        "kinds = {}\nTrlParser(kinds)\n",
        "fire.Fire({})\n",
        "from trl import A\nHfArgumentParser(({}, A))\n",
    ],
)
@given(noise=st.text(alphabet="a.A1(')[]{}*+\n:=,@ ", max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_call_and_no_function_makes_the_reader_raise_anything_else(source: str, noise: str) -> None:
    with suppress(ConfigError):
        script_defaults(source.replace("{}", noise))
