"""What this machine can do, on the Plan page: every way to train with its figures, and the launch of one."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.config_text import parse_config
from lora_backend.config.drafts import new_draft, open_draft
from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import use_language
from lora_backend.installation import this_installation
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import Target, of_words
from lora_backend.preflight import plan_question
from lora_backend.views.strip_view import cells_of
from pages.parts.plan.strip import part_of, strip
from tests.pages.plan_page import profile_of, show, texts

pytestmark = pytest.mark.usefixtures("model")
SHARED = TrainingConfig(model_name="any", batch_size=2, target_batch_size=8)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> tuple[Target, ...]:
    """This machine has them, as far as the planner is told."""
    targets = of_words("4xRTX-4090")
    monkeypatch.setattr(plan_question, "machine_targets", lambda *_: (targets, None, None))
    return targets


def options(**query: str) -> AppTest:
    at = show(lang="en", **query)
    at.session_state["plan_tabs"] = "Options on this machine"
    at.run()
    assert not at.exception, at.exception
    return at


def test_each_way_says_whether_it_fits_how_full_it_is_how_fast_and_what_it_costs(
    model: Path, four_gpus: tuple[Target, ...]
) -> None:
    at = options(model=str(model), batch_size="2", target_batch_size="8", rows="1000", price="2")
    table = at.table[0].value
    assert list(table.columns) == ["On", "Fits?", "Peak memory", "Tokens/s", "Whole run", "Cost"]
    ddp = next(row for row in table.to_dict("records") if "ddp" in row["On"])
    assert "4 GPUs" in ddp["On"]
    assert "✓" in ddp["Fits?"]
    assert " to " in ddp["Tokens/s"]
    assert "USD" in ddp["Cost"]
    cpu = next(row for row in table.to_dict("records") if "this computer's CPU" in row["On"])
    assert cpu["Tokens/s"] != "–"
    assert "With `strategy: auto`, a run uses: ddp on 4 GPUs" in texts(at).replace("\\", "")


def test_a_launch_shows_what_it_changes_then_sets_the_draft_and_asks_for_its_launch_once(
    model: Path, four_gpus: tuple[Target, ...]
) -> None:
    text = f"# mine\nmodel_name: {model}\nbatch_size: 2\ntarget_batch_size: 8\nuse_balanced_device_map: true\n"
    draft = new_draft(this_installation().drafts, text)
    at = options(draft=draft.id)
    at.button(key="launch-fsdp").click().run()
    (said,) = [line for line in texts(at).splitlines() if line.startswith("Changes of the config")]
    wanted = 'Changes of the config: Set `strategy: "fsdp"`, `num_processes: 4`; remove `use_balanced_device_map`'
    assert said.replace("\\", "") == wanted
    assert open_draft(this_installation().drafts, draft.id).text() == text, "nothing is changed by looking"
    at.button(key="launch_way").click().run()
    assert not at.exception, at.exception
    kept = open_draft(this_installation().drafts, draft.id).text()
    assert kept.startswith("# mine")
    values = parse_config(kept).values
    assert (values["strategy"], values["num_processes"]) == ("fsdp", 4)
    assert "use_balanced_device_map" not in values
    assert "config_launch_asked" not in at.session_state, "the draft's page has taken it"
    assert "**Choose your data**" in texts(at), "it says what keeps it from starting"


def test_a_launch_can_be_called_off(model: Path, four_gpus: tuple[Target, ...]) -> None:
    at = options(model=str(model), batch_size="2", target_batch_size="8")
    at.button(key="launch-ddp").click().run()
    at.button(key="launch_cancel").click().run()
    assert "launch_way" not in [button.key for button in at.button]
    assert not this_installation().drafts.exists()


@pytest.mark.parametrize(("strategy", "parts"), [
    ("ddp", ["whole model"] * 4),
    ("fsdp", ["shard 1 of 4", "shard 2 of 4", "shard 3 of 4", "shard 4 of 4"]),
])  # fmt: skip
def test_the_strip_says_what_each_device_has_of_the_model_and_its_cells_add_up(strategy: str, parts: list[str]) -> None:
    config = with_changes(SHARED, strategy=strategy)
    plan = Planner(lambda asked: profile_of(asked), of_words("4xRTX-4090")).plan(config)
    with use_language("en"):
        assert [part_of(plan, device) for device in plan.devices] == parts
        above = " ".join(note.text for note in strip(plan, (), "light").layout.annotations)
    assert all(part in above for part in parts)
    memory = Memory(plan.profile, plan.workload)
    for device in plan.devices:
        cells = cells_of(plan, device, memory)
        assert sum(cell.size_bytes for cell in cells) == pytest.approx(device.breakdown.total)
        assert [cell.size_bytes for cell in cells if cell.kind == "gathered"] == (
            [device.gathered_bytes] if strategy == "fsdp" else []
        )


def test_weights_in_host_memory_have_a_bar_of_their_own(model: Path) -> None:
    host = Target("cpu", "CPU", 64 * 2**30)
    planner = Planner(lambda asked: profile_of(asked), of_words("4xRTX-4090"), host=host)
    plan = planner.plan(with_changes(SHARED, strategy="fsdp", fsdp_offload_params=True))
    with use_language("en"):
        assert part_of(plan, plan.devices[-1]) == "weights in host memory"
    (cell,) = cells_of(plan, plan.devices[-1], Memory(plan.profile, plan.workload))
    assert cell.size_bytes == plan.devices[-1].breakdown.total


def test_blocks_cannot_be_moved_where_every_device_computes_all_of_them(
    model: Path, four_gpus: tuple[Target, ...]
) -> None:
    at = show(model=str(model), strategy="ddp", batch_size="2", target_batch_size="8", lang="en")
    assert "plan-move" not in [button.key for button in at.button]
    assert "The whole model on each of 4 devices" in texts(at)
