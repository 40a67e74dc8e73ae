"""The tab of Verify that truncates: a slider, what each place keeps and costs, the measured curve, and the export."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.installation import this_installation
from lora_backend.runs.record.job_documents import ExportResult
from lora_backend.runs.record.run_store import RunStore, list_runs
from lora_backend.verification.curve_points import CurvePoint, RankCurve
from lora_backend.verification.rank_report import check_adapter_folder
from lora_backend.verification.spectrum import AdapterSpectrum, LayerSpectrum
from lora_backend.views.rank_curve_view import (
    choice,
    energy_line,
    first_place,
    knee_message,
    loss_near,
    places,
    rows_to_measure,
)
from tests.pages.screens import ROOT, texts
from tests.pages.stub_worker import StubWorker
from tests.run_files import end_run, make_run
from tests.tiny import make_model, prompts, write_rows
from tests.waiting import until

SPECTRUM = AdapterSpectrum(
    (LayerSpectrum("a", (4.0, 2.0, 1.0, 0.1), 100), LayerSpectrum("b", (3.0, 0.2, 0.1, 0.05), 300)), 50
)


def curve(losses: dict[int, float], *, base: float = 3.0, lows: dict[int, float] | None = None) -> RankCurve:
    lows = lows or {}
    points = (CurvePoint(rank, 0.5, 100 * rank, loss, lows.get(rank, 0.01), 0.02) for rank, loss in losses.items())
    return RankCurve(tuple(points), base, 40)


# ------------------------------------------------------------------------------------- what is said


def test_energy_and_bytes_follow_from_the_singular_values_alone() -> None:
    at = choice(SPECTRUM, "rank", 1)
    total = 16 + 4 + 1 + 0.01 + 9 + 0.04 + 0.01 + 0.0025
    assert at.energy == pytest.approx(25 / total)
    assert (at.size_bytes, at.full_bytes) == (450, 1650)
    assert choice(SPECTRUM, "energy", 0.99).ranks == {"a": 3, "b": 1}
    assert choice(SPECTRUM, "size", 650).ranks == {"a": 3, "b": 1}
    assert choice(SPECTRUM, "energy", 0.99).rank_words == "1–3"
    line = energy_line(SPECTRUM)
    assert line.ranks == (1, 2, 3, 4)
    assert line.energies[-1] == 1
    assert line.sizes_bytes == (450, 850, 1250, 1650)


@pytest.mark.parametrize("by", ["rank", "energy", "size"])
def test_every_place_of_the_slider_can_be_met_and_the_last_is_the_whole_adapter(by: Any) -> None:
    found = [choice(SPECTRUM, by, place) for place in places(SPECTRUM, by)]
    assert first_place(SPECTRUM, by) in places(SPECTRUM, by)
    assert [one.energy for one in found] == sorted(one.energy for one in found)
    assert found[-1].ranks == {"a": 4, "b": 4}


def test_the_knee_is_the_lowest_rank_that_loses_a_hundredth_of_the_gain_or_what_chance_explains() -> None:
    assert curve({1: 2.0, 2: 1.011, 4: 1.005, 8: 1.0}).knee.rank == 2
    assert curve({1: 2.0, 2: 1.03, 4: 1.005, 8: 1.0}).knee.rank == 4
    assert curve({1: 2.0, 2: 1.03, 4: 1.005, 8: 1.0}, lows={2: -0.001}).knee.rank == 2
    assert curve({1: 1.0, 2: 1.5, 4: 1.0}).knee.rank == 4, "a rank above it is worse"
    assert "full rank is in use" in knee_message(curve({1: 2.0, 2: 1.5, 4: 1.0})).text("en")
    assert RankCurve.from_json(json.loads(json.dumps(curve({1: 2.0, 2: 1.0}).to_json()))) == curve({1: 2.0, 2: 1.0})


def test_a_loss_between_two_measured_ranks_is_read_off_the_line_between_them() -> None:
    measured = curve({1: 2.0, 2: 1.0, 4: 0.5})
    assert [loss_near(measured, at) for at in (0.5, 1, 1.5, 3, 4, 9)] == [2.0, 2.0, 1.5, 0.75, 0.5, 0.5]


def test_held_out_rows_are_offered_before_learned_ones() -> None:
    offered = rows_to_measure({"dataset": "d", "eval_dataset": "e", "max_length": 9, "r": 4})
    assert [one.code for one in offered] == ["eval", "trained", "file"]
    assert offered[0].values == {"max_length": 9, "device_map": "cpu"}
    assert [one.code for one in rows_to_measure({"dataset": "d", "val_size": 0.1})] == ["held_back", "trained", "file"]
    assert [one.code for one in rows_to_measure({})] == ["file"]


# ------------------------------------------------------------------------------------- the screen


@pytest.fixture
def run(workspace: Path, tmp_path: Path) -> RunStore:
    """A finished run with an adapter whose singular values fall, its base model and its rows."""
    from tests.shipping.merging_cases import falling

    base = make_model(tmp_path / "model")
    rows = write_rows(tmp_path / "rows.jsonl", prompts())
    config = {"model_name": str(base), "dataset": str(rows), "r": 8, "alpha": 16, "max_length": 32}
    made = make_run(this_installation().runs, config=config, config_text=f"model_name: {base}\n", argv=None)
    falling(base, made.adapter)
    end_run(made, "finished")
    return made


@pytest.fixture
def torch_process(monkeypatch: pytest.MonkeyPatch) -> StubWorker:
    """The worker's own methods, called in this process."""
    from lora_backend.worker.methods import METHODS

    def asked(method: str) -> Callable[[dict[str, Any]], Any]:
        return lambda params: json.loads(json.dumps(METHODS[method](params, lambda *_: None)))

    stub = StubWorker({method: asked(method) for method in ("singular_values", "rank_curve")})
    monkeypatch.setattr("pages.parts.ranks.questions.worker", lambda: stub)
    return stub


