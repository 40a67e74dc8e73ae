"""Where a finished adapter is published: whole or not at all, and never over another's without being told to."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from lora_backend.errors import ConfigError, RunError
from lora_backend.i18n import Message
from lora_backend.installation import this_installation
from lora_backend.modeling.adapter import save_adapter
from lora_backend.runs.checkpoints.publication import PublicationError
from lora_backend.runs.history.publisher import Publisher
from lora_backend.runs.history.replaced_adapters import AdapterBin
from lora_backend.trainer.direct_run import train_in_folder
from lora_backend.training import recipe
from tests.run_files import points_of, record_of, status_of
from tests.tiny import make_published
from tests.training.helpers import adapter_bytes, failed_run, made, resumed, run

Make = Callable[..., dict[str, Any]]
NAMES = {"pkg": "shop", "version": "1"}


def weights(path: Path) -> str:
    return (path / "adapter_model.safetensors").read_text()


def publisher(workspace: Path, text: str, **more: Any) -> Publisher:
    """Of a run whose adapter is there, with `text` for weights."""
    folder = made(workspace, {"model_name": "m", **NAMES, **more})
    make_published(folder.adapter, text)
    return Publisher(folder, this_installation(), record_of(folder)["config"], bound=True)


@pytest.mark.parametrize("replaces", [True, False])
def test_of_two_that_publish_to_one_place_at_once_one_is_there_whole(
    replaces: bool, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = publisher(workspace, "one", overwrite=replaces), publisher(workspace, "other")
    target, copytree, published = workspace / "adapters/shop/1", shutil.copytree, []

    def while_the_other_publishes(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(shutil, "copytree", copytree)
        copied = copytree(*args, **options)
        published.append(other.publish())
        return copied

    monkeypatch.setattr(shutil, "copytree", while_the_other_publishes)
    if replaces:
        assert one.publish() == target
    else:
        with pytest.raises(PublicationError, match="already an adapter"):
            one.publish()
    assert published == [target]
    assert weights(target) == ("one" if replaces else "other")
    assert [path.name for path in target.parent.iterdir()] == ["1"], "nothing half is left beside it"
    assert [weights(binned.path) for binned in AdapterBin(this_installation()).list()] == (
        ["other"] if replaces else []
    )


def test_what_is_replaced_can_be_put_back(workspace: Path) -> None:
    target, place = workspace / "adapters/shop/1", AdapterBin(this_installation())
    publisher(workspace, "old").publish()
    new = publisher(workspace, "new", overwrite=True)
    new.publish()
    assert weights(target) == "new"
    (binned,) = place.list()
    assert (weights(binned.path), binned.title, binned.replaced_by) == ("old", "adapters/shop/1", new.folder.id)
    with pytest.raises(RunError, match=r"/adapters/shop/1 exists again"):
        place.restore(binned.id)
    shutil.rmtree(target)
    assert place.restore(binned.id) == target
    assert (weights(target), place.list()) == ("old", [])


def test_one_that_cannot_take_the_place_leaves_the_old_one_there(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = workspace / "adapters/shop/1"
    publisher(workspace, "old").publish()
    rename = Path.rename

    def refused(path: Path, to: Path) -> Path:
        if Path(to) == target and path.name.startswith("."):
            raise PermissionError(1, "not permitted", str(to))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", refused)
    new = publisher(workspace, "new", overwrite=True)
    new.publish_or_say_why()
    assert (weights(target), AdapterBin(this_installation()).list()) == ("old", [])
    assert weights(new.folder.adapter) == "new"
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    said = status_of(new.folder)["outcome_message"]
    assert "not permitted" in Message.from_json(said).text("en")


def test_an_adapter_on_another_disk_is_in_the_bin_before_its_place_is_taken(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher(workspace, "old").publish()
    rename = Path.rename

    def across_disks(path: Path, to: Path) -> Path:
        if ("bin" in path.parts) != ("bin" in Path(to).parts):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", across_disks)
    publisher(workspace, "new", overwrite=True).publish()
    target, place = workspace / "adapters/shop/1", AdapterBin(this_installation())
    assert (weights(target), [weights(binned.path) for binned in place.list()]) == ("new", ["old"])
    assert [path.name for path in target.parent.iterdir()] == ["1"]
    shutil.rmtree(target)
    place.restore(place.list()[0].id)
    assert (weights(target), place.list()) == ("old", [])


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_adapter_that_came_during_training_is_replaced_only_where_the_config_says_so(
    overwrite: bool, config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = workspace / "adapters/shop/1"

    def while_another_publishes(model: PeftModel, path: Path) -> None:
        save_adapter(model, path)
        make_published(target, "another's")

    monkeypatch.setattr(recipe, "save_adapter", while_another_publishes)
    folder = run(workspace, config(**NAMES, max_steps=1, overwrite=overwrite))
    state = folder.state()
    assert (state.state, (folder.adapter / "adapter_model.safetensors").is_file()) == ("finished", True)
    found = (target / "adapter_model.safetensors").read_bytes()
    if overwrite:
        assert (found, state.message) == (adapter_bytes(folder), None)
    else:
        assert found == b"another's"
        assert state.message is not None
        assert str(target) in state.message.text("en")


def test_a_resumed_run_that_may_take_its_own_place_again_takes_nobody_elses_that_came_meanwhile(
    config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, target = run(workspace, config(**NAMES, num_epochs=1)), workspace / "adapters/shop/1"

    def while_another_publishes(model: PeftModel, path: Path) -> None:
        save_adapter(model, path)
        publisher(workspace, "another's", overwrite=True).publish()

    monkeypatch.setattr(recipe, "save_adapter", while_another_publishes)
    resumed(folder, {"num_epochs": 2})
    assert weights(target) == "another's"
    state = folder.state()
    assert (state.state, state.step) == ("finished", 8)
    assert state.message is not None
    assert str(target) in state.message.text("en")


@pytest.fixture
def thesis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in a home of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    file = tmp_path / "home/Documents/thesis/chapter1.tex"
    file.parent.mkdir(parents=True)
    file.write_text("years")
    return file


def test_a_run_that_would_replace_a_folder_of_the_home_is_refused_before_training(
    config: Make, workspace: Path, thesis: Path
) -> None:
    values = config(output_dir="~", pkg="Documents", version="thesis", max_steps=1, overwrite=True)
    folder, sentence = failed_run(workspace, values, ConfigError)
    assert "`output_dir` must be below" in sentence
    assert points_of(folder) == []
    unbound = made(workspace, values)
    with pytest.raises(ConfigError, match="not an adapter that Flightdeck published"):
        train_in_folder(unbound, bound=False)
    assert [path.name for path in thesis.parent.iterdir()] == ["chapter1.tex"]


def test_a_run_that_would_replace_another_run_is_refused_before_training(config: Make, workspace: Path) -> None:
    other = made(workspace, config())
    values = config(output_dir=".", pkg="runs", version=other.id, max_steps=1, overwrite=True)
    _, sentence = failed_run(workspace, values, ConfigError)
    assert "for other files" in sentence
    assert other.run_json.is_file()


@pytest.mark.parametrize("planted", ["adapters", "adapters/shop", "adapters/shop/1"])
def test_a_link_that_comes_during_training_leads_no_adapter_out(
    planted: str, config: Make, workspace: Path, thesis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def while_a_link_is_planted(model: PeftModel, path: Path) -> None:
        save_adapter(model, path)
        (workspace / planted).parent.mkdir(parents=True, exist_ok=True)
        (workspace / planted).symlink_to(thesis.parent)

    monkeypatch.setattr(recipe, "save_adapter", while_a_link_is_planted)
    folder = run(workspace, config(**NAMES, max_steps=1, overwrite=True))
    state = folder.state()
    assert state.state == "finished"
    assert state.message is not None
    assert "The adapter is not published." in state.message.text("en")
    assert str(folder.adapter) in state.message.text("en")
    assert (folder.adapter / "adapter_model.safetensors").is_file()
    assert [path.name for path in thesis.parent.iterdir()] == ["chapter1.tex"]


def test_who_trains_in_this_process_may_publish_anywhere(config: Make, workspace: Path, tmp_path: Path) -> None:
    folder = made(workspace, config(**NAMES, max_steps=1, output_dir=str(tmp_path / "elsewhere")))
    train_in_folder(folder, bound=False)
    found = (tmp_path / "elsewhere/shop/1/adapter_model.safetensors").read_bytes()
    assert found == adapter_bytes(folder)
