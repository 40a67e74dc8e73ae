"""Plans: where everything goes, who may be used, and what is refused in which words."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lora_backend.errors import DeviceError, TooLittleMemoryError, UntrainableError
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.one_gpu import single_is_enough
from lora_backend.planning.plan import (
    Options,
    Plan,
    assignment_of,
    device_map,
    make_plan,
    score_plan,
)
from lora_backend.planning.planner import Planner, options_of, precision_on, with_changes, workload_of
from lora_backend.planning.report import notes
from lora_backend.planning.targets import GIB, of_words
from tests.planning.formula_plans import CONFIG, CPU, FACTS, PROFILE, WORKLOAD, source

TIED = source({**FACTS, "tie_word_embeddings": True})(CONFIG)


def planned(words: str, profile: Profile = PROFILE, **options: Any) -> Plan:
    return make_plan(profile, WORKLOAD, of_words(words), Options(**options))


@pytest.mark.parametrize("profile", [PROFILE, TIED], ids=["own head", "tied"])
def test_a_map_names_every_module_once_and_reads_back_as_the_same_plan(profile: Profile) -> None:
    plan = planned("6,4,3", profile)
    blocks = [f"model.layers.{index}" for index in range(12)]
    assert sorted(plan.device_map) == sorted([*blocks, *profile.embed_modules, *profile.head_modules])
    assert assignment_of(profile, plan.device_map, [device.target for device in plan.devices]) == plan.assignment
    if profile.is_tied:
        assert plan.device_map["lm_head"] == plan.device_map["model.embed_tokens"]


def test_a_plan_is_scored_as_it_was_planned_and_lists_every_device() -> None:
    plan = planned("6,4,3,24", goal="fewest")
    again = score_plan(Memory(PROFILE, WORKLOAD), of_words("6,4,3,24"), plan.assignment)
    assert again == plan
    assert len(plan.devices) == 4
    idle = [device for device in plan.devices if not device.units]
    assert len(idle) == 3
    assert all(device.utilisation == 0 and device.breakdown.total == 0 for device in idle)
    document = plan.document().to_json()
    assert [device["index"] for device in document["devices"]] == [0, 1, 2, 3]
    for device in document["devices"]:
        assert sum(device["breakdown"].values()) == device["total_bytes"]
    assert sorted(block for device in document["devices"] for block in device["blocks"]) == list(range(12))


def test_what_does_not_fit_still_shows_its_best_placement() -> None:
    plan = planned("1.5,1.5", min_memory_gb=1)
    assert not plan.fits
    assert plan.bottleneck_utilisation > 1
    assert plan.bottleneck.free_bytes < 0
    assert len(plan.used) == 2
    assert planned("24").fits


def test_equal_blocks_follow_the_free_memory_of_unequal_gpus() -> None:
    plan = planned("8,4,4", source({**FACTS, "vocab_size": 1000})(CONFIG))  # the head alone takes little
    most, *others = (len(device.blocks) for device in plan.devices)
    assert most > max(others)
    assert max(others) - min(others) <= 1


def test_how_it_runs_is_named() -> None:
    assert planned("24").strategy == "single"
    assert planned("4,4").strategy == "layer_split"
    on_cpu = make_plan(PROFILE, WORKLOAD, [CPU])
    assert on_cpu.strategy == "cpu"
    assert on_cpu.devices[0].breakdown.overhead < planned("24").devices[0].breakdown.overhead, "no CUDA context"


# ------------------------------------------------------------------------------------------ who may be used


def test_gpus_with_too_little_memory_are_left_out_unless_balance_is_forced() -> None:
    plan = planned("8,1.5,4")
    assert plan.devices[1].units == ()
    forced = planned("8,1.5,4", force_balance=True)
    assert all(device.blocks for device in forced.devices)
    assert planned("8,1.5,4", min_memory_gb=5).used[0].target.device == 0


def test_no_gpu_with_enough_memory_is_refused_with_three_remedies_in_both_languages() -> None:
    with pytest.raises(TooLittleMemoryError) as caught:
        planned("1.5,1")
    assert str(caught.value) == (
        "❌ No GPU has enough memory (at least 2 GB needed). Free memory on a GPU (close other programs, empty the cache), "
        "lower `min_memory_gb`, or set `force_balance: true`."
    )
    chinese = caught.value.message.text("zh")
    assert chinese.startswith("❌ 没有GPU有足够的内存（需要至少2GB）")
    assert all(remedy in chinese for remedy in ("释放显存", "`min_memory_gb`", "`force_balance: true`"))
    with pytest.raises(TooLittleMemoryError, match=r"at least 7\.5 GB"):
        planned("6", min_memory_gb=7.5)


def test_more_gpus_than_blocks_cannot_each_have_one() -> None:
    with pytest.raises(DeviceError):
        planned(",".join(["8"] * 13), force_balance=True)


def test_one_gpu_that_is_enough_is_named() -> None:
    split = planned("24,24")
    assert split.strategy == "layer_split"
    said = single_is_enough(split)
    assert said is not None
    assert said.text("en").startswith("GPU 0 (24 GiB) alone would fit it")
    assert single_is_enough(planned("24")) is None
    assert single_is_enough(planned("2.5,2.5")) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("2xRTX-4090", "GPU 0 (RTX-4090) alone would fit it and be faster: "),
        ("RTX-6000-Turing,RTX-4090", "GPU 1 (RTX-4090) alone would fit it and be faster: "),
        ("V100-32G,RTX-3060-12G", "GPU 0 (V100-32G) alone would fit it and be faster: "),
        ("T4,L4", "GPU 1 (L4) alone would fit it and be faster: "),
        ("24,12", "GPU 0 (24 GiB) alone would fit it: "),
    ],
)
def test_one_gpu_is_called_faster_only_where_its_own_estimate_is(words: str, said: str) -> None:
    note = single_is_enough(planned(words))
    assert note is not None
    assert note.text("en").startswith(said)


def test_a_slow_gpu_that_is_enough_is_not_called_faster_than_a_split_with_a_fast_one() -> None:
    split = planned("T4,RTX-4090")
    slow = replace(
        split,
        devices=(
            split.devices[0],
            replace(split.devices[1], target=replace(split.devices[1].target, held_bytes=20 * GIB)),
        ),
    )
    note = single_is_enough(slow)
    assert note is not None
    assert note.text("en") == "GPU 0 (T4) alone would fit it: in a split, the GPUs work one after another."


# ------------------------------------------------------------------------------------------ maps that are given


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.layers.3": 7}, "places model.layers.3 on 7, which is not one of the devices: 0, 1"),
        ({"model.layers.3": ...}, "no entry for model.layers.3"),
        ({"model.layers.3": ..., "model.layers.3.mlp": 0, "model.layers.3.self_attn": 1}, "splits model.layers.3"),
        ({"lm_head": 1}, "are one tensor"),
    ],
)
def test_a_map_that_cannot_be_is_refused_with_the_module(change: dict[str, Any], sentence: str) -> None:
    targets = of_words("24,24")
    given = {**device_map(TIED, [0] * 14), "model.norm": 0} | change
    if "lm_head" in change:
        given["model.norm"] = 1
    with pytest.raises(DeviceError, match=sentence):
        assignment_of(TIED, {key: value for key, value in given.items() if value is not ...}, targets)


def test_a_name_stands_for_all_below_it_and_the_longest_counts() -> None:
    targets = of_words("24,24")
    assert assignment_of(PROFILE, {"": 1}, targets) == (1,) * 14
    given: dict[str, int | str] = {"model": 0, "model.layers.1": "cuda:1", "lm_head": 1, "model.norm": 1}
    assert assignment_of(PROFILE, given, targets) == (0, 0, 1, *[0] * 10, 1)
    # `model.layers.1` is no prefix of `model.layers.10` and 11.
    assert assignment_of(PROFILE, given, targets)[11:13] == (0, 0)


def test_a_map_in_the_config_is_scored_and_never_changed() -> None:
    placed = device_map(PROFILE, [0, *[1] * 12, 0])
    planner = Planner(source(FACTS), of_words("24,3"))
    plan = planner.plan(with_changes(CONFIG, device_map=placed))
    assert plan.assignment == (0, *[1] * 12, 0)
    assert plan.bottleneck_utilisation > planner.plan(CONFIG).bottleneck_utilisation


def test_a_placement_of_another_length_is_refused() -> None:
    with pytest.raises(DeviceError, match="has 3 parts, but the model has 14"):
        score_plan(Memory(PROFILE, WORKLOAD), of_words("24"), [0, 0, 0])


# ------------------------------------------------------------------------------------------ from the config


def test_auto_precision_is_what_all_cards_compute() -> None:
    assert precision_on("auto", of_words("RTX-4090,A100-40G")) == "bf16"
    assert precision_on("auto", of_words("RTX-4090,T4")) == "fp16"
    assert precision_on("auto", of_words("24")) == "bf16", "a card that nobody knows is taken as a new one"
    assert precision_on("auto", [CPU]) == "fp32"
    assert precision_on("auto", [replace(CPU, computes_bf16=True)]) == "bf16"
    assert precision_on("fp32", of_words("T4")) == "fp32"


@pytest.mark.parametrize(
    ("words", "precision", "said"),
    [
        ("RTX-4090", "bf16", None),
        ("RTX-4090", "fp32", "needs `precision: bf16` or `fp16`"),
        ("RTX-4090,T4", "fp16", "GPU 1 (T4) has no attention without padding"),
        ("24", "bf16", None),
    ],
)
def test_rows_are_padded_on_gpus_that_cannot_do_without_and_the_plan_says_why(
    words: str, precision: str, said: str | None
) -> None:
    planner = Planner(source(FACTS), of_words(words))
    for batching in ("auto", "flat", "packed", "padded"):
        config = with_changes(CONFIG, precision=precision, batching=batching)
        if said is not None and batching in ("flat", "packed"):
            with pytest.raises(UntrainableError, match=re.escape(said)):
                planner.plan(config)
            continue
        plan = planner.plan(config)
        is_padded = said is not None or batching == "padded"
        assert (plan.profile.settings.batching == "padded") is is_padded
        found = [note for note in (note.text("en") for note in notes(plan, config)) if "without padding" in note]
        assert len(found) == (said is not None and batching != "padded")
        assert all(str(said) in note for note in found)
    on_cpu = Planner(source(FACTS), (CPU,)).plan(with_changes(CONFIG, precision="fp32"))
    assert on_cpu.profile.settings.batching == "flat", "the CPU's own way has it in every precision"


def test_a_loss_that_must_have_all_logits_is_said_where_that_was_left_open() -> None:
    plan = Planner(source(FACTS), (CPU,)).plan(CONFIG)
    other = replace(plan, profile=replace(plan.profile, taken=replace(plan.profile.taken, loss_type="nll")))
    sentence = "The logits of all tokens are kept"
    for asked, found, is_said in (("auto", plan, False), ("auto", other, True), ("nll", other, False)):
        said = [note.text("en") for note in notes(found, with_changes(CONFIG, loss_type=asked))]
        assert any(sentence in note for note in said) is is_said


def test_workload_and_options_are_the_configs() -> None:
    config = with_changes(
        CONFIG, batch_size=2, target_batch_size=8, max_length=333, r=5, optim="sgd", force_balance=True, min_memory_gb=3
    )
    workload = workload_of(config, of_words("24"))
    assert workload == Workload(Size(2, 333, 5), "sgd", accumulates=True, on_gpu=True)
    assert not workload_of(with_changes(config, target_batch_size=2), [CPU]).accumulates
    assert not workload_of(config, [CPU]).on_gpu
    assert options_of(config) == Options(force_balance=True, min_memory_gb=3.0)


def test_faster_links_decide_between_equal_plans() -> None:
    def speed(a: int, b: int) -> float:
        return 600.0 if {a, b} == {1, 3} else 32.0

    targets = of_words("1,4,4,4")  # the first is left out, so that positions among the usable ones are other numbers
    without, plan = (make_plan(PROFILE, WORKLOAD, targets, Options(), links) for links in (None, speed))
    assert list(dict.fromkeys(without.assignment)) == [1, 2, 3]
    order = list(dict.fromkeys(plan.assignment))
    assert sorted(order) == [1, 2, 3]
    assert abs(order.index(1) - order.index(3)) == 1
    assert plan.bottleneck_utilisation == without.bottleneck_utilisation
