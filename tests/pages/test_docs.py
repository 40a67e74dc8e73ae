"""The docs inside of the dashboard."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from pages.parts.shell.docs import FOLDER
from tests.pages.screens import show, texts

pytestmark = pytest.mark.usefixtures("workspace")


def headings(at: AppTest) -> list[str]:
    return [str(element.value) for kind in ("header", "subheader") for element in at.get(kind)]


def test_without_a_page_all_pages_are_listed_and_no_other_is_in_the_navigation() -> None:
    at = show("docs")
    links = [element.proto.query_string for element in at.get("page_link")]
    assert len(links) == len([path for path in FOLDER.glob("*.md") if "." not in path.stem])
    assert "page=check" in links


@pytest.mark.parametrize(
    ("language", "title", "said"),
    [
        ("en", "Check a config, and whether it can start", "may be meant for another"),
        ("zh", "检查配置，以及能否启动", "没有错误"),
    ],
)
def test_a_page_is_shown_in_the_readers_language(language: str, title: str, said: str) -> None:
    at = show("docs", page="check", lang=language)
    assert at.title[0].value == title
    assert said in texts(at)
    assert not at.info


def test_a_page_in_english_only_says_so() -> None:
    at = show("docs", page="design", lang="zh")
    assert at.title[0].value == "How it is built"
    assert [box.value for box in at.info] == ["本页只有英文版。"]


def test_an_outside_path_is_refused_and_the_list_stands_below() -> None:
    at = show("docs", page="../SECURITY")
    assert [box.value for box in at.error] == ["`../SECURITY` is not a docs page. Choose one from the list."]
    assert len(at.get("page_link")) > 20


def test_rules_have_a_heading_each() -> None:
    assert any("`unknown_key`" in heading for heading in headings(show("docs", page="rules")))
