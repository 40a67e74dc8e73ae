"""Reads the source of all pages: no text reaches one without what makes it harmless there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.text_flow import FIGURES, PAGES, ROOT, Place, giving, tree_of
from tests.text_places import TABLES, calls, markdown_places, text_places

HTML = ROOT / "pages/parts/shell/html.py"
OURS_IN_TAGS = {"name", "height", "style"}
"""Put together of constants where they stand."""


def test_every_text_that_streamlit_reads_as_markdown_is_escaped() -> None:
    places = list(markdown_places())
    assert len(places) > 300
    assert [str(place) for place in places if not place.is_harmless()] == []


def test_every_text_that_streamlit_shows_as_it_is_was_made_visible() -> None:
    places = list(text_places())
    assert len(places) > 20
    assert [str(place) for place in places if not place.is_harmless()] == []


def test_every_table_is_made_by_what_escapes_its_cells() -> None:
    for path in PAGES:
        for method, call in calls(path):
            if method in TABLES and call.args:
                made = {
                    node.func.id
                    for node in ast.walk(call.args[0])
                    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                }
                assert TABLES[method] in made or ast.unparse(call.args[0]).startswith("style"), (
                    f"{path.name}:{call.lineno}"
                )


def test_html_is_ours_alone() -> None:
    """A constant, a code of `LANGUAGES`, or what a function gives whose texts `tag` has escaped."""
    made = giving("Html")
    for path in PAGES:
        for method, call in calls(path):
            if method in ("html", "iframe") and path != HTML:
                given = call.args[0]
                is_made = isinstance(given, ast.Call) and isinstance(given.func, ast.Name) and given.func.id in made
                named = {node.id for node in ast.walk(given) if isinstance(node, ast.Name)}
                constants = {name for name in named if name.isupper()}
                assert is_made or named - constants <= {"cookie_script", "html_lang_script", "code"}, (
                    f"{path.name}:{call.lineno}"
                )
            assert not any(keyword.arg == "unsafe_allow_html" for keyword in call.keywords), (
                f"{path.name}:{call.lineno}"
            )


def test_only_one_module_makes_html() -> None:
    """Names of tags and styles are ours too: `tag` escapes what stands between them."""
    assert "tag" in giving("Html")
    for path in PAGES:
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called != "Html" or path == HTML, f"{path.name}:{node.lineno}"
            if called == "tag":
                named = [node.args[0], *(keyword.value for keyword in node.keywords if keyword.arg == "style")]
                names = {one.id for part in named for one in ast.walk(part) if isinstance(one, ast.Name)}
                assert names <= OURS_IN_TAGS or all(name.isupper() for name in names - OURS_IN_TAGS), (
                    f"{path.name}:{node.lineno}: {names}"
                )


def test_texts_in_charts_are_no_tags() -> None:
    """plotly reads `<a href>` in names, texts and templates of hovering."""
    harmless = frozenset({"in_chart", "t", "t_plain", *FIGURES, "room", "ranges"})
    for path in PAGES:
        if "plotly.graph_objects" not in path.read_text("utf-8"):
            continue
        for node in ast.walk(tree_of(path)):
            for keyword in node.keywords if isinstance(node, ast.Call) else ():
                if keyword.arg in ("name", "hovertemplate", "text"):
                    place = Place(path, keyword.value, harmless, "markdown")
                    assert place.is_harmless(), str(place)


HARMFUL = (
    "st.error(str(error))", "st.caption(f'{run.id} · {name}')", "st.markdown(' · '.join(parts))", "column.metric(t(N_('x')), value)",
    "st.button('Take ' + key)", "st.page_link(RUNS, label=title)", "st.tabs([t(N_('x')), name])", "st.toast(error.message.text())",
    "place = name\nst.info(place)", "said = [t(N_('x'))]\nsaid.append(name)\nst.info(joined(' ', said)) or st.info(said[0])", "for one in names:\n    st.write(one)",
    "def f(label: str):\n    st.checkbox(label)", "st.radio(t(N_('x')), names)", "st.pills(t(N_('x')), names, format_func=str)", "st.write(name or t(N_('x')))",
    "st.caption(t(N_('x')) if x else name)", "st.checkbox(t(N_('x')), help=name)", "shared = {'help': name}\nst.toggle(t(N_('x')), **shared)", "st.markdown(Markdown(name))", "status.update(label=name)",
)  # fmt: skip
HARMLESS = (
    "st.error(explain(error))", "st.caption(f'{escape(run.id)} · **{count:.1f}**')", "st.button(t(N_('Take {key}'), key=key))", "st.tabs([t(name) for name in names])",
    "def f(label: Markdown | None = None):\n    st.checkbox(label or t(N_('x')))", "st.radio(t(N_('x')), names, format_func=escape)", "st.metric(t(N_('x')), escape(value))",
    "for label, figure in ((t(N_('x')), escape(x)), (t(N_('y')), escape(y))):\n    st.metric(label, figure)",
)  # fmt: skip


@pytest.mark.parametrize("source", HARMFUL)
def test_what_forgets_to_escape_is_found(source: str, tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(source)
    assert not all(place.is_harmless() for place in [*markdown_places([page]), *text_places([page])])


@pytest.mark.parametrize("source", HARMLESS)
def test_what_escapes_is_let_through(source: str, tmp_path: Path) -> None:
    page = tmp_path / "page.py"
    page.write_text(source)
    places = [*markdown_places([page]), *text_places([page])]
    assert places
    assert all(place.is_harmless() for place in places)


TERMINAL = sorted(
    path
    for path in (ROOT / "lora_backend").rglob("*.py")
    if path.name not in ("terminal.py", "example_usage.py", "reference.py")
)


def test_only_one_module_writes_to_a_terminal() -> None:
    """Everything else speaks through `terminal.show`, or gives JSON in which every letter of others is escaped."""
    for path in TERMINAL:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "print",
                "sys.stdout.write",
                "sys.stderr.write",
            ):
                assert ast.unparse(node.args[0]).startswith(("json.dumps(", "time.monotonic()")), (
                    f"{path.name}:{node.lineno}"
                )
            if (
                isinstance(node, ast.Call)
                and ast.unparse(node.func) == "json.dumps"
                and "print" in ast.unparse(getattr(node, "parent", node))
            ):
                assert "ensure_ascii" not in ast.unparse(node), f"{path.name}:{node.lineno}"


def test_every_log_for_people_has_the_formatter_that_escapes() -> None:
    for path in TERMINAL:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("logging.Formatter", "logging.basicConfig"):
                raise AssertionError(f"{path.name}:{node.lineno}: terminal.LogFormatter or log_to_stderr")
