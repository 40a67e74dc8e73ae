"""Where a finished adapter is published: whole or not at all, and never over another's without being told to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import PeftModel

from lora_backend.training import engine
from lora_backend.training.publish import publish, save_adapter
from tests.training.helpers import adapter_bytes, resumed, run

Make = Callable[..., dict[str, Any]]
NAMES = {"pkg": "shop", "version": "1"}


def adapter(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (path / name).write_text(text)
    return path


def files(path: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in path.iterdir()}


@pytest.mark.parametrize("replaces", [True, False])
def test_of_two_that_publish_to_one_place_at_once_one_is_there_whole(
    replaces: bool, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = adapter(workspace / "one", "one"), adapter(workspace / "other", "other")
    target, copytree, published = workspace / "adapters/shop/1", shutil.copytree, []

    def while_the_other_publishes(*args: Any, **options: Any) -> Any:
        monkeypatch.setattr(shutil, "copytree", copytree)
        copied = copytree(*args, **options)
        published.append(publish(other, target, lambda: False))
        return copied

    monkeypatch.setattr(shutil, "copytree", while_the_other_publishes)
    published.append(publish(one, target, lambda: replaces))
    assert published == [True, replaces]
    assert set(files(target).values()) == {"one" if replaces else "other"}
    assert [path.name for path in target.parent.iterdir()] == ["1"], "nothing half is left beside it"


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_adapter_that_came_during_training_is_replaced_only_where_the_config_says_so(
    overwrite: bool, config: Make, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = workspace / "adapters/shop/1"

    def while_another_publishes(model: PeftModel, path: Path) -> None:
        save_adapter(model, path)
        adapter(target, "another's")

    monkeypatch.setattr(engine, "save_adapter", while_another_publishes)
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
        assert publish(adapter(workspace / "other", "another's"), target, lambda: True)

    monkeypatch.setattr(engine, "save_adapter", while_another_publishes)
    resumed(folder, {"num_epochs": 2})
    assert set(files(target).values()) == {"another's"}
    state = folder.state()
    assert (state.state, state.step) == ("finished", 8)
    assert state.message is not None
    assert str(target) in state.message.text("en")
