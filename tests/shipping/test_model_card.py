"""The card: the hub reads its header, its text says what was recorded, and what it tells people to copy runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from huggingface_hub import ModelCard

from lora_backend.config.config_text import parse_config
from lora_backend.preflight.export_place import is_export
from lora_backend.runs.record.curves import read_columns
from lora_backend.runs.record.documents import Answer, MetricPoint
from lora_backend.runs.record.evaluation_documents import ColumnFigures, Estimate, EvaluateResult, RowSet, Score
from lora_backend.runs.record.job_documents import Column, EvaluateRequest
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.loss_curve import loss_svg
from tests.run_files import end_run, make_run
from tests.shipping.shipped import good, made_adapter, made_run, saved_base


@pytest.fixture(autouse=True)
def _places(workspace: Path) -> None:
    pass


def card(run: RunStore, folder: Path) -> str:
    good(run.adapter, "card", folder, of_run=run.id)
    return (folder / "README.md").read_text("utf-8")


def header_of(text: str) -> dict[str, Any]:
    return parse_config(text.split("---\n")[1]).values


def test_the_header_is_the_hubs(tmp_path: Path) -> None:
    from tests.modeling.families import LLAMA

    base = saved_base(tmp_path / "models--acme--tiny/snapshots/0123", LLAMA)
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    run = made_run(base, dataset="acme/rows")
    text = card(run, tmp_path / "out")
    assert header_of(text) == {
        "license": "apache-2.0", "base_model": "acme/tiny", "base_model_relation": "adapter", "library_name": "peft",
        "pipeline_tag": "text-generation", "datasets": ["acme/rows"], "tags": ["lora", "lora-flightdeck"],
    }  # fmt: skip
    read = ModelCard(text)
    assert (read.data.base_model, read.data.license, read.data.library_name) == ("acme/tiny", "apache-2.0", "peft")


def test_what_is_not_known_is_not_in_the_header(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model)
    assert set(header_of(card(run, tmp_path / "out"))) == {"library_name", "pipeline_tag", "tags"}


def test_it_says_what_was_recorded(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model)
    run.write_answers([Answer(question="q", base_correct=False, adapter_correct=True), Answer(question="r", base_correct=True, adapter_correct=True)])  # fmt: skip
    text = card(run, tmp_path / "out")
    for said in (
        "rank 4: 14 layers", "ab" * 32, "| learning\\_rate | 0.02 | 0.0001 |", "| r | 4 | 16 |", "| torch | 2.13.0 |",
        "| Loss, first → last | 3 → 1.5 |", "| Steps | 3 |", "| Evaluation loss, last | 1.6 |", "![Loss by step](loss.svg)",
        "the base model answered 1 right and the adapter 2",
    ):  # fmt: skip
        assert said in text, said
    assert "/home/anna" not in text, "a folder of this machine is nobody's business"
    assert "shop rows.jsonl" in text


def test_planned_stands_beside_measured(tiny_model: Path, tmp_path: Path) -> None:
    held = {"device": 0, "weights": 2**30, "adapter": 0, "gradients": 0, "optimizer": 0, "moving": 2**29, "tensors": 0, "process": 0}  # fmt: skip
    run = made_run(tiny_model)
    plan: dict[str, Any] = {"devices": [{"index": 0, "total_bytes": 3 * 2**30}]}
    from tests.run_files import add_start

    add_start(run, plan=plan, measured={"devices": [held]}, expected={"devices": [held]})
    assert "| 0 | 3.0 GiB | 1.5 GiB | 1.5 GiB |" in card(run, tmp_path / "out")
    of_peers = [held | {"device": "cpu", "rank": rank, "weights": (rank + 1) * 2**30} for rank in range(2)]
    plan = {"devices": [{"index": "cpu", "total_bytes": 6 * 2**30}], "num_processes": 2}
    add_start(run, plan=plan, measured={"devices": of_peers}, expected={"devices": of_peers})
    text = card(run, tmp_path / "peers")
    assert "| cpu, process 0 | 3.0 GiB | 1.5 GiB | 1.5 GiB |\n| cpu, process 1 | 3.0 GiB | 2.5 GiB | 2.5 GiB |" in text


def test_evaluations_of_the_run_are_in_it(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model)
    request = EvaluateRequest(base_model=str(tiny_model), columns=[Column(label="base")], of_run=run.id)
    job = make_run(run.path.parent, kind="evaluate", config=request.to_json(), config_text="", argv=None)
    figures = ColumnFigures(label="shop", loss=Estimate(value=1.25, low=1.0, high=1.5), perplexity=3.49, answers=Score(num_questions=10, contained=9, exact=8))  # fmt: skip
    job.write_result(EvaluateResult(base_model="m", of_run=run.id, rows=RowSet(path="/data/held out.jsonl", sha256="cd" * 32, num_rows=50), columns=[figures]))  # fmt: skip
    end_run(job, "finished")
    text = card(run, tmp_path / "out")
    assert "50 rows of held out.jsonl" in text
    assert "|  | loss | perplexity | right answers |" in text
    assert "| shop | 1.25 (1 to 1.5) | 3.49 | 9 / 10 |" in text


def test_an_evaluation_of_questions_alone_has_no_columns_for_losses(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model)
    request = EvaluateRequest(base_model=str(tiny_model), columns=[Column(label="base")], of_run=run.id)
    job = make_run(run.path.parent, kind="evaluate", config=request.to_json(), config_text="", argv=None)
    columns = [
        ColumnFigures(label=label, answers=Score(num_questions=10, contained=right, exact=right))
        for label, right in (("base", 2), ("shop", 9))
    ]
    job.write_result(EvaluateResult(base_model="m", of_run=run.id, num_questions=10, columns=columns))
    end_run(job, "finished")
    text = card(run, tmp_path / "out")
    assert "10 questions:\n\n|  | right answers |\n| --- | --- |\n| base | 2 / 10 |\n| shop | 9 / 10 |\n" in text


def test_what_it_tells_to_copy_runs_in_a_fresh_process(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "base")
    run = made_run(tmp_path / "base")
    (tmp_path / "base").rename(tmp_path / "away")  # that it loads is proved below
    good(run.adapter, "adapter", tmp_path / "out", of_run=run.id)
    (tmp_path / "away").rename(tmp_path / "base")
    (code,) = re.findall(r"```python\n(.*?)\n```", (tmp_path / "out/README.md").read_text("utf-8"), re.DOTALL)
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path / "out", env={"PATH": "", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr[-1500:]
    assert done.stdout.strip(), "it has answered"


HOSTILE = {
    "name": "---\nlicense: mit\n# <script>alert(1)</script> [x](javascript:1) `| a",
    "dataset": "/x/![p](http://evil/p.png) | <img src=x>.jsonl",
    "version": "1 |\n| [x](http://evil)",
}


def test_text_from_outside_stays_text(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model, dataset=HOSTILE["dataset"])
    passport = run.adapter / "flightdeck.json"
    import json

    found = json.loads(passport.read_text())
    passport.write_text(json.dumps(found | {"versions": {"torch`|\n# x": HOSTILE["version"]}, "data_sha256": "`|<b>"}))
    record = json.loads(run.run_json.read_text())
    run.run_json.write_text(json.dumps(record | {"name": HOSTILE["name"]}))
    text = card(run, tmp_path / "out")
    assert set(header_of(text)) == {"library_name", "pipeline_tag", "tags"}
    body = text.split("```")[0] + text.split("```")[2]
    assert not re.search(r"(?<!\\)<(?!!-- LoRA)", body), "no tag"
    assert set(re.findall(r"(?<!\\)\]\((.*?)\)", body)) == {"loss.svg"}, "no link and no picture but ours"
    assert [line for line in body.splitlines() if line.startswith("# ")] == [next(line for line in body.splitlines() if line.startswith("# "))]  # fmt: skip


def test_a_card_alone_has_its_picture_inside(tiny_model: Path, tmp_path: Path) -> None:
    run = made_run(tiny_model)
    good(run.adapter, "card", tmp_path / "mine.md", of_run=run.id)
    assert "](data:image/svg+xml;base64," in (tmp_path / "mine.md").read_text("utf-8")
    assert is_export(tmp_path / "mine.md")


def test_an_adapter_without_run_and_passport_has_a_card_too(tiny_model: Path, tmp_path: Path) -> None:
    made_adapter(tmp_path / "a", tiny_model)
    good(tmp_path / "a", "card", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text("utf-8")
    assert "| lora\\_alpha | 8 |" in text
    assert "loss.svg" not in text


def test_the_curve_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    run = RunStore(tmp_path)
    assert loss_svg(read_columns(run.metrics_jsonl)) is None
    for step in range(1, 1500):
        run.append_point(MetricPoint(step=step, loss=3.0 / step, eval_loss=4.0 / step if step % 100 == 0 else None))
    columns = read_columns(run.metrics_jsonl)
    svg = loss_svg(columns)
    assert svg is not None
    assert svg == loss_svg(read_columns(run.metrics_jsonl))
    root = ElementTree.fromstring(svg)
    paths = [node for node in root.iter("{http://www.w3.org/2000/svg}path") if node.get("fill") == "none"]
    assert len(paths) == 2
    assert all("nan" not in (path.get("d") or "") for path in paths)
    assert (paths[0].get("d") or "").count("L") < 410
    assert len(svg) < 20_000
