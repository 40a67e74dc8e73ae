"""Profiles on disk: found again by content alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lora_backend.config.schema import TrainingConfig
from lora_backend.errors import UntraceableError
from lora_backend.installation import this_installation
from lora_backend.modeling import profiling
from lora_backend.modeling.meta import model_config
from lora_backend.modeling.profiling import profile_for
from lora_backend.modeling.trace_sizes import attention_windows, tile_tokens
from lora_backend.models.catalogue import CatalogueModel, catalogue
from lora_backend.planning import profile_store as store_module
from lora_backend.planning.cost.memory import Memory, Workload
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.scaling import Size
from lora_backend.planning.cost.trace_settings import Batch, TraceSettings
from lora_backend.planning.profile_store import ProfileStore, model_key
from lora_backend.preflight.plan_question import profiles
from tests.planning.formula_profiles import formula_profile
from tests.planning.profiles import CONFIG, LLAMA, WINDOWS, llama, profile_of, shallow

Change = Callable[[Profile], Profile]


def test_a_profile_is_the_same_after_a_round_trip_through_json() -> None:
    for profile in (
        llama(),
        profile_of(WINDOWS, TraceSettings(rank_pattern=(("q_proj", 4),)), rank_pattern={"q_proj": 4}),
    ):
        again = Profile.from_json(json.loads(json.dumps(profile.to_json())))
        assert again.to_json() == profile.to_json()
        assert again.settings == profile.settings, "tuples are tuples again"
        for size in (Size(1, 777, 8), Size(6, 333, 64)):
            one, other = (Memory(each, Workload(size)) for each in (profile, again))
            assert np.array_equal(one.interval_bytes, other.interval_bytes)
            assert one.device(range(one.num_units)) == other.device(range(other.num_units))


def test_what_was_kept_is_found_for_the_same_question_alone(tmp_path: Path) -> None:
    store, config = ProfileStore(tmp_path / "profiles"), CONFIG.model_copy(update={"batch_size": 1})
    profile = formula_profile(LLAMA, config, TraceSettings.of(config, "bf16"))
    assert store.find(LLAMA, config) is None
    store.save(LLAMA, profile)
    found = store.find(LLAMA, config)
    assert found is not None
    assert found.to_json() == profile.to_json()
    # What is arithmetic needs no other profile; what a trace depends on does.
    for same in (
        {"max_length": 64},
        {"r": 3},
        {"learning_rate": 0.5},
        {"optim": "sgd"},
        {"batching": "packed"},
        {"batch_size": 2},
    ):
        assert store.find(LLAMA, config.model_copy(update=same)) is not None, same
    for other in (
        {"precision": "fp16"},
        {"gradient_checkpointing": True},
        {"quantization": "nf4"},
        {"target_layers": [1]},
        {"lora_dropout": 0.1},
        {"loss_type": "chunked_nll"},
        {"batching": "padded"},
        {"fused_lora": False},
    ):
        assert store.find(LLAMA, config.model_copy(update=other)) is None, other
    assert store.find({**LLAMA, "hidden_size": 128}, config) is None


def test_longer_rows_than_a_window_ask_for_another_profile(tmp_path: Path) -> None:
    store, config = ProfileStore(tmp_path), CONFIG.model_copy(update={"batch_size": 1, "max_length": 100})
    store.save(WINDOWS, replace(formula_profile(WINDOWS, config, TraceSettings.of(config, "bf16")), windows=(512,)))
    assert store.find(WINDOWS, config.model_copy(update={"max_length": 511})) is not None
    assert store.find(WINDOWS, config.model_copy(update={"max_length": 512})) is None


def test_a_model_is_known_by_what_shapes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    key = model_key(LLAMA)
    assert model_key({**LLAMA, "_name_or_path": "elsewhere", "transformers_version": "1", "use_cache": False}) == key
    assert model_key(dict(reversed(LLAMA.items()))) == key
    assert model_key({**LLAMA, "num_hidden_layers": 6}) != key
    monkeypatch.setattr(store_module, "_versions", lambda: ("another torch",))
    assert model_key(LLAMA) != key, "another version may cost something else"


QUESTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"batch_size": 1, "max_length": 100_000, "gradient_checkpointing": True},
    {"loss_type": "chunked_nll", "target_modules": ["v_proj", "q_proj"], "target_layers": [2, 0]},
    {
        "rank_pattern": {"q_proj": 4, "v_proj": 2},
        "modules_to_save": ["lm_head"],
        "quantization": "nf4",
        "lora_dropout": 0.1,
    },
)


@pytest.mark.parametrize("model", catalogue(), ids=lambda model: model.name)
@pytest.mark.parametrize("is_saved", [False, True], ids=["as published", "as transformers saves it"])
def test_what_was_traced_for_a_model_of_the_catalogue_is_found_again(
    model: CatalogueModel, is_saved: bool, tmp_path: Path
) -> None:
    facts = json.loads(model_config(model.config).to_json_string()) if is_saved else model.config
    asked, store = json.loads(json.dumps(facts)), ProfileStore(tmp_path)
    architecture = model_config(facts)
    assert facts == asked, "transformers writes into what is nested, but not into what was handed to it"
    windows, tile = attention_windows(architecture), tile_tokens(architecture)
    for keys in QUESTIONS:
        config = TrainingConfig(model_name="any", precision="bf16", **keys)
        settings = TraceSettings.of(config, "bf16", windows, tile)
        store.save(facts, replace(llama(), settings=settings, windows=windows, tile_tokens=tile))
    for keys in QUESTIONS:
        found = store.find(dict(reversed(asked.items())), TrainingConfig(model_name="any", precision="bf16", **keys))
        assert found is not None, keys
    lists: dict[str, Any] = {key: [*reversed(value)] for key, value in QUESTIONS[2].items() if isinstance(value, list)}
    assert store.find(asked, TrainingConfig(model_name="any", precision="bf16", loss_type="chunked_nll", **lists))


@pytest.mark.parametrize("name", ["meta-llama/Llama-3.1-8B", "google/gemma-2-2b"])
@pytest.mark.parametrize("is_traceable", [True, False], ids=["traced", "by formula"])
def test_a_second_plan_of_the_same_traces_nothing(
    name: str, is_traceable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the profile comes from, what was made is what is looked for."""

    def needs_values(*_: Any, **__: Any) -> Any:
        raise UntraceableError("It needs values.")

    if not is_traceable:
        monkeypatch.setattr(profiling, "trace_profile", needs_values)
    facts, made = shallow(name, 3), 0

    def trace(facts: Any, config: TrainingConfig) -> Profile:
        nonlocal made
        made += 1
        return profile_for(facts, config)

    installation = this_installation({"FLIGHTDECK_HOME": str(tmp_path)})
    asked = CONFIG.model_copy(update={"max_length": 5000})
    first, second = (profiles(json.loads(json.dumps(facts)), trace, installation)(asked) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert (made, first.method) == (1, "traced" if is_traceable else "formula")


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"version": 0}'])
def test_a_damaged_or_old_profile_is_made_again(damage: str, tmp_path: Path) -> None:
    store, config = ProfileStore(tmp_path), CONFIG.model_copy(update={"batch_size": 1})
    store.save(LLAMA, formula_profile(LLAMA, config, TraceSettings.of(config, "bf16")))
    for path in tmp_path.rglob("*.json"):
        if path.name != "model.json":
            path.write_text(damage)
    assert store.find(LLAMA, config) is None


