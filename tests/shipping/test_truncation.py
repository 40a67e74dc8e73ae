"""An adapter truncated to a rank, an energy or a size: what is kept, how it loads, what is refused."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from lora_backend.errors import ModelError
from lora_backend.shipping.truncation import (
    decomposed,
    read_spectrum,
    truncate_adapter,
    truncated,
    truncation_note,
)
from lora_backend.verification.passport import check_passport, write_passport
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.verification.spectrum import AdapterSpectrum, LayerSpectrum, rank_grid
from tests.shipping.merging_cases import falling, load, logits
from tests.verification.bases import Bases
from tests.verification.intact import INTACT, save_adapter

Name = "adapter_model.safetensors"


def deltas(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """scale·B·A of every layer as plain PEFT has it in memory, fp64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(load(base), adapter)
    found = {}
    for name, module in model.named_modules():
        if "default" in getattr(module, "lora_A", {}):
            found[name] = (module.lora_B.default.weight.double() @ module.lora_A.default.weight.double()) * module.scaling["default"]  # fmt: skip
        elif "default" in getattr(module, "lora_embedding_A", {}):
            found[name] = (module.lora_embedding_B["default"].double() @ module.lora_embedding_A["default"].double()) * module.scaling["default"]  # fmt: skip
    return {name: delta.detach() for name, delta in found.items()}


def nearest(delta: torch.Tensor, rank: int) -> torch.Tensor:
    u, s, vt = torch.linalg.svd(delta, full_matrices=False)
    return u[:, :rank] * s[:rank] @ vt[:rank]


@pytest.mark.parametrize(
    ("family", "targets", "more"),
    [
        ("llama", "all-linear", {}),
        ("llama", ["q_proj", "embed_tokens", "lm_head"], {}),
        ("llama", "all-linear", {"use_rslora": True, "rank_pattern": {"q_proj": 6}, "alpha_pattern": {"v_proj": 5}}),
        ("llama", "all-linear", {"use_dora": True}),
        ("gpt2", ["c_attn", "c_proj"], {"fan_in_fan_out": True}),
    ],
)
def test_plain_peft_loads_the_nearest_adapter_of_that_rank(
    bases: Bases, tmp_path: Path, family: str, targets: Any, more: dict[str, Any]
) -> None:
    base = bases.folder(family)
    adapter = falling(base, tmp_path / "adapter", targets, **more)
    ranks = truncate_adapter(adapter, tmp_path / "small", rank=3)
    assert set(ranks.values()) == {3}
    before, after = deltas(base, adapter), deltas(base, tmp_path / "small")
    assert before.keys() == after.keys()
    for name, delta in before.items():
        assert torch.linalg.matrix_rank(after[name], rtol=1e-5) == 3
        torch.testing.assert_close(after[name], nearest(delta, 3), rtol=1e-5, atol=1e-6 * float(delta.abs().max()))


def test_the_rank_check_is_green_on_it_and_the_file_is_smaller(bases: Bases, tmp_path: Path) -> None:
    base = bases.folder("llama")
    adapter = falling(base, tmp_path / "adapter")
    ranks = truncate_adapter(adapter, tmp_path / "small", energy=0.95)
    assert len(set(ranks.values())) > 1, "layers differ, so that patterns are written"
    report = check_adapter_folder(tmp_path / "small", None)
    assert report.is_consistent is True
    assert report.actual_r_values == ranks
    assert report.warnings == []
    assert (tmp_path / "small" / Name).stat().st_size < (adapter / Name).stat().st_size


def test_energy_is_kept_in_every_layer_by_the_lowest_rank(bases: Bases, tmp_path: Path) -> None:
    base = bases.folder("llama")
    adapter = falling(base, tmp_path / "adapter")
    ranks = truncate_adapter(adapter, tmp_path / "small", energy=0.9)
    for name, delta in deltas(base, adapter).items():
        rank = ranks[name.removeprefix("base_model.model.")]
        energies = torch.linalg.svdvals(delta) ** 2
        assert energies[:rank].sum() >= 0.9 * energies.sum() > energies[: rank - 1].sum()


