"""Remedies are true: each one's own plan is smaller, and its price is said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_backend.config.patch import Patch
from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import WorkerError
from lora_backend.i18n import use_language
from lora_backend.planning.advice import Advice, advise, best_first
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, options_of, with_changes
from lora_backend.planning.remedies import CHANGES_RESULT
from lora_backend.planning.report import verdict
from lora_backend.planning.split.chosen_split import Goal
from lora_backend.planning.targets import GIB, of_words
from lora_backend.planning.verdict import ORDER
from lora_backend.views.plan_view import advice_text
from tests.planning.formula_plans import CONFIG as DEFAULTS
from tests.planning.formula_plans import FACTS, source

CONFIG = with_changes(DEFAULTS, loss_type="nll", batching="padded", optim="adamw_torch")
"""With something left to save in each part."""
BIG = with_changes(CONFIG, batch_size=4, max_length=2048)


def advice(words: str, config: object = BIG) -> list[Advice]:
    planner = Planner(source(FACTS), of_words(words))
    return best_first(advise(planner, config, planner.plan(config)))  # type: ignore[arg-type]


def total(plan: Plan, devices: slice = slice(None)) -> int:
    return sum(device.breakdown.total for device in plan.devices[devices])


@pytest.mark.parametrize("words", ["RTX-4090", "RTX-3060,RTX-3060", "6,8"])
def test_each_remedy_saves_what_it_says(words: str) -> None:
    planner = Planner(source(FACTS), of_words(words))
    before = planner.plan(BIG)
    found = list(advise(planner, BIG, before))
    assert len(found) >= 5
    for remedy in found:
        assert remedy.saves_bytes > 0, remedy.code
        if remedy.change:
            after = planner.plan(with_changes(BIG, **remedy.change))
            assert after.bottleneck_utilisation < before.bottleneck_utilisation, remedy.code
            assert remedy.fits == after.fits
            assert remedy.plan.bottleneck.breakdown == after.bottleneck.breakdown
            assert remedy.saves_bytes == total(before) - total(after), remedy.code


def test_remedies_that_make_it_fit_on_several_gpus_differ_in_what_they_save() -> None:
    found = advice("6,4,3")
    making_it_fit = [remedy.saves_bytes for remedy in found if remedy.fits and remedy.change]
    assert len(set(making_it_fit)) == len(making_it_fit) >= 2


def test_one_more_gpu_is_said_to_take_bytes_off_the_others_and_what_else_there_is_to_save_them_in_all() -> None:
    before = Planner(source(FACTS), of_words("6,4,3")).plan(BIG)
    by_code = {remedy.code: remedy for remedy in advice("6,4,3")}
    more = by_code["one_more_gpu"]
    assert more.saves_bytes == total(before) - total(more.plan, slice(3))
    with use_language("en"):
        assert advice_text(more).startswith(f"One more GPU takes {more.saves_bytes / GIB:.1f} GiB off the others (")
        saved = f"{by_code['smaller_batch'].saves_bytes / GIB:.1f}"
        assert f"target_batch_size: 4 saves {saved} GiB in total (" in advice_text(by_code["smaller_batch"])


def test_every_gpu_that_is_over_is_named_with_its_shortage() -> None:
    plan = Planner(source(FACTS), of_words("6,4,3")).plan(BIG)
    over = {device.target.device: f"{-device.free_bytes / GIB:.1f} GiB over" for device in plan.devices}
    assert all(device.utilisation > 1 for device in plan.devices)
    said = verdict(plan).text("en")
    *sentences, _ = said.removeprefix("It does not fit: ").split(". ")  # the last says the error of the formula
    assert len(sentences) == 3
    assert f"GPU {plan.bottleneck.target.device} (" in sentences[0]
    for device, words in over.items():
        (sentence,) = [sentence for sentence in sentences if f"GPU {device} (" in sentence]
        assert words in sentence
    alone = Planner(source(FACTS), of_words("6")).plan(BIG)
    assert verdict(alone).text("en").count("GiB over") == 1
    split = Planner(source(FACTS), of_words("24,2")).score(BIG, [0] * 13 + [1])
    assert split.devices[0].utilisation <= 1 < split.devices[1].utilisation
    assert verdict(split).text("en").count("GiB over") == 1


def exact(config: TrainingConfig) -> Profile:
    """The formula's figures with a trace's error."""
    return replace(source(FACTS)(config), method="traced", expected_error=0.01)


def exact_advice(words: str, config: TrainingConfig = BIG) -> list[Advice]:
    planner = Planner(exact, of_words(words))
    return list(advise(planner, config, planner.plan(config)))


def test_what_leaves_the_result_as_it_is_comes_before_what_changes_it_and_the_cheapest_first() -> None:
    codes = [remedy.code for remedy in exact_advice("10")]
    assert codes[0] == "gradient_checkpointing"
    assert codes.index("smaller_batch") < codes.index("quantization") < codes.index("shorter_rows")
    many = with_changes(BIG, r=256, batch_size=1)
    codes = [remedy.code for remedy in exact_advice("6", many) if remedy.code != "together"]
    kept = [code for code in codes if code not in CHANGES_RESULT]
    assert {"gradient_checkpointing", "optimizer_8bit"} <= set(kept)
    assert kept.index("gradient_checkpointing") < kept.index("optimizer_8bit")


def test_best_first_puts_what_is_enough_before_what_leaves_it_tight_and_that_before_what_does_not_fit() -> None:
    for words in ("6", "10", "RTX-4090"):
        found = advice(words)
        assert [ORDER.index(remedy.verdict) for remedy in found] == sorted(ORDER.index(one.verdict) for one in found)
        assert len({remedy.verdict for remedy in found}) > 1


class Counted:
    """A source of profiles that says which settings it was asked for."""

    def __init__(self) -> None:
        self.asked: list[TrainingConfig] = []

    def __call__(self, config: TrainingConfig) -> Profile:
        self.asked.append(config)
        return exact(config)


def test_the_best_remedy_needs_one_more_profile_and_is_checkpointing_where_that_is_enough() -> None:
    """No trace for a chunked loss, which could not be enough, nor for any remedy that comes behind the best one."""
    profiles = Counted()
    planner = Planner(profiles, of_words("10"))
    before = planner.plan(BIG)
    assert not before.fits
    profiles.asked.clear()
    best = next(advise(planner, BIG, before))
    assert (best.code, best.is_enough) == ("gradient_checkpointing", True)
    assert [config.gradient_checkpointing for config in profiles.asked] == [True]


def test_a_loss_in_tiles_comes_before_checkpointing_where_it_is_enough_for_it_costs_no_time() -> None:
    first = exact_advice("14")[0]
    assert (first.code, first.is_enough) == ("chunked_loss", True)


def test_the_batch_is_halved_until_it_fits_beyond_doubt_and_no_further() -> None:
    config = with_changes(BIG, batch_size=32, gradient_checkpointing=True)
    planner = Planner(exact, of_words("12"))
    remedy = {one.code: one for one in exact_advice("12", config)}["smaller_batch"]
    rows = remedy.change["batch_size"]
    assert remedy.is_enough
    assert rows < 16
    assert planner.plan(with_changes(config, batch_size=2 * rows, target_batch_size=32)).verdict != "fits"
    assert remedy.change["target_batch_size"] == 32


def test_some_together_only_where_none_is_enough_alone_and_first_those_that_leave_the_result_as_it_is() -> None:
    assert "together" not in [remedy.code for remedy in exact_advice("14")]
    config = with_changes(BIG, batch_size=2, max_length=4096)
    found = exact_advice("4.2", config)
    codes = [remedy.code for remedy in found]
    together = found[codes.index("together")]
    assert together.is_enough
    assert not any(remedy.is_enough for remedy in found[: codes.index("together")])
    assert together.change.keys() <= {"loss_type", "gradient_checkpointing", "batch_size", "target_batch_size", "optim"}
    assert codes.index("together") < min(codes.index(code) for code in CHANGES_RESULT if code in codes)
    hard = {remedy.code: remedy for remedy in exact_advice("2.2", BIG)}
    assert "quantization" in hard["together"].change
    assert "optim" not in hard["together"].change, "it would save 0.0 GiB"


def test_remedies_of_a_placement_by_hand_are_counted_from_it_and_the_best_placement_comes_first() -> None:
    planner = Planner(exact, of_words("12,12"))
    placed = (1,) + (0,) * 13
    by_hand = planner.score(BIG, placed)
    assert not by_hand.fits
    assert planner.plan(BIG).fits
    found = list(advise(planner, BIG, by_hand, placed=placed))
    assert found[0].code == "best_placement"
    assert found[0].is_enough
    assert (found[0].change, found[0].plan.assignment) == (Patch(), planner.plan(BIG).assignment)
    for remedy in found[1:]:
        assert remedy.plan.assignment == placed, "it stays while keys change"
        assert remedy.saves_bytes == total(by_hand) - total(remedy.plan)
        after = planner.score(with_changes(BIG, **remedy.change), placed)
        assert remedy.fits == after.fits
    assert "one_more_gpu" not in [remedy.code for remedy in found]


@pytest.mark.parametrize("goal", ["fewest", "speed"])
def test_where_another_goal_makes_it_tight_the_balanced_placement_comes_first(goal: Goal) -> None:
    config = with_changes(BIG, gradient_checkpointing=True)
    alone = total(Planner(exact, of_words("24")).plan(config))
    planner = Planner(exact, of_words(f"{1.01 * alone / GIB:.2f},{1.01 * alone / GIB:.2f}"))
    options = replace(options_of(config), goal=goal, max_utilisation=1.0)
    plan = planner.plan(config, options)
    assert (plan.strategy, plan.verdict) == ("single", "tight")
    first = next(advise(planner, config, plan, options))
    assert (first.code, first.change, first.is_enough) == ("balanced", Patch(), True)
    assert first.plan.assignment == planner.plan(config).assignment
    with use_language("en"):
        assert advice_text(first) == "`--goal balance` moves layers; fits with this"
    assert "balanced" not in [remedy.code for remedy in advise(planner, config, plan)]


def test_a_torch_process_that_ends_is_no_remedy_left_out() -> None:
    def source_that_dies(config: TrainingConfig) -> Profile:
        if config.gradient_checkpointing:
            raise WorkerError("it ended")
        return exact(config)

    planner = Planner(source_that_dies, of_words("10"))
    with pytest.raises(WorkerError):
        list(advise(planner, BIG, planner.plan(BIG)))


@pytest.mark.parametrize("words", ["RTX-3060", "6"])
def test_checkpointing_is_slower_by_about_a_third_and_shorter_rows_have_no_such_price(words: str) -> None:
    by_code = {remedy.code: remedy for remedy in advice(words)}
    slowdown = by_code["gradient_checkpointing"].slowdown
    assert slowdown is not None
    assert 1.1 < slowdown < 1.6
    assert by_code["shorter_rows"].slowdown is None
    assert by_code["gradient_checkpointing"].price.text("en") == "activations are computed twice"
    assert by_code["gradient_checkpointing"].change == {"gradient_checkpointing": True}


def test_a_smaller_batch_keeps_the_rows_of_a_step() -> None:
    by_code = {remedy.code: remedy for remedy in advice("6")}
    assert by_code["smaller_batch"].change == {"batch_size": 1, "target_batch_size": 4}
    odd = {remedy.code: remedy for remedy in exact_advice("18", with_changes(BIG, batch_size=5))}
    assert odd["smaller_batch"].change == {"batch_size": 2, "target_batch_size": 4}


def test_what_is_on_already_is_not_advised() -> None:
    done = with_changes(
        BIG,
        gradient_checkpointing=True,
        loss_type="chunked_nll",
        batch_size=1,
        quantization="nf4",
        optim="sgd",
        target_modules=["q_proj"],
        max_length=64,
    )
    assert [remedy.code for remedy in advice("24", done)] == []


def test_one_more_gpu_is_offered_only_where_it_does_not_fit() -> None:
    assert "one_more_gpu" not in [remedy.code for remedy in advice("RTX-A6000,RTX-A6000")]
    more = [remedy for remedy in advice("RTX-3060") if remedy.code == "one_more_gpu"]
    assert len(more) == 1
    assert len(more[0].plan.devices) == 2
    assert more[0].to_json()["change"] == {}


def test_a_remedy_that_the_schema_refuses_is_left_out() -> None:
    """fp32 has no 4-bit remedy, and half of a short row none either."""
    fp32 = with_changes(BIG, precision="fp32", max_length=100)
    assert not {"quantization", "shorter_rows"} & {remedy.code for remedy in advice("6", fp32)}
