"""Times as ranges: from work and rates, never from nothing."""

from __future__ import annotations

import pytest

from lora_backend.planning.estimate import EFFICIENCY, estimate, flops, num_steps
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, Target, of_words
from tests.planning.test_plan import CONFIG, FACTS, source


def planner(words: str) -> Planner:
    return Planner(source(FACTS), of_words(words))


def test_a_step_takes_its_work_over_the_cards_rate_and_its_bytes_over_the_bandwidth() -> None:
    plan = planner("RTX-4090").plan(CONFIG)
    found = estimate(plan, CONFIG)
    spec = plan.devices[0].target.spec
    assert found is not None
    assert spec is not None
    moving_s = plan.devices[0].breakdown.weights * 2 / spec.bandwidth_bytes_per_s
    slow, fast = (flops(plan) / spec.training_flops / share + moving_s for share in EFFICIENCY)
    assert found.step_s == pytest.approx((fast, slow))
    assert found.step_s[0] < found.step_s[1]


def test_a_split_takes_the_sum_of_its_devices() -> None:
    """One works while the others wait."""
    split = planner("RTX-3060,RTX-3060").plan(CONFIG)
    assert split.strategy == "layer_split"
    single, two = estimate(planner("RTX-3060").plan(CONFIG), CONFIG), estimate(split, CONFIG)
    assert single is not None
    assert two is not None
    assert two.step_s == pytest.approx(single.step_s, rel=1e-6)
    assert sum(flops(split, device.units) for device in split.devices) == pytest.approx(flops(split))


def test_work_follows_the_tokens_and_passes_the_batch() -> None:
    short, long = (planner("RTX-4090").plan(with_changes(CONFIG, max_length=tokens)) for tokens in (512, 1024))
    assert 2 * flops(short) < flops(long) < 2.5 * flops(short)
    four = with_changes(CONFIG, target_batch_size=4)
    once, summed = (estimate(long, config) for config in (CONFIG, four))
    assert once is not None
    assert summed is not None
    assert summed.step_s == pytest.approx(tuple(4 * second for second in once.step_s))


def test_forward_and_backward_are_two_products_for_each_weight() -> None:
    """And attention's; frozen weights have no gradient of their own."""
    plan = planner("RTX-4090").plan(CONFIG)
    assert 4 * 1024 * (plan.profile.parameters - 32_000 * 2048) <= flops(plan) * 1.02
    checkpointed = planner("RTX-4090").plan(with_changes(CONFIG, gradient_checkpointing=True))
    assert 1.3 < flops(checkpointed) / flops(plan) < 1.55


def test_the_whole_run_is_its_steps() -> None:
    plan = planner("RTX-4090").plan(CONFIG)
    assert num_steps(with_changes(CONFIG, max_steps=7), None) == 7
    config = with_changes(CONFIG, num_epochs=2, target_batch_size=4, val_size=0.1)
    assert num_steps(config, 100) == 45
    assert num_steps(config, None) is None
    found = estimate(plan, config, num_rows=100)
    assert found is not None
    assert found.total_s == pytest.approx(tuple(45 * second for second in found.step_s))
    cost = found.cost(3.6, 2)
    assert cost == pytest.approx(tuple(second * 0.002 for second in found.total_s or ()))
    unknown = estimate(plan, config)
    assert unknown is not None
    assert (unknown.total_s, unknown.cost(1, 1)) == (None, None)


def test_a_card_whose_rates_nobody_told_us_has_no_estimate() -> None:
    assert estimate(planner("24").plan(CONFIG), CONFIG) is None


def test_the_cpu_is_slower_and_more_cores_are_faster() -> None:
    cpu = Planner(source(FACTS), (Target("cpu", "CPU", 64 * GIB),)).plan(CONFIG)
    one, eight = (estimate(cpu, CONFIG, num_cores=cores) for cores in (1, 8))
    gpu = estimate(planner("RTX-4090").plan(CONFIG), CONFIG)
    assert one is not None
    assert eight is not None
    assert gpu is not None
    assert one.step_s == pytest.approx(tuple(8 * second for second in eight.step_s))
    assert eight.step_s[0] > gpu.step_s[1]
