"""The pages of docs/ as the dashboard shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lora_backend.views.docs_view import DocsError, DocsPage, Heading, Picture, Text, list_docs, read_docs

DOCS = Path(__file__).parents[2] / "docs"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def address(name: str, anchor: str | None) -> str:
    return f"/docs?page={name}" + (f"#{anchor}" if anchor else "")


def names() -> list[str]:
    return [name for _, pages in list_docs(DOCS, "en") for name, _ in pages]


def page(name: str, language: str = "en") -> DocsPage:
    return read_docs(DOCS, name, language, address)


def markdown(shown: DocsPage) -> str:
    return "\n".join(
        block.markdown if isinstance(block, Text) else block.text
        for block in shown.blocks
        if not isinstance(block, Picture)
    )


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def test_every_file_of_the_folder_is_listed_once_with_its_title() -> None:
    listed = names()
    assert sorted(listed) == sorted(path.stem for path in DOCS.glob("*.md") if "." not in path.stem)
    assert len(set(listed)) == len(listed)
    assert all(title for _, pages in list_docs(DOCS, "zh") for _, title in pages)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_link_between_pages_leads_to_a_page_and_a_heading_of_it(language: str) -> None:
    shown = {name: page(name, language) for name in names()}
    anchors = {name: {heading.anchor for heading in one.headings()} for name, one in shown.items()}
    for name, one in shown.items():
        if not one.is_translated:
            continue  # its anchors are English ones
        for to in LINK.findall(without_code(markdown(one))):
            if to.startswith(("http://", "https://")):
                continue
            found = re.fullmatch(r"(?:/docs\?page=([\w-]+))?(?:#(.+))?", to)
            assert found, f"{name}: {to}"
            assert not found[2] or found[2] in anchors[found[1] or name], f"{name}: {to}"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_on_a_page_is_a_mark_of_streamlits_alone(language: str) -> None:
    """`$` begins a formula there, `:word[` a colour, `:word:` a symbol; and HTML is not read at all."""
    for name in names():
        odd = re.findall(
            r"\$|:[a-z]\w*\[|:[a-z_]+:|(?<!\\)<[a-z!/][^>]*>", without_code(markdown(page(name, language)))
        )
        assert odd == [], name


def test_a_heading_that_begins_with_a_name_in_code_has_that_name_as_anchor_in_every_language() -> None:
    for language in ("en", "zh"):
        assert "unknown_key" in {heading.anchor for heading in page("rules", language).headings()}


def test_a_page_without_a_translation_is_shown_in_english(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# A page\n\nwords\n")
    shown = read_docs(tmp_path, "a", "zh", address)
    assert (shown.title, shown.is_translated, shown.blocks) == ("A page", False, (Text("words"),))
    (tmp_path / "a.zh-CN.md").write_text("# 一页\n")
    assert read_docs(tmp_path, "a", "zh", address) == DocsPage("a", "一页", (), True)


@pytest.mark.parametrize(
    "name", ["../README", "..", "", "schemas", "check.zh-CN", "/etc/passwd", "a/b", "check.md", "x" * 500]
)
def test_what_is_no_page_of_the_folder_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(DocsError, match=r"is not a docs page\. Choose one from the list\.$"):
        page(name)


def test_a_page_is_taken_apart_and_its_links_are_rewritten(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/p.png").write_bytes(b"png")
    (tmp_path / "b.md").write_text("# B\n")
    (tmp_path / "a.md").write_text(
        "# A\n\n[中文](a.zh-CN.md)\n\nSee [b](b.md#two), [it](#one), [x](https://x.y) and [a file](../z.py).\n\n"
        "## One `two`\n\n```md\n## no heading\n[b](b.md)\n```\n\n![A picture](pictures/p.png)\n\n![None](../pictures/q.png)\n\n## One two\n"
    )
    shown = read_docs(tmp_path, "a", "en", address).blocks
    assert shown == (
        Text("See [b](/docs?page=b#two), [it](#one), [x](https://x.y) and a file."),
        Heading(2, "One `two`", "one-two"),
        Text("```md\n## no heading\n[b](b.md)\n```"),
        Picture(tmp_path / "pictures/p.png", "A picture"),
        Text("![None](../pictures/q.png)"),
        Heading(2, "One two", "one-two-1"),
    )
