"""Measure an adapter truncated to rank after rank on held-out rows, with its base model loaded once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer as PeftLoraLayer
from torch import nn

from lora_backend.errors import DataError, ModelError
from lora_backend.evaluating.asked_of_columns import resolved_request
from lora_backend.evaluating.bootstrap import Ratios
from lora_backend.evaluating.held_out import RowLosses, loss_of
from lora_backend.evaluating.held_out_rows import labelled, rows_asked
from lora_backend.i18n import N_, Message
from lora_backend.installation import Installation
from lora_backend.launching.evaluation_request import refuse_other_bases
from lora_backend.modeling.devices import resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.runs.record.job_documents import EvaluateRequest
from lora_backend.shipping.lora_pairs import LoraPairs, Pair, read_pairs
from lora_backend.shipping.truncation import Factors, decomposed, spectrum_of
from lora_backend.verification.curve_points import CurvePoint, RankCurve
from lora_backend.verification.shapes import canonical_name
from lora_backend.verification.spectrum import rank_grid

Report = Callable[[Message, float], None]
SHARE_OF_LOADING = 0.1
ADAPTER = "default"


def measure_curve(
    request: EvaluateRequest, installation: Installation, report: Report, *, are_trained: bool = False
) -> RankCurve:
    """The curve of the adapter of `request`'s last column on its rows: ranks 1, 2, 4 … and its own, and the base alone.

    Raises `ModelError` for an adapter that is no plain LoRA or does not fit, `DataError` where there are no rows.
    """
    adapter = Path(request.columns[-1].adapter or "")
    report(Message(N_("Reading the adapter's tensors")), 0.0)
    pairs = read_pairs(adapter)
    refuse_other_bases(request.base_model, request.columns)
    resolved = resolved_request(request, installation)
    asked = rows_asked(resolved, request.max_rows, lambda _: None)
    if not asked:
        raise DataError(N_("There are no rows to measure. Name a file of rows."))
    config = resolved.config.model_copy(update={"precision": resolve_precision(resolved.config.precision)})
    rows = [row.tokens for row in labelled(asked, load_tokenizer(config.model_name), config, lambda _: None).rows]
    report(Message(N_("Loading the base model")), 0.0)
    model = load_model(config)
    ranks = rank_grid(spectrum_of(pairs).highest)
    measuring = _Measuring(rows, config.precision, report, len(ranks) + 1)
    base = measuring.of(model, Message(N_("Measuring the base model")))
    loaded = load_adapter(model, adapter)
    if loaded.is_refused or loaded.differences:
        raise ModelError(N_("The adapter does not fit the base model. Run `verify` on it to see what differs."))
    ladder = RankLadder(loaded.model, pairs)
    found: dict[int, RowLosses] = {}
    for rank in reversed(ranks):
        ladder.truncate(rank)
        found[rank] = measuring.of(loaded.model, Message(N_("Measuring rank {rank}"), {"rank": rank}))
    return _curve(pairs, found, base, are_trained)


class RankLadder:
    """A loaded adapter that is truncated in place to one rank after another."""

    def __init__(self, model: PeftModel, pairs: LoraPairs) -> None:
        live = dict(_halves(model))
        self._layers = [(pair, decomposed(pair.a, pair.b), *live[pair.name]) for pair in pairs.pairs]

    def truncate(self, rank: int) -> None:
        """Let every layer have this rank at most; at its own it is as its file has it, to the bit."""
        for pair, factors, a, b in self._layers:
            _set(pair, factors, min(rank, pair.rank), a, b)


def _set(pair: Pair, factors: Factors, rank: int, a: nn.Parameter, b: nn.Parameter) -> None:
    with torch.no_grad():
        if rank == pair.rank:
            a.copy_(pair.a)
            b.copy_(pair.b)
            return
        kept = min(rank, len(factors.s))
        root = factors.s[:kept].sqrt()
        a.zero_()
        b.zero_()
        # Rounded to the file's dtype first, so that what is measured is what would be exported.
        a[:kept] = (root[:, None] * factors.vt[:kept]).to(pair.a.dtype)
        b[:, :kept] = (factors.u[:, :kept] * root).to(pair.b.dtype)


def _halves(model: PeftModel) -> Any:
    for raw, module in model.named_modules():
        if not isinstance(module, PeftLoraLayer):
            continue
        if ADAPTER in module.lora_embedding_A:
            yield canonical_name(raw), (module.lora_embedding_A[ADAPTER], module.lora_embedding_B[ADAPTER])
        elif ADAPTER in module.lora_A:
            yield canonical_name(raw), (module.lora_A[ADAPTER].weight, module.lora_B[ADAPTER].weight)


class _Measuring:
    """The passes over the rows, and how far they are."""

    def __init__(self, rows: Sequence[Any], precision: str, report: Report, num_passes: int) -> None:
        self.rows, self.precision, self.report, self.num_passes = rows, precision, report, num_passes
        self.done = 0

    def of(self, model: nn.Module, said: Message) -> RowLosses:
        def tell(part: float) -> None:
            share = (self.done + part) / self.num_passes
            self.report(said, SHARE_OF_LOADING + (1 - SHARE_OF_LOADING) * share)

        tell(0.0)
        found = loss_of(model, self.rows, precision=self.precision, report=tell)
        self.done += 1
        return found


def _curve(pairs: LoraPairs, found: dict[int, RowLosses], base: RowLosses, are_trained: bool) -> RankCurve:
    spectrum, ranks = spectrum_of(pairs), sorted(found)
    full = found[ranks[-1]]
    ratios = Ratios(np.stack([full.nats, *(found[rank].nats for rank in ranks)]), full.num_tokens.astype(np.float64))
    _, apart = ratios.estimates()
    points = []
    for rank, estimate in zip(ranks, apart[1:], strict=True):
        at = spectrum.at_rank(rank)
        points.append(
            CurvePoint(
                rank, spectrum.energy_at(at), spectrum.bytes_at(at), found[rank].loss, estimate.low, estimate.high
            )
        )
    return RankCurve(tuple(points), base.loss, len(full.nats), are_trained)
