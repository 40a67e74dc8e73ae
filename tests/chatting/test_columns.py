"""One base model with several adapters: each answers as it does alone, and what cannot share it is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from lora_backend.chatting import columns as columns_module
from lora_backend.chatting.columns import ChatModel, load_columns
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError
from lora_backend.modeling.devices import DTYPES, resolve_precision
from lora_backend.modeling.load import load_model
from lora_backend.runs.record.job_documents import Column
from tests.chatting.adapters import make_adapter
from tests.tiny import make_model

IDS = torch.tensor([[1, 7, 9, 12, 8]])
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "other targets": {"target_modules": ["up_proj", "down_proj"], "r": 2},
    "dora": {"use_dora": True},
    "rank pattern": {
        "rank_pattern": {"layers.1.self_attn.q_proj": 8},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 32},
    },
    "rslora": {"use_rslora": True, "lora_alpha": 3},
    "head saved whole": {"modules_to_save": ["lm_head"]},
    "norms saved whole": {"modules_to_save": ["input_layernorm"], "target_modules": ["o_proj"]},
    "embedding": {"target_modules": ["embed_tokens", "q_proj"]},
}


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {
        name: make_adapter(root / name.replace(" ", "_"), tiny_model, seed=place, **settings)
        for place, (name, settings) in enumerate(FORMS.items())
    }


def column(label: str, folder: Path | None = None) -> Column:
    return Column(label=label, adapter=None if folder is None else str(folder))


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found = model(input_ids=IDS).logits
    assert isinstance(found, torch.Tensor)
    return found


def alone(base: Path, folder: Path | None = None) -> torch.Tensor:
    """What PEFT itself gives in a model of its own."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=DTYPES[resolve_precision("auto")])
    return logits((PeftModel.from_pretrained(model, str(folder)) if folder else model).eval())


def answered(model: ChatModel, label: str) -> torch.Tensor:
    with model.use(label) as answering:
        return logits(answering)


