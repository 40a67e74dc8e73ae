"""A merged model's files: names, dtypes, shards, what stands beside them; and what is refused before the first byte."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_backend.errors import DiskFullError, FlightdeckError, ModelError
from lora_backend.models.headers import read_folder_headers
from lora_backend.runs.processes.job_progress import JobStoppedError
from lora_backend.runs.record.job_documents import ExportRequest
from lora_backend.runs.record.transitions import request_stop
from lora_backend.shipping.merged_proof import tensors_proof
from lora_backend.shipping.merged_weights import LowRank, merged, ulps_apart
from lora_backend.shipping.merging import merge_adapter
from lora_backend.shipping.sharded_merge import ShardPlan, merge_shards
from lora_backend.shipping.weight_files import WeightFiles
from tests.shipping.merging_cases import job_of, load, logits, merge, peft_merged, same_parameters
from tests.tiny import make_model
from tests.verification.bases import Bases

pytestmark = pytest.mark.usefixtures("workspace")

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gpt2", "phi3", "mixtral", "gpt_oss")


def make_adapter(base: Path, folder: Path, targets: Any = "all-linear", **more: Any) -> Path:
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(
            load(base), LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=targets, **more)
        )
        model.peft_config["default"].base_model_name_or_path = str(base)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(std=0.1)
        model.save_pretrained(folder)
    return folder


def in_dtype(base: Path, folder: Path, dtype: torch.dtype, **more: Any) -> Path:
    load(base, dtype).save_pretrained(folder, **more)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Llama in bf16, in several shards, with a tokenizer and a chat template."""
    root = tmp_path_factory.mktemp("base")
    whole = make_model(root / "whole")
    folder = in_dtype(whole, root / "base", torch.bfloat16, max_shard_size="8KB")
    for path in whole.glob("*token*"):
        shutil.copy(path, folder)
    shutil.copy(whole / "chat_template.jinja", folder)
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "a")


@pytest.mark.parametrize("family", FAMILIES)
def test_in_fp32_equal_to_the_bit_with_peft_over_families(family: str, bases: Bases, tmp_path: Path) -> None:
    base = bases.folder(family)
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged")
    assert same_parameters(load(tmp_path / "merged"), peft_merged(base, adapter)) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_in_bf16_at_most_one_unit_in_the_last_place_from_peft(family: str, bases: Bases, tmp_path: Path) -> None:
    base = in_dtype(bases.folder(family), tmp_path / "base", torch.bfloat16)
    adapter = make_adapter(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "merged")
    before, theirs = load(base, torch.bfloat16).state_dict(), peft_merged(base, adapter, torch.bfloat16)
    differing = same_parameters(load(tmp_path / "merged", torch.bfloat16), theirs)
    # PEFT rounds twice where LoRA stands on a parameter, as of experts and routers, and only there.
    assert not any("attn" in name for name in differing)
    apart = {name: ulps_apart(ours, theirs.state_dict()[name], before[name]) for name, ours in differing.items()}
    assert max(apart.values(), default=0) <= 1


def test_names_dtypes_and_shards_are_those_of_the_base_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = merge(base, adapter, tmp_path / "merged")
    ours, theirs = (read_folder_headers(folder, "model") for folder in (tmp_path / "merged", base))
    assert ours == theirs
    weight_map = [
        json.loads((folder / "model.safetensors.index.json").read_text()) for folder in (tmp_path / "merged", base)
    ]
    assert weight_map[0]["weight_map"] == weight_map[1]["weight_map"]
    assert weight_map[0]["metadata"] == weight_map[1]["metadata"]
    with safe_open(next((tmp_path / "merged").glob("*.safetensors")), "pt") as file:
        assert file.metadata() == {"format": "pt"}
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        assert (tmp_path / "merged" / name).is_file(), name
    assert json.loads((tmp_path / "merged/config.json").read_text()) == json.loads((base / "config.json").read_text())
    assert {file.name for file in result.files} == {path.name for path in (tmp_path / "merged").iterdir()}
    assert result.size_bytes == sum(path.stat().st_size for path in (tmp_path / "merged").iterdir())


@pytest.mark.parametrize(("dtype", "word", "name"), [("fp32", "F32", "float32"), ("fp16", "F16", "float16")])
def test_another_dtype_is_written_and_said_in_the_config(
    base: Path, adapter: Path, tmp_path: Path, dtype: str, word: str, name: str
) -> None:
    merge(base, adapter, tmp_path / "merged", dtype=dtype)
    assert {info.dtype for info in read_folder_headers(tmp_path / "merged", "model").values()} == {word}
    assert json.loads((tmp_path / "merged/config.json").read_text())["dtype"] == name
    if dtype == "fp32":
        assert same_parameters(load(tmp_path / "merged"), peft_merged(base, adapter)) == {}


