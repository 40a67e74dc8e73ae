"""The list of adapters: where each comes from, what its base model is called, what is passed over, and how fast it is made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lora_backend.installation import this_installation
from lora_backend.models.adapters_here import AdapterHere, adapters_here, at_most, short_name
from lora_backend.runs.record.run_store import RunStore
from tests.adapter_files import write_adapter
from tests.run_files import end_run, make_run
from tests.tiny import make_published

pytestmark = pytest.mark.usefixtures("workspace")


def run_with(
    name: str | None = None, steps: tuple[int, ...] = (), finished: bool = True, run_id: str | None = None
) -> RunStore:
    root = this_installation().runs
    path = None if run_id is None else root / run_id
    run = make_run(root, path=path, config={"model_name": "org/tiny"}, config_text="", argv=None, name=name)
    for step in steps:
        write_adapter(run.checkpoints / f"checkpoint-{step}" / "adapter")
        (run.checkpoints / f"checkpoint-{step}" / "manifest.json").write_text("{}")
    if finished:
        write_adapter(run.adapter)
        end_run(run, "finished")
    return run


def listed() -> list[AdapterHere]:
    return adapters_here(this_installation())


def labels() -> list[str]:
    return [one.label.text("en") for one in listed()]


def test_runs_come_first_with_their_checkpoints_then_uploaded_published_cached_and_others(tmp_path: Path) -> None:
    places = this_installation()
    older = run_with("older", run_id="20260101-000000-aaaa")
    newer = run_with(None, (20, 100, 3), run_id="20260102-000000-bbbb")
    write_adapter(places.uploaded_adapters / "shop-1234", base_model_name_or_path="/models/Llama-3")
    make_published(places.workspace / "adapters/pkg/1.0.0/kb")
    snapshot = write_adapter(tmp_path / "hub/models--team--lora/snapshots/abcdef0123")
    write_adapter(tmp_path / "hub/old/mine")
    assert labels() == [
        f"tiny · {newer.id}", f"tiny · {newer.id} · step 100", f"tiny · {newer.id} · step 20", f"tiny · {newer.id} · step 3",
        f"older · {older.id}", "shop-1234 · uploaded", "adapters/pkg/1.0.0/kb · published", "team/lora · hub cache", "hub/old/mine",
    ]  # fmt: skip
    found = {one.address: one for one in listed()}
    assert list(found)[:5] == [
        f"run:{newer.id}",
        *(f"run:{newer.id}/{step}" for step in (100, 20, 3)),
        f"run:{older.id}",
    ]
    assert found[str(snapshot)].base_name == "tiny"
    assert {one.base_name for one in found.values() if one.origin == "uploaded"} == {"Llama-3"}
    assert all((one.folder / "adapter_config.json").is_file() for one in found.values())


def test_what_is_not_whole_and_what_is_a_link_is_passed_over(tmp_path: Path) -> None:
    run = run_with("good", (1, 2, 3, 4), run_id="20260102-000000-bbbb")
    (run.checkpoints / "checkpoint-1/manifest.json").unlink()
    shutil.rmtree(run.checkpoints / "checkpoint-2/adapter")
    shutil.rmtree(run.checkpoints / "checkpoint-3")
    elsewhere = write_adapter(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (run.checkpoints / "checkpoint-3").symlink_to(elsewhere.parent)
    (run.checkpoints / "notes").mkdir()
    linked = run_with("linked", finished=False)
    linked.adapter.symlink_to(elsewhere)
    other = run_with("other", finished=False)
    other.adapter.mkdir()
    (other.adapter / "adapter_config.json").symlink_to(elsewhere / "adapter_config.json")
    (this_installation().runs / "a link").symlink_to(elsewhere)
    (tmp_path / "linked").symlink_to(elsewhere)
    cached = tmp_path / "models--a--b/snapshots/1"
    cached.mkdir(parents=True)
    (cached / "adapter_config.json").symlink_to(elsewhere / "adapter_config.json")
    assert labels() == [f"good · {run.id}", f"good · {run.id} · step 4"]
    shutil.rmtree(elsewhere)


def test_a_config_that_cannot_be_read_still_lists_its_adapter(tmp_path: Path) -> None:
    for name, text in {"a": "{", "b": "[]", "c": '{"base_model_name_or_path": 5}'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(text)
    run = run_with()
    run.run_json.write_text('{"config": 5, "name": ["x"]}')
    assert [one.base_model for one in listed()] == [None] * 4


def test_an_adapter_that_an_export_made_is_listed_with_its_job() -> None:
    root = this_installation().runs
    job = make_run(
        root, config={"adapter": "x", "to": "adapter"}, config_text="", argv=None, kind="export", name="rank 4"
    )
    write_adapter(job.output)
    write_adapter(job.output / "adapter")
    assert labels() == [f"rank 4 · {job.id} · exported"] * 2
    assert {one.base_name for one in listed()} == {"tiny"}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("org/SmolLM2", "SmolLM2"), ("/a/b/SmolLM2/", "SmolLM2"), ("SmolLM2", "SmolLM2"), ("C:\\models\\SmolLM2", "SmolLM2"),
        ("/cache/models--org--SmolLM2/snapshots/0123abc", "SmolLM2"), ("", ""),
    ],
)  # fmt: skip
def test_a_base_model_is_called_by_its_name_alone(model: str, name: str) -> None:
    assert short_name(model) == name


def test_an_adapter_may_belong_to_a_model_of_its_base_models_name() -> None:
    one = AdapterHere(Path("/a"), "found", "a", "Org/Tiny")
    assert one.may_belong_to("/here/tiny")
    assert not one.may_belong_to("Org/Tiny-2")
    assert AdapterHere(Path("/a"), "found", "a", None).may_belong_to("anything")


def test_a_long_list_leaves_out_checkpoints_of_the_oldest_runs() -> None:
    def one(run: str, step: int | None = None) -> AdapterHere:
        return AdapterHere(Path(f"/{run}/{step}"), "run" if step is None else "checkpoint", run, None, run, step)

    every = [one("b"), one("b", 2), one("b", 1), one("a"), one("a", 2), one("a", 1)]
    assert at_most(every, 9) == every
    assert at_most(every, 4) == [every[0], every[1], every[2], every[3]]
    assert at_most(every, 1) == [every[0]]


def test_no_weights_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may be gigabytes, on a slow disk, and the list is made at every look."""
    run = run_with("good", (1,))
    for weights in run.path.rglob("*.safetensors"):
        weights.chmod(0)
        weights.unlink()
        weights.mkdir()  # whoever opens it fails
    assert len(listed()) == 2
    assert json.loads((run.adapter / "adapter_config.json").read_text())["r"] == 4
