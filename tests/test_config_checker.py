"""The checker and the trainer, as modules, as files, and from any folder, as the original tool's users call them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lora_backend.config.config_text import parse_config
from lora_backend.config.schema import KEYS, default_config
from lora_backend.config_checker import check_config_consistency, main
from lora_backend.train_lora import DEFAULT_CONFIG

PACKAGE = Path(__file__).parents[1] / "lora_backend"


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("command", "cwd"),
    [(["config_checker.py"], PACKAGE), ([str(PACKAGE / "config_checker.py")], Path("/")), (["-m", "lora_backend.config_checker"], PACKAGE.parent)],
    ids=["file-in-its-folder", "file-from-elsewhere", "module"],
)  # fmt: skip
def test_without_arguments_it_reports_on_the_defaults_wherever_it_is_run(command: list[str], cwd: Path) -> None:
    done = run(*command, "--lang", "en", cwd=cwd)
    assert done.returncode == 0, done.stderr
    report, _, template = done.stdout.partition("# Recommended full config:")
    assert "The config is valid." in report
    assert parse_config(template).values == {**default_config(), "model_name": "your_model_path"}


def test_a_file_called_like_a_module_of_ours_in_the_callers_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    for name in ("config.py", "data.py", "models.py", "settings.py", "runs.py"):
        (tmp_path / name).write_text("raise SystemExit('the wrong one')")
    assert run(str(PACKAGE / "config_checker.py"), cwd=tmp_path).returncode == 0


def test_help_of_the_trainer_needs_no_torch_and_no_config(tmp_path: Path) -> None:
    for command in (
        [str(PACKAGE / "train_lora.py"), "--help"],
        ["-X", "importtime", str(PACKAGE / "train_lora.py"), "--help"],
    ):
        done = run(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "--set" in done.stdout
        assert " torch" not in done.stderr


@pytest.mark.parametrize(
    ("text", "code"),
    [("model_name: no/where\n", 0), ("model_name: no/where\nr: 0\n", 1), ("", 1), ("r: [", 1), (None, 2)],
)
def test_its_exit_code_is_the_answer(
    text: str | None, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "c.yaml").write_text(text)
    assert main([str(tmp_path / "c.yaml")]) == code
    captured = capsys.readouterr()
    assert bool(captured.out) == (code != 2)
    assert bool(captured.err) == (code == 2)


def test_the_recommended_config_keeps_what_was_good_and_replaces_what_was_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text("model_name: no/where\nr: 8\nalpha: x\nnonsense: 1\n")
    assert main([str(tmp_path / "c.yaml"), "--lang", "en"]) == 1
    recommended = parse_config(capsys.readouterr().out.partition("# Recommended full config:")[2]).values
    assert recommended == {**default_config(), "model_name": "no/where", "r": 8}


def test_its_chinese_is_chinese_and_the_keys_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.yaml").write_text("model_name: no/where\nr: 0\n")
    assert main([str(tmp_path / "c.yaml"), "--lang", "zh"]) == 1
    out = capsys.readouterr().out
    assert "配置" in out
    assert all(f"{key}:" in out for key in KEYS)


def test_the_function_of_the_original_is_here_too() -> None:
    assert check_config_consistency({"model_name": "no/where", **DEFAULT_CONFIG})["differences"].keys() == {
        "model_name"
    }
    assert default_config() == DEFAULT_CONFIG
    assert "model_name" not in DEFAULT_CONFIG


def test_a_copied_package_folder_runs_where_it_was_copied(tmp_path: Path) -> None:
    """Its own folder must not hide the package, whatever that is called by the path that leads to it."""
    shutil.copytree(PACKAGE, tmp_path / "lora_backend", ignore=shutil.ignore_patterns("__pycache__"))
    done = run("config_checker.py", cwd=tmp_path / "lora_backend")
    assert done.returncode == 0, done.stderr
