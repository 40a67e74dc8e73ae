"""Who answers in a chat, by the words of an address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.errors import FlightdeckError
from lora_backend.installation import this_installation
from lora_backend.preflight.asked_columns import AskedColumns, columns_of, words_of
from lora_backend.preflight.roots import BrowserRoots
from lora_backend.runs.record.run_store import RunStore
from tests.run_files import end_run, make_run
from tests.tiny import stub_model


@pytest.fixture
def model(tmp_path: Path, workspace: Path) -> Path:
    return stub_model(tmp_path / "model")


def adapter(folder: Path, base: Path | str) -> Path:
    folder.mkdir(parents=True)
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"], "base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def trained(model: Path, name: str | None = "tuned", steps: tuple[int, ...] = ()) -> RunStore:
    run = make_run(this_installation().runs, config={"model_name": str(model)}, config_text="", argv=None, name=name)
    adapter(run.adapter, model)
    for step in steps:
        adapter(run.checkpoints / f"checkpoint-{step}" / "adapter", model)
    end_run(run, "finished")
    return run


def asked(words: str, base: str = "") -> AskedColumns:
    return columns_of(words, this_installation(), BrowserRoots(this_installation()), base)


def labels(words: str, base: str = "") -> list[str]:
    return [column.label for column in asked(words, base).columns]


def test_one_run_has_its_base_model_beside_it(model: Path) -> None:
    run = trained(model)
    found = asked(f"run:{run.id}")
    assert found.base_model == str(model)
    assert [(column.label, column.adapter) for column in found.columns] == [("base", None), ("tuned", str(run.adapter))]


def test_several_stand_as_they_are_named(model: Path, tmp_path: Path) -> None:
    run = trained(model, steps=(2, 4))
    folder = adapter(tmp_path / "pkg" / "1.0", model)
    assert labels(f"run:{run.id}/4;run:{run.id}") == ["tuned @ 4", "tuned"]
    assert labels(f"run:{run.id}/2; base ;{folder}") == ["tuned @ 2", "base", "pkg/1.0"]
    assert labels(f"run:{run.id};") == ["tuned"]


def test_the_base_model_alone_is_asked_by_its_name(model: Path) -> None:
    assert asked("base", str(model)) == asked("", str(model))
    assert labels("base", str(model)) == ["base"]


def test_two_runs_of_one_name_have_two_labels(model: Path) -> None:
    first, second = trained(model), trained(model)
    assert labels(f"run:{first.id};run:{second.id}") == ["tuned", "tuned (2)"]
    assert labels(f"run:{trained(model, name='base').id}") == ["base", "base (2)"]


@pytest.mark.parametrize(
    "words", ["run:{run}", "run:{run}/2", "run:{run};", "run:{run}/2;base", "base;run:{run};run:{run}/2"]
)
def test_columns_are_written_as_the_words_that_name_them(words: str, model: Path) -> None:
    words = words.format(run=trained(model, steps=(2,)).id)
    assert words_of(asked(words).columns, this_installation()) == words


def test_what_is_not_there_is_said(model: Path, tmp_path: Path) -> None:
    run = trained(model)
    waiting = make_run(this_installation().runs, config={"model_name": str(model)}, config_text="", argv=None)
    (tmp_path / "empty").mkdir()
    for words, said in (
        (f"run:{run.id}/7", "no checkpoint of step 7"),
        (f"run:{run.id}/../../x", "no checkpoint"),
        (f"run:{waiting.id}", "has no adapter yet"),
        ("run:../x", "is not the id of a run"),
        ("run:20200101-000000-aaaa", "was not found"),
        (str(tmp_path / "empty"), "contains no adapter"),
        ("/etc", "outside the folders"),
        ("a;b\0;c", "outside the folders"),
    ):
        with pytest.raises(FlightdeckError) as refused:
            asked(words)
        assert said in str(refused.value) or "contains no adapter" in str(refused.value), words


def test_adapters_of_two_base_models_are_refused_by_name(model: Path, tmp_path: Path) -> None:
    other = stub_model(tmp_path / "other")
    with pytest.raises(FlightdeckError, match="Only adapters of one base model"):
        asked(f"run:{trained(model).id};run:{trained(other).id}")


def test_a_copy_of_the_name_is_the_same_base_model(model: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(model)
    folder = adapter(tmp_path / "pkg" / "1.0", tmp_path / "link")
    assert len(asked(f"run:{trained(model).id};{folder}").columns) == 2


def test_more_than_three_are_refused(model: Path) -> None:
    run = trained(model, steps=(1, 2, 3))
    with pytest.raises(FlightdeckError, match="only up to 3"):
        asked(";".join([f"run:{run.id}", *(f"run:{run.id}/{step}" for step in (1, 2, 3))]))


def test_a_link_in_a_run_is_not_followed(model: Path, tmp_path: Path) -> None:
    run = trained(model)
    secret = adapter(tmp_path / "secret", model)
    (run.adapter / "adapter_config.json").unlink()
    (run.adapter / "adapter_config.json").symlink_to(secret / "adapter_config.json")
    with pytest.raises(FlightdeckError, match="symbolic links"):
        asked(f"run:{run.id}")
