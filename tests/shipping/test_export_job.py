"""An export as a whole: truncated and merged on the way, bound in the browser, and refused where it must be."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from lora_backend.installation import this_installation
from lora_backend.preflight.export_place import MARKER, is_export
from tests.modeling.families import LLAMA
from tests.shipping.shipped import good, leftovers, made_adapter, made_run, proof, refused, saved_base, unloadable


@pytest.fixture(autouse=True)
def _places(workspace: Path) -> None:
    pass


@pytest.mark.parametrize("to", ["adapter", "gguf"])
def test_truncated_on_the_way(to: str, tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", unloadable(tmp_path / "base"), r=4)
    result = good(tmp_path / "a", to, tmp_path / "out" / ("a.gguf" if to == "gguf" else "a"), rank=2)
    assert set(result.ranks.values()) == {2}
    assert proof(result, "ranks") == (True, f"{len(result.ranks)} layers have the ranks that they were truncated to.")
    assert "Truncated by singular values" in result.notes[0].text("en")
    assert leftovers(tmp_path / "out") == []
    if to == "adapter":
        tensors = load_file(tmp_path / "out/a/adapter_model.safetensors")
        assert {tensor.shape[0] for name, tensor in tensors.items() if ".lora_A." in name} == {2}
        assert "rank 2: 21 layers" in (tmp_path / "out/a/README.md").read_text("utf-8")
        assert proof(result, "tensors") == (
            True,
            "The weights are identical to the truncated adapter's, byte for byte.",
        )


def test_what_truncating_has_changed_is_not_said_to_be_as_it_was(tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", unloadable(tmp_path / "base"), r=4)
    rounded = good(tmp_path / "a", "adapter", tmp_path / "rounded", rank=2, dtype="bf16")
    said = "The weights were rounded to bf16 after truncating; the ranks match the truncated adapter."
    assert proof(rounded, "tensors") == (True, said)
    unchanged = good(tmp_path / "a", "adapter", tmp_path / "unchanged", rank=4)
    assert proof(unchanged, "tensors") == (True, "The weights are identical to the adapter's, byte for byte.")


def test_merged_with_its_card_and_marked_as_ours(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "base", LLAMA)
    run = made_run(base)
    result = good(run.adapter, "merged", tmp_path / "merged", of_run=run.id)
    assert result.is_proved
    assert proof(result, "tensors")[0] is True
    names = {file.name for file in result.files}
    assert {"config.json", "model.safetensors", "README.md", "loss.svg"} <= names
    assert MARKER not in names
    assert is_export(tmp_path / "merged")
    assert 'AutoModelForCausalLM.from_pretrained(".", dtype="auto")' in (tmp_path / "merged/README.md").read_text("utf-8")  # fmt: skip
    assert leftovers(tmp_path) == []


def test_a_browsers_export_reads_no_base_model_outside_of_its_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    base = saved_base(tmp_path / "base", LLAMA)
    made_adapter(tmp_path / "a", base)
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path / "a"))
    place = this_installation().workspace / "out"
    assert "is outside the folders that the browser may use" in refused(
        tmp_path / "a", "merged", place / "m", bound=True
    )
    assert "is not on this machine" in refused(tmp_path / "a", "gguf", place / "a.gguf", bound=True)
    result = good(tmp_path / "a", "adapter", place / "a", bound=True)
    assert proof(result, "loads") == (None, "Not loaded: the base model is not on this machine.")
    assert "must be below" in refused(tmp_path / "a", "adapter", tmp_path / "elsewhere", bound=True)


def test_a_link_in_the_runs_folder_is_not_followed(tmp_path: Path) -> None:
    run = made_run(unloadable(tmp_path / "base"))
    secret = tmp_path / "secret"
    secret.write_text("key")
    (run.adapter / "tokenizer.json").symlink_to(secret)
    assert "symbolic links, which are not followed" in refused(run.adapter, "adapter", tmp_path / "out", of_run=run.id)