def test_every_form_of_adapter_answers_beside_the_others_as_it_does_alone(
    tiny_model: Path, adapters: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[Any] = []

    def counted(*given: Any) -> Any:
        loads.append(given)
        return load_model(*given)

    monkeypatch.setattr(columns_module, "load_model", counted)
    monkeypatch.setattr(columns_module, "MOST_KEPT", len(adapters))
    model = load_columns(str(tiny_model), [column("base")])
    wanted = {name: alone(tiny_model, folder) for name, folder in adapters.items()}
    base = alone(tiny_model)
    model.hold([column("base"), *(column(name, folder) for name, folder in adapters.items())])
    for name in [*adapters, *reversed(adapters)]:
        assert torch.equal(answered(model, name), wanted[name]), name
        assert torch.equal(answered(model, "base"), base), f"the base after {name}"
        assert not torch.allclose(wanted[name], base, atol=1e-3), name
    assert len(loads) == 1, "the base model is loaded once, however the columns change"


def test_an_adapter_is_loaded_once_and_anew_when_its_file_changes(tiny_model: Path, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", tiny_model, seed=1)
    said: list[str] = []

    def hold(model: ChatModel) -> None:
        model.hold([column("base"), column("a", folder)], lambda message, _: said.append(message.text("en")))

    model = load_columns(str(tiny_model), [])
    hold(model)
    hold(model)
    assert said == ["Loading the adapter a"]
    shutil.rmtree(folder)
    make_adapter(folder, tiny_model, seed=2)
    hold(model)
    assert said == ["Loading the adapter a"] * 2
    assert torch.equal(answered(model, "a"), alone(tiny_model, folder))


def test_only_so_many_adapters_stay_in_memory_and_the_others_come_back(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns_module, "MOST_KEPT", 1)
    folders = [make_adapter(tmp_path / str(seed), tiny_model, seed=seed) for seed in range(3)]
    model = load_columns(str(tiny_model), [])
    sizes = []
    for folder in [*folders, folders[0]]:
        model.hold([column("base"), column("a", folder)])
        sizes.append(model.num_bytes)
        assert torch.equal(answered(model, "a"), alone(tiny_model, folder))
        assert torch.equal(answered(model, "base"), alone(tiny_model))
    assert len(set(sizes)) == 1


def edited(folder: Path, tmp_path: Path, **changes: Any) -> Path:
    """A copy of an adapter with another config."""
    copy = shutil.copytree(folder, tmp_path / "edited")
    path = copy / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return copy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"peft_type": "IA3"}, "is not a LoRA (its `peft_type` is IA3)"),
        ({"bias": "all"}, "`bias: all` replaces the base model's biases"),
        ({"init_lora_weights": "pissa"}, "`init_lora_weights: pissa` changes the base model's weights"),
        ({"init_lora_weights": "olora"}, "`init_lora_weights: olora`"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "`layer_replication` changes how the base model computes"),
        ({"alora_invocation_tokens": [1]}, "`alora_invocation_tokens`"),
    ],
)
def test_what_would_change_the_base_model_is_refused_by_name_and_the_others_go_on(
    changes: dict[str, Any], said: str, tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    model = load_columns(str(tiny_model), [column("base"), column("good", adapters["plain"])])
    bad = edited(adapters["plain"], tmp_path, **changes)
    with pytest.raises(ModelError) as raised:
        model.hold([column("base"), column("my adapter", bad)])
    assert "my adapter cannot answer side by side with its base model" in str(raised.value)
    assert said in str(raised.value)
    assert not model.is_broken
    model.hold([column("base"), column("good", adapters["plain"])])
    assert torch.equal(answered(model, "good"), alone(tiny_model, adapters["plain"]))


def test_a_file_with_a_weight_of_the_base_model_is_refused(
    tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    bad = shutil.copytree(adapters["plain"], tmp_path / "bad")
    tensors = load_file(bad / "adapter_model.safetensors")
    table = torch.zeros(load_file(tiny_model / "model.safetensors")["model.embed_tokens.weight"].shape)
    save_file({**tensors, "base_model.model.model.embed_tokens.weight": table}, bad / "adapter_model.safetensors")
    with pytest.raises(ModelError, match=r"replaces `model\.embed_tokens\.weight` of the base model"):
        load_columns(str(tiny_model), [column("bad", bad)])


def test_an_adapter_of_another_base_is_refused_by_identity_though_every_shape_fits(
    tiny_model: Path, tmp_path: Path
) -> None:
    other = make_model(tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, other / "model.safetensors", {"format": "pt"})
    foreign = make_adapter(tmp_path / "foreign", other)
    with pytest.raises(ModelError, match=r"theirs was trained on .*other, but this chat uses") as raised:
        load_columns(str(tiny_model), [column("base"), column("theirs", foreign)])
    assert str(tiny_model) in str(raised.value)


def test_an_adapter_of_other_shapes_and_a_folder_without_one_are_named(tiny_model: Path, tmp_path: Path) -> None:
    deep = make_adapter(tmp_path / "deep", make_model(tmp_path / "deeper", blocks=3))
    config = json.loads((deep / "adapter_config.json").read_text())
    (deep / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(ModelError, match=r"layers\.2.*no place in the model"):
        load_columns(str(tiny_model), [column("deep", deep)])
    with pytest.raises(ModelError, match=r"contains no adapter_config\.json"):
        load_columns(str(tiny_model), [column("none", tmp_path)])


def test_an_adapter_of_which_a_tensor_is_missing_is_named_and_leaves_the_model_as_it_was(
    tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    bad = shutil.copytree(adapters["plain"], tmp_path / "bad")
    tensors = load_file(bad / "adapter_model.safetensors")
    del tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"]
    save_file(tensors, bad / "adapter_model.safetensors")
    model = load_columns(str(tiny_model), [])
    with pytest.raises(ModelError, match=r"bad does not fit .*layers\.0\.self_attn\.q_proj.*not in the file"):
        model.hold([column("bad", bad)])
    model.hold([column("base"), column("good", adapters["plain"])])
    assert torch.equal(answered(model, "good"), alone(tiny_model, adapters["plain"]))
    assert torch.equal(answered(model, "base"), alone(tiny_model))


def test_the_end_mark_beside_an_adapter_ends_its_answers_alone(
    tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    with_mark = shutil.copytree(adapters["plain"], tmp_path / "marked")
    (with_mark / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 9]}))
    model = load_columns(str(tiny_model), [column("base"), column("marked", with_mark)])
    assert model.stops("base") == (2,)
    assert model.stops("marked") == (2, 9)


def test_an_nf4_base_has_its_adapters_beside_it(tmp_path: Path) -> None:
    from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    whole = tmp_path / "whole"
    LlamaForCausalLM(
        LlamaConfig(vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2)
    ).save_pretrained(whole)
    quantized = AutoModelForCausalLM.from_pretrained(
        whole, quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"), device_map="cpu"
    )
    quantized.save_pretrained(tmp_path / "nf4")
    from tests.tiny import save_tokenizer

    save_tokenizer(tmp_path / "nf4")
    folder = make_adapter(tmp_path / "a", whole)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    model = load_columns(str(tmp_path / "nf4"), [column("base"), column("a", folder)])
    plain = load_model(TrainingConfig(model_name=str(tmp_path / "nf4")), {"": "cpu"}).eval()
    base = logits(plain)
    assert torch.equal(answered(model, "base"), base)
    assert not torch.allclose(answered(model, "a"), base)
    assert torch.equal(answered(model, "a"), logits(PeftModel.from_pretrained(plain, str(folder)).eval()))
    assert torch.equal(answered(model, "base"), base)
