"""Which half imports torch: the light one never, whichever of its modules is asked for."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lora_backend

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "streamlit")


def light_modules() -> list[str]:
    """The modules that the import contract calls light, and those that people start, with all that lies below."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (light,) = [contract for contract in contracts if "the light half" in contract["name"]]
    started = [
        "lora_backend.cli",
        "lora_backend.commands",
        "lora_backend.config_checker",
        "lora_backend.train_lora",
        "lora_backend.demo.demo_run",
    ]
    roots = [*light["source_modules"], *started]
    everything = [
        module.name for module in pkgutil.walk_packages(lora_backend.__path__, "lora_backend.") if "." in module.name
    ]
    return [name for name in everything if any(name == root or name.startswith(f"{root}.") for root in roots)]


def loaded_after(script: str, cwd: Path = ROOT) -> list[str]:
    script += f"\nimport sys; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_no_light_module_brings_in_anything_heavy() -> None:
    modules = light_modules()
    assert len(modules) > 30
    assert loaded_after("\n".join(f"import {name}" for name in modules)) == []


def test_the_package_itself_is_light_and_a_light_public_name_stays_so() -> None:
    assert loaded_after("import lora_backend; dir(lora_backend)") == []
    check = "from lora_backend import check_config_consistency; check_config_consistency({'model_name': 'no/where'})"
    assert loaded_after(check) == []


def test_what_is_public_is_listed_and_nothing_else_is_there() -> None:
    assert set(lora_backend.__all__) <= set(dir(lora_backend))
    with pytest.raises(AttributeError, match="nothing"):
        _ = lora_backend.nothing
    assert set(lora_backend._HOMES) == set(lora_backend.__all__)
