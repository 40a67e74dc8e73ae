"""How the GPUs of a start share the work: through the real driver interface over simulated ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import this_installation
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.planning.targets import GIB, Target
from lora_backend.preflight import placement
from lora_backend.preflight.path_policy import AnyPath
from lora_backend.preflight.placement import StartPlan, plan_start
from lora_backend.preflight.resolve import resolve
from lora_backend.preflight.startable import judge, startable
from tests.hardware.nvml import result_of, stub_environment
from tests.planning.formula_profiles import formula_profile
from tests.preflight.small_model import FACTS
from tests.resolving import from_here

CARD = "gpu name=NVIDIA GeForce RTX 4090, uuid={uuid}, gib={gib}, cc=8.9, used_gib={used}"
IMPORTS = """
from pathlib import Path
from lora_backend.errors import FlightdeckError
from lora_backend.installation import this_installation
from lora_backend.planning.cost.trace_settings import TraceSettings
from lora_backend.preflight.placement import plan_start
from lora_backend.preflight.start_plan import plan_attempt
from lora_backend.preflight.startable import judge, startable
from lora_backend.runs.processes.leases import lease_keys, take
from lora_backend.runs.processes.waiting import leases_folder
from tests.planning.formula_profiles import formula_profile
from tests.resolving import from_here

def profile_for(facts, config):  # without torch
    return formula_profile(facts, config, TraceSettings.of(config, config.precision, tile_tokens=0))

def said(call):
    try:
        return call()
    except FlightdeckError as error:
        return str(error)

def attempts(each, held=(), **more):
    installation = this_installation()
    taken = take(leases_folder(installation.workspace), held, Path("another"))
    def one(values):
        found = plan_attempt(from_here(values), profile_for, accepts="over", **more)
        return {**found.to_json(), "leases": lease_keys(found)}
    return [said(lambda: one(values)) for values in each]

def blockers(each):
    judged = [judge(from_here(values)) for values in each]
    return [[(found.code, found.key, found.message.text("en"), [dict(fix.changes.to_json()) for fix in found.fixes])
             for found in startable(one, profile_for).blockers] for one in judged]
