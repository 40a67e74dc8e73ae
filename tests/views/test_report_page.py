"""A run's report: one page that says what came of the run, loads nothing, and runs nothing that a name or an answer holds."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from lora_backend.cli import main
from lora_backend.installation import this_installation
from lora_backend.runs.record.run_labels import write_labels
from lora_backend.runs.record.run_store import RunStore
from lora_backend.views.report_charts import Line, chart_svg
from lora_backend.views.report_page import report_page
from tests.run_files import add_point, add_start, end_run, make_run, put_answers

HOSTILE = '</td><script>alert(1)</script><img src="https://x.invalid/a.png" onerror=alert(1)>{{ 7*7 }}\x1b[2J'
LOADS = {"script", "img", "link", "iframe", "object", "embed", "audio", "video", "base", "form"}


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))


class Tags(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def trained(name: str = "mine", answer: str = "38 months") -> RunStore:
    config = {"model_name": "m", "r": 4, "target_modules": [name], "dataset": name}
    run = make_run(this_installation().runs, config=config, config_text=f"# {name}\nr: 4\n", argv=["true"], name=name)
    add_start(run, changes={"dataset": name})
    for step in range(1, 6):
        add_point(run, {"step": step, "loss": 2.0 / step, "learning_rate": 0.1, "time": step})
    put_answers(
        run,
        [{"question": name, "group": name, "expect": ["x"], "base_answer": "no", "base_correct": False, "adapter_answer": answer, "adapter_correct": True}],
    )  # fmt: skip
    write_labels(run.path, note=answer)
    end_run(run, "finished")
    return run


def page_of(run: RunStore, language: str = "en") -> str:
    return report_page(run, this_installation(), language)


def test_a_report_says_config_curves_answers_and_starts() -> None:
    page = page_of(trained())
    for said in ("<h1>mine</h1>", "2 → 0.4", "1 / 1", "✓ 38 months", "What is not the default:", "Starts of this run", "dataset: "):  # fmt: skip
        assert said in page, said
    assert page.count("<svg") == 2, "loss and learning rate; of the others there are no points"


def test_a_report_in_chinese_has_no_english_heading() -> None:
    page = page_of(trained("我的"), "zh")
    assert '<html lang="zh-CN">' in page
    for heading in re.findall(r"<(?:h2|th|dt|summary|figcaption)[^>]*>([^<]+)", page):
        assert not re.search(r"[A-Za-z]{4,}", heading.replace("token", "").replace("&nbsp;", "")), heading


def test_what_a_name_an_answer_or_a_config_holds_stays_text() -> None:
    page = page_of(trained(HOSTILE, HOSTILE))
    tags = Tags(page).found
    assert {tag for tag, _ in tags} & LOADS == set()
    assert not any(name.startswith("on") or name in ("src", "href") for _, found in tags for name in found)
    assert "&lt;script&gt;" in page
    assert "{{ 7*7 }}" in page
    assert "\x1b" not in page
    assert "default-src 'none'" in page


def test_a_picture_has_text_for_its_name_and_none_without_two_points() -> None:
    points = np.array([1.0, 2.0])
    svg = chart_svg("<b>Loss", [Line("loss", points, points)])
    assert svg is not None
    assert "&lt;b&gt;Loss" in svg
    assert chart_svg("Loss", [Line("loss", points[:1], points[:1])]) is None
    assert chart_svg("Loss", []) is None


def test_the_command_writes_it_where_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, place = trained(), tmp_path / "report.html"
    assert main(["runs", "report", run.id, "-o", str(place), "--json", "--lang", "zh"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(place)
    assert 'lang="zh-CN"' in place.read_text("utf-8")
    job = make_run(this_installation().runs, config={}, config_text="", argv=["true"], kind="export")
    assert main(["runs", "report", job.id]) == 2
