"""Odd models and odd configs at the real command: a plan or one sentence, never a traceback, in text as in JSON."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from tests.odd_plans import CAUSAL, NO_DEVICE, SMALLEST

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
KEYS_OF_ITS_OWN = "must hold keys and values of its own. Check the file."
MODELS: dict[str, tuple[dict[str, Any], str]] = {
    "vocabulary 0": ({"vocab_size": 0}, "`vocab_size` in config.json is 0, but " + SMALLEST),
    "vocabulary below 0": ({"vocab_size": -5}, "`vocab_size` in config.json is -5, but " + SMALLEST),
    "vocabulary 10**15": ({"vocab_size": 10**15}, "`vocab_size` in config.json is 100000000000000…; the limit is"),
    "vocabulary 10**30": ({"vocab_size": 10**30}, "`vocab_size` in config.json is 100000000000000…; the limit is"),
    "hidden 2**30": ({"hidden_size": 2**30}, "`hidden_size` in config.json is 1073741824; the limit is"),
    "hidden 0": ({"hidden_size": 0}, "`hidden_size` in config.json is 0, but " + SMALLEST),
    "inner 10**15": ({"intermediate_size": 10**15}, "`intermediate_size` in config.json is 100000000000000…; the limit is"),
    "10**9 layers": ({"num_hidden_layers": 10**9}, "`num_hidden_layers` in config.json is 1000000000; the limit is 1000"),
    "0 layers": ({"num_hidden_layers": 0}, "`num_hidden_layers` in config.json is 0, but " + SMALLEST),
    "-4 layers": ({"num_hidden_layers": -4}, "`num_hidden_layers` in config.json is -4, but " + SMALLEST),
    "4.5 layers": ({"num_hidden_layers": 4.5}, "`num_hidden_layers`|'num_hidden_layers'"),
    "layers as text": ({"num_hidden_layers": "4"}, "'num_hidden_layers'"),
    "no number of layers": ({"num_hidden_layers": None}, "'num_hidden_layers'"),
    "0 heads": ({"num_attention_heads": 0}, "`num_attention_heads` in config.json is 0, but " + SMALLEST),
    "0 key-value heads": ({"num_key_value_heads": 0}, "`num_key_value_heads` in config.json is 0, but " + SMALLEST),
    "5 heads": ({"num_attention_heads": 5}, "not a multiple of the number of attention heads"),
    "hidden as a text below": ({"text_config": {"vocab_size": 0}}, "`vocab_size` in config.json is 0, but " + SMALLEST),
    "text_config a list": ({"text_config": [1]}, "`text_config` in config.json " + KEYS_OF_ITS_OWN),
    "text_config a text": ({"text_config": "x"}, "`text_config` in config.json " + KEYS_OF_ITS_OWN),
    "no family": ({"model_type": None}, "has no `model_type`"),
    "a family without a name": ({"model_type": ""}, "has no `model_type`"),
    "a family in a list": ({"model_type": ["llama"]}, "has no `model_type`"),
    "a family nobody knows": ({"model_type": "nonsense"}, "transformers does not know models of the type nonsense"),
    "quantized, as a text": ({"quantization_config": "nf4"}, "nothing trains on weights of that kind"),
    "quantized, as a list": ({"quantization_config": [1]}, "nothing trains on weights of that kind"),
    "quantized by nobody": ({"quantization_config": {"quant_method": "zzz"}}, "quantized (zzz), and nothing trains"),
    "quantized to 0 bits": ({"quantization_config": {"quant_method": "gptq", "bits": 0}}, "`bits` in the model's"),
    "in 4 and in 8 bits": ({"quantization_config": {"load_in_4bit": True, "load_in_8bit": True}}, "`load_in_8bit` in the model's"),
    "an activation nobody knows": ({"hidden_act": "nonsense"}, "'nonsense'"),
    "an epsilon in words": ({"rms_norm_eps": "x"}, "'rms_norm_eps'"),
    "rope of no kind": ({"rope_scaling": {"rope_type": "nonsense"}}, "'nonsense'"),
    "padding beyond the vocabulary": ({"pad_token_id": 10**6}, "No causal language model can be built"),
    "10**9 experts": ({"model_type": "mixtral", "num_local_experts": 10**9}, "`num_local_experts` in config.json is 1000000000; the limit is 4096"),
    "bart": ({"model_type": "bart"}, "an encoder-decoder (bart); " + CAUSAL),
    "t5": ({"model_type": "t5"}, "an encoder-decoder (t5); " + CAUSAL),
    "whisper": ({"model_type": "whisper"}, "a model of speech (whisper); " + CAUSAL),
    "bert": ({"model_type": "bert"}, "an encoder, which reads text and writes none (bert); " + CAUSAL),
    "clip": ({"model_type": "clip"}, "(clip); " + CAUSAL),
    "qwen2_5_vl": ({"model_type": "qwen2_5_vl"}, "a vision-language model that transformers has no text class for (qwen2_5_vl); " + CAUSAL),
}  # fmt: skip
"""What is wrong with a config.json, and what is said of it."""
SETTINGS: dict[str, str] = {
    "batch_size=1000000000000": NO_DEVICE,
    "max_length=1000000000000000": NO_DEVICE,
    "batch_size=0": "`batch_size` is 0, but must be a whole number, at least 1",
    "batch_size=nan": '`batch_size` is "nan", but must be a whole number',
    "batch_size=[]": "`batch_size` is [], but must be a whole number",
    "optim=nonsense": '`optim` is "nonsense", but must be one of: adamw_torch,',
    "optim=lomo": "`optim: lomo` is made for training all weights of a model",
    "learning_rate=.nan": "`learning_rate` is NaN, but must be a number",
    "alpha=1e400": "`alpha` is Infinity, but must be a number",
    "target_modules=[]": "`target_modules` is an empty list",
    "target_modules=((((": "not a regular expression",
    "target_modules={}": "`target_modules` is {}, but must be a text; or a list",
    "target_layers=[]": "`target_layers` is an empty list",
    "target_layers=[99]": "`target_layers` names 99, but the model has 2 blocks",
    "rank_pattern=[]": "`rank_pattern` is [], but must be a mapping",
    "device_map={}": "`device_map` has no entry for",
    "r=true": "`r` is true, but must be a whole number",
    "nonsense=1": "`nonsense` is not a key of a training config",
    "min_memory_gb=1e300": "No GPU has enough memory",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(logging, "raiseExceptions", False)  # libraries log to the stream of an earlier test


def asked(facts: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[str, str]:
    """The sentence of a refusal, in text and in the JSON document."""
    path = folder / "config.json"
    path.write_text(json.dumps(facts))
    said = []
    for form in ([], ["--json"]):
        assert main(["plan", "--model", str(path), "--gpus", "24", "--lang", "en", *words, *form]) == 2
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        said.append(json.loads(out)["error"] if form else (out + err).strip().splitlines()[-1])
    return said[0], said[1]


@pytest.mark.parametrize("odd", MODELS)
def test_an_odd_model_is_refused_in_a_sentence(odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change, wanted = MODELS[odd]
    facts = (
        change
        if change.get("model_type") in ("bart", "t5", "whisper", "bert", "clip", "qwen2_5_vl")
        else {**LLAMA, **change}
    )
    for sentence in asked(facts, tmp_path, capsys):
        assert any(part in sentence for part in wanted.split("|"))
        assert "\n" not in sentence


@pytest.mark.parametrize("odd", SETTINGS)
def test_an_odd_config_is_refused_in_a_sentence(odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sentence in asked(LLAMA, tmp_path, capsys, "--set", odd):
        assert SETTINGS[odd] in sentence
        assert "\n" not in sentence


@pytest.mark.parametrize(
    "change",
    [
        {"max_position_embeddings": -1},
        {"model_type": "mistral", "sliding_window": 0},
        {"rope_theta": float("nan")},
        {"quantization_config": {}},
        {"num_hidden_layers": 1},
    ],
    ids=str,
)
def test_what_is_odd_but_can_be_counted_gets_a_plan(
    change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, **change}))
    assert main(["plan", "--model", str(path), "--gpus", "24", "--set", "batch_size=1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"] is True


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("blt", {}),
        ("gemma3n_text", {"num_hidden_layers": 5, "num_kv_shared_layers": 0}),
        pytest.param("gemma3n_text", {}, marks=pytest.mark.soak, id="gemma3n_text as large as it comes"),
    ],
    ids=str,
)
def test_a_family_of_another_make_is_planned_or_refused_in_a_sentence(
    family: str, change: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": family, **change}))
    code = main(["plan", "--model", str(path), "--gpus", "24", "--set", "batch_size=1", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert ("error" in document) is (code == 2)
    assert code == 2 or "devices" in document


def test_the_first_plan_of_a_checkpoint_says_nothing_beside_the_plan(tmp_path: Path) -> None:
    """In a process of its own: libraries warn where they are imported."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA, "quantization_config": {"load_in_4bit": True}}))
    command = [sys.executable, "-m", "lora_backend", "plan", "--model", str(path), "--gpus", "24", "--lang", "en"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.startswith("It fits")
