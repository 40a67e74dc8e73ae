"""What all tests share: a tiny real model, a data set, and a workspace of the test's own. No torch until it is asked for."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.tiny import chats, make_model, write_rows

gc.disable()  # until all test modules are imported
# Read by torch when it is first imported, here and in children: workers that share the cores get one thread each.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# A busy machine is no failure; and the same code gets the same verdict, while `make soak` looks for new examples.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True)
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.load_profile("same")
# A shell has what it starts in the background ignore Ctrl-C and hang-ups, and processes started here would inherit that.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)
# Sentences are compared in English, whoever runs the tests.
os.environ["LC_ALL"] = "C.UTF-8"

Make = Callable[..., dict[str, Any]]

SLOW = (
    "browser", "chatting", "demo", "drawn", "evaluating", "gpu", "hub", "modeling", "peers", "shipping", "soak", "training", "worker",
    "chats/test_kept_answers.py", "clusters/test_ray_runs.py", "clusters/test_slurm_runs.py", "clusters/test_whole_runs.py",
    "config/foreign/test_export.py", "config/foreign/test_fixes.py", "config/foreign/test_nothing_lost.py", "config/foreign/test_results_are_valid.py",
    "config/test_limits_of_files.py", "config/test_presets.py",
    "data/test_summary.py", "data/test_summary_of_forms.py",
    "expressions/test_question.py",
    "hardware/test_inventory.py",
    "launching/test_together.py",
    "machines/test_compared.py", "machines/test_meeting.py",
    "models/test_adapter_upload.py", "models/test_catalogue.py",
    "pages/test_base_comparison.py", "pages/test_config_editor.py", "pages/test_best_and_samples.py", "pages/test_data.py",
    "pages/test_evaluation.py", "pages/test_exported.py", "pages/test_found_folder.py",
    "pages/test_hostile_runs.py", "pages/test_languages.py", "pages/test_links.py", "pages/test_machines.py", "pages/test_model_picker.py", "pages/test_models.py",
    "pages/test_no_room.py", "pages/test_on_cluster.py", "pages/test_pages.py", "pages/test_plan.py", "pages/test_plan_options.py", "pages/test_playground.py", "pages/test_pseudo.py", "pages/test_run_curves.py", "pages/test_run_history.py",
    "pages/test_run_page.py", "pages/test_run_processes.py", "pages/test_table_runs.py", "pages/test_verify_picker.py",
    "planning/test_formula.py", "planning/test_memory.py", "planning/test_partition.py", "planning/test_store.py",
    "planning/test_true_rule.py",
    "preflight/test_chat_room.py", "preflight/test_consequences.py", "preflight/test_escapes.py", "preflight/test_move.py",
    "preflight/test_placement.py", "preflight/test_resolved_once.py", "preflight/test_resume.py",
    "preflight/test_shown_gpus.py", "preflight/test_startable.py", "preflight/test_strategy.py", "preflight/test_targets.py",
    "preflight/test_token_counts.py", "preflight/test_untrainable.py",
    "runs/test_bin_adapters.py", "runs/test_faults.py", "runs/test_found.py", "runs/test_lease_requests.py", "runs/test_links.py",
    "runs/test_no_room.py", "runs/test_queue.py", "runs/test_supervisor.py", "runs/test_supervisor_faults.py", "runs/test_trainer_command.py",
    "verification/test_whole_or_not.py",
    "test_cli.py", "test_commands.py", "test_commands_chat.py", "test_commands_data.py", "test_commands_evaluate.py",
    "test_commands_links.py", "test_commands_no_room.py", "test_commands_plan.py",
    "test_commands_runs.py", "test_commands_ship.py", "test_commands_start.py", "test_commands_tight.py", "test_commands_verify.py", "test_config_checker.py", "test_cut_off.py",
    "test_gpu_script.py", "test_odd_plans.py", "test_original_usage.py", "test_project.py", "test_terminal.py",
)  # fmt: skip
"""What `--fast` leaves out: browser, training, traces, and every module that takes more than three seconds of a core,
but those that hold the house's rules, the catalogue and the check."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fast", action="store_true", help="the minute before a commit: leaves out what is slow")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Left out before it is imported, for half of it brings torch."""
    left_out = config.getoption("--fast") and collection_path in {Path(__file__).parent / name for name in SLOW}
    return True if left_out else None


def pytest_collection_finish() -> None:
    """Torch's and transformers' millions of objects stay to the end: nothing looks through them again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the session's own, shared by its workers: what is traced once is known to all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_HOME", str(shared / "cache"))
        yield


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of two blocks with tokenizer and chat template; tests read it and change nothing."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace; models and data may come from anywhere below the test's own folder."""
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path))
    monkeypatch.setenv("FLIGHTDECK_DATA_ROOTS", str(tmp_path))
    return tmp_path / "ws"


@pytest.fixture
def config(tiny_model: Path, workspace: Path, tmp_path: Path) -> Make:
    """A good config for the tiny model: keywords change single keys, `...` takes one out."""
    data = write_rows(tmp_path / "chats.jsonl", chats())

    def make(**changes: Any) -> dict[str, Any]:
        values = {
            "model_name": str(tiny_model), "dataset": str(data), "r": 4, "alpha": 8, "num_epochs": 4, "learning_rate": 2e-2,
            "batch_size": 4, "precision": "fp32", "logging_steps": 1,
        }  # fmt: skip
        return {key: value for key, value in (values | changes).items() if value is not ...}

    return make
