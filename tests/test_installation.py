"""Where things live, what an entry hands down of its surroundings, and whether a path lies inside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.hardware.visible import ORDER, VISIBLE
from lora_backend.installation import (
    DEMO_DATA,
    OF_THE_WORKSPACE,
    SUPERVISED,
    Installation,
    child_environment,
    is_within,
    path_of,
    this_installation,
)


def test_without_an_environment_the_workspace_is_below_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = this_installation({})
    assert places.workspace == tmp_path / "workspace"
    assert (places.runs, places.uploads, places.drafts) == tuple(
        tmp_path / "workspace" / name for name in ("runs", "data", "drafts")
    )
    assert places.workspace in places.model_roots
    assert places.data_roots == (places.uploads, DEMO_DATA)
    assert not places.workspace.exists(), "to look is not to make"


@pytest.mark.parametrize("value", ["ws", "./ws", "ws/"])
def test_every_place_is_absolute(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("FLIGHTDECK_WORKSPACE", "FLIGHTDECK_HOME", "FLIGHTDECK_MODEL_ROOTS", "FLIGHTDECK_DATA_ROOTS")
    places = this_installation(dict.fromkeys(names, value))
    assert places.workspace == places.cache == tmp_path / "ws"
    assert all(path.is_absolute() for path in (*places.model_roots, *places.data_roots))


def test_several_roots_are_told_apart_and_empty_ones_are_none(tmp_path: Path) -> None:
    value = os.pathsep.join(["", str(tmp_path / "a"), "", str(tmp_path / "b"), ""])
    places = this_installation(
        {"FLIGHTDECK_MODEL_ROOTS": value, "FLIGHTDECK_DATA_ROOTS": value, "FLIGHTDECK_WORKSPACE": ""}
    )
    assert places.model_roots[:2] == places.data_roots[:2] == (tmp_path / "a", tmp_path / "b")
    assert Path.cwd() not in (*places.model_roots, *places.data_roots), "an empty part would open the current folder"


def test_all_that_a_workspace_holds_lies_below_it(tmp_path: Path) -> None:
    places = this_installation({"FLIGHTDECK_WORKSPACE": str(tmp_path)})
    held = (
        places.runs, places.drafts, places.uploads, places.queue, places.leases, places.trash, places.chats,
        places.uploaded_adapters,
    )  # fmt: skip
    assert tuple(path.name for path in held) == OF_THE_WORKSPACE
    assert {path.parent for path in held} == {tmp_path}
    assert not places.seal_key.is_relative_to(tmp_path), "who copies a workspace here would bring the key along"


def test_of_the_environment_only_what_decides_something_is_kept(tmp_path: Path) -> None:
    environment = {VISIBLE: "1", ORDER: "PCI_BUS_ID", SUPERVISED: "1", "OMP_WAIT_POLICY": "ACTIVE"}
    places = this_installation({**environment, "HF_TOKEN": "secret", "PATH": "/bin"})
    assert places.environment == environment
    assert places.is_supervised
    assert not this_installation({}).is_supervised
    assert "PCI_BUS_ID" not in repr(places)


def test_another_process_is_told_all_but_the_clock(tmp_path: Path) -> None:
    places = this_installation({"FLIGHTDECK_WORKSPACE": str(tmp_path), "FLIGHTDECK_OUTPUT_ROOTS": "/out", VISIBLE: "1"})
    told = Installation.from_json(json.loads(json.dumps(places.to_json())))
    assert (told, told.environment) == (places, places.environment)


def test_around_a_run_the_workspace_and_the_roots_in_it_are_those_that_the_run_lies_in(tmp_path: Path) -> None:
    environment = {"FLIGHTDECK_WORKSPACE": str(tmp_path / "wrong"), "FLIGHTDECK_OUTPUT_ROOTS": "/out"}
    places = this_installation(environment)
    found = places.around(tmp_path / "ws/runs/one")
    assert (found.workspace, found.leases) == (tmp_path / "ws", tmp_path / "ws/leases")
    assert found.output_roots == (tmp_path / "ws", Path("/out"))
    assert not any(root.is_relative_to(tmp_path / "wrong") for root in (*found.model_roots, *found.data_roots))
    assert found.cache == places.cache
    assert places.around(tmp_path / "anywhere/one") == places, "a folder that lies in no workspace says nothing of one"


def test_where_the_current_folder_is_gone_only_relative_paths_fail(tmp_path: Path) -> None:
    script = (
        "import os, sys; os.rmdir(os.getcwd())\n"
        "from lora_backend.installation import this_installation\n"
        "print(this_installation().workspace)"
    )
    (tmp_path / "gone").mkdir()
    environment = child_environment(FLIGHTDECK_WORKSPACE=str(tmp_path / "ws"))
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path / "gone",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == str(tmp_path / "ws"), done.stderr


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert this_installation({"FLIGHTDECK_WORKSPACE": "~/ws"}).workspace == tmp_path / "ws"


@pytest.mark.parametrize(
    ("path", "inside"),
    [
        ("root", True), ("root/a", True), ("root/none/at/all", True), ("root/../root/a", True), ("root/..", False), ("root/../other", False),
        ("root-beside/a", False), ("root/link", False), ("root/link/a", False), ("into", True), ("", False),
    ],
)  # fmt: skip
def test_a_path_is_inside_when_it_is_once_every_link_is_followed(path: str, inside: bool, tmp_path: Path) -> None:
    for name in ("root/a", "other", "root-beside/a"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "root/link").symlink_to(tmp_path / "other")
    (tmp_path / "into").symlink_to(tmp_path / "root/a")
    assert is_within(tmp_path / path, (tmp_path / "none", tmp_path / "root")) is inside


def test_a_root_that_is_a_link_itself_counts_for_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real/a").mkdir(parents=True)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    assert is_within(tmp_path / "real/a", (tmp_path / "root",))
    assert is_within(tmp_path / "root/a", (tmp_path / "real",))
    assert not is_within(tmp_path, (tmp_path / "root",))
    assert not is_within(tmp_path, ())


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "loop", "loop/below"])
def test_what_cannot_be_resolved_lies_nowhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert not is_within(tmp_path / name, (tmp_path,))


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "loop", "loop/below", "x" * 300, "~no-such-user/x"])
def test_a_text_that_no_file_system_takes_is_no_path(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert path_of(text) is None


@pytest.mark.parametrize("text", ["a", "a/b/none", "file", "file/below", ".", "", "é", "a\nb"])
def test_a_text_that_names_a_place_is_a_path_whether_something_is_there_or_not(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert path_of(text) == Path(text)


def test_a_child_finds_the_package_from_any_folder_and_keeps_the_callers_own_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    script = "import lora_backend, theirs, os; print(os.environ['MORE'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd="/",
        env=child_environment(MORE="x"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "x\n", done.stderr


def test_a_page_that_fails_shows_the_browser_no_details(tmp_path: Path) -> None:
    """As Streamlit itself reads the config file beside app.py, with no settings of the user's."""
    asked = "from streamlit import config; print(config.get_option('client.showErrorDetails'))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("STREAMLIT_")}
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=Path(__file__).parents[1],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["none"], done.stderr
