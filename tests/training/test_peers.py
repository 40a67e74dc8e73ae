"""Two processes train what one trains: the same losses, evaluations and adapter, stopped and resumed at the same steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_backend.runs.checkpoints.manifest import checkpoints_of, step_of
from tests.run_files import attempt_of, points_of, status_of
from tests.tiny import make_model, make_word_nan
from tests.training.helpers import adapter_bytes, curve
from tests.training.peer_jobs import alone
from tests.training.peer_trainings import BEST, DROPPED, SHORT, UNEVEN, WITHIN, Trained, adapters_apart, compared

pytestmark = pytest.mark.timeout(900)  # torch is imported by each process
COMPARED = {
    "flat": UNEVEN,
    "averaging": UNEVEN | {"batching": "padded"},
    "length groups": UNEVEN | SHORT | {"batching": "auto", "attn_implementation": "eager"},
    "packed": UNEVEN | SHORT | {"batching": "packed", "max_length": 64, "batch_size": 1, "target_batch_size": 3},
    "one idle": UNEVEN | SHORT | {"target_batch_size": 2, "sample_every_steps": 3},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    folder = tmp_path_factory.mktemp("peers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_WORKSPACE", str(folder / "ws"))
        all_of = Trained(folder)
        for name, values in COMPARED.items():
            act = name if name == "averaging" else ""
            alone(all_of.made(f"{name} by one", values), act)
            all_of.job(name, values, act)
        alone(all_of.made("best by one", BEST))
        all_of.job("best", BEST)
        alone(all_of.made("begun by one", DROPPED), "stop")
        all_of.job("begun by one", act="resume")
        all_of.job("dropped", DROPPED)
        for name, act in (("resumed", "stop"), ("given up", "stop within"), ("held up", "stop evaluation")):
            all_of.job(name, DROPPED, act)
            all_of.job(name, act="resume")
        all_of.job("begun by two", DROPPED, "stop")
        all_of.job("saved", UNEVEN | {"max_steps": 6}, "save")
        all_of.job("out of time", UNEVEN | SHORT | {"max_time": 1.0}, "late")
        nan_model = make_word_nan(make_model(folder / "nan"), "noon")
        all_of.job("nan", UNEVEN | {"model_name": str(nan_model), "max_steps": 4})
        all_of.start()
        yield all_of


@pytest.mark.parametrize("name", COMPARED)
def test_two_processes_train_what_one_trains(name: str, trained: Trained) -> None:
    two, one = trained.runs[name], trained.runs[f"{name} by one"]
    assert [row["step"] for row in points_of(two)] == [row["step"] for row in points_of(one)]
    found = {key: compared(two, one, key) for key in ("loss", "eval_loss", "grad_norm")}
    found["adapter"] = adapters_apart(two, one)
    assert {key: value for key, value in found.items() if value > WITHIN} == {}, found
    for key in ("eval_token_accuracy", "learning_rate", "epoch"):
        assert [row.get(key) for row in points_of(two)] == [row.get(key) for row in points_of(one)]
    weights = [ended["weights"] for ended in trained.ended(name)]
    assert weights[0] == weights[1], "both have the same adapter, to the bit"


def test_each_process_says_what_its_device_held(trained: Trained) -> None:
    measured = attempt_of(trained.runs["flat"])["measured"]
    assert [(one["device"], one["rank"]) for one in measured["devices"]] == [("cpu", 0), ("cpu", 1)]
    assert all(one["tensors"] > one["moving"] > 0 for one in measured["devices"])
    assert [one["rank"] for one in measured["peers"]] == [0, 1]
    assert measured["peers"][0]["lengths"] == measured["lengths"] != measured["peers"][1]["lengths"]
    (idle,) = attempt_of(trained.runs["one idle"])["measured"]["devices"]
    assert idle["rank"] == 0
    by_one = attempt_of(trained.runs["flat by one"])["measured"]
    assert len(by_one["devices"]) == 1
    assert "rank" not in by_one["devices"][0]
    assert "peers" not in by_one


def test_the_first_answers_what_one_process_answers(trained: Trained) -> None:
    two, one = trained.runs["one idle"], trained.runs["one idle by one"]
    assert [(row.step, row.answer) for row in two.read_samples()] == [
        (row.step, row.answer) for row in one.read_samples()
    ]
    assert [row.step for row in two.read_samples()] == [3] * 4 + [6] * 4
    assert [row.adapter_answer for row in two.read_answers()] == [row.adapter_answer for row in one.read_answers()]
    assert len(two.read_answers()) == 4


def test_they_stop_early_together_and_end_with_the_same_best(trained: Trained) -> None:
    two, one = trained.runs["best"], trained.runs["best by one"]
    assert status_of(two)["outcome_cause"] == status_of(one)["outcome_cause"] == "early_stopping"
    assert status_of(two)["step"] == status_of(one)["step"] == 6
    assert attempt_of(two)["adapter_step"] == attempt_of(one)["adapter_step"] == 2
    assert compared(two, one, "eval_loss") <= WITHIN
    weights = [ended["weights"] for ended in trained.ended("best")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("name", ["resumed", "given up", "held up"])
def test_a_resume_with_as_many_goes_on_to_the_bit(name: str, trained: Trained) -> None:
    run, whole = trained.runs[name], trained.runs["dropped"]
    assert attempt_of(run)["from_step"] > 0
    assert curve(run) == curve(whole)
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert "resume_note" not in attempt_of(run)


def test_each_process_drops_otherwise(trained: Trained) -> None:
    assert adapters_apart(trained.runs["dropped"], trained.runs["begun by one"]) > 1e-3


def test_a_stop_within_a_step_is_heard_by_both_at_once(trained: Trained) -> None:
    """Steps have three passes, two of the first process and one of the last; its fifth is of step 5, which the first gives
    up or does not, as it looks before or after."""
    assert trained.runs["given up"].read_attempt(2).from_step in (4, 5)


def test_another_number_may_go_on_and_says_so(trained: Trained) -> None:
    by_two = trained.runs["begun by one"]
    assert (attempt_of(by_two)["from_step"], by_two.state().state) == (6, "finished")
    run = trained.runs["begun by two"]
    assert run.state().state == "stopped"
    alone(run, "resume")
    assert (attempt_of(run)["from_step"], run.state().state) == (6, "finished")
    for one, before, now in ((by_two, "1 process", "2 processes"), (run, "2 processes", "1 process")):
        said = one.read_attempt().resume_note
        assert said is not None
        assert said.text("en").startswith(f"The checkpoint was written by {before}, but the run continues with {now}: ")
        assert said.text("en") in one.train_log.read_text()
        assert [row["step"] for row in points_of(one)] == [row["step"] for row in points_of(trained.runs["dropped"])]


def test_a_save_request_and_the_end_of_the_time_are_heard_by_both(trained: Trained) -> None:
    saved, late = trained.runs["saved"], trained.runs["out of time"]
    assert sorted(step_of(path) or 0 for path in checkpoints_of(saved)) == [4, 6]
    assert not saved.save_request.exists()
    assert (late.state().state, late.state().cause, late.state().step) == ("stopped", "max_time", 3)
    assert [step_of(path) for path in checkpoints_of(late)] == [3]


def test_a_loss_that_is_no_number_ends_both_at_the_same_step(trained: Trained) -> None:
    ended = trained.ended("nan")
    assert ended[0] == ended[1]
    assert ended[0]["error"] == "NanLossError"
    assert trained.runs["nan"].state().state == "failed"


def test_the_sum_of_gradients_is_that_of_ddp(trained: Trained) -> None:
    found = [json.loads((trained.folder / "together" / f"gradients.{rank}.json").read_text()) for rank in range(2)]
    assert found[0] == found[1]
    assert found[0] == {"shared": True, "differing": [], "compared": 14, "without": ["unused.bias", "unused.weight"]}


@pytest.mark.soak
def test_three_processes_go_on_to_the_bit_however_rows_share_a_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of three batches, the last of two: the third process has none there."""
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    all_of = Trained(tmp_path)
    ways = ("flat", "padded", "length groups", "packed")
    for way in ways:
        values = {key: value for key, value in COMPARED.get(way, {"batching": way}).items() if key not in SHORT}
        values |= {
            "lora_dropout": 0.1,
            "max_steps": 10,
            "save_steps": 4,
            "eval_steps": 5,
            "gradient_checkpointing": True,
        }
        all_of.job(f"{way} whole", values)
        for act in ("stop", "stop within", "stop evaluation"):
            all_of.job(f"{way} {act}", values, act)
            all_of.job(f"{way} {act}", act="resume")
    all_of.start(size=3)
    for way in ways:
        whole = all_of.runs[f"{way} whole"]
        for act in ("stop", "stop within", "stop evaluation"):
            run = all_of.runs[f"{way} {act}"]
            assert run.newest_number() == 2, act
            assert (curve(run), adapter_bytes(run)) == (curve(whole), adapter_bytes(whole)), (way, act)
