"""The command line, both scripts as files, and which half imports torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lora_backend.config.schema import default_config
from tests.python import ROOT, call


@pytest.mark.parametrize(
    ("text", "code"),
    [("model_name: no/where\n", 0), ("model_name: no/where\nr: x\n", 1), ("r: [\n", 1), (None, 2)],
)
def test_check_answers_with_its_exit_code_and_one_document(text: str | None, code: int, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    done = call("-m", "lora_backend", "check", str(path), "--json")
    assert done.returncode == code, done.stderr
    document = json.loads(done.stdout)
    assert ("error" in document) == (code == 2)
    assert code == 2 or document["is_valid"] == (code == 0)


def test_check_against_another_file_says_what_differs_from_it(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model_name: no/where\nr: 8\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("model_name: no/where\nr: 16\nalpha: 3\n")
    done = call(
        "-m", "lora_backend", "check", str(tmp_path / "a.yaml"), "--against", str(tmp_path / "b.yaml"), "--json"
    )
    assert json.loads(done.stdout)["differences"] == {
        "r": {"default": 16, "value": 8},
        "alpha": {"default": 3, "value": None},
        "seed": {"default": None, "value": 1},
    }
    text = call(
        "-m", "lora_backend", "check", str(tmp_path / "a.yaml"), "--against", str(tmp_path / "b.yaml"), "--lang", "zh"
    ).stdout
    assert "~ r: 16 → 8" in text
    assert "配置" in text


def test_check_against_a_script_reads_its_defaults_and_says_which_of_several_it_took(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model_name: no/where\nr: 8\nalpha: 16\nseed: 1\n")
    marker = tmp_path / "ran"
    (tmp_path / "train_lora.py").write_text(
        f"open({str(marker)!r}, 'w')\n"
        "OTHER = {'lora_r': 2}\n"
        "DEFAULT_CONFIG = {'lora_r': 16, 'model_name': 'no/where', 'lora_alpha': 16}\n"
        "import argparse\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--lora_r', type=int, default=4)\n"
    )
    command = ("-m", "lora_backend", "check", str(tmp_path / "c.yaml"), "--against", str(tmp_path / "train_lora.py"))
    done = call(*command, "--json", "--lang", "en")
    assert done.returncode == 0, done.stdout
    document = json.loads(done.stdout)
    assert document["differences"] == {"r": {"default": 4, "value": 8}, "seed": {"default": None, "value": 1}}
    assert document["script"]["sources"] == [
        {"line": 6, "name": "the options of argparse"},
        {"line": 3, "name": "the dict `DEFAULT_CONFIG`"},
    ]
    assert [remark["line"] for remark in document["script"]["remarks"]] == [3]
    text = call(*command, "--lang", "en").stdout
    assert "~ r: 4 → 8" in text
    assert "Line 6 of the script: the options of argparse, for its defaults." in text
    assert "Line 3 of the script: the dict `DEFAULT_CONFIG`, for keys that are not set above." in text
    assert "`lora_r` has another default on line 6, which is used." in text
    assert not marker.exists(), "read, not run"


def test_check_against_our_own_trainer_compares_with_its_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model_name: no/where\nr: 99\n")
    done = call(
        "-m", "lora_backend", "check", str(tmp_path / "c.yaml"), "--against", "lora_backend/train_lora.py", "--json"
    )
    differences = json.loads(done.stdout)["differences"]
    assert differences["r"] == {"default": default_config()["r"], "value": 99}
    assert differences.keys() == default_config().keys() | {"model_name"}


@pytest.mark.parametrize("source", [None, "x = 1\n", "def (", "x" * (1024 * 1024 + 1)])
def test_a_script_that_tells_no_defaults_is_one_sentence(source: str | None, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model_name: no/where\n")
    if source is not None:
        (tmp_path / "s.py").write_text(source)
    done = call("-m", "lora_backend", "check", str(tmp_path / "c.yaml"), "--against", str(tmp_path / "s.py"))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "has no keys" not in done.stderr


def test_the_checker_reports_on_the_defaults_when_run_as_a_file_in_its_folder() -> None:
    done = call("config_checker.py", "--lang", "en", cwd=ROOT / "lora_backend")
    assert done.returncode == 0, done.stderr
    assert "The config is valid." in done.stdout
    assert "gradient_checkpointing: false" in done.stdout
    assert call("config_checker.py", "none.yaml", cwd=ROOT / "lora_backend").returncode == 2


def test_the_trainer_and_the_tour_run_as_files_in_their_folder() -> None:
    assert call("train_lora.py", "--help", cwd=ROOT / "lora_backend").returncode == 0
    done = call("example_usage.py", "--quick", cwd=ROOT / "lora_backend")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "is_consistent: True" in done.stdout
    assert "is_consistent: False" in done.stdout
    assert "state: finished" in done.stdout


def test_verify_asks_the_right_questions(tmp_path: Path) -> None:
    done = call("-m", "lora_backend", "verify", str(tmp_path / "none"), "--json")
    assert (done.returncode, set(json.loads(done.stdout))) == (2, {"error"})
    (tmp_path / "a").mkdir()
    assert call("-m", "lora_backend", "verify", str(tmp_path / "a"), "--json").returncode == 1
    (tmp_path / "a/adapter_config.json").write_text('{"peft_type": "LOHA", "r": 4}')
    done = call("-m", "lora_backend", "verify", str(tmp_path / "a"), "--json")
    assert (done.returncode, json.loads(done.stdout)["status"]) == (2, "not_lora")


def test_both_module_names_give_the_same_functions() -> None:
    import lora_backend
    from lora_backend import loraTrainUtils

    assert lora_backend.__all__ == loraTrainUtils.__all__
    for name in lora_backend.__all__:
        assert getattr(lora_backend, name) is getattr(loraTrainUtils, name)
    with pytest.raises(AttributeError):
        _ = lora_backend.nothing
