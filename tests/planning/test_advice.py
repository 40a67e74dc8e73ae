"""Remedies are true: each one's own plan is smaller, and its price is said."""

from __future__ import annotations

import pytest

from lora_backend.i18n import use_language
from lora_backend.planning.advice import CHANGES_RESULT, Advice, advise
from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.report import advice_text, verdict
from lora_backend.planning.targets import GIB, of_words
from tests.planning.test_plan import CONFIG, FACTS, source

BIG = with_changes(CONFIG, batch_size=4, max_length=2048)


def advice(words: str, config: object = BIG) -> list[Advice]:
    planner = Planner(source(FACTS), of_words(words))
    return advise(planner, config, planner.plan(config))  # type: ignore[arg-type]


def total(plan: Plan, devices: slice = slice(None)) -> int:
    return sum(device.breakdown.total for device in plan.devices[devices])


@pytest.mark.parametrize("words", ["RTX-4090", "RTX-3060,RTX-3060", "6,8"])
def test_each_remedy_saves_what_it_says(words: str) -> None:
    planner = Planner(source(FACTS), of_words(words))
    before = planner.plan(BIG)
    found = advise(planner, BIG, before)
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
        assert f"target_batch_size: 4 saves {saved} GiB in all (" in advice_text(by_code["smaller_batch"])


def test_every_gpu_that_is_over_is_named_with_its_shortage() -> None:
    plan = Planner(source(FACTS), of_words("6,4,3")).plan(BIG)
    over = {device.target.device: f"{-device.free_bytes / GIB:.1f} GiB over" for device in plan.devices}
    assert all(device.utilisation > 1 for device in plan.devices)
    said = verdict(plan).text("en")
    sentences = said.removeprefix("It does not fit: ").rstrip(".").split(". ")
    assert len(sentences) == 3
    assert f"(device {plan.bottleneck.target.device})" in sentences[0]
    for device, words in over.items():
        (sentence,) = [sentence for sentence in sentences if f"(device {device})" in sentence]
        assert words in sentence
    alone = Planner(source(FACTS), of_words("6")).plan(BIG)
    assert verdict(alone).text("en").count("(device ") == 1
    split = Planner(source(FACTS), of_words("24,2")).score(BIG, [0] * 13 + [1])
    assert split.devices[0].utilisation <= 1 < split.devices[1].utilisation
    assert verdict(split).text("en").count("(device ") == 1


def test_what_makes_it_fit_comes_first_then_what_leaves_the_result_as_it_is_then_the_cheapest() -> None:
    found = advice("RTX-4090")
    keys = [
        (not remedy.fits, remedy.code in CHANGES_RESULT, remedy.slowdown or 1.0, -remedy.saves_bytes)
        for remedy in found
    ]
    assert keys == sorted(keys)
    codes = [remedy.code for remedy in found]
    assert codes.index("gradient_checkpointing") < codes.index("shorter_rows")


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
    assert by_code["smaller_batch"].change == {"batch_size": 2, "target_batch_size": 4}
    odd = {remedy.code: remedy for remedy in advice("6", with_changes(BIG, batch_size=5))}
    assert odd["smaller_batch"].change == {"batch_size": 2, "target_batch_size": 4}


def test_what_is_on_already_is_not_advised() -> None:
    done = with_changes(
        BIG, gradient_checkpointing=True, loss_type="chunked_nll", batch_size=1, quantization="nf4", optim="sgd",
        target_modules=["q_proj"], max_length=64,
    )  # fmt: skip
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
