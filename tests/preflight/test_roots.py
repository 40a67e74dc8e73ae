"""Paths that come through the browser: every way out of the roots is refused before anything behind it is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.config.config_text import parse_config
from lora_backend.errors import FlightdeckError, ModelError
from lora_backend.installation import Installation, this_installation
from lora_backend.planning.cost.profile import Profile
from lora_backend.preflight.roots import allowed_model
from lora_backend.preflight.startable import judge
from tests.resolving import bound, from_browser, from_here, launch_from_browser

ROW = '{"prompt": "a", "completion": "b"}\n'
SECRET = '{"prompt": "secret", "completion": "secret"}\n'


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installation:
    """Roots with a model and data; outside of them the same, and links and relative ways that lead there."""
    environ = {
        "FLIGHTDECK_WORKSPACE": str(tmp_path / "ws"),
        "FLIGHTDECK_MODEL_ROOTS": str(tmp_path / "models"),
        "FLIGHTDECK_DATA_ROOTS": str(tmp_path / "data"),
        "FLIGHTDECK_HOME": str(tmp_path / "cache"),
    }
    for folder in ("models/m", "outside/m", "models-beside/m", "cwd/sub/m"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "config.json").write_text(json.dumps({"num_hidden_layers": 977}))
    for file in ("data/d.jsonl", "outside/d.jsonl", "data-beside/d.jsonl"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(ROW if file == "data/d.jsonl" else SECRET)
    (tmp_path / "ws").mkdir()
    for link in ("models/link", "data/link", "ws/link"):
        (tmp_path / link).symlink_to(tmp_path / "outside")
    (tmp_path / "data/d-link.jsonl").symlink_to(tmp_path / "outside/d.jsonl")
    (tmp_path / "cwd/m").symlink_to(tmp_path / "outside/m")
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setenv("HOME", str(tmp_path / "outside"))
    return this_installation(environ)


WAYS_OUT = [
    ("model_name", "{}/outside/m"), ("model_name", "{}/models/../outside/m"), ("model_name", "{}/models/link/m"), ("model_name", "{}/models-beside/m"),
    ("model_name", "../outside"), ("model_name", "../outside/m"), ("model_name", "sub/m"), ("model_name", "./m"), ("model_name", "~/m"),
    ("model_name", "{}/outside/m/config.json"), ("model_name", "/"), ("model_name", ".."),
    ("dataset", "{}/outside/d.jsonl"), ("dataset", "../outside/d.jsonl"), ("dataset", "link/d.jsonl"), ("dataset", "d-link.jsonl"), ("dataset", "{}/data-beside/d.jsonl"),
    ("dataset", "~/d.jsonl"), ("dataset", "{}/data/../outside/d.jsonl"), ("questions", "d-link.jsonl"), ("questions", "~/d.jsonl"),
    ("eval_dataset", "d-link.jsonl"), ("datasets", [{"path": "d.jsonl"}, {"path": "d-link.jsonl"}]), ("datasets", [{"path": "../outside/d.jsonl"}]),
    ("output_dir", "../.."), ("output_dir", "../elsewhere"), ("output_dir", "{}/elsewhere"), ("output_dir", "link"), ("output_dir", "a/../../b"),
]  # fmt: skip


def no_trace(*_: object) -> Profile:
    raise AssertionError("nothing is planned for a launch that is refused")


@pytest.mark.parametrize(("key", "value"), WAYS_OUT)
def test_a_way_out_of_the_roots_is_refused_and_nothing_there_is_read(
    key: str, value: str | list[dict[str, str]], places: Installation, tmp_path: Path
) -> None:
    value = value.replace("{}", str(tmp_path)) if isinstance(value, str) else value
    with pytest.raises(FlightdeckError) as raised:
        bound({"model_name": str(tmp_path / "models/m"), key: value}, places)
    assert "secret" not in str(raised.value)
    good = {"model_name": str(tmp_path / "models/m"), "target_layers": [976] if key != "model_name" else [999]}
    text = json.dumps({**good, key: value})
    result = judge(from_browser(parse_config(text), places)).result
    errors = [finding for finding in result.findings if finding.key == key and finding.code != f"{key}_for_nothing"]
    assert [finding.severity for finding in errors] == ["error"]
    assert not any("977 blocks" in finding.message.text("en") for finding in result.findings), "the model was read"
    with pytest.raises(FlightdeckError):
        launch_from_browser(
            json.dumps({"dataset": None if key == "datasets" else "d.jsonl", **json.loads(text)}), places, no_trace
        )
    assert not places.runs.exists()
    if key == "model_name":
        with pytest.raises(ModelError):
            allowed_model(str(value), places)


def test_what_lies_inside_is_bound_and_read(places: Installation, tmp_path: Path) -> None:
    values = {"model_name": str(tmp_path / "models/m"), "dataset": "d.jsonl", "questions": str(tmp_path / "data/d.jsonl"), "output_dir": "a/b", "r": 4}  # fmt: skip
    assert bound(values, places) == {**values, "dataset": str(tmp_path / "data/d.jsonl")}
    assert allowed_model(values["model_name"], places) == tmp_path / "models/m"  # type: ignore[arg-type]


def test_a_hub_id_that_is_no_folder_here_is_no_way_out(places: Installation) -> None:
    assert bound({"model_name": "some-org/some-model"}, places)["model_name"] == "some-org/some-model"


@pytest.mark.parametrize(
    "value",
    [
        "a\0b",
        "/a\0b",
        "\ud800",
        "/\ud800",
        "x" * 300,
        "/" + "x" * 300,
        "a/" + "x" * 300,
        "~no-such-user/x",
        "a--b/c",
        "x/..",
    ],
)
@pytest.mark.parametrize("key", ["model_name", "dataset", "questions", "output_dir"])
def test_no_path_makes_the_page_fall_over(key: str, value: str, places: Installation) -> None:
    document = parse_config(json.dumps({"model_name": "some/model", key: value}), "json")
    result = judge(from_browser(document, places)).result
    assert all(finding.message.text("en") for finding in result.findings)


@pytest.mark.parametrize("value", [1, None, ["a"], {"a": 1}, True, ""])
@pytest.mark.parametrize("key", ["model_name", "dataset", "questions", "output_dir"])
def test_what_is_no_path_is_left_to_the_check(key: str, value: object, places: Installation) -> None:
    assert bound({key: value}, places) == {key: value}
    result = judge(from_browser(parse_config(json.dumps({"model_name": "some/model", key: value})), places)).result
    assert result.is_valid or {finding.key for finding in result.errors} == {key}


@pytest.mark.parametrize(
    "text", ["", "r: [", "- a", "\0", "model_name: 3", "model_name: some/model\nr: x\n", "model_name: some/model\n"]
)
def test_a_launch_that_is_refused_leaves_no_run_folder(text: str, places: Installation) -> None:
    with pytest.raises(FlightdeckError):
        launch_from_browser(text, places, no_trace)
    assert not places.runs.exists()


@pytest.fixture
def hub_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The snapshot of `org/chats` in the hub's cache: links to the files beside it, as the hub's library makes them."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub/datasets--org--chats"
    snapshot = folder / "snapshots" / ("a" * 40)
    for name in ("blobs", "refs"):
        (folder / name).mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    (folder / "refs/main").write_text("a" * 40)
    (folder / "blobs/1").write_text(ROW)
    (snapshot / "data/train.jsonl").symlink_to(folder / "blobs/1")
    return snapshot


def test_a_data_set_in_the_hubs_cache_is_named_by_its_id(places: Installation, hub_set: Path) -> None:
    named = {"model_name": "m", "datasets": [{"path": "org/chats", "split": "train"}]}
    for resolved in (from_browser(named, places), from_here(named, places)):
        assert [rows.path for rows in resolved.training_sets] == [hub_set]
        assert resolved.values["datasets"] == [{"path": str(hub_set), "split": "train"}]
    outside = from_browser({"dataset": "org/other"}, places).training_sets[0]
    assert not outside.bound.exists()


def test_a_folder_of_rows_in_which_a_link_leads_out_is_refused(
    places: Installation, hub_set: Path, tmp_path: Path
) -> None:
    (hub_set / "data/more.jsonl").symlink_to(tmp_path / "outside/d.jsonl")
    (tmp_path / "data/folder/deep").mkdir(parents=True)
    (tmp_path / "data/folder/deep/d.jsonl").symlink_to(tmp_path / "outside/d.jsonl")
    (tmp_path / "data/same").symlink_to(tmp_path / "data/folder")
    for name in ("org/chats", "folder", "same", str(tmp_path / "data/folder")):
        with pytest.raises(FlightdeckError, match="symbolic link to a place outside"):
            bound({"dataset": name}, places)