def test_a_size_is_met_with_the_most_energy(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    spectrum = read_spectrum(adapter)
    limit = (spectrum.least_bytes + spectrum.size_bytes) // 2
    ranks = truncate_adapter(adapter, tmp_path / "small", max_bytes=limit)
    size_bytes = (tmp_path / "small" / Name).stat().st_size
    assert size_bytes <= limit < size_bytes + max(layer.bytes_per_rank for layer in spectrum.layers) + 300
    uniform = max(rank for rank in range(1, 9) if spectrum.bytes_at(spectrum.at_rank(rank)) <= limit)
    assert spectrum.energy_at(ranks) > spectrum.energy_at(spectrum.at_rank(uniform))


def test_where_all_directions_cost_the_same_the_size_is_met_by_the_optimum() -> None:
    layers = (LayerSpectrum("a", (5.0, 4.0, 1.0), 10), LayerSpectrum("b", (3.0, 2.0, 1.5), 10))
    spectrum = AdapterSpectrum(layers, 7)
    best = {}
    for limit in range(27, 68):
        every = [{"a": a, "b": b} for a in (1, 2, 3) for b in (1, 2, 3)]
        best[limit] = max(spectrum.energy_at(ranks) for ranks in every if spectrum.bytes_at(ranks) <= limit)
    assert {limit: spectrum.energy_at(spectrum.within(limit)) for limit in best} == best


def test_a_rank_that_no_layer_exceeds_leaves_the_adapter_as_it_was(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    ranks = truncate_adapter(adapter, tmp_path / "same", rank=100)
    before, after = load_file(adapter / Name), load_file(tmp_path / "same" / Name)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    said = truncation_note({layer.name: layer.rank for layer in read_spectrum(adapter).layers}, ranks)
    assert "adapter is unchanged" in said.text("en")


def test_what_is_no_factor_stays_to_the_bit(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama_bias"), tmp_path / "adapter", ["q_proj"], use_dora=True, bias="all", modules_to_save=["lm_head"])  # fmt: skip
    truncate_adapter(adapter, tmp_path / "small", rank=2)
    before, after = load_file(adapter / Name), load_file(tmp_path / "small" / Name)
    others = [name for name in before if "lora_A" not in name and "lora_B" not in name]
    assert {"magnitude" in name for name in others} == {True, False}
    assert all(torch.equal(before[name], after[name]) for name in others)


def test_a_layer_that_adds_nothing_keeps_rank_1(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    tensors = load_file(adapter / Name)
    save_file(
        {name: value * ("lora_B" not in name) for name, value in tensors.items()}, adapter / Name, {"format": "pt"}
    )
    assert set(truncate_adapter(adapter, tmp_path / "small", energy=0.99).values()) == {1}
    assert check_adapter_folder(tmp_path / "small", None).is_consistent is True


def test_the_passport_says_what_it_is_now_and_what_it_came_from(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    write_passport(adapter, config={"r": 8, "alpha": 16, "model_name": "m"}, starts=[], ranks={"a": 8})
    ranks = truncate_adapter(adapter, tmp_path / "small", rank=2)
    parts = {part.name: part.verdict for part in check_passport(tmp_path / "small", {"r": 2, "alpha": 4, "model_name": "m"})}  # fmt: skip
    assert parts["tensors"] == parts["adapter_config"] == parts["config"] == "same"
    passport = json.loads((tmp_path / "small/flightdeck.json").read_text())
    assert passport["truncated_from"] == json.loads((adapter / "flightdeck.json").read_text())["tensors_sha256"]
    assert passport["ranks"] == ranks


def test_the_decomposition_never_builds_the_matrix() -> None:
    """Of this one the entries alone would be 160 GB."""
    torch.manual_seed(0)
    a, b = truncated(torch.randn(4, 200_000), torch.randn(200_000, 4), 2)
    assert (a.shape, b.shape) == ((2, 200_000), (200_000, 2))
    factors = decomposed(a, b)
    assert factors.s.shape == (2,)


@pytest.mark.parametrize("limits", [{"rank": 0}, {"rank": -1}, {"energy": 0.0}, {"energy": 1.5}, {"energy": -0.1}])
def test_a_limit_that_cannot_be_is_refused(bases: Bases, tmp_path: Path, limits: dict[str, Any]) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    with pytest.raises(ModelError, match="Choose"):
        truncate_adapter(adapter, tmp_path / "small", **limits)
    assert not (tmp_path / "small").exists()


def test_a_size_below_rank_1_everywhere_is_refused_with_what_it_takes(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    with pytest.raises(ModelError, match="With rank 1 in every layer"):
        truncate_adapter(adapter, tmp_path / "small", max_bytes=10)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("experts by their parameters", "packed experts"), ("pissa", "init_lora_weights"), ("adalora", "ADALORA"),
        ("block-diagonal", "use_bdlora"), ("vera", "VERA"), ("pickled", "adapter_model.safetensors"),
    ],
)  # fmt: skip
def test_what_is_no_plain_product_is_refused_by_name(bases: Bases, tmp_path: Path, name: str, word: str) -> None:
    adapter = save_adapter(INTACT[name], bases, tmp_path / "adapter")
    with pytest.raises(ModelError, match=word):
        truncate_adapter(adapter, tmp_path / "small", rank=2)


def test_nan_is_refused_with_its_tensor(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    tensors = load_file(adapter / Name)
    name = next(iter(tensors))
    tensors[name][0, 0] = float("nan")
    save_file(tensors, adapter / Name, {"format": "pt"})
    with pytest.raises(ModelError, match="NaN"):
        truncate_adapter(adapter, tmp_path / "small", rank=2)


def test_a_truncated_adapter_moves_the_logits_less_the_higher_its_rank(bases: Bases, tmp_path: Path) -> None:
    base = bases.folder("llama")
    adapter = falling(base, tmp_path / "adapter")
    whole = logits(_on(base, adapter))
    apart = []
    for rank in rank_grid(8):
        truncate_adapter(adapter, tmp_path / str(rank), rank=rank)
        apart.append(float((logits(_on(base, tmp_path / str(rank))) - whole).abs().max()))
    assert rank_grid(8) == [1, 2, 4, 8]
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] == 0


def _on(base: Path, adapter: Path) -> Any:
    return PeftModel.from_pretrained(load(base), adapter).eval()


def test_a_folder_that_is_there_is_not_written_into(bases: Bases, tmp_path: Path) -> None:
    adapter = falling(bases.folder("llama"), tmp_path / "adapter")
    shutil.copytree(adapter, tmp_path / "small")
    with pytest.raises(FileExistsError):
        truncate_adapter(adapter, tmp_path / "small", rank=2)
    assert (tmp_path / "small" / Name).read_bytes() == (adapter / Name).read_bytes()
