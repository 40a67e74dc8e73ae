"""Where Streamlit gets text in the source of the pages, and whether it reads Markdown there."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.text_flow import ESCAPES, FIGURES, PAGES, TEXTS, Place, giving, giving_text, tree_of

LABEL = ((0,), ("label", "help"))
MARKDOWN: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("title", "header", "subheader", "markdown", "caption", "error", "warning", "info", "success", "toast", "write"), ((0,), ("body", "help"))),
    **dict.fromkeys(("button", "download_button", "form_submit_button", "checkbox", "toggle", "text_input", "text_area", "number_input", "file_uploader", "expander", "popover"), LABEL),
    **dict.fromkeys(("selectbox", "multiselect", "radio", "select_slider", "segmented_control", "pills", "slider", "badge", "status", "chat_input"), LABEL),
    "dialog": ((0,), ("title",)),
    "page_link": ((), ("label", "help")),
    "link_button": LABEL,
    "Page": ((), ("title",)),
    "tabs": ((0,), ("tabs",)),
    "spinner": ((0,), ("text",)),
    "progress": ((1,), ("text",)),
    "metric": ((0, 1, 2), ("label", "value", "delta", "help")),
    "update": ((), ("label",)),
}  # fmt: skip
"""Where Streamlit reads Markdown: method → its arguments."""
TEXT = {"code": (0, "body"), "text": (0, "body")}
"""Where it shows text."""
TABLES = {"dataframe": "frame", "table": "markdown_frame", "data_editor": "frame"}
OPTIONS = ("selectbox", "multiselect", "radio", "select_slider", "segmented_control", "pills")
NOT_STREAMLIT = ("re", "os", "json", "go", "figure", "state", "self", "archive")
"""Receivers whose methods only have the name of one of Streamlit's."""


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Calls of methods by the names of Streamlit's."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            receiver = node.func.value
            while isinstance(receiver, ast.Attribute | ast.Subscript):
                receiver = receiver.value
            if isinstance(receiver, ast.Name) and receiver.id not in NOT_STREAMLIT:
                yield node.func.attr, node


def markdown_places(paths: Sequence[Path] = PAGES) -> Iterator[Place]:
    harmless = frozenset(ESCAPES | FIGURES) | giving("Markdown")
    for path in paths:
        for method, call in calls(path):
            places, keywords = MARKDOWN.get(method, ((), ()))
            for place in places:
                if place < len(call.args):
                    yield Place(path, call.args[place], harmless, "markdown")
            for keyword in call.keywords:
                if keyword.arg in keywords:
                    yield Place(path, keyword.value, harmless, "markdown")
                elif keyword.arg is None and method in MARKDOWN:
                    yield from _spread(path, keyword.value, keywords, harmless)


def _spread(path: Path, value: ast.expr, keywords: tuple[str, ...], harmless: frozenset[str]) -> Iterator[Place]:
    """The texts among `**arguments`, which have to be written out where they can be found: in this function or the one called."""
    scope: ast.AST = value
    while not isinstance(scope, ast.FunctionDef | ast.Module):
        scope = scope.parent  # type: ignore[attr-defined]
    wanted = value.id if isinstance(value, ast.Name) else None
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        called = value.func.id
        scope = next(
            node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef) and node.name == called
        )
    elif isinstance(scope, ast.FunctionDef) and wanted in [argument.arg for argument in scope.args.args]:
        name, place = scope.name, [argument.arg for argument in scope.args.args].index(str(wanted))
        for call in (
            node
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
        ):
            yield from _spread(path, call.args[place], keywords, harmless)
        return
    found = [node for node in ast.walk(scope) if isinstance(node, ast.Dict)]
    if not found:
        yield Place(path, value, frozenset(), "markdown")
    for one in found:
        for key, part in zip(one.keys, one.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in keywords:
                yield Place(path, part, harmless, "markdown")


def text_places(paths: Sequence[Path] = PAGES) -> Iterator[Place]:
    for path in paths:
        for method, call in calls(path):
            if method in TEXT:
                place, word = TEXT[method]
                if any(isinstance(node, ast.Name) and node.id == "language" for node in ast.walk(call)):
                    continue  # `Message.text(language)`
                given = [*call.args[place : place + 1], *(key.value for key in call.keywords if key.arg == word)]
                yield from (Place(path, node, frozenset(TEXTS), "text") for node in given)
            if method in OPTIONS:
                yield from _options(path, method, call)


def _options(path: Path, method: str, call: ast.Call) -> Iterator[Place]:
    """Options are shown as they are by some, and as Markdown by others: unless they are ours, `format_func` has to make them harmless."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    shows = named.get("format_func")
    is_text = method in ("selectbox", "multiselect")
    harmless = frozenset(TEXTS) if is_text else frozenset(ESCAPES | FIGURES)
    if shows is None:
        options = named.get("options") or (call.args[1] if len(call.args) > 1 else ast.Constant(None))
        names = {node.id for node in ast.walk(options) if isinstance(node, ast.Name)} - {"list"}
        if not names or not all(name.isupper() for name in names):  # constants are ours
            yield Place(path, options, frozenset(), "markdown")
    elif isinstance(shows, ast.Lambda):
        yield Place(
            path,
            shows.body,
            harmless | (giving("Markdown") if not is_text else frozenset()),
            "text" if is_text else "markdown",
        )
    elif not (isinstance(shows, ast.Name) and shows.id in harmless | giving("Markdown") | giving_text()):
        yield Place(path, shows, frozenset(), "markdown")
