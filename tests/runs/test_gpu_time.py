"""How long a run held its GPUs: every start, without the queue and the breaks between."""

from __future__ import annotations

from pathlib import Path

from lora_backend.installation import this_installation
from lora_backend.runs.history.gpu_time import gpu_seconds
from lora_backend.runs.record.process_identity import identify
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.result_view import result_facts
from tests.run_files import end_run, make_run, set_status, start_again

TWO = ["GPU-a", None, "GPU-b"]


def started(run: RunStore, at: float) -> None:
    set_status(run, state="running", started_at=at, trainer=identify(1))


def ended(run: RunStore, at: float) -> None:
    end_run(RunStore(run.path, lambda: at), "stopped")


def twice_started(tmp_path: Path) -> RunStore:
    """200 s on two GPUs, and after a break 1,600 s on one, each after a time in the queue."""
    run = make_run(
        tmp_path,
        config={"r": 8},
        config_text="r: 8\n",
        argv=["train"],
        attempt={"number": 1, "time": 0.0, "device_uuids": TWO},
    )
    started(run, 1_000.0)
    ended(run, 1_200.0)
    start_again(run, "starting", time=5_000.0, device_uuids=["GPU-a"])
    started(run, 9_000.0)
    ended(run, 10_600.0)
    return run


def test_every_start_counts_by_its_gpus(tmp_path: Path) -> None:
    run = twice_started(tmp_path)
    assert gpu_seconds(run, run.state()) == 2 * 200 + 1_600


def test_a_start_whose_trainer_never_began_counts_nothing(tmp_path: Path) -> None:
    run = twice_started(tmp_path)
    start_again(run, "starting", time=20_000.0, device_uuids=TWO)
    ended(run, 30_000.0)
    exit_ = run.read_exit()
    assert exit_ is not None
    assert exit_.started_at is None
    assert gpu_seconds(run, run.state()) == 2_000
    assert run.state().started_at is None, "or its page would say that it took three hours"


def test_the_cost_is_the_hours_times_the_price_that_was_set(tmp_path: Path) -> None:
    run = twice_started(tmp_path)

    def said(**environ: str) -> list[tuple[str, str, str | None]]:
        facts = result_facts(run, run.state(), {}, [], this_installation(environ))
        return [(one.head.text("en"), one.value.text("en"), one.note.text("en") if one.note else None) for one in facts]

    assert said() == [("GPU hours", "0.56", None)]
    assert said(FLIGHTDECK_GPU_PRICE="9 eur") == [("Cost", "about 5.00 EUR", "0.56 GPU hours at 9 EUR")]
    ((head, value, note),) = said(FLIGHTDECK_GPU_PRICE="cheap")
    assert (head, value) == ("GPU hours", "0.56")
    assert note is not None
    assert note.startswith('`FLIGHTDECK_GPU_PRICE` is "cheap".')


def test_a_run_on_the_cpu_has_no_cost(tmp_path: Path) -> None:
    run = make_run(
        tmp_path, config={"r": 8}, config_text="r: 8\n", argv=["train"], attempt={"number": 1, "device_uuids": [None]}
    )
    started(run, 1_000.0)
    ended(run, 1_200.0)
    assert result_facts(run, run.state(), {}, [], this_installation({"FLIGHTDECK_GPU_PRICE": "2"})) == []
