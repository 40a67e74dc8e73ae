"""The catalogue of models against what their makers publish, by building every one without memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lora_backend.models.catalogue import CatalogueModel, catalogue, find_in_catalogue

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def built() -> dict[str, tuple[int, dict[str, object]]]:
    """By name: parameters of the model that transformers builds, tied ones once, and the keys of its config."""
    models = {}
    for model in catalogue():
        config = AutoConfig.for_model(**model.config)
        with torch.device("meta"):
            count = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        models[model.name] = count, {key: getattr(config, key) for key in model.config if hasattr(config, key)}
    return models


def test_every_model_builds_with_the_parameters_that_its_maker_publishes(
    built: dict[str, tuple[int, dict[str, object]]],
) -> None:
    wrong = []
    for model in catalogue():
        published = model.published
        said = published.count - published.not_parameters
        # An exact number has to be met exactly, a rounded one within its rounding.
        agrees = abs(said - model.parameters) <= (0 if published.step == 1 else published.step // 2)
        if not agrees or built[model.name][0] != model.parameters:
            wrong.append((model.name, built[model.name][0], model.parameters, said))
    assert not wrong


def test_what_a_config_says_is_what_the_library_builds(built: dict[str, tuple[int, dict[str, object]]]) -> None:
    for model in catalogue():
        taken = built[model.name][1]
        said = {key: value for key, value in model.config.items() if isinstance(value, bool | int | float)}
        assert {key: taken[key] for key in said if key in taken} == {key: said[key] for key in said if key in taken}
        assert {"model_type", "vocab_size", "architectures"} <= taken.keys()


def test_most_counts_are_exact_and_what_is_taken_off_is_explained() -> None:
    counts = [model.published for model in catalogue()]
    assert sum(count.step == 1 for count in counts) >= 0.9 * len(counts)
    assert all((count.not_parameters > 0) == bool(count.why) for count in counts)
    assert all(count.where in ("weights", "card") for count in counts)
    assert all(count.where == "card" for count in counts if count.step > 1)


def test_many_families_are_there_each_with_its_source() -> None:
    assert len(catalogue()) >= 80
    assert len({model.model_type for model in catalogue()}) >= 45
    assert all(model.source == f"https://huggingface.co/{model.name}/blob/main/config.json" for model in catalogue())


@pytest.mark.parametrize("page", ["catalogues.md", "catalogues.zh-CN.md"])
def test_every_model_stands_on_the_page_of_the_catalogues_with_its_parameters(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    rows = [f"| [{m.name}]({m.source}) | `{m.model_type}` | {m.parameters:,} |" for m in catalogue()]
    assert [row for row in rows if row not in text] == []


@pytest.mark.parametrize("name", ["Qwen/Qwen2.5-7B", "qwen2.5-7b", " QWEN/qwen2.5-7B "])
def test_a_model_is_found_in_any_case_with_its_organisation_or_without(name: str) -> None:
    found = find_in_catalogue(name)
    assert found is not None
    assert (found.name, found.parameters) == ("Qwen/Qwen2.5-7B", 7_615_616_512)


@pytest.mark.parametrize("name", ["", "7B", "other/Qwen2.5-7B", "Qwen/"])
def test_no_other_model_is_taken_for_one(name: str) -> None:
    assert find_in_catalogue(name) is None


def test_no_two_models_share_a_name() -> None:
    assert [find_in_catalogue(model.name) for model in catalogue()] == list(catalogue())
    assert [find_in_catalogue(model.name.partition("/")[2]) for model in catalogue()] == list(catalogue())


def test_whoever_changes_a_config_changes_only_his_own() -> None:
    model: CatalogueModel = catalogue()[0]
    model.config["num_hidden_layers"] = 1
    assert model.config["num_hidden_layers"] != 1
