"""Times as ranges: from work and rates, never from nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.planning.cost.scaling import EXPONENTS
from lora_backend.planning.cost.step_time import (
    CPU_EFFICIENCY,
    DEFAULT_LINK_BYTES_PER_S,
    EFFICIENCY,
    HOP_S,
    LAUNCH_S,
    LINK_SHARE,
    OPERATIONS,
    OPERATIONS_AT_ENDS,
    Cpu,
    Transfers,
)
from lora_backend.planning.estimate import Conditions, estimate, flops, mean_batch, num_steps
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import GIB, Target, of_words
from tests.planning.formula_plans import CONFIG, FACTS, source


def planner(words: str) -> Planner:
    return Planner(source(FACTS), of_words(words))


def test_a_step_takes_its_work_over_the_cards_rate_and_its_bytes_over_the_bandwidth() -> None:
    plan = planner("RTX-4090").plan(CONFIG)
    found = estimate(plan, CONFIG)
    spec = plan.devices[0].target.spec
    assert found is not None
    assert spec is not None
    moving_s = plan.devices[0].breakdown.weights * 2 / spec.bandwidth_bytes_per_s
    launches = OPERATIONS[False] * len(plan.profile.kind_of_block) + 2 * OPERATIONS_AT_ENDS
    slow, fast = (flops(plan) / spec.training_flops / share + moving_s for share in EFFICIENCY)
    assert found.step_s == pytest.approx((fast, slow + launches * LAUNCH_S[1]))
    assert found.step_s[0] < found.step_s[1]


def test_a_split_takes_the_sum_of_its_devices_and_what_goes_between_them() -> None:
    """One works while the others wait, so each further GPU of the same card makes a step a little longer."""
    deep = Planner(source({**FACTS, "num_hidden_layers": 32}), of_words("4xRTX-4090"))
    times = []
    for count in (1, 2, 4):
        some = replace(deep, targets=deep.targets[:count])
        plan = some.plan(CONFIG)
        assert len(plan.used) == count
        found = estimate(plan, CONFIG)
        assert found is not None
        times.append(found.step_s)
        assert sum(flops(plan, device.units) for device in plan.devices) == pytest.approx(flops(plan))
    for end in (0, 1):
        one, two, four = (step[end] for step in times)
        assert one < two < four < 1.5 * one


def test_a_faster_link_makes_a_split_faster() -> None:
    plan = planner("RTX-3060,RTX-3060").plan(CONFIG)
    slow, fast = (estimate(plan, CONFIG, Conditions(speed)) for speed in (lambda a, b: 4e9, lambda a, b: 300e9))
    assumed, unknown = estimate(plan, CONFIG), estimate(plan, CONFIG, Conditions(lambda a, b: 0.0))
    assert slow is not None
    assert fast is not None
    assert assumed is not None
    assert fast.step_s[1] < assumed.step_s[1] < slow.step_s[1]
    assert unknown == assumed, "a link of which nothing is known is as assumed"


def test_a_small_block_takes_as_long_as_its_launches() -> None:
    tiny = {**FACTS, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 128}
    plan = Planner(source(tiny), of_words("H100-80G")).plan(with_changes(CONFIG, max_length=16))
    found = estimate(plan, CONFIG)
    assert found is not None
    assert found.step_s[0] >= len(plan.profile.kind_of_block) * OPERATIONS[False] * LAUNCH_S[0]


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


def test_the_datas_own_rows_are_shorter_than_they_may_be() -> None:
    """Batches are padded to their longest row, and cut at `max_length`."""
    plan, config = planner("RTX-4090").plan(CONFIG), with_changes(CONFIG, max_length=512)
    assert RowLengths((100,), 40).mean_row("padded", 4, 512) == 100
    assert RowLengths((100, 900), 40).mean_row("padded", 1, 512) == pytest.approx(306, rel=0.1)
    assert RowLengths((100, 900), 40).mean_row("padded", 8, 512) == pytest.approx(510, rel=0.01)
    short, long = (estimate(plan, config, Conditions(lengths=RowLengths((tokens,), 40))) for tokens in (64, 5000))
    whole = estimate(planner("RTX-4090").plan(config), config)
    assert short is not None
    assert long is not None
    assert whole is not None
    assert short.step_s[0] < whole.step_s[0]
    assert long.step_s == pytest.approx(whole.step_s)
    assert long.num_steps == 40 * 3 / CONFIG.batch_size, "the rows are counted as well"


def test_without_padding_time_follows_the_sum_of_the_lengths_and_attention_that_of_their_squares() -> None:
    config = with_changes(CONFIG, batch_size=4, max_length=512)
    lengths = RowLengths((100, 900), 40)
    assert lengths.mean_batch("flat", 4, 512) == 4 * 306 < lengths.mean_batch("padded", 4, 512)
    profile = planner("RTX-4090").plan(config).profile
    flat = lengths.mean_monomials(profile, "flat", 4, 512, 8)
    by_hand = [EXPONENTS.index((*powers, 0, 0, 0)) for powers in ((0, 0, 1), (1, 1, 0), (1, 2, 0), (1, 1, 1))]
    assert flat[by_hand] == pytest.approx([8, 2 * (100 + 512), 2 * (100**2 + 512**2), 8 * 2 * (100 + 512)])
    step = {}
    for word in ("flat", "padded"):
        asked = with_changes(config, batching=word)
        found = estimate(planner("RTX-4090").plan(asked), asked, Conditions(lengths=lengths))
        assert found is not None
        step[word] = found
    assert step["flat"].step_s[0] < 0.8 * step["padded"].step_s[0]
    assert step["flat"].num_steps == step["padded"].num_steps, "the same rows in each step"


def test_packed_lines_hold_whole_rows_and_make_fewer_steps() -> None:
    config = with_changes(CONFIG, batch_size=2, max_length=512, batching="packed", num_epochs=1)
    lengths, plan = RowLengths((64,), 800), planner("RTX-4090").plan(config)
    assert lengths.mean_batch("packed", 2, 512) == 1024
    assert RowLengths((300,), 10).mean_batch("packed", 2, 512) == 600, "no row is cut to fill a line"
    found = estimate(plan, config, Conditions(lengths=lengths))
    assert found is not None
    assert found.num_steps == 50, "eight rows in a line, two lines in a step"
    values = lengths.mean_monomials(plan.profile, "packed", 2, 512, 8)
    assert values[EXPONENTS.index((1, 2, 0, 0, 0, 0))] == pytest.approx(16 * 64**2), "no row sees another one"


def test_the_mean_batch_holds_less_than_the_longest_and_as_much_where_all_rows_are_as_long() -> None:
    config = with_changes(CONFIG, batch_size=4, max_length=512)
    for word in ("flat", "padded", "packed"):
        asked = with_changes(config, batching=word)
        plan = planner("RTX-4090,RTX-3060").plan(asked)
        short, full = (mean_batch(plan, asked, Conditions(lengths=RowLengths(some, 8000))) for some in ((64,), (600,)))
        assert short is not None
        assert full is not None
        assert full.total_bytes == plan.bottleneck.breakdown.total
        if word == "packed":
            assert short.tokens == full.tokens == 4 * 512, "lines are full either way"
            assert short.total_bytes == pytest.approx(full.total_bytes, rel=1e-3)
        else:
            held = plan.bottleneck.breakdown
            assert held.weights < short.total_bytes < held.total - 0.8 * held.activations * (1 - short.tokens / 2048)
    assert mean_batch(plan, asked, Conditions()) is None, "nobody knows how long the rows are"


def test_the_whole_run_is_its_steps() -> None:
    plan = planner("RTX-4090").plan(CONFIG)
    assert num_steps(with_changes(CONFIG, max_steps=7), None) == 7
    config = with_changes(CONFIG, num_epochs=2, target_batch_size=4, val_size=0.1)
    assert num_steps(config, 100) == 46, "the last batch of an epoch is short"
    assert num_steps(with_changes(CONFIG, batch_size=8, num_epochs=3), 132) == 51, "as the demo's run counts"
    assert num_steps(config, None) is None
    found = estimate(plan, config, Conditions(num_rows=100))
    assert found is not None
    assert found.total_s == pytest.approx(tuple(46 * second for second in found.step_s))
    cost = found.cost(3.6, 2)
    assert cost == pytest.approx(tuple(second * 0.002 for second in found.total_s or ()))
    unknown = estimate(plan, config)
    assert unknown is not None
    assert (unknown.total_s, unknown.cost(1, 1)) == (None, None)


def test_a_card_whose_rates_nobody_told_us_has_no_estimate() -> None:
    assert estimate(planner("24").plan(CONFIG), CONFIG) is None


def test_the_cpu_is_slower_and_more_cores_are_faster() -> None:
    cpu = Planner(source(FACTS), (Target("cpu", "CPU", 64 * GIB),)).plan(CONFIG)
    one, eight = (estimate(cpu, CONFIG, Conditions(cpu=Cpu(cores))) for cores in (1, 8))
    gpu = estimate(planner("RTX-4090").plan(CONFIG), CONFIG)
    assert one is not None
    assert eight is not None
    assert gpu is not None
    assert one.step_s == pytest.approx(tuple(8 * second for second in eight.step_s))
    assert eight.step_s[0] > gpu.step_s[1]


def test_a_cpu_that_was_measured_has_a_range_of_less_than_three() -> None:
    cpu = Planner(source(FACTS), (Target("cpu", "CPU", 64 * GIB),)).plan(with_changes(CONFIG, precision="fp32"))
    found = estimate(cpu, CONFIG, Conditions(cpu=Cpu(2, 1e11)))
    assert found is not None
    assert found.step_s == pytest.approx(tuple(flops(cpu) / 2e11 / share for share in reversed(CPU_EFFICIENCY)))
    assert found.step_s[1] / found.step_s[0] <= 3


def test_each_boundary_between_devices_is_crossed_and_logits_stay_where_they_are() -> None:
    def way(*devices: int, is_tied: bool = False) -> list[float]:
        transfers = Transfers(1e6, np.array([0.0, 3e5, 3e5, 0.0]), is_tied)
        return [float(seconds) for seconds in transfers.of_assignment(devices)]

    def copies(size_bytes: float, number: int) -> list[float]:
        fast, slow = (size_bytes / (DEFAULT_LINK_BYTES_PER_S * share) for share in reversed(LINK_SHARE))
        return [fast + number * HOP_S[0], slow + number * HOP_S[1]]

    assert way(0, 0, 0, 0) == [0, 0]
    assert way(0, 0, 1, 1) == pytest.approx(copies(2e6 + 3e5, 3)), "hidden states and one block's mask"
    assert way(0, 1, 2, 3) == pytest.approx(copies(3 * 2e6 + 2 * 3e5, 8))
    assert way(0, 0, 1, 1, is_tied=True) == pytest.approx(copies(2e6 + 2e6 + 3e5, 5)), (
        "to the head, which is the embedding"
    )
    assert way(0, 1, 1, 0) == pytest.approx(copies(2 * 2e6 + 2 * 3e5, 6)), "placed by hand"
