"""The plan of a start: from what is free now, refused or confirmed where it does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import ModelError, PlanError, TooLittleMemoryError
from lora_backend.i18n import use_language
from lora_backend.installation import this_installation
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.step_time import LinkSpeed
from lora_backend.planning.targets import GIB, Target, of_words
from lora_backend.preflight import placement
from lora_backend.preflight.placement import MAP_ANEW, DoesNotFitError, TightError, advice_for, plan_start
from lora_backend.preflight.plan_question import Trace
from lora_backend.preflight.resolve import ResolvedConfig
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.runs.processes.leases import release, take
from lora_backend.runs.processes.waiting import leases_folder
from lora_backend.views.plan_view import advice_text
from tests.hardware.nvml import result_of, stub_environment
from tests.preflight.small_model import FACTS
from tests.resolving import from_here

Start = Callable[..., placement.StartPlan]


@pytest.fixture(scope="module")
def trace() -> Callable[..., Profile]:
    from lora_backend.modeling.profiling import profile_for

    return profile_for


@pytest.fixture
def start(
    tmp_path: Path, workspace: Path, trace: Callable[..., Profile], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., placement.StartPlan]:
    """`start(gpus, **keys)`: the plan on simulated GPUs with their `links`, or on the CPU for None."""
    (tmp_path / "config.json").write_text(json.dumps(FACTS))

    def make(gpus: str | tuple[Target, ...] | None, links: LinkSpeed | None = None, **keys: Any) -> placement.StartPlan:
        targets = (
            (Target("cpu", "CPU", 16 * GIB),) if gpus is None else of_words(gpus) if isinstance(gpus, str) else gpus
        )
        monkeypatch.setattr(placement, "machine_targets", lambda *_: (targets, links, None))
        return plan_start(asked(tmp_path, **keys), trace)

    return make


def values(folder: Path, **keys: Any) -> dict[str, Any]:
    return {"model_name": str(folder / "config.json"), "batch_size": 1, "max_length": 512, **keys}


def asked(folder: Path, **keys: Any) -> ResolvedConfig:
    return from_here(values(folder, **keys))


def test_without_balancing_the_whole_model_is_planned_on_one_device(start: Start) -> None:
    found = start("24,24")
    assert found.plan is not None
    assert found.plan.strategy == "single"
    assert [len(device.blocks) for device in found.plan.devices] == [8, 0]
    assert len(found.attempt.to_json()["plan"]["devices"]) == 2


def test_with_balancing_the_layers_are_spread(start: Start) -> None:
    found = start("3,3", use_balanced_device_map=True)
    assert found.plan is not None
    assert found.plan.strategy == "layer_split"
    assert set(found.plan.device_map.values()) == {0, 1}


def test_with_balancing_layers_that_follow_each_other_go_over_the_fast_link(start: Start) -> None:
    """GPUs 0 and 2 have one; without it their layers would not be neighbours."""
    keys = {"use_balanced_device_map": True}
    orders = []
    for links in (None, lambda a, b: 600.0 if {a, b} == {0, 2} else 32.0):
        plan = start("3,3,3", links=links, **keys).plan
        assert plan is not None
        orders.append(list(dict.fromkeys(plan.assignment)))
    assert orders[0] == [0, 1, 2]
    assert sorted(orders[1]) == [0, 1, 2]
    assert abs(orders[1].index(0) - orders[1].index(2)) == 1


def test_a_map_of_the_config_is_scored_as_it_is(start: Start) -> None:
    given = {"model.embed_tokens": 1, "model.layers": 0, "model.norm": 1, "model.rotary_emb": 1, "lm_head": 1}
    given |= {"model.layers.7": 1}
    found = start("24,24", device_map=given, use_balanced_device_map=True)
    assert found.plan is not None
    assert [device.blocks for device in found.plan.devices] == [tuple(range(7)), (7,)]


def test_what_would_help_a_map_of_the_config_is_counted_on_it_and_a_new_map_comes_first(
    start: Start, tmp_path: Path
) -> None:
    given = {"device_map": {"model": 0, "lm_head": 0}, "batch_size": 4}
    found = start("2,6", **given)
    assert found.plan is not None
    assert found.plan.verdict == "over"
    first, *others = advice_for(found, asked(tmp_path, **given).config)
    assert (first.code, first.change) == ("best_placement", MAP_ANEW)
    assert first.fits
    assert others
    assert {advice.plan.assignment for advice in others} == {found.plan.assignment}
    with use_language("en"):
        assert advice_text(first) == "device_map: null, use_balanced_device_map: true moves layers; fits with this"


def test_a_map_with_a_gpu_that_is_gone_is_refused_with_the_devices_that_are_there(start: Start) -> None:
    with pytest.raises(PlanError, match=r"places .* on 2, which is not one of the devices: 0, 1"):
        start("24,24", device_map={"model": 2, "lm_head": 2})


def test_the_changes_that_are_offered_for_such_a_map_plan_it_for_the_gpus_that_are_there(start: Start) -> None:
    given = {"device_map": {"model": 0, "lm_head": 2}}
    with pytest.raises(PlanError, match="`use_balanced_device_map: true`"):
        start("3,3", **given)
    found = start("3,3", **MAP_ANEW.applied_to(given))
    assert found.plan is not None
    assert found.plan.fits
    assert set(found.plan.device_map.values()) == {0, 1}


def test_a_gpu_that_vanishes_between_plan_and_launch_is_refused_through_the_real_driver_interface(
    tmp_path: Path,
) -> None:
    one = "gpu name=NVIDIA RTX A, uuid=GPU-a, gib=24, cc=8.6"
    environment = stub_environment(tmp_path, f"{one}\ngpu name=NVIDIA RTX B, uuid=GPU-b, gib=24, cc=8.6")
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    given = {"model_name": str(tmp_path / "config.json"), "device_map": {"model": 1, "lm_head": 1}}
    start = f"""plan_start(from_here({given!r}), profile_for).plan.strategy"""
    anew = start.replace(repr(given), repr(MAP_ANEW.applied_to(given))).replace("strategy", "device_map")
    imports = "from lora_backend.preflight.placement import plan_start\nfrom tests.resolving import from_here\nfrom lora_backend.modeling.profiling import profile_for\n"
    imports += (
        "def refused():\n    try:\n        " + start + "\n    except ValueError as error:\n        return str(error)\n"
    )
    imports += "import os\nfrom tests.hardware.nvml import describe, description_file\n"
    vanishes = f"describe(description_file(dict(os.environ)), {one!r})"
    before, _, sentence, placed = result_of(f"({start}, {vanishes}, refused(), {anew})", environment, imports)
    assert before == "single"
    assert "on 1, which is not one of the devices: 0" in sentence
    assert set(placed.values()) == {0}


@pytest.mark.parametrize("device_map", [{"model": 0, "lm_head": "cpu"}, {"model": 0, "lm_head": "disk"}])
def test_blocks_outside_of_the_gpus_are_refused_before_anything_is_loaded(
    start: Start, device_map: dict[str, Any]
) -> None:
    with pytest.raises(ModelError, match="an adapter does not train"):
        start("24", device_map=device_map)


def test_no_gpu_with_enough_memory_falls_back_and_says_so_unless_forced(start: Start) -> None:
    found = start("1.5", use_balanced_device_map=True)
    assert found.fallback is not None
    assert "No GPU has enough memory" in str(found.fallback)
    assert found.plan is not None
    assert found.attempt.to_json()["fallback"]["values"] == {"gb": "2"}
    on_cpu = start(None, use_balanced_device_map=True)
    assert on_cpu.fallback is not None
    with pytest.raises(TooLittleMemoryError):
        start(None, use_balanced_device_map=True, force_balance=True)


def test_a_word_of_accelerates_has_no_plan_and_says_why(start: Start) -> None:
    found = start("24,24", device_map="auto")
    assert found.plan is None
    assert "auto" in str(found.note)


def test_what_does_not_fit_comes_with_remedies_of_which_the_first_makes_it_fit(
    start: Start, trace: Trace, tmp_path: Path
) -> None:
    keys = {"batch_size": 16, "max_length": 2048}
    found = start("8", **keys)
    with pytest.raises(DoesNotFitError, match="It does not fit") as raised:
        plan_attempt(asked(tmp_path, **keys), trace)
    best = raised.value.advice[0]
    assert best.fits
    assert best.change
    assert found.planner is not None
    mended = TrainingConfig.model_validate({**values(tmp_path, **keys), **best.change})
    assert found.planner.plan(mended).fits


def test_what_fits_is_not_asked_about(start: Start, trace: Trace, tmp_path: Path) -> None:
    assert start("24").plan
    attempt = plan_attempt(asked(tmp_path), trace)
    assert attempt.plan is not None
    assert attempt.plan.verdict == "fits"
    assert not {"accepted", "anyway"} & attempt.model_fields_set


def tight_on(start: Start, **keys: Any) -> Target:
    """A GPU that the plan fills to 97 %, for whoever plans next."""
    planned = start("24", **keys).plan
    assert planned is not None
    (card,) = of_words("24")
    tight = replace(card, total_bytes=round(planned.devices[0].breakdown.total / 0.97), uuid="GPU-a")
    assert start((tight,), **keys).plan
    return tight


def test_what_is_tight_is_refused_until_it_is_accepted_and_the_attempt_says_that_it_was(
    start: Start, trace: Trace, tmp_path: Path
) -> None:
    tight_on(start, batch_size=8)
    question = asked(tmp_path, batch_size=8), trace
    with pytest.raises(TightError, match=r"Tight: .* would be left on GPU 0 \(24 GiB\)") as raised:
        plan_attempt(*question)
    best = raised.value.advice[0]
    assert best.verdict == "fits"
    accepted = plan_attempt(*question, accepts="tight")
    assert (accepted.accepted, accepted.plan and accepted.plan.verdict, accepted.anyway) == ("tight", "tight", False)
    assert plan_attempt(*question, accepts="over").anyway is True


def test_who_accepts_a_tight_plan_has_not_accepted_one_that_does_not_fit(
    start: Start, trace: Trace, tmp_path: Path
) -> None:
    keys = {"batch_size": 16, "max_length": 2048}
    start("8", **keys)
    with pytest.raises(DoesNotFitError):
        plan_attempt(asked(tmp_path, **keys), trace, accepts="tight")


def test_a_plan_that_waits_for_a_run_of_ours_is_held_against_what_that_run_leaves(
    start: Start, trace: Trace, tmp_path: Path
) -> None:
    """It is asked about only where it would be tight then too."""
    installation = this_installation()
    question = (
        asked(
            tmp_path,
        ),
        trace,
    )
    tight = tight_on(start)
    needed = round(0.97 * tight.total_bytes)
    lease = take(leases_folder(installation.workspace), ["GPU-a"], tmp_path / "other")
    assert lease
    try:
        for size, held in (
            (2 * needed, 1.05 * needed),
            (2 * needed, 0.98 * needed),
        ):  # over, and tight, as long as it runs
            assert start((replace(tight, total_bytes=size, held_bytes=round(held)),)).plan
            assert plan_attempt(*question).accepted is None
        assert start((replace(tight, held_bytes=needed),)).plan
        with pytest.raises(TightError, match="Tight: "):
            plan_attempt(*question)
    finally:
        release(lease)
    assert start((replace(tight, total_bytes=2 * needed, held_bytes=round(1.05 * needed)),)).plan
    with pytest.raises(DoesNotFitError):
        plan_attempt(*question)


def test_memory_that_others_hold_is_not_there_for_the_plan(start: Start, trace: Trace, tmp_path: Path) -> None:
    (whole,) = of_words("24")
    assert start((replace(whole, held_bytes=23 * GIB),), batch_size=4).plan
    with pytest.raises(DoesNotFitError):
        plan_attempt(asked(tmp_path, batch_size=4), trace)
