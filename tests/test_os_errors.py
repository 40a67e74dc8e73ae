"""What the file system refuses, as a person reads it: the folder, and what to do."""

from __future__ import annotations

import ast
import errno
import os
from pathlib import Path

import pytest

from lora_backend.errors import DiskFullError, FileRefusedError
from lora_backend.installation import this_installation
from lora_backend.os_errors import in_words

ROOT = Path(__file__).parents[1]


def refused(code: int, path: Path | None) -> str:
    error = OSError(code, os.strerror(code))
    if path is not None:
        error.filename = str(path)
    return str(in_words(error, this_installation().workspace))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.ENOSPC, "There is no space left in {folder}. Free some space, then try again."),
        (errno.EDQUOT, "There is no space left in {folder}. Free some space, then try again."),
        (errno.EROFS, "{folder} is read-only. Make it writable, or set FLIGHTDECK_WORKSPACE to another folder and start again."),
        (errno.EACCES, "The permissions of {path} do not allow this. Change them, or set FLIGHTDECK_WORKSPACE to another folder and start again."),
        (errno.ENOTDIR, "A part of the path {path} is a file, where a folder is needed. Rename or move that file, then try again."),
        (errno.EIO, "The disk with {folder} reports a read or write error. Check the disk and its cable or connection, then try again."),
        (errno.ESTALE, "The drive with {folder} does not answer. Check that it is connected, then try again."),
        (errno.EBADMSG, "{path} cannot be read or written: Bad message."),
    ],
)  # fmt: skip
def test_each_refusal_names_folder_or_file_and_a_remedy(code: int, sentence: str, workspace: Path) -> None:
    (workspace / "drafts").mkdir(parents=True)
    path = workspace / "drafts/ab12cd34/config.yaml"
    assert refused(code, path) == sentence.format(folder=workspace / "drafts", path=path)


def test_every_code_of_the_system_is_a_sentence(workspace: Path) -> None:
    for code in errno.errorcode:
        for path in (workspace / "x", None):
            sentence = refused(code, path)
            assert sentence.endswith(".")
            assert "Errno" not in sentence
    assert str(in_words(OSError("no code at all"), workspace)).endswith(": OSError.")


def test_a_write_to_an_open_file_of_which_the_system_names_none_is_one_to_the_workspace(workspace: Path) -> None:
    workspace.mkdir()
    error = in_words(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), workspace)
    assert isinstance(error, DiskFullError)
    assert f"no space left in {workspace}." in str(error)


def test_outside_the_workspace_another_place_is_the_remedy(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert (
        refused(errno.EROFS, tmp_path / "out/x.yaml")
        == f"{tmp_path / 'out'} is read-only. Make it writable, or choose another folder."
    )


def test_a_workspace_that_cannot_be_made_is_the_workspaces_fault(workspace: Path, tmp_path: Path) -> None:
    assert "FLIGHTDECK_WORKSPACE" in refused(errno.EROFS, workspace)


def test_a_name_of_thousands_of_letters_is_cut(workspace: Path) -> None:
    assert len(refused(errno.ENAMETOOLONG, workspace / ("x" * 5000))) < 500


def test_a_sentence_of_ours_stays_as_it_is() -> None:
    error = FileRefusedError("{path} is refused.", path="x")
    assert in_words(error, Path()) is error


def sources(folder: str) -> list[Path]:
    return sorted(path for path in (ROOT / folder).rglob("*.py"))


def test_every_callback_is_handed_over_safely() -> None:
    """An error in a callback would leave a page that breaks in the place of the page."""
    bare = []
    for path in sources("pages"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            pairs = [(str(node.arg), node.value)] if isinstance(node, ast.keyword) else []
            if isinstance(node, ast.Dict):
                pairs = [
                    (str(key.value), value)
                    for key, value in zip(node.keys, node.values, strict=True)
                    if isinstance(key, ast.Constant)
                ]
            for name, value in pairs:
                is_callback = name.startswith("on_") and not isinstance(value, ast.Constant)
                if is_callback and not (isinstance(value, ast.Call) and ast.unparse(value.func) == "safely"):
                    bare.append(f"{path.relative_to(ROOT)}:{value.lineno} {ast.unparse(value)}")
    assert bare == []


def test_every_fragment_is_sheltered() -> None:
    """A fragment runs without the page around it."""
    bare = []
    for path in sources("pages"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef):
                decorators = [ast.unparse(one) for one in node.decorator_list]
                if (
                    any(one.startswith(("st.fragment", "st.dialog")) for one in decorators)
                    and "sheltered()" not in decorators
                ):
                    bare.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert bare == []
