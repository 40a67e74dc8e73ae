"""Replaced adapters in the bin: listed, put back, emptied; what was planted there leads nowhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lora_backend.errors import FlightdeckError, RunError
from lora_backend.runs.checkpoints.publication import PublicationError
from lora_backend.runs.history.replaced_adapters import ADAPTER, ENTRY, AdapterBin
from lora_backend.runs.history.trash import Bin
from tests.tiny import make_published
from tests.world import HOSTILE, NAMES, RUN, World, make_world

PLACE = {"output_dir": "adapters", "pkg": "shop", "version": "2"}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


def binned(world: World, place: Any = PLACE, **facts: Any) -> str:
    """The id of an entry in the bin whose file says `place`."""
    entry = world.root / "ws/bin/.adapters/20260101-120000-0123abcd"
    make_published(entry / ADAPTER, "old")
    (entry / ENTRY).write_text(
        json.dumps({"place": place, "deleted_at": 5.0, "actor": "a", "replaced_by": "r"} | facts)
    )
    return entry.name


def test_an_adapter_is_listed_put_back_and_gone_from_the_bin(world: World) -> None:
    place, before = AdapterBin(world.installation), world.snapshot()
    entry = binned(world)
    (found,) = place.list()
    assert (found.id, found.title, found.actor, found.replaced_by) == (entry, "adapters/shop/2", "a", "r")
    assert Bin(world.installation.workspace).list()[0].id == "20260101-110000-cd34", "beside the runs, not among them"
    target = place.restore(entry)
    assert target == world.root / "ws/adapters/shop/2"
    assert (target / "adapter_model.safetensors").read_text() == "old"
    assert (world.lost(before), place.list()) == ([], [])
    with pytest.raises(RunError, match="There is no adapter"):
        place.restore(entry)


def test_what_stands_in_its_place_stays_and_so_does_the_entry(world: World) -> None:
    place, entry, before = AdapterBin(world.installation), binned(world, NAMES), world.snapshot()
    with pytest.raises(RunError, match=r"adapters/shop/1 exists again"):
        place.restore(entry)
    assert world.snapshot() == before


@pytest.mark.parametrize("key", ["output_dir", "pkg", "version", "knowledge_type"])
def test_an_entry_that_was_tampered_with_leads_nowhere_else(key: str, world: World) -> None:
    place, before = AdapterBin(world.installation), world.snapshot()
    for value in HOSTILE:
        entry = binned(world, PLACE | {key: world.of(value)})
        try:
            target = place.restore(entry)
        except FlightdeckError:
            assert place.list()
        else:
            assert target.is_relative_to(world.root / "ws")
        new = [path for path in world.escaped(before) if not path.startswith("ws/bin")]
        assert (world.lost(before), new) == ([], []), value


@pytest.mark.parametrize("place", [None, 7, [], "adapters", {}, {"pkg": ["a"], "version": 1}, {"pkg": "../x", "version": "y"}])  # fmt: skip
def test_an_entry_that_says_no_place_is_kept_and_says_where_it_is(place: Any, world: World) -> None:
    entry = binned(world, place)
    with pytest.raises(RunError, match="does not say where"):
        AdapterBin(world.installation).restore(entry)
    assert AdapterBin(world.installation).list()


@pytest.mark.parametrize("deleted_at", [None, "x", -1, float("nan"), float("inf"), 10**400, True, []])
def test_a_moment_that_is_none_does_not_hide_what_is_in_the_bin(deleted_at: Any, world: World) -> None:
    binned(world, deleted_at=deleted_at)
    (world.root / "ws/bin/20260101-110000-cd34.json").write_text(json.dumps({"deleted_at": deleted_at}))
    assert len(AdapterBin(world.installation).list()) == len(Bin(world.installation.workspace).list()) == 1


def test_emptying_deletes_what_is_in_the_bin_and_nothing_behind_a_link(world: World) -> None:
    ws, thesis = world.root / "ws", world.root / "home/Documents/thesis"
    binned(world)
    before = world.snapshot()
    make_published(thesis)
    make_published(thesis.parent / "adapter")
    (thesis.parent / "entry.json").write_text("{}")
    (ws / "bin/.adapters/20260101-120000-ffffffff").symlink_to(thesis.parent)
    (ws / "bin/.adapters/.emptied-x").symlink_to(thesis)
    (ws / "bin/.emptied-y").symlink_to(thesis)
    (ws / "bin/run-z").symlink_to(ws / "runs" / RUN)
    assert AdapterBin(world.installation).empty() == 1
    assert Bin(world.installation.workspace).empty() == 2
    assert [path for path in world.lost(before) if not path.startswith("ws/bin/")] == []
    assert (thesis / "adapter_config.json").exists()
    assert sorted(path.name for path in (ws / "bin").iterdir()) == [".adapters", "shop"]


def test_a_bin_that_is_a_link_is_said_and_not_emptied(world: World) -> None:
    bin_folder = world.root / "ws/bin"
    bin_folder.rename(world.root / "home/bin")
    bin_folder.symlink_to(world.root / "home/bin")
    for make in (lambda: AdapterBin(world.installation), lambda: Bin(world.installation.workspace)):
        with pytest.raises(RunError, match=r"The trash folder .* is a link"):
            make()


def test_of_what_was_published_outside_the_output_roots_only_a_person_may_put_it_back(world: World) -> None:
    entry = binned(world, PLACE | {"output_dir": str(world.root / "elsewhere")})
    with pytest.raises(PublicationError, match="`output_dir` must be below"):
        AdapterBin(world.installation).restore(entry)
    assert AdapterBin(world.installation).list()[0].path.is_dir()
