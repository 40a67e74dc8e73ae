"""Truncate a trained adapter to lower ranks by singular values, layer by layer."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

from lora_backend.atomic import write_atomic, write_json
from lora_backend.errors import ModelError
from lora_backend.i18n import N_, Message
from lora_backend.models.describe import read_json_object
from lora_backend.shipping.lora_pairs import FILE, LoraPairs, Pair, read_pairs
from lora_backend.verification.passport import FILE as PASSPORT
from lora_backend.verification.passport import file_sha256, tensors_sha256
from lora_backend.verification.spectrum import AdapterSpectrum, LayerSpectrum


class Factors(NamedTuple):
    """B·A = U·diag(S)·Vt, in fp64; U (out, r) and Vt (r, in) have orthonormal columns and rows."""

    u: torch.Tensor
    s: torch.Tensor
    vt: torch.Tensor


def decomposed(a: torch.Tensor, b: torch.Tensor) -> Factors:
    """The singular value decomposition of B·A without its out × in entries, in fp64.

    With B = Q₁R₁ and Aᵀ = Q₂R₂ the product is Q₁(R₁R₂ᵀ)Q₂ᵀ; the core in the middle is r × r, and Q₁U, Q₂V of its
    decomposition are those of the product (Halko, Martinsson and Tropp, 2011, “Finding structure with randomness”, 5.2;
    here with exact factors). Its first k terms are the nearest matrix of rank k (Eckart and Young, 1936).
    """
    q_b, r_b = torch.linalg.qr(b.double())
    q_a, r_a = torch.linalg.qr(a.double().T)
    u, s, vt = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return Factors(q_b @ u, s, vt @ q_a.T)


def truncated(a: torch.Tensor, b: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors (rank, in) and (out, rank) whose product is the nearest to B·A of that rank, in fp64, each with √σ."""
    factors = decomposed(a, b)
    root = factors.s[:rank].sqrt()
    return root[:, None] * factors.vt[:rank], factors.u[:, :rank] * root


def spectrum_of(pairs: LoraPairs) -> AdapterSpectrum:
    """The singular values of every layer, with its scale."""
    layers = []
    for pair in pairs.pairs:
        values = (decomposed(pair.a, pair.b).s * abs(pair.scale)).tolist()
        # A factor of more rows than the matrix has sides has no more singular values than these.
        values += [0.0] * (pair.rank - len(values))
        layers.append(LayerSpectrum(pair.name, tuple(values), pair.bytes_per_rank))
    moved = sum(pair.rank * pair.bytes_per_rank for pair in pairs.pairs)
    return AdapterSpectrum(tuple(layers), pairs.file_bytes - moved)


def read_spectrum(adapter: Path) -> AdapterSpectrum:
    """Of an adapter's folder. Raises `ModelError` as `read_pairs`."""
    return spectrum_of(read_pairs(adapter))


def truncate_adapter(
    adapter: Path,
    output: Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    max_bytes: int | None = None,
) -> dict[str, int]:
    """Write the adapter of `adapter` with lower ranks into the new folder `output`; returns layer → rank.

    To `rank` at most; to the lowest rank of each layer that keeps this share of its `energy` ‖scale·B·A‖², above 0 and up
    to 1; or to the ranks with the most energy in a file of `max_bytes` (`AdapterSpectrum.within`). The lowest of those
    that are given counts. A layer keeps its scale, so the product of its new factors is the nearest of that rank to what
    it was, rounded once to the dtype of its file. A layer at its own rank keeps its tensors to the bit, as do magnitudes
    of DoRA, biases, and modules that are saved whole.

    Raises `ModelError` for a limit that cannot be met and for an adapter that is no plain LoRA (`read_pairs`).
    """
    pairs = read_pairs(adapter)
    ranks = spectrum_of(pairs).ranks_for(rank=rank, energy=energy, max_bytes=max_bytes)
    output.mkdir(parents=True)
    try:
        tensors = dict(pairs.others)
        for pair in pairs.pairs:
            tensors[pair.key_a], tensors[pair.key_b] = _factors_at(pair, ranks[pair.name])
        save_file(tensors, output / FILE, {"format": "pt"})
        config = pairs.config | _rank_keys(pairs, ranks)
        write_atomic(output.resolve() / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True) + "\n")
        if (adapter / PASSPORT).is_file():
            _write_passport(adapter, output, config, ranks)
    except BaseException:
        shutil.rmtree(output, ignore_errors=True)
        raise
    return ranks


def truncation_note(before: Mapping[str, int], ranks: Mapping[str, int]) -> Message:
    """What was done, for people. `before`: the ranks that the layers had."""
    fewer = [name for name, rank in ranks.items() if rank < before[name]]
    if not fewer:
        return Message(N_("No layer has a higher rank than that, so the adapter is unchanged."))
    values = {
        "fewer": len(fewer), "layers": len(ranks), "before": sum(before.values()), "after": sum(ranks.values()),
    }  # fmt: skip
    return Message(
        N_("Truncated by singular values: {fewer} of {layers} layers, ranks {before} → {after} in all."), values
    )


def _factors_at(pair: Pair, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    if rank == pair.rank:
        return pair.a, pair.b
    a, b = truncated(pair.a, pair.b, rank)
    if a.shape[0] < rank:  # more rank than the matrix has sides
        missing = rank - a.shape[0]
        a = torch.cat([a, a.new_zeros(missing, a.shape[1])])
        b = torch.cat([b, b.new_zeros(b.shape[0], missing)], dim=1)
    return a.to(pair.a.dtype).contiguous(), b.to(pair.b.dtype).contiguous()


def _rank_keys(pairs: LoraPairs, ranks: Mapping[str, int]) -> dict[str, Any]:
    """What `adapter_config.json` says of ranks and scales: the most common for all, and by its name each that differs.

    PEFT scales a layer by alpha / r, or alpha / √r with rsLoRA; alpha is what keeps its scale at its new rank.
    """
    root = bool(pairs.config.get("use_rslora"))
    alphas = {
        pair.name: _whole(pair.scale * (math.sqrt(ranks[pair.name]) if root else ranks[pair.name]))
        for pair in pairs.pairs
    }
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    own = {pair.name: pair.layer.pattern_name for pair in pairs.pairs}
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {own[name]: found for name, found in ranks.items() if found != rank},
        "alpha_pattern": {own[name]: found for name, found in alphas.items() if found != alpha},
    }


def _whole(alpha: float) -> float:
    """A whole number as such, which it nearly always is."""
    return round(alpha) if math.isclose(alpha, round(alpha), rel_tol=1e-12) else alpha


def _write_passport(adapter: Path, output: Path, config: Mapping[str, Any], ranks: Mapping[str, int]) -> None:
    """That of the adapter it was made from, with what differs."""
    try:
        passport = read_json_object(adapter / PASSPORT)
    except ModelError:
        return
    own = passport.get("config")
    ours = {"r": "r", "alpha": "lora_alpha", "rank_pattern": "rank_pattern", "alpha_pattern": "alpha_pattern"}
    changed = {
        key: config[theirs] or None if key.endswith("pattern") else config[theirs] for key, theirs in ours.items()
    }
    passport.pop("format", None)
    passport |= {
        "config": {**(own if isinstance(own, dict) else {}), **changed},
        "tensors_sha256": tensors_sha256(output),
        "adapter_config_sha256": file_sha256(output / "adapter_config.json"),
        "ranks": dict(ranks),
        "truncated_from": passport.get("tensors_sha256"),
    }
    write_json(output.resolve() / PASSPORT, passport)