def test_a_profile_from_before_flat_batches_is_never_taken_for_one(tmp_path: Path) -> None:
    """Whatever its settings are called: version 12 knew padded rows and PEFT's own LoRA alone."""
    store, config = ProfileStore(tmp_path), CONFIG.model_copy(update={"batch_size": 4})
    profile = formula_profile(LLAMA, config, TraceSettings.of(config, "bf16"))
    store.save(LLAMA, profile)
    assert store.find(LLAMA, config) is not None
    (path,) = (path for path in tmp_path.rglob("*.json") if path.name != "model.json")
    old = json.loads(path.read_text())
    assert old["version"] == 13
    for key in ("batching", "fused_lora", "lengths"):
        del old["settings"][key]
    path.write_text(json.dumps(old | {"version": 12}))
    assert ProfileStore(tmp_path).find(LLAMA, config) is None


def test_a_measured_batch_has_its_own_settings_whatever_the_config_says() -> None:
    def of(batch: Batch, **keys: Any) -> TraceSettings:
        config = TrainingConfig(model_name="any", loss_type="chunked_nll", **keys)
        return TraceSettings.of(config, "bf16", (64,), 100, batch)

    padded, flat = Batch(2, 60, uneven=True), Batch(2, 60, uneven=True, lengths=(60, 30))
    assert (padded.total, flat.total) == (120, 90)
    assert [of(padded, batching=word).batching for word in ("auto", "padded")] == ["padded", "padded"]
    assert of(padded).lengths is None
    assert (of(flat).batching, of(flat).lengths) == ("flat", (60, 30))
    assert (of(padded).is_tiled, of(flat).is_tiled) == (True, False), "by the tokens that go through the model"
    assert of(flat) != of(flat._replace(lengths=(60, 31)))
    assert TraceSettings.from_json(json.loads(json.dumps(of(flat).to_json()))) == of(flat)


def test_settings_of_a_config_are_those_that_a_trace_depends_on() -> None:
    def of(tile_tokens: int = 100, windows: tuple[int, ...] = (), **keys: Any) -> TraceSettings:
        return TraceSettings.of(TrainingConfig(model_name="any", **keys), "bf16", windows, tile_tokens)

    assert (of(batch_size=1).uneven, of(batch_size=2).uneven) == (False, True)
    assert [of(batch_size=1, max_length=tokens, loss_type="chunked_nll").is_tiled for tokens in (100, 101)] == [
        False,
        True,
    ]
    assert not of(batch_size=1, max_length=101, loss_type="nll").is_tiled, "the plain loss has no tiles"
    assert [of(windows=(64, 512), max_length=tokens).tokens_above for tokens in (63, 64, 511, 512)] == [0, 64, 64, 512]
    assert [of(batching=word).batching for word in ("auto", "flat", "packed", "padded")] == 3 * ["flat"] + ["padded"]
    assert (of().fused_lora, of(fused_lora=False).fused_lora) == (True, False)
    assert of().uses_autocast
    assert not TraceSettings(precision="fp32").uses_autocast
    assert not TraceSettings(adapter_precision="bf16").uses_autocast
