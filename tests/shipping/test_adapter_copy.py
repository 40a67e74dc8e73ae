"""An adapter taken along: it loads elsewhere, with the logits of the training, and brings nothing that is not its own."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from transformers import DataCollatorForSeq2Seq

from lora_backend.loraTrainUtils import buildandTrainLoraModel
from lora_backend.modeling.load import load_tokenizer
from lora_backend.preflight.export_place import MARKER, is_export
from lora_backend.runs.record.run_store import list_runs
from lora_backend.shipping.fresh_proof import PROGRAM
from lora_backend.tokens.label_rows import label_rows
from lora_backend.tokens.labels import LabelRules
from lora_backend.verification.passport import check_passport, file_sha256
from tests.modeling.families import LLAMA
from tests.shipping.shipped import good, leftovers, made_adapter, made_run, peft_config, proof, saved_base, unloadable
from tests.tiny import chats

FRESH = """
import json, sys
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
base = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto")
model = PeftModel.from_pretrained(base, sys.argv[2]).eval()
with torch.no_grad():
    logits = model(input_ids=torch.arange(10)[None]).logits
assert not any(name.startswith("lora_backend") for name in sys.modules)
torch.save(logits, sys.argv[3])
"""


@pytest.fixture(autouse=True)
def _places(workspace: Path) -> None:
    pass


def test_a_fresh_process_has_the_logits_of_the_training(tiny_model: Path, workspace: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model))
    rows = DataLoader(label_rows(chats(), tokenizer, LabelRules(64)), batch_size=4, collate_fn=DataCollatorForSeq2Seq(tokenizer))  # type: ignore[arg-type,var-annotated]  # fmt: skip
    config = {"model_name": str(tiny_model), "r": 4, "alpha": 8, "num_epochs": 2, "learning_rate": 2e-2, "batch_size": 4, "precision": "fp32"}  # fmt: skip
    trained = buildandTrainLoraModel(config=config, dataloader=rows, precision="fp32", pkg="p", version="1", knowledge_type="k").eval()  # fmt: skip
    with torch.no_grad():
        expected = trained(input_ids=torch.arange(10)[None]).logits
        with trained.disable_adapter():
            assert not torch.equal(trained(input_ids=torch.arange(10)[None]).logits, expected), "it has learned something"  # fmt: skip
    (run,) = list_runs(workspace / "runs")
    result = good(run.adapter, "adapter", tmp_path / "out" / "mine.zip", of_run=run.id)
    assert result.is_proved
    assert proof(result, "tensors") == (True, "The weights are identical to the adapter's, byte for byte.")
    passed, said = proof(result, "loads")
    assert passed
    assert "14 LoRA layers" in said
    with zipfile.ZipFile(tmp_path / "out" / "mine.zip") as packed:
        assert packed.testzip() is None
        packed.extractall(tmp_path / "elsewhere")
    subprocess.run([sys.executable, "-P", "-c", FRESH, str(tiny_model), str(tmp_path / "elsewhere"), str(tmp_path / "logits.pt")], cwd=tmp_path, check=True, env={"PATH": ""})  # fmt: skip
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_the_folder_has_passport_config_card_and_only_what_is_known(tmp_path: Path) -> None:
    run = made_run(unloadable(tmp_path / "base"))
    result = good(run.adapter, "adapter", tmp_path / "out" / "mine", of_run=run.id)
    folder = tmp_path / "out" / "mine"
    names = {"adapter_config.json", "adapter_model.safetensors", "flightdeck.json", "config.yaml", "README.md", "loss.svg"}  # fmt: skip
    assert {path.name for path in folder.iterdir()} == names | {MARKER}
    assert {file.name for file in result.files} == names
    assert all(file.sha256 == file_sha256(folder / file.name) for file in result.files)
    assert result.size_bytes == sum((folder / name).stat().st_size for name in names)
    assert (folder / "config.yaml").read_text() == run.config_text()
    assert "Left out, because they are not part of the adapter: optimizer.pt." in [
        note.text("en") for note in result.notes
    ]
    parts = {part.name: part.verdict for part in check_passport(folder)}
    assert (parts["tensors"], parts["adapter_config"]) == ("same", "same")
    assert leftovers(tmp_path / "out") == []
    assert is_export(folder)


def test_the_base_model_is_named_by_its_hub_id_where_that_is_known(tmp_path: Path) -> None:
    base = unloadable(tmp_path / "hub/models--acme--tiny/snapshots/0123")
    made_adapter(tmp_path / "a", base)
    assert peft_config(tmp_path / "a")["base_model_name_or_path"] == str(base)
    good(tmp_path / "a", "adapter", tmp_path / "known")
    assert peft_config(tmp_path / "known")["base_model_name_or_path"] == "acme/tiny"
    other = unloadable(tmp_path / "base")
    made_adapter(tmp_path / "b", other)
    result = good(tmp_path / "b", "adapter", tmp_path / "kept")
    assert peft_config(tmp_path / "kept")["base_model_name_or_path"] == str(other)
    assert f"The adapter names its base model by a folder on this machine: {other}. On another machine, pass the path of the base model when you load it." in [note.text("en") for note in result.notes]  # fmt: skip


def test_where_the_base_is_not_here_it_is_said_that_it_was_not_loaded(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", LLAMA)
    made_adapter(tmp_path / "a", base)
    base.rename(tmp_path / "gone")
    result = good(tmp_path / "a", "adapter", tmp_path / "out.zip")
    assert proof(result, "loads") == (None, "Not loaded: the base model is not on this machine.")
    assert result.is_proved, "what was not looked at is not wrong"


def test_another_type_of_weights_is_said(tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", unloadable(tmp_path / "base"))
    result = good(tmp_path / "a", "adapter", tmp_path / "out", dtype="bf16")
    assert {tensor.dtype for tensor in load_file(tmp_path / "out" / "adapter_model.safetensors").values()} == {torch.bfloat16}  # fmt: skip
    assert proof(result, "tensors") == (True, "The weights were rounded to bf16; the ranks are unchanged.")


def test_the_same_files_make_the_same_archive(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", LLAMA)
    made_adapter(tmp_path / "a", base)
    base.rename(tmp_path / "gone")
    for name in ("one.zip", "two.zip"):
        good(tmp_path / "a", "adapter", tmp_path / name)
    one, two = (zipfile.ZipFile(tmp_path / name) for name in ("one.zip", "two.zip"))
    assert [(info.filename, info.CRC) for info in one.infolist()] == [(info.filename, info.CRC) for info in two.infolist()]  # fmt: skip


def test_an_adapter_that_does_not_load_is_told(tiny_model: Path, tmp_path: Path) -> None:
    from lora_backend.clock import machine_clock
    from lora_backend.runs.processes.job_progress import JobProgress
    from lora_backend.runs.record.run_store import RunStore
    from lora_backend.shipping.fresh_proof import proof_of_loading

    made_adapter(tmp_path / "a", tiny_model)
    config = peft_config(tmp_path / "a") | {"r": 5}
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps(config))
    found = proof_of_loading(tmp_path / "a", tiny_model, JobProgress(RunStore(tmp_path, machine_clock)))
    assert found.passed is False
    assert found.message.text("en").startswith("A fresh process could not load it: ")


def test_the_program_that_loads_it_imports_nothing_of_ours() -> None:
    assert "lora_backend" not in PROGRAM.read_text()