def test_a_number_too_large_for_fp16_is_refused_by_name(tmp_path: Path) -> None:
    base = in_dtype(make_model(tmp_path / "whole"), tmp_path / "base", torch.bfloat16)
    tensors = load_file(base / "model.safetensors")
    tensors["model.norm.weight"][3] = 1e6
    save_file(tensors, base / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight is too large for fp16"):
        merge(base, make_adapter(base, tmp_path / "adapter"), tmp_path / "merged", dtype="fp16")


def test_links_of_the_hubs_cache_are_followed_and_files_come_out(base: Path, adapter: Path, tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "models--a--b/blobs", tmp_path / "models--a--b/snapshots/0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(base.iterdir()):
        shutil.copy(path, blobs / str(number))
        (snapshot / path.name).symlink_to(Path("../../blobs") / str(number))
    merge(snapshot, adapter, tmp_path / "merged")
    assert not any(path.is_symlink() for path in (tmp_path / "merged").iterdir())
    assert same_parameters(load(tmp_path / "merged"), load(_merged_beside(base, adapter, tmp_path))) == {}


def _merged_beside(base: Path, adapter: Path, tmp_path: Path) -> Path:
    merge(base, adapter, tmp_path / "beside")
    return tmp_path / "beside"


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.weight", "model.norm.weight"])
def test_a_fault_in_one_written_number_fails_the_proof(base: Path, adapter: Path, tmp_path: Path, name: str) -> None:
    """The proof reads what was written, not what was meant."""
    files = WeightFiles(base)
    change = LowRank("q_proj", torch.randn(2, 32), torch.randn(32, 2), 0.5, "linear")
    plan = ShardPlan(files, {"model.layers.0.self_attn.q_proj.weight": change}, {}, {}, is_untied=False)
    (tmp_path / "merged").mkdir()
    merge_shards(plan, tmp_path / "merged", lambda _: None)
    assert tensors_proof(plan, tmp_path / "merged", lambda _: None).passed is True
    path = tmp_path / "merged" / files.places[name].name
    tensors = load_file(path)
    tensors[name].view(-1)[3] *= 1.1
    save_file(tensors, path, {"format": "pt"})
    proof = tensors_proof(plan, tmp_path / "merged", lambda _: None)
    assert proof.passed is False
    assert ("q_proj" if "q_proj" in name else "1 tensor ") in proof.message.text("en")


def test_where_the_model_does_not_fit_memory_logits_are_said_not_to_be_compared(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_backend.shipping.merged_proof.free_bytes", lambda _: 1000)
    result = merge(base, adapter, tmp_path / "merged")
    proof = {proof.code: proof for proof in result.proofs}["logits"]
    assert proof.passed is None
    assert "1000 B" in proof.message.text("en")
    assert {proof.code: proof.passed for proof in result.proofs}["tensors"] is True


def test_what_is_merged_in_memory_and_does_not_fit_is_refused_with_the_figures(
    bases: Bases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = bases.folder("mixtral")
    adapter = make_adapter(base, tmp_path / "adapter", None, target_parameters=["experts.down_proj"])
    monkeypatch.setattr("lora_backend.shipping.loaded_merge.free_bytes", lambda _: 1000)
    with pytest.raises(ModelError, match=r"experts.*1000 B"):
        merge(base, adapter, tmp_path / "merged")


def test_an_adapter_trained_in_4_bits_merges_into_the_whole_weights(base: Path, adapter: Path, tmp_path: Path) -> None:
    trained = shutil.copytree(adapter, tmp_path / "adapter")
    passport = {"format": 1, "config": {"model_name": str(base), "quantization": "nf4"}}
    (trained / "flightdeck.json").write_text(json.dumps(passport))
    result = merge(base, trained, tmp_path / "merged")
    assert any("nf4" in note.text("en") for note in result.notes)
    assert result.is_proved


# ------------------------------------------------------------------------------------- bad input


def test_a_base_model_that_is_not_here_is_named(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone.*--model"):
        merge(tmp_path / "gone", adapter, tmp_path / "merged")


def test_another_base_model_of_the_same_shapes_is_refused_by_identity(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(base, tmp_path / "other")
    path = next(other.glob("*.safetensors"))
    save_file({name: value + 1 for name, value in load_file(path).items()}, path, {"format": "pt"})
    with pytest.raises(ModelError, match="The adapter was trained on"):
        merge(other, adapter, tmp_path / "merged")


def test_an_adapter_whose_shapes_do_not_fit_is_refused_by_name(base: Path, tmp_path: Path) -> None:
    wide = make_model(tmp_path / "wide", blocks=3)
    adapter = make_adapter(wide, tmp_path / "adapter")
    config = json.loads((adapter / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"does not fit the base model: .*layers\.2"):
        merge(base, adapter, tmp_path / "merged")


def test_nan_in_the_adapter_is_refused_with_its_layer(base: Path, adapter: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(adapter, tmp_path / "adapter")
    tensors = load_file(broken / "adapter_model.safetensors")
    name = next(name for name in tensors if "q_proj.lora_B" in name)
    tensors[name][0, 0] = float("nan")
    save_file(tensors, broken / "adapter_model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"q_proj.*NaN"):
        merge(base, broken, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_quantized_base_model_is_refused_with_the_remedy(base: Path, adapter: Path, tmp_path: Path) -> None:
    packed = shutil.copytree(base, tmp_path / "packed")
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (packed / "config.json").write_text(json.dumps(config))
    own = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((own / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (own / "adapter_config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=r"gptq.*--model"):
        merge(packed, own, tmp_path / "merged")


def test_without_room_nothing_is_written(
    base: Path, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("lora_backend.shipping.merging.shutil.disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(DiskFullError, match="100 B are free"):
        merge(base, adapter, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_shard_that_is_cut_off_or_gone_is_named(base: Path, adapter: Path, tmp_path: Path, damage: str) -> None:
    broken = shutil.copytree(base, tmp_path / "broken")
    own = shutil.copytree(adapter, tmp_path / "adapter")
    settings = json.loads((own / "adapter_config.json").read_text()) | {"base_model_name_or_path": None}
    (own / "adapter_config.json").write_text(json.dumps(settings))
    path = sorted(broken.glob("*.safetensors"))[1]
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    with pytest.raises(FlightdeckError, match=path.name):
        merge(broken, own, tmp_path / "merged")


def test_a_stop_ends_it_between_two_tensors(base: Path, adapter: Path, tmp_path: Path) -> None:
    request = ExportRequest(adapter=str(adapter), to="merged", base_model=str(base))
    progress = job_of(request, tmp_path / "job")
    told = []

    def stop_soon(fraction: float, *_: Any) -> None:
        told.append(fraction)
        if len(told) == 3:
            request_stop(progress._folder, actor="t", deadline_s=5)
        progress.refuse_stop()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(progress, "at", stop_soon)
        with pytest.raises(JobStoppedError):
            merge_adapter(request, adapter, tmp_path / "merged", progress)
    assert 0 < told[-1] < 0.5


# ------------------------------------------------------------------------------------- arithmetic


def test_a_difference_is_counted_in_units_in_the_last_place() -> None:
    one = torch.tensor([1.0, -2.0, 0.0, 1e-45], dtype=torch.float32)
    assert ulps_apart(one, one) == 0
    assert ulps_apart(one, torch.nextafter(one, torch.tensor(9.0))) == 1
    assert ulps_apart(torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0234375], dtype=torch.bfloat16)) == 3
    assert ulps_apart(torch.tensor([1.0]), torch.tensor([float("nan")])) == float("inf")


def test_a_merge_in_bf16_is_rounded_once() -> None:
    weight = torch.tensor([[1.0]], dtype=torch.bfloat16)
    change = LowRank("x", torch.tensor([[2.0**-9]]), torch.tensor([[1.0]]), 1.0, "linear")
    exact = merged(weight, change)
    assert exact.dtype == torch.float32
    assert exact.item() == 1 + 2.0**-9


def test_the_merged_model_answers_as_the_adapter(base: Path, adapter: Path, tmp_path: Path) -> None:
    result = merge(base, adapter, tmp_path / "merged", dtype="fp32")
    from tests.shipping.merging_cases import adapted

    torch.testing.assert_close(logits(load(tmp_path / "merged")), logits(adapted(base, adapter)), rtol=1e-4, atol=1e-5)
    said = next(proof for proof in result.proofs if proof.code == "logits").message.text("en")
    assert "48 of 48" in said
