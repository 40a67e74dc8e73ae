"""`plan` as a terminal and a script see it: the document, the exit code, and what changes the answer."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_backend.cli import main
from lora_backend.commands import plan as module
from lora_backend.config.schema import TrainingConfig
from lora_backend.i18n import use_language
from lora_backend.installation import this_installation
from lora_backend.planning.cost.profile import Profile
from lora_backend.planning.cost.row_lengths import RowLengths
from lora_backend.planning.estimate import Conditions
from lora_backend.planning.targets import GIB
from lora_backend.preflight.plan_question import machine_targets
from tests.command_line import strict
from tests.planning.formula_plans import FACTS, source
from tests.planning.profiles import LLAMA
from tests.python import call

DOCUMENT = {
    "fits",
    "verdict",
    "strategy",
    "device_map",
    "bottleneck_utilisation",
    "devices",
    "method",
    "expected_error",
    "advice",
    "options",
    "num_processes",
    "num_nodes",
    "goal",
    "step_seconds",
    "num_steps",
    "total_seconds",
    "batching",
    "row_tokens",
    "mean_batch_tokens",
    "mean_batch_bytes",
    "cost",
    "currency",
    "largest_batch",
    "largest_batch_is_exact",
    "longest_row",
    "longest_row_is_exact",
}
DEVICE = {
    "index",
    "uuid",
    "name",
    "capacity_bytes",
    "breakdown",
    "total_bytes",
    "utilisation",
    "verdict",
    "uncertainty_bytes",
    "gathered_bytes",
    "blocks",
}
BREAKDOWN = {"weights", "adapter", "gradients", "optimizer", "activations", "logits", "overhead"}
ADVICE = {"code", "change", "saves_bytes", "slowdown", "fits", "verdict"}
TOO_SMALL = "2,2"
TIGHT = "7.6"
Ask = Callable[..., tuple[int, Any]]
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The config.json of a Llama of 12 blocks, whose figures come from the formula: a trace takes seconds."""
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "trace_here", lambda facts, config: source(dict(facts))(config))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(FACTS))
    return str(path)