def opened(run: RunStore) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.run()
    at.switch_page("pages/verify.py")
    at.query_params["run"] = run.id
    at.session_state["verify_tabs"] = "Truncate"
    at.run()
    assert not at.exception, at.exception
    return at


def figures(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_nothing_is_asked_before_the_tab_is_opened(run: RunStore, torch_process: StubWorker) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.run()
    at.switch_page("pages/verify.py")
    at.query_params["run"] = run.id
    at.run()
    assert torch_process.asked == []


def test_the_slider_shows_ranks_energy_and_size_at_once(run: RunStore, torch_process: StubWorker) -> None:
    at = opened(run)
    at.select_slider(key="truncate_at_rank").set_value(8.0).run()
    whole = figures(at)
    at.select_slider(key="truncate_at_rank").set_value(1.0).run()
    assert not at.exception, at.exception
    small = figures(at)
    assert (whole["Ranks"], whole["Energy kept"]) == ("8", "100.00%")
    assert small["Ranks"] == "1"
    assert float(small["Energy kept"].removesuffix("%")) < 100
    assert small["Size"] != whole["Size"]
    assert torch_process.asked_of("singular_values") == [{"adapter": str(run.adapter)}]
    assert at.button(key="export_truncated").disabled is False
    at.select_slider(key="truncate_at_rank").set_value(8.0).run()
    assert at.button(key="export_truncated").disabled is True


def test_the_loss_is_measured_over_ranks_and_the_knee_is_told(run: RunStore, torch_process: StubWorker) -> None:
    at = opened(run)
    at.button(key="measure_loss").click().run()
    assert not at.exception, at.exception
    (params,) = torch_process.asked_of("rank_curve")
    assert params["request"]["columns"] == [{"label": "adapter", "adapter": str(run.adapter)}]
    assert params["are_trained"] is True
    said = texts(at)
    assert "rank 8" in said.lower()
    assert "Measured on 16 rows." in said
    assert "was trained on these rows" in said
    assert "Loss" in figures(at)
    at.select_slider(key="truncate_at_rank").set_value(4.0).run()
    assert not figures(at)["Loss"].startswith("≈")
    at.select_slider(key="truncate_at_rank").set_value(3.0).run()
    assert figures(at)["Loss"].startswith("≈")
    assert len(torch_process.asked_of("rank_curve")) == 1


def test_a_file_outside_of_the_roots_is_not_read(run: RunStore, torch_process: StubWorker) -> None:
    at = opened(run)
    at.selectbox(key="truncate_rows").set_value("file").run()
    at.text_input(key="truncate_rows_file").set_value("/etc/passwd").run()
    assert not at.exception, at.exception
    assert "measure_loss" not in [button.key for button in at.button]
    assert torch_process.asked_of("rank_curve") == []


def test_what_the_torch_process_refuses_is_said(run: RunStore, torch_process: StubWorker) -> None:
    (run.adapter / "adapter_model.safetensors").write_bytes(b"\x10")
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.run()
    at.switch_page("pages/verify.py")
    at.query_params["run"] = run.id
    at.session_state["verify_tabs"] = "Truncate"
    at.run()
    assert not at.exception, at.exception
    assert "damaged" in texts(at)


def test_an_export_is_a_job_at_the_slider_s_ranks_with_its_rank_proof(
    run: RunStore, torch_process: StubWorker, tmp_path: Path
) -> None:
    at = opened(run)
    at.select_slider(key="truncate_at_rank").set_value(2.0).run()
    at.button(key="export_truncated").click().run()
    assert not at.exception, at.exception
    jobs = [one for one in list_runs(this_installation().runs) if one.read_record().kind == "export"]
    assert [job.read_record().config["rank"] for job in jobs] == [2]
    assert jobs[0].read_record().config["adapter"] == str(run.adapter)
    assert at.query_params["run"] in (jobs[0].id, [jobs[0].id])
    until(lambda: jobs[0].state().has_ended, "the export", 180)
    result = jobs[0].read_result(ExportResult)
    assert result is not None, jobs[0].state().message
    assert {proof.code: proof.passed for proof in result.proofs}["ranks"] is True
    assert set(result.ranks.values()) == {2}
    shutil.unpack_archive(result.output, tmp_path / "unpacked")
    assert set(check_adapter_folder(tmp_path / "unpacked", None).actual_r_values.values()) == {2}
