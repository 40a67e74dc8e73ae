"""Nothing outside the workspace is written or deleted, and nothing in it is lost, whatever a key names and wherever it comes from.

Every hostile value of every key that names a path goes through every way in: the page's check and launch, a table of
runs, the import of another tool's config, a resume with changes, a run's folder that was copied here. What passes is
published for real; then every file that was there before is compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lora_backend.atomic import write_json
from lora_backend.config.config_text import parse_config
from lora_backend.config.config_writing import dump_yaml
from lora_backend.config.drafts import delete_draft, open_draft, restore_draft
from lora_backend.config.foreign.import_file import import_text
from lora_backend.errors import ConfigError, FlightdeckError
from lora_backend.launching.resume import prepare_resume
from lora_backend.launching.table import preview
from lora_backend.launching.table_rows import Row
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.runs.history.publisher import Publisher
from lora_backend.runs.history.replaced_adapters import AdapterBin
from lora_backend.runs.history.trash import Bin
from lora_backend.runs.record.run_store import RunStore, open_run
from tests.resolving import bound, from_browser, launch_from_browser
from tests.run_files import add_start, make_run
from tests.tiny import make_published
from tests.world import HOSTILE, NAMES, RUN, World, make_world

KEYS = ("output_dir", "pkg", "version", "knowledge_type")
READ = ("model_name", "init_from_adapter", "dataset", "questions")
"""Keys of files that a config reads: nothing is published for them, and nothing may be written for them either."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


def config(world: World, **changes: Any) -> dict[str, Any]:
    model = {"model_name": str(world.root / "models/m"), "dataset": str(world.root / "ws/data/chats.jsonl")}
    return model | NAMES | {"overwrite": True} | changes


def no_trace(*_: object) -> Profile:
    raise AssertionError("a launch that must be refused was planned")


Way = Callable[[World, str, str], Iterator[Mapping[str, Any]]]
"""Yields the values by which a run would publish; nothing where the way in refuses them."""


def page(world: World, key: str, value: str) -> Iterator[Mapping[str, Any]]:
    text = json.dumps(config(world, **{key: value}))
    if from_browser(parse_config(text, "json"), world.installation).result.is_valid:
        yield bound(json.loads(text), world.installation)
    else:
        with pytest.raises(FlightdeckError):
            launch_from_browser(text, world.installation, no_trace)


def table(world: World, key: str, value: str) -> Iterator[Mapping[str, Any]]:
    try:
        variants = preview(
            dump_yaml(config(world)), [Row(2, {key: value})], world.installation, BrowserRoots(world.installation)
        )
    except ConfigError:
        return
    yield from (variant.values for variant in variants if variant.can_start())


def foreign(world: World, key: str, value: str) -> Iterator[Mapping[str, Any]]:
    """An axolotl config names `output_dir`; the names are then given on the page."""
    source = {"base_model": "m", "adapter": "lora", "output_dir": value if key == "output_dir" else "adapters", "datasets": []}  # fmt: skip
    values = config(world) | import_text(json.dumps(source), "axolotl.json").values
    values |= {"model_name": config(world)["model_name"]} | ({key: value} if key != "output_dir" else {})
    if from_browser(parse_config(json.dumps(values), "json"), world.installation).result.is_valid:
        yield bound(values, world.installation)


def resume(world: World, key: str, value: str) -> Iterator[Mapping[str, Any]]:
    run = RunStore(world.root / "ws/runs" / RUN)
    try:
        changes = bound({key: value}, world.installation)
        prepare_resume(run, world.installation, BrowserRoots(world.installation), changes)
    except FlightdeckError:
        return
    yield config(world) | changes


def copied(world: World, key: str, value: str) -> Iterator[Mapping[str, Any]]:
    """Nobody has checked what its files say: only the trainer's own judgement is between it and the disk."""
    yield config(world, **{key: value})


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("way", [page, table, foreign, resume, copied])
def test_no_value_of_a_key_that_says_where_publishes_or_deletes_elsewhere(way: Way, key: str, world: World) -> None:
    run = make_run(world.root / "ws/runs", config=config(world), config_text="", argv=None)
    make_published(run.adapter, "new")
    ended(world)
    before, published = world.snapshot(), 0
    for value in HOSTILE:
        for values in way(world, key, world.of(value)):
            Publisher(run, world.installation, values, bound=True).publish_or_say_why()
            published += 1
    # What stood in the one place that was ours to replace is in the bin, whole.
    lost = lost_files(world, before)
    assert {str(Path(path).parent) for path in lost} <= {"ws/adapters/shop/1"}
    kept = [path.read_text() for path in (world.root / "ws/bin/.adapters").glob("*/adapter/adapter_model.safetensors")]
    assert not lost or "published" in kept
    assert [path for path in world.escaped(before) if not path.startswith(f"ws/runs/{run.id}/")] == []
    # A way in that refused everything would prove nothing; a third name leads into the adapter that stands there.
    assert published or key == "knowledge_type"
    assert way is not copied or published == len(HOSTILE)


@pytest.mark.parametrize("key", READ)
@pytest.mark.parametrize("way", [page, table, foreign, resume])
def test_no_value_of_a_key_that_is_read_writes_anything(way: Way, key: str, world: World) -> None:
    ended(world)
    before = world.snapshot()
    for value in HOSTILE:
        list(way(world, key, world.of(value)))
    assert (lost_files(world, before), world.escaped(before)) == ([], [])


def ended(world: World) -> RunStore:
    """A run that can be resumed with changes."""
    run = RunStore(world.root / "ws/runs" / RUN)
    write_json(run.run_json, {"config": config(world), "argv": ["true"]})
    return run


def lost_files(world: World, before: dict[str, str | bytes]) -> list[str]:
    return [path for path in world.lost(before) if not path.endswith(("/status.json", "/status.lock"))]


def test_no_id_from_an_address_opens_moves_or_deletes_anything(world: World) -> None:
    before, drafts, installation = world.snapshot(), world.installation.drafts, world.installation
    acts: list[Callable[[str], object]] = [
        lambda text: open_run(installation.runs, text),
        lambda text: open_draft(drafts, text),
        lambda text: delete_draft(drafts, text),
        lambda text: restore_draft(drafts, text),
        lambda text: Bin(installation.workspace).restore(text),
        lambda text: AdapterBin(installation).restore(text),
    ]
    for value in HOSTILE:
        for act in acts:
            with pytest.raises(FlightdeckError):
                act(world.of(value))
    assert world.snapshot() == before


def test_a_copied_run_goes_by_the_changes_of_its_attempts_too(world: World) -> None:
    run = make_run(world.root / "ws/runs", config=config(world), config_text="", argv=None)
    make_published(run.adapter, "new")
    before = world.snapshot()
    for value in HOSTILE:
        add_start(run, changes={"output_dir": world.of(value), "overwrite": True})
        Publisher(run, world.installation, run.config_as_changed(), bound=True).publish_or_say_why()
    assert [path for path in world.escaped(before) if not path.startswith(f"ws/runs/{run.id}/")] == []
