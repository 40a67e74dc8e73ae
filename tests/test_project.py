"""The project's own files: what it needs is what it imports, and the command `flightdeck` does what it says."""

from __future__ import annotations

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"lora_backend", "pages", "app", "tests", "benchmarks", "tools"}
LOADED_BY_OTHERS = {
    "gguf": "transformers reads a packed model with it",
    "bitsandbytes": "transformers and PEFT quantize with it",
}
"""Packages that the project needs and may not import itself."""


def pins(*lines: str) -> dict[str, str]:
    """Name and version of each `name==version`; names as the package index compares them."""
    pinned = [line.split("#")[0].strip() for line in lines]
    return {_canonical(name): version for name, version in (line.split("==") for line in pinned if "==" in line)}


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str = "requirements.txt") -> dict[str, str]:
    return pins(*(ROOT / name).read_text().splitlines())


def imported(*roots: str) -> dict[str, set[str]]:
    """Distribution of each module that is imported from elsewhere, with the files that do so."""
    known = packages_distributions()
    found: dict[str, set[str]] = {}
    for path in _sources(*roots):
        for module in _modules(ast.parse(path.read_text())):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top not in OURS:
                for name in known.get(top, [top]):
                    found.setdefault(_canonical(name), set()).add(str(path.relative_to(ROOT)))
    return found


def _sources(*roots: str) -> Iterator[Path]:
    for root in roots:
        path = ROOT / root
        yield from sorted(path.rglob("*.py")) if path.is_dir() else [path]


def _modules(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_what_is_installed_from_the_clone_is_what_the_requirements_pin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert pins(*project["dependencies"]) == requirements()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in project["dependencies"]), "each is pinned exactly"


def test_the_requirements_are_what_the_product_imports_and_nothing_else() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    optional = pins(*(line for lines in extras.values() for line in lines))
    found = imported("app.py", "pages", "lora_backend")
    assert {name: files for name, files in found.items() if name not in requirements() | optional} == {}
    assert set(requirements()) - set(found) <= set(LOADED_BY_OTHERS)
    assert requirements()["torch"] == "2.13.0"
    assert not [name for name in requirements() if name.startswith("nvidia") and name != "nvidia-ml-py"]


def test_tests_and_benchmarks_import_only_what_the_development_requirements_add() -> None:
    """The yardsticks and test tools are no part of the product."""
    added = requirements("requirements-dev.txt")
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text()
    assert not set(added) & set(requirements())
    found = imported("tests", "benchmarks", *(["tools"] if (ROOT / "tools").is_dir() else []))
    assert {name: files for name, files in found.items() if name not in added and name not in requirements()} == {}


def test_the_package_is_typed_and_takes_its_data_along() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    package = ROOT / "lora_backend"
    taken = {path for pattern in setuptools["package-data"]["lora_backend"] for path in package.glob(pattern)}
    assert package / "py.typed" in taken
    there = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert there == taken


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


COMMAND = "import sys; from lora_backend.__main__ import flightdeck; sys.argv[0] = 'flightdeck'; sys.exit(flightdeck())"
"""What the installed command does, in an environment into which nothing is installed."""


def flightdeck(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_without_a_word_the_dashboard_is_served_from_any_folder(tmp_path: Path) -> None:
    """The console script names that function; `serve` is what it says where it is given no word."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"flightdeck": "lora_backend.__main__:flightdeck"}
    in_use = socket.socket()
    try:
        in_use.bind(("127.0.0.1", 8501))
        in_use.listen()
    except OSError:
        pass  # somebody's dashboard
    with in_use:
        process = flightdeck(tmp_path)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said == "Port 8501 is in use or not allowed. Choose another: --port 8600 (make run PORT=8600)\n"


def test_the_dashboard_answers_with_the_settings_of_the_clone(tmp_path: Path, port: int) -> None:
    process = flightdeck(tmp_path, "serve", "--port", str(port))
    try:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
                    policy = page.headers["Content-Security-Policy"]
            except OSError:
                time.sleep(0.1)
            else:
                assert "frame-ancestors" in policy, "app.py's own middleware"
                break
        assert process.poll() is None
        refused = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "elsewhere.example"})
        with pytest.raises(urllib.error.HTTPError):  # .streamlit/config.toml
            urllib.request.urlopen(refused, timeout=30)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_the_help_calls_the_command_by_its_name(tmp_path: Path) -> None:
    said, _ = flightdeck(tmp_path, "--help").communicate(timeout=60)
    assert said.startswith("usage: flightdeck ")
    assert "serve" in said


def test_where_there_is_no_clone_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lora_backend.cli import main
    from lora_backend.commands import serve

    monkeypatch.setattr(serve, "APP", tmp_path / "app.py")
    assert main(["serve"]) == 2
    assert "Install from the clone: pip install -e ." in capsys.readouterr().err
