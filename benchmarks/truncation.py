"""The demo's adapter truncated to each rank: right answers, loss, bytes, and how near what plain PEFT loads is to the truncation.

    python -m benchmarks.truncation RUN_FOLDER

`RUN_FOLDER`: of a demo that has finished (`python -m lora_backend demo --train --run-dir RUN_FOLDER`). Its base model is
loaded once. The loss is of its training rows, for the demo holds none back; the questions were in none of them.
“Reload” is ‖what PEFT loads − the truncation‖ / ‖the truncation‖ of scale·B·A, in fp64, of the layer where it is largest;
the truncation is that of LAPACK's singular value decomposition of the whole matrix.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from lora_backend.config.schema import TrainingConfig
from lora_backend.data.question_rows import parse_questions, read_bytes
from lora_backend.formats import size
from lora_backend.installation import Installation, this_installation
from lora_backend.modeling.devices import resolve_precision
from lora_backend.modeling.load import load_model, load_tokenizer
from lora_backend.modeling.loaded_identity import load_adapter
from lora_backend.runs.record.job_documents import Column, EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.shipping.lora_pairs import FILE, read_pairs
from lora_backend.shipping.rank_curve import RankLadder, measure_curve
from lora_backend.shipping.truncation import truncate_adapter
from lora_backend.tokens.end_of_turn import settle_stops
from lora_backend.training.answers import answer_all, is_correct
from lora_backend.views.rank_curve_view import rows_to_measure

MOST_ROWS = 100


def main(words: Sequence[str] = ()) -> None:
    """Print a table."""
    installation = this_installation()
    run = RunStore(Path((words or sys.argv[1:])[0]).resolve(), installation.clock)
    config = run.read_record().config
    rows = next(one for one in rows_to_measure(config) if one.code == "trained")
    request = EvaluateRequest(
        base_model=config["model_name"],
        columns=[Column(label="adapter", adapter=str(run.adapter))],
        dataset=rows.path,
        max_rows=MOST_ROWS,
        values=dict(rows.values),
    )
    with tempfile.TemporaryDirectory(prefix="truncation-") as folder:
        measure(request, installation, run, Path(folder))


def measure(request: EvaluateRequest, installation: Installation, run: RunStore, folder: Path) -> None:
    """A line for each rank; the truncated adapters lie in `folder`."""
    curve = measure_curve(request, installation, lambda *_: None, are_trained=True)
    config = run.read_record().config
    right = answers_by_rank(config, run.adapter, [point.rank for point in curve.points])
    small = {point.rank: folder / str(point.rank) for point in curve.points}
    for rank, place in small.items():
        truncate_adapter(run.adapter, place, rank=rank)
    apart = reload_errors(config["model_name"], run.adapter, small)
    print(
        "rank | right answers, of "
        + ", ".join(f"{count} {group}" for group, count in right.pop(0).items())
        + " | loss | gain kept | energy kept | size of the file | reload, furthest of all layers"
    )
    for point in curve.points:
        bytes_of_file = (small[point.rank] / FILE).stat().st_size
        gain = curve.gain_kept(point)
        counts = ", ".join(str(count) for count in right[point.rank].values())
        is_knee = " (knee)" if point == curve.knee else ""
        print(
            f"{point.rank}{is_knee} | {counts} | {point.loss:.4f} | {100 * (gain or 0):.1f} % | {100 * point.energy:.2f} % | {size(bytes_of_file)} | {apart[point.rank]:.1e}"
        )
    print(f"base model alone: loss {curve.base_loss:.4f}; {curve.num_rows} rows; {resolve_precision('auto')}")


def answers_by_rank(config: dict[str, str], adapter: Path, ranks: list[int]) -> dict[int, dict[str, int]]:
    """Rank → group → right answers; 0: how many were asked."""
    path = Path(config["questions"])
    questions = parse_questions(read_bytes(path), path.name)
    tokenizer = load_tokenizer(config["model_name"])
    base = load_model(TrainingConfig(model_name=config["model_name"], device_map="cpu"))
    settle_stops(base, tokenizer, in_chats=bool(tokenizer.chat_template))
    model = load_adapter(base, adapter).model
    ladder = RankLadder(model, read_pairs(adapter))
    groups = dict.fromkeys(question["group"] for question in questions)
    found = {0: {group: sum(question["group"] == group for question in questions) for group in groups}}
    for rank in ranks:
        ladder.truncate(rank)
        answers = answer_all(model, tokenizer, questions)
        is_right = [bool(is_correct(one, question["expect"])) for one, question in zip(answers, questions, strict=True)]
        found[rank] = {
            group: sum(right for right, question in zip(is_right, questions, strict=True) if question["group"] == group)
            for group in groups
        }
    return found


def reload_errors(base: str, adapter: Path, small: dict[int, Path]) -> dict[int, float]:
    """Rank → how far the adapter of `small` that plain PEFT loads is from the truncation, of the furthest layer."""
    loaded = {rank: loaded_factors(base, folder) for rank, folder in small.items()}
    furthest = dict.fromkeys(small, 0.0)
    for name, (a, b, scale) in loaded_factors(base, adapter).items():
        whole = scale * b @ a
        u, s, vt = torch.linalg.svd(whole, full_matrices=False)
        for rank, factors in loaded.items():
            a, b, scale = factors[name]
            nearest = u[:, :rank] * s[:rank] @ vt[:rank]
            furthest[rank] = max(furthest[rank], float((scale * b @ a - nearest).norm() / nearest.norm()))
    return furthest


def loaded_factors(base: str, adapter: Path) -> dict[str, tuple[torch.Tensor, torch.Tensor, float]]:
    """Layer → A, B in fp64 and the scale, as they are in a model that plain PEFT has loaded in fp32."""
    from transformers import AutoModelForCausalLM

    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter)
    return {
        name: (module.lora_A.default.weight.detach().double(), module.lora_B.default.weight.detach().double(), module.scaling["default"])
        for name, module in model.named_modules()
        if "default" in getattr(module, "lora_A", {})
    }  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
