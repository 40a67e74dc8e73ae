"""Where an adapter may be published: nothing that is not ours is ever replaced, written into or left through a link."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lora_backend.installation import this_installation
from lora_backend.runs.checkpoints.publication import (
    PublicationError,
    _Way,
    is_published_adapter,
    place_of,
    publication_of,
    refuse_what_stands,
)
from tests.tiny import make_published
from tests.world import HOSTILE, NAMES, RUN, World, make_world


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return make_world(tmp_path, monkeypatch)


def key_of(values: dict[str, Any], world: World, *, bound: bool = True) -> str | None:
    """The key that is refused; None where the place is good."""
    found = place_or_key(values, world, bound=bound)
    return None if isinstance(found, Path) else found


def place_or_key(values: dict[str, Any], world: World, *, bound: bool) -> Path | str | None:
    try:
        found = publication_of({key: world.of(value) for key, value in values.items()}, world.installation, bound=bound)
    except PublicationError as error:
        return error.key
    return found.path if found else None


def test_there_are_enough_hostile_values() -> None:
    assert len(set(HOSTILE)) >= 60


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"output_dir": "~"}, "output_dir"),
        ({"output_dir": "~/.ssh"}, "output_dir"),
        ({"output_dir": "~root/x"}, "output_dir"),
        ({"output_dir": "~no-such-user"}, "output_dir"),
        ({"output_dir": ".."}, "output_dir"),
        ({"output_dir": "out"}, "output_dir"),
        ({"output_dir": "runs"}, "output_dir"),
        ({"output_dir": "adapters/to-runs"}, "output_dir"),
        ({"output_dir": "RUNS"}, "output_dir"),
        ({"output_dir": "model"}, "output_dir"),
        ({"output_dir": "adapters/shop/1"}, "output_dir"),
        ({"output_dir": "adapters/file.txt"}, "output_dir"),
        ({"output_dir": ".", "pkg": "runs", "version": RUN}, "pkg"),
        ({"output_dir": ".", "pkg": "drafts"}, "pkg"),
        ({"output_dir": ".", "pkg": "bin"}, "pkg"),
        ({"output_dir": ".", "pkg": "queue"}, "pkg"),
        ({"output_dir": ".", "pkg": "leases"}, "pkg"),
        ({"output_dir": ".", "pkg": "data"}, "pkg"),
        ({"output_dir": ".", "pkg": "model"}, "pkg"),
        ({"pkg": "linked"}, "pkg"),
        ({"pkg": "dangling"}, "pkg"),
        ({"pkg": "file.txt"}, "pkg"),
        ({"version": "linked"}, "version"),
        ({"version": "to-run"}, "version"),
        ({"knowledge_type": "faq"}, "version"),
        ({"pkg": "é" * 100, "version": "2"}, None),
        ({"pkg": "字" * 100}, "pkg"),
        ({"output_dir": "."}, None),
        ({"output_dir": "a/../fine"}, None),
        ({"output_dir": "./~"}, "output_dir"),
        ({"output_dir": "a/" * 200}, "output_dir"),
        ({"version": "2"}, None),
        ({}, None),
    ],
)
def test_the_key_that_leads_where_no_adapter_may_be_is_named(
    values: dict[str, str], key: str | None, world: World
) -> None:
    assert key_of(NAMES | values, world) == key


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"output_dir": "{tmp}", "pkg": "ws", "version": "runs"}, "version"),
        ({"output_dir": "{tmp}/..", "pkg": "{tmp}", "version": "ws"}, "version"),
        ({"output_dir": "{tmp}/..", "pkg": "{tmp}", "version": "home"}, "version"),
        ({"output_dir": "{tmp}/..", "pkg": "{tmp}", "version": "models"}, "version"),
        ({"output_dir": "{tmp}/models/m"}, "output_dir"),
        ({"output_dir": "{tmp}/cache"}, "output_dir"),
        ({"output_dir": "{tmp}/models"}, None),
        ({"output_dir": "~/adapters"}, None),
        ({"output_dir": "{tmp}/elsewhere"}, None),
        ({"output_dir": "out"}, None),
    ],
)
def test_who_may_name_any_folder_may_not_name_those_either(
    values: dict[str, str], key: str | None, world: World
) -> None:
    names = {
        name: Path(world.of(value)).name if name in ("pkg", "version") else value for name, value in values.items()
    }
    assert key_of(NAMES | names, world, bound=False) == key


def test_a_folder_that_a_file_system_shows_in_two_places_is_known_by_what_it_is(world: World) -> None:
    ws = world.root / "ws"
    assert _Way.to(ws / "adapters/to-runs" / RUN).leads_into(ws / "runs"), "as a mount would show it, not resolved"
    assert not _Way.to(ws / "adapters/shop").leads_into(ws / "runs")


def test_a_model_is_no_adapter_of_ours(world: World) -> None:
    values = {"output_dir": str(world.root), "pkg": "models", "version": "m"}
    publication = publication_of(values, world.installation, bound=False)
    assert publication is not None
    with pytest.raises(PublicationError, match="not an adapter that Flightdeck published"):
        refuse_what_stands(publication, may_replace=True)


def test_a_tilde_means_the_home_and_one_in_the_middle_is_a_letter(world: World) -> None:
    home = world.root / "home"
    assert place_or_key(NAMES | {"output_dir": "~/x"}, world, bound=False) == home / "x/shop/1"
    assert place_or_key(NAMES | {"output_dir": "a/~"}, world, bound=True) == world.root / "ws/a/~/shop/1"


def test_another_output_root_is_free_for_runs_of_the_browser_too(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert key_of(NAMES | {"output_dir": "{tmp}/more/x"}, world) == "output_dir"
    monkeypatch.setenv("FLIGHTDECK_OUTPUT_ROOTS", str(world.root / "more"))
    again = World(world.root, this_installation())
    assert key_of(NAMES | {"output_dir": "{tmp}/more/x"}, again) is None
    assert key_of(NAMES | {"output_dir": "{tmp}/more/../home"}, again) == "output_dir"


@pytest.mark.parametrize("inside", ["cache", "ws"])
def test_a_workspace_may_lie_in_the_cache_or_in_a_models_folder(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_world(tmp_path, monkeypatch)
    if inside == "cache":
        monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path))
    else:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    assert key_of({"pkg": "a", "version": "1"}, World(world.root, this_installation())) is None


def test_names_that_are_no_single_names_publish_nowhere(world: World) -> None:
    for key in ("pkg", "version", "knowledge_type"):
        for name in ("..", ".", "a/b", "/etc", "a\\b", "", ".hidden", "a\0b", "x" * 101, 7, None, ["a"]):
            values = NAMES | {key: name}
            found = publication_of(values, world.installation, bound=True)
            assert found is None or (key == "knowledge_type" and not name), (key, name)


def other(path: Path, kind: str) -> None:
    """Something at `path` that is almost an adapter of ours."""
    make_published(path)
    if kind == "no passport":
        (path / "flightdeck.json").unlink()
    elif kind == "no adapter_config":
        (path / "adapter_config.json").unlink()
    elif kind == "a folder inside":
        (path / "thesis").mkdir()
    elif kind == "a link inside":
        (path / "more").symlink_to(path.parent)
    elif kind == "a passport that is a link":
        (path / "flightdeck.json").rename(path.parent / "passport.json")
        (path / "flightdeck.json").symlink_to(path.parent / "passport.json")
    elif kind == "a pipe for a passport":
        (path / "flightdeck.json").unlink()
        os.mkfifo(path / "flightdeck.json")
    elif kind == "another passport":
        (path / "flightdeck.json").write_text('{"config": 1}')
    elif kind == "half a passport":
        (path / "flightdeck.json").write_text('{"config": {')


@pytest.mark.parametrize(
    "kind",
    ["no passport", "no adapter_config", "a folder inside", "a link inside", "a passport that is a link", "a pipe for a passport", "another passport", "half a passport"],
)  # fmt: skip
def test_what_is_not_recognisably_ours_is_never_replaced(kind: str, world: World) -> None:
    path = world.root / "ws/adapters/a/1"
    other(path, kind)
    assert not is_published_adapter(path)
    publication = publication_of({"pkg": "a", "version": "1"}, world.installation, bound=True)
    assert publication is not None
    assert publication.standing == "other"
    for may_replace in (True, False):
        with pytest.raises(
            PublicationError, match=r"is not an adapter that Flightdeck published. Choose another `version`"
        ):
            refuse_what_stands(publication, may_replace=may_replace)


def test_an_adapter_of_ours_is_replaced_only_where_it_may_be_and_an_empty_folder_is_free(world: World) -> None:
    publication = publication_of(NAMES, world.installation, bound=True)
    assert publication is not None
    assert publication.standing == "adapter"
    refuse_what_stands(publication, may_replace=True)
    with pytest.raises(PublicationError, match="already an adapter"):
        refuse_what_stands(publication, may_replace=False)
    (world.root / "ws/adapters/empty/1").mkdir(parents=True)
    empty = publication_of({"pkg": "empty", "version": "1"}, world.installation, bound=True)
    assert empty is not None
    assert empty.standing == "nothing"


def test_two_configs_publish_to_one_place_however_they_write_it(world: World) -> None:
    places = {
        place_of(NAMES | {"output_dir": written}, world.installation)
        for written in ("adapters", "./adapters", "adapters/", "a/../adapters", str(world.root / "ws/adapters"), "adapters/up/adapters")
    }  # fmt: skip
    assert places == {world.root / "ws/adapters/shop/1"}
    assert place_of({"pkg": "a"}, world.installation) is None
    assert place_of(NAMES | {"output_dir": "a\0b"}, world.installation) is None


def test_judging_any_hostile_value_changes_nothing_and_fails_by_its_own_sentence_alone(world: World) -> None:
    before = world.snapshot()
    for key in ("output_dir", "pkg", "version", "knowledge_type"):
        for value in HOSTILE:
            for bound in (True, False):
                place_or_key(NAMES | {key: value}, world, bound=bound)
            place_of(NAMES | {key: world.of(value)}, world.installation)
    assert world.snapshot() == before