@pytest.fixture
def ask(model: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs `plan` for the model and gives its exit code and its one document."""

    def ask(*words: str, model: str | None = model) -> tuple[int, Any]:
        code = main(["plan", *(["--model", model] if model else []), *words, "--json", "--lang", "en"])
        return code, strict(capsys.readouterr().out)

    return ask


@pytest.fixture
def say(model: str, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `plan` for the model and gives its exit code and its text."""

    def say(*words: str, language: str = "en") -> tuple[int, str]:
        code = main(["plan", "--model", model, *words, "--lang", language])
        return code, capsys.readouterr().out

    return say


@pytest.mark.parametrize(("gpus", "code"), [("24,12,8", 0), ("2xRTX-4090,A100-40G", 0), (TOO_SMALL, 1)])
def test_the_document_has_every_key_and_each_device_adds_up(gpus: str, code: int, ask: Ask) -> None:
    answer, document = ask("--gpus", gpus)
    assert answer == code
    assert document.keys() == DOCUMENT
    assert document["fits"] is (code == 0)
    assert document["strategy"] == "layer_split"
    for device in document["devices"]:
        assert device.keys() == DEVICE
        assert device["breakdown"].keys() == BREAKDOWN
        assert all(type(part) is int for part in device["breakdown"].values())
        assert sum(device["breakdown"].values()) == device["total_bytes"]
        assert device["utilisation"] == device["total_bytes"] / device["capacity_bytes"]
    assert document["bottleneck_utilisation"] == max(device["utilisation"] for device in document["devices"])
    assert (document["bottleneck_utilisation"] <= 1) is document["fits"]
    assert bool(document["advice"]) is (code == 1)
    assert all(remedy.keys() == ADVICE for remedy in document["advice"])


@pytest.mark.parametrize(("gpus", "verdict", "code"), [("24", "fits", 0), (TIGHT, "tight", 0), (TOO_SMALL, "over", 1)])
def test_what_is_tight_fits_and_says_so(
    gpus: str, verdict: str, code: int, ask: Ask, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "trace_here", traced)
    answer, document = ask("--gpus", gpus)
    assert (answer, document["verdict"], document["fits"]) == (code, verdict, code == 0)
    answer, text = say("--gpus", gpus)
    assert answer == code
    assert text.startswith({"fits": "It fits", "tight": "Tight: ", "over": "It does not fit: "}[verdict])
    assert ("Ways to save memory:" in text) is (verdict != "fits")


@pytest.mark.parametrize("gpus", ["24,12,8", TOO_SMALL])
def test_every_block_is_on_one_device_and_on_the_same_in_the_map(gpus: str, ask: Ask) -> None:
    _, document = ask("--gpus", gpus)
    placed = {block: device["index"] for device in document["devices"] for block in device["blocks"]}
    assert sorted(block for device in document["devices"] for block in device["blocks"]) == list(range(12))
    assert all(document["device_map"][f"model.layers.{block}"] == index for block, index in placed.items())


def test_a_gpu_that_is_not_used_is_listed_with_no_blocks(ask: Ask) -> None:
    _, document = ask("--gpus", "24,1")
    used, unused = document["devices"]
    assert document["strategy"] == "single"
    assert used["blocks"] == list(range(12))
    assert (unused["index"], unused["capacity_bytes"]) == (1, GIB)
    assert (unused["blocks"], unused["total_bytes"], unused["utilisation"]) == ([], 0, 0)


def test_the_first_remedy_makes_it_fit_when_it_is_set(ask: Ask) -> None:
    code, document = ask("--gpus", TOO_SMALL)
    best = document["advice"][0]
    assert (code, best["fits"]) == (1, True)
    code, document = ask(
        "--gpus", TOO_SMALL, *(f"--set={key}={json.dumps(value)}" for key, value in best["change"].items())
    )
    assert (code, document["fits"]) == (0, True)


def test_set_wins_over_the_file_and_so_does_model(ask: Ask, model: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(f"model_name: {model}\nr: 8\nmax_length: 1024\n")

    def adapter_bytes(*words: str, model: str | None = None) -> int:
        (device,) = ask(str(path), "--gpus", "80", *words, model=model)[1]["devices"]
        return int(device["breakdown"]["adapter"])

    assert adapter_bytes("--set", "r=16") == 2 * adapter_bytes()
    assert adapter_bytes("--set", "r=16", "--set", "target_modules=[q_proj]") < adapter_bytes()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text(json.dumps(FACTS | {"num_hidden_layers": 6}))
    assert 2 * adapter_bytes(model=str(tmp_path / "other")) == adapter_bytes()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--gpus", "24;12"], "24;12"),
        (["--gpus", "0"], "0"),
        (["--gpus", "3xNoSuchCard"], "NoSuchCard"),
        (["--gpus", ""], "24,12,8"),
        (["--gpus", "1"], "min_memory_gb"),
        (["--gpus", "24", "--set", "r"], "--set"),
        (["--gpus", "24", "--set", "r=x"], "`r`"),
        (["--gpus", "24", "--set", "rnak=8"], "rnak"),
        (["--gpus", "24", "--model", "no/such-model"], "no/such-model"),
        (["none.yaml", "--gpus", "24"], "none.yaml"),
    ],
    ids=str,
)
def test_a_wrong_question_is_one_sentence(
    words: list[str], said: str, ask: Ask, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, document = ask(*words)
    assert code == 2
    assert document.keys() == {"error"}
    assert said in document["error"]
    assert main(["plan", "--model", model, *words, "--lang", "zh"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.strip()


def test_a_question_without_a_model_is_wrong(ask: Ask) -> None:
    code, document = ask("--gpus", "24", model=None)
    assert code == 2
    assert "model_name" in document["error"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_in_words_every_gpu_has_its_line_and_remedies_come_where_it_does_not_fit(language: str, say: Say) -> None:
    code, text = say("--gpus", "24,12,8", language=language)
    assert code == 0
    assert all(f"\n{index} GPU {size} GiB " in text for index, size in enumerate((24, 12, 8)))
    assert "gradient_checkpointing" not in text
    code, text = say("--gpus", TOO_SMALL, language=language)
    assert code == 1
    assert "gradient_checkpointing" in text


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_nothing_is_traced_for_remedies_where_the_plan_fits(
    words: list[str], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    traced = shown_at_each_trace(monkeypatch, lambda: "")
    assert main(["plan", "--model", model, "--gpus", "24,12,8", *words]) == 0
    assert len(traced) == 1


def test_the_plan_is_there_before_a_remedy_is_traced_and_each_remedy_before_the_next(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = shown_at_each_trace(monkeypatch, lambda: capsys.readouterr().out)
    assert main(["plan", "--model", model, "--gpus", TOO_SMALL, "--lang", "en"]) == 1
    assert shown[0] == ""
    assert shown[1].startswith("It does not fit")
    assert any("\n- " in text for text in shown[2:])


def shown_at_each_trace(monkeypatch: pytest.MonkeyPatch, shown: Callable[[], str]) -> list[str]:
    """What `shown` gives whenever a profile is made, from then on."""
    seen: list[str] = []

    def trace(facts: dict[str, Any], config: Any) -> Any:
        seen.append(shown())
        return source(dict(facts))(config)

    monkeypatch.setattr(module, "trace_here", trace)
    return seen


def traced(facts: object, config: TrainingConfig) -> Profile:
    """The same figures as a trace would give them."""
    return replace(source(FACTS)(config), method="traced", expected_error=0.01)


@pytest.mark.parametrize(
    ("gpus", "colour", "profile"),
    [
        ("24,12,8", "\033[32m", traced),
        (TIGHT, "\033[33m", traced),
        ("24,12,8", "\033[33m", None),
        (TOO_SMALL, "\033[31m", traced),
    ],
    ids=["green", "amber where it is tight", "amber where a formula guesses", "red"],
)
def test_the_verdict_is_coloured_on_a_terminal_and_nowhere_else(
    gpus: str, colour: str, profile: object, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    if profile:
        monkeypatch.setattr(module, "trace_here", profile)
    assert "\033" not in say("--gpus", gpus)[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    verdict, *others = say("--gpus", gpus)[1].splitlines()
    assert colour in verdict
    assert verdict.endswith("\033[0m")
    assert "\033" not in "".join(others)


def test_without_gpus_named_it_is_planned_for_this_machine(ask: Ask, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    _, document = ask()
    assert [device["index"] for device in document["devices"]] == ["cpu"]
    assert document["strategy"] == "cpu"
    with use_language("en"):
        why = str(machine_targets(this_installation())[2])
    assert why in say()[1]


def test_a_model_is_traced_where_no_profile_is_known_and_stdout_is_the_document_alone(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    done = call(
        "-m", "lora_backend", "plan", "--model", str(tmp_path), "--gpus", "24,12,8", "--json", "--set", "precision=bf16"
    )
    assert done.returncode == 0, done.stderr
    document = strict(done.stdout)
    assert document["method"] == "traced"
    assert sorted(block for device in document["devices"] for block in device["blocks"]) == list(range(5))


def test_time_cost_largest_batch_and_longest_row_are_said(ask: Ask, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--gpus", "RTX-4090", "--rows", "1000", "--price", "1.5 eur"]
    _, document = ask(*words)
    low, high = document["step_seconds"]
    assert 0 < low < high < 10 * low
    assert document["num_steps"] == 750, "three epochs of 1,000 rows, four in a step"
    assert document["total_seconds"] == pytest.approx([750 * low, 750 * high])
    assert document["cost"] == pytest.approx([seconds / 3600 * 1.5 for seconds in document["total_seconds"]])
    assert (document["currency"], document["goal"], document["row_tokens"]) == ("EUR", "balance", None)
    assert (document["mean_batch_tokens"], document["mean_batch_bytes"]) == (None, None), "no data set is named"
    assert document["largest_batch_is_exact"]
    batch, row = document["largest_batch"], document["longest_row"]
    monkeypatch.setenv("FLIGHTDECK_GPU_PRICE", "3CNY")
    _, of_here = ask(*words[:4])
    assert (of_here["currency"], of_here["cost"]) == ("CNY", pytest.approx([2 * amount for amount in document["cost"]]))
    _, text = say(*words)
    for sentence in (
        r"A step takes [\d.]+ to [\d.]+ s; the run [\d.]+ to [\d.]+ (min|h)\.",
        r"The run costs [\d.]+ to [\d.]+ EUR\.",
    ):
        assert re.search(sentence, text), text
    assert f"Largest batch that fits: {batch:,}." in text
    assert f"Longest row that fits: {row:,} tokens." in text
    assert "assumes that every row has 1,024 tokens" in text
    _, chinese = say(*words, language="zh")
    assert f"放得下的最大批大小：{batch:,}。" in chinese


@pytest.mark.parametrize("batching", ["auto", "padded", "packed"])
def test_what_the_mean_batch_holds_stands_beside_the_longest(
    batching: str, ask: Ask, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    conditions = Conditions(lengths=RowLengths((100, 300), 40))
    monkeypatch.setattr(module, "conditions_for", lambda *_: conditions)
    words = ["--gpus", "RTX-4090", "--set", "batch_size=4", "--set", f"batching={batching}"]
    _, document = ask(*words)
    (device,) = document["devices"]
    assert document["batching"] == ("flat" if batching == "auto" else batching)
    tokens, held = document["mean_batch_tokens"], document["mean_batch_bytes"]
    if batching == "packed":
        assert 0.9 * 4 * 1024 < tokens <= 4 * 1024
        assert held == pytest.approx(device["total_bytes"], rel=0.1)
    else:
        assert 4 * 200 <= tokens <= 4 * 300
        assert (tokens == 4 * 200) is (batching == "auto")
        assert device["breakdown"]["weights"] < held < device["total_bytes"]
    said = f"A batch of average length ({tokens:,.0f} tokens) takes {held / 2**30:.1f} GiB on GPU 0 (RTX-4090)"
    assert said in say(*words)[1]
    assert "平均长度" in say(*words, language="zh")[1]


def test_a_time_that_nobody_can_know_is_not_said(ask: Ask, say: Say) -> None:
    _, document = ask("--gpus", "24", "--price", "2")
    assert (document["step_seconds"], document["total_seconds"], document["cost"]) == (None, None, None)
    assert "name the cards, such as 2xRTX-4090" in say("--gpus", "24")[1]


def test_a_price_without_a_cost_says_why(say: Say) -> None:
    assert "give the number of data rows with `--rows`" in say("--gpus", "RTX-4090", "--price", "2")[1]
    assert "`--rows`" not in say("--gpus", "RTX-4090", "--price", "2", "--rows", "10")[1]
    text = say("--price", "2", "--rows", "10")[1]
    assert "This run uses no GPU, so it has no cost." in text
    assert "no cost" not in say("--rows", "10")[1]


@pytest.mark.parametrize("size", [{}, {"batch_size": 4096}])
def test_host_memory_is_not_called_a_gpus(size: dict[str, int], say: Say) -> None:
    text = say(*(f"--set={key}={value}" for key, value in size.items()), language="zh")[1]
    assert "CPU" in text
    assert "显存" not in text.splitlines()[0]


def test_speed_takes_the_fast_card_alone(ask: Ask) -> None:
    used = {}
    for goal in ("balance", "fewest", "speed"):
        _, document = ask("--gpus", "RTX-3060-12G,RTX-4090", "--goal", goal)
        assert document["goal"] == goal
        used[goal] = [device["name"] for device in document["devices"] if device["blocks"]]
    assert used["speed"] == ["RTX-4090"]
    assert len(used["balance"]) == 2


@pytest.mark.parametrize(
    ("option", "value"), [("--price", "cheap"), ("--price", "-1"), ("--price", "0"), ("--price", "1e999"), ("--rows", "0"), ("--rows", "many"), ("--rows", "1.5")]
)  # fmt: skip
def test_a_price_or_a_number_of_rows_that_is_none_is_refused_in_one_sentence(option: str, value: str, ask: Ask) -> None:
    code, document = ask("--gpus", "24", f"{option}={value}")
    assert code == 2
    assert option in document["error"]


def test_a_picture_is_drawn_where_a_file_is_named(ask: Ask, tmp_path: Path) -> None:
    file = tmp_path / "plan.svg"
    code, _ = ask("--gpus", "24", "--svg", str(file), "--theme", "dark")
    assert code == 0
    assert file.read_text("utf-8").startswith("<svg ")