"""


def machine(tmp_path: Path, cards: str) -> dict[str, str]:
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    places = {"FLIGHTDECK_WORKSPACE": str(tmp_path / "ws"), "FLIGHTDECK_HOME": str(tmp_path / "home")}
    return stub_environment(tmp_path, cards) | places


def four(gib: float = 24, used: float = 0) -> str:
    return "\n".join(CARD.format(uuid=f"GPU-{letter}", gib=gib, used=used) for letter in "abcd")


def asked(folder: Path, **keys: Any) -> dict[str, Any]:
    """A step of four micro-batches, where nothing else is said."""
    return {
        "model_name": str(folder / "config.json"),
        "batch_size": 1,
        "max_length": 512,
        "target_batch_size": 4,
        **keys,
    }


def shown(attempt: dict[str, Any]) -> str:
    return str(attempt["environment"]["CUDA_VISIBLE_DEVICES"])


ALL = ["GPU-a", "GPU-b", "GPU-c", "GPU-d"]


def test_auto_takes_every_gpu_that_a_step_has_a_micro_batch_for_and_says_why(tmp_path: Path) -> None:
    each = [asked(tmp_path), asked(tmp_path, target_batch_size=2), asked(tmp_path, target_batch_size=1)]
    whole, two, one = result_of(f"attempts({each!r})", machine(tmp_path, four()), IMPORTS)
    assert (whole["strategy"], whole["num_processes"], whole["num_nodes"]) == ("ddp", 4, 1)
    assert whole["device_uuids"] == ALL == shown(whole).split(",") == list(whole["leases"])
    assert "ddp on" in json.dumps(whole["strategy_note"])
    assert (whole["plan"]["strategy"], len(whole["plan"]["devices"])) == ("ddp", 4)
    assert (two["strategy"], two["num_processes"], shown(two)) == ("ddp", 2, "GPU-a,GPU-b")
    assert (one["strategy"], one["num_processes"], shown(one)) == ("single", 1, "GPU-a")
    assert one["strategy_note"] is None, "with one micro-batch all is as it ever was"


def test_what_the_config_names_is_what_it_gets(tmp_path: Path) -> None:
    each = [
        asked(tmp_path, strategy="single"),
        asked(tmp_path, strategy="layer_split"),
        asked(tmp_path, strategy="ddp", num_processes=3),
        asked(tmp_path, strategy="fsdp"),
        asked(tmp_path, num_processes=2),
        asked(tmp_path, num_processes=1),
        asked(tmp_path, use_balanced_device_map=True),
        asked(tmp_path, device_map={"": 1}),
        asked(tmp_path, device_map="auto"),
    ]
    found = result_of(f"attempts({each!r})", machine(tmp_path, four()), IMPORTS)
    assert [(one["strategy"], one["num_processes"], len(one["device_uuids"])) for one in found] == [
        ("single", 1, 1), ("layer_split", 1, 2), ("ddp", 3, 3), ("fsdp", 4, 4), ("ddp", 2, 2), ("single", 1, 1),
        ("layer_split", 1, 2), ("single", 1, 1), (None, 1, 0),
    ]  # fmt: skip
    assert not [one["strategy_note"] for one in (*found[:4], *found[6:]) if one["strategy_note"]]
    split = found[1]
    assert set(split["plan"]["device_map"].values()) == {0, 1}
    assert found[3]["plan"]["device_map"] is None


def test_gpus_that_a_run_holds_are_left_to_it_where_others_are_free(tmp_path: Path) -> None:
    each = [
        asked(tmp_path),
        asked(tmp_path, strategy="ddp"),
        asked(tmp_path, strategy="single"),
        asked(tmp_path, strategy="ddp", num_processes=4),
    ]
    environment = machine(tmp_path, four())
    auto, ddp, single, whole = result_of(f"attempts({each!r}, held=['GPU-a', 'GPU-c'])", environment, IMPORTS)
    assert (shown(auto), shown(ddp), shown(single)) == ("GPU-b,GPU-d", "GPU-b,GPU-d", "GPU-b")
    assert shown(whole).split(",") == ALL, "it waits for those that it needs"
    (last,) = result_of(f"attempts({each[:1]!r}, held=['GPU-a', 'GPU-b', 'GPU-c'])", environment, IMPORTS)
    assert (last["strategy"], shown(last)) == ("single", "GPU-d")
    assert "other runs are using the rest" in json.dumps(last["strategy_note"])


def test_a_full_first_gpu_or_one_that_is_too_small_is_gone_around(tmp_path: Path) -> None:
    cards = CARD.format(uuid="GPU-a", gib=24, used=23.5) + "\n" + CARD.format(uuid="GPU-b", gib=24, used=0)
    (elsewhere,) = result_of(f"attempts({[asked(tmp_path, target_batch_size=1)]!r})", machine(tmp_path, cards), IMPORTS)
    assert (elsewhere["strategy"], shown(elsewhere)) == ("single", "GPU-b")
    large = asked(tmp_path, batch_size=16, target_batch_size=16, max_length=2048)
    (split,) = result_of(f"attempts({[large]!r})", machine(tmp_path, four(gib=12)), IMPORTS)
    assert split["strategy"] == "layer_split"
    assert split["plan"]["fits"]
    assert "one GPU alone does not hold it" in json.dumps(split["strategy_note"])


def test_a_run_on_chosen_gpus_has_a_process_for_each_in_their_order(tmp_path: Path) -> None:
    each = [asked(tmp_path), asked(tmp_path, strategy="ddp", num_processes=3)]
    auto, three = result_of(f"attempts({each!r}, only=['GPU-d', 'GPU-b'])", machine(tmp_path, four()), IMPORTS)
    assert (auto["strategy"], auto["num_processes"], shown(auto)) == ("ddp", 2, "GPU-d,GPU-b")
    assert "`num_processes: 3` needs as many GPUs" in three


def test_each_of_several_machines_plans_its_own_gpus(tmp_path: Path) -> None:
    each = [asked(tmp_path, num_nodes=2, target_batch_size=8), asked(tmp_path, strategy="ddp", num_nodes=2)]
    auto, ddp = result_of(f"attempts({each!r})", machine(tmp_path, four()), IMPORTS)
    assert (auto["strategy"], auto["num_processes"], auto["num_nodes"]) == ("ddp", 4, 2)
    assert (ddp["num_processes"], ddp["num_nodes"], len(ddp["device_uuids"])) == (2, 2, 2)


def test_what_cannot_be_started_in_several_processes_is_a_blocker_with_a_fix(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("")
    each = [asked(tmp_path, strategy="ddp", num_processes=8, target_batch_size=8)]
    (found,) = result_of(f"blockers({each!r})", machine(tmp_path, four()), IMPORTS)
    more = [one for one in found if one[1] == "num_processes"]
    assert more == [(
        "more_processes_than_gpus", "num_processes",
        "`num_processes` is 8, but only 4 GPUs are visible; each process needs one.",
        [{"num_processes": 4}, {"num_processes": None}],
    )]  # fmt: skip
    (one,) = result_of(
        f"blockers({[asked(tmp_path, strategy='ddp')]!r})",
        machine(tmp_path, CARD.format(uuid="GPU-a", gib=24, used=0)),
        IMPORTS,
    )
    assert ("too_few_gpus", "strategy") in [(code, key) for code, key, *_ in one]


def test_a_process_that_runs_already_takes_one_way_of_one_process_and_refuses_several(tmp_path: Path) -> None:
    expression = (
        "[said(lambda: plan_start(from_here(values), profile_for, seen=lambda targets: targets).attempt.to_json())"
        f" for values in {[asked(tmp_path), asked(tmp_path, strategy='ddp')]!r}]"
    )
    auto, ddp = result_of(expression, machine(tmp_path, four()), IMPORTS)
    assert (auto["strategy"], auto["num_processes"]) == ("single", 1)
    assert "trains by itself" in ddp
    assert "`strategy: ddp`" in ddp


def profile_for(facts: Any, config: Any) -> Any:
    return formula_profile(facts, config, TraceSettings.of(config, config.precision, tile_tokens=0))


@pytest.fixture
def on_cpu(tmp_path: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    host = (Target("cpu", "CPU", 64 * GIB),)
    monkeypatch.setattr(placement, "machine_targets", lambda *_: (host, None, None))
    return lambda **keys: plan_start(from_here(asked(tmp_path, **keys)), profile_for)


def test_on_a_cpu_there_are_several_processes_only_where_they_are_asked_for(on_cpu: Any) -> None:
    def settled(start: StartPlan) -> tuple[str | None, int, list[str | None]]:
        attempt = start.attempt
        return attempt.strategy, attempt.num_processes, attempt.device_uuids

    assert settled(on_cpu()) == ("cpu", 1, [None])
    assert settled(on_cpu(num_processes=2)) == ("ddp", 2, [None])
    assert settled(on_cpu(strategy="fsdp", num_processes=2)) == ("fsdp", 2, [None])
    assert settled(on_cpu(strategy="single")) == ("cpu", 1, [None])
    with pytest.raises(ValueError, match="on a CPU needs `num_processes`"):
        on_cpu(strategy="ddp")


def test_a_callers_batches_are_refused_for_several_processes(tmp_path: Path, workspace: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(FACTS))
    for keys, key in (({"strategy": "ddp"}, "strategy"), ({"num_processes": 2}, "num_processes")):
        resolved = resolve(asked(tmp_path, **keys), this_installation(), AnyPath(tmp_path))
        found = [one for one in judge(resolved, needs_data=False).blockers if one.code == "batches_of_a_caller"]
        assert [one.key for one in found] == [key]
        assert "Batches from a DataLoader are in one process" in found[0].message.text("en")
        assert not [one for one in judge(resolved).blockers if one.code == "batches_of_a_caller"]
    plain = resolve(asked(tmp_path), this_installation(), AnyPath(tmp_path))
    assert not [one for one in judge(plain, needs_data=False).blockers if one.code == "batches_of_a_caller"]
    assert startable(judge(plain)).answer is False, "it has no data, and says so"
