"""The docs inside of the dashboard."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.config.drafts import new_draft
from lora_backend.installation import this_installation
from pages.parts.shell.docs import FOLDER
from tests.pages.screens import show, texts

pytestmark = pytest.mark.usefixtures("workspace")


def headings(at: AppTest) -> list[str]:
    return [str(element.value) for kind in ("header", "subheader") for element in at.get(kind)]


def listed(at: AppTest) -> list[str]:
    return [name for one in at.get("html") for name in re.findall(r"[?;&]page=([\w-]+)", one.proto.body)]


def test_without_a_page_all_pages_are_listed() -> None:
    assert sorted(listed(show("docs"))) == sorted(path.stem for path in FOLDER.glob("*.md") if "." not in path.stem)


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
    assert len(listed(at)) > 20


def test_a_finding_leads_to_what_is_said_of_its_rule_and_to_nothing_else() -> None:
    at = show("docs", page="rules", only="unknown_key")
    assert headings(at) == ["`unknown_key` (error)"]
    assert "is not a key of a training config" in texts(at)
    assert listed(at) == ["rules"], "the way to all of them"


def test_a_rule_that_is_not_there_shows_them_all() -> None:
    assert len(headings(show("docs", page="rules", only="x"))) > 50


def test_a_finding_on_the_config_page_links_to_its_rule() -> None:
    draft = new_draft(this_installation().drafts, "model_name: m\nlearnin_rate: 1e-4\n")
    links = [one.value for one in show("config", draft=draft.id).caption if "only=unknown_key" in one.value]
    assert links == ["[Why?](/docs?page=rules&only=unknown_key)"]
    assert headings(show("docs", page="rules", only="unknown_key"))
