"""The plan's picture for a slide: SVG that any reader takes, in both languages and themes, with nothing of others acting in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lora_backend.planning.plan import Plan
from lora_backend.planning.planner import Planner, with_changes
from lora_backend.planning.targets import of_words
from lora_backend.planning.ways import plan_fsdp
from lora_backend.views.strip_picture import THEMES, strip_svg, wrapped
from tests.planning.formula_plans import CONFIG, FACTS, source

SVG = "{http://www.w3.org/2000/svg}"
PICTURES = Path(__file__).parents[2] / "docs/pictures"
EVIL = '</title><script>alert(1)</script>"&\x1b[31m\u202e'


def plan_on(words: str, **changes: object) -> Plan:
    return Planner(source(FACTS), of_words(words)).plan(with_changes(CONFIG, min_memory_gb=0.1, **changes))


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("language", "verdict"), [("en", "It fits"), ("zh", "放得下")])
def test_it_says_what_the_plan_says_and_numbers_the_blocks(theme: str, language: str, verdict: str) -> None:
    svg = strip_svg(plan_on("8,6,6"), "org/model", language, theme)  # type: ignore[arg-type]
    said = texts(svg)
    assert any(verdict in line for line in said)
    assert any("GPU 1 · 6.0 GiB" in line for line in said)
    assert {str(block) for block in range(12)} <= set(said)
    root = ElementTree.fromstring(svg)
    assert verdict in (root.findtext(f"{SVG}desc") or "")
    assert ("#0e1117" in svg) is (theme == "dark")


def test_what_does_not_fit_is_told_by_a_sign_and_in_words() -> None:
    said = texts(strip_svg(plan_on("1,1"), "org/model", "en"))
    assert "✗" in said
    assert any("GiB over its free memory" in line for line in said)
    assert any("⚠" in line and "over" in line for line in said)


def test_names_of_others_are_text() -> None:
    plan = plan_on("24,12")
    devices = tuple(
        replace(device, target=replace(device.target, name=EVIL, held_bytes=2**30)) for device in plan.devices
    )
    svg = strip_svg(replace(plan, devices=devices), EVIL, "en")
    root = ElementTree.fromstring(svg)
    assert {node.tag for node in root.iter()} == {f"{SVG}{tag}" for tag in ("svg", "title", "desc", "rect", "text")}
    assert "\x1b" not in svg
    assert "\u202e" not in svg


def test_shards_and_long_sentences_have_their_place() -> None:
    here = Planner(source(FACTS), of_words("4xRTX-4090"))
    said = texts(strip_svg(plan_fsdp(here, with_changes(CONFIG, target_batch_size=4), here.targets), "m" * 200, "en"))
    assert any("shard 4 of 4" in line for line in said)
    assert all(len(line) <= 120 for line in said)
    assert list(wrapped("one two three", 70, 16)) == ["one two", "three"]
    assert list(wrapped("放得下放得下", 48, 16)) == ["放得下", "放得下"]


def test_the_pictures_that_the_readme_opens_with_are_there_and_whole() -> None:
    for language in ("en", "zh"):
        readme = (PICTURES.parents[1] / ("README.md" if language == "en" else "README.zh-CN.md")).read_text("utf-8")
        for theme in THEMES:
            assert f"docs/pictures/plan_{theme}_{language}.svg" in readme
            said = texts((PICTURES / f"plan_{theme}_{language}.svg").read_text("utf-8"))
            assert {str(block) for block in range(80)} <= set(said)
            assert any("Llama-3.1-70B" in line for line in said)
