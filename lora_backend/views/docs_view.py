"""The pages of `docs/` as the dashboard shows them: headings with their anchors, text, pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lora_backend.errors import FlightdeckError
from lora_backend.i18n import LANGUAGES, N_

Address = Callable[[str, str | None], str]
"""The address of a docs page, and of an anchor on it."""

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (N_("Set up a run"), ("config", "check", "rules", "recipes", "import")),
    (N_("Data"), ("data", "rows")),
    (N_("Models and memory"), ("models", "catalogues", "memory-model", "times", "scale", "gpu")),
    (N_("Runs"), ("runs", "clusters", "trackers", "speed", "troubles")),
    (N_("Results"), ("ranks", "try", "evaluate", "ship", "rank-truncation", "adapters")),
)
"""Pages by what they are about; the others stand last."""
OTHERS = N_("About Flightdeck")

FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")
PICTURE = re.compile(r"^!\[(?P<alt>[^\]]*)\]\((?P<path>[^)]+)\)\s*$")
LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<to>[^)\s]+)\)")
COMMENT = re.compile(r"<!--.*?-->\n?", re.DOTALL)
OTHER_LANGUAGE = re.compile(r"^\[[^\]]+\]\([\w-]+(?:\.[\w-]+)?\.md\)\s*$")
"""The line below a title that leads to the same page in another language: here the reader's language decides."""


class DocsError(FlightdeckError):
    """There is no such page."""

    code = "docs"


@dataclass(frozen=True)
class Heading:
    """A heading inside a page; `level` 2 and deeper."""

    level: int
    text: str
    anchor: str


@dataclass(frozen=True)
class Text:
    """Markdown between two headings; its links lead to pages of the dashboard."""

    markdown: str


@dataclass(frozen=True)
class Picture:
    """An image of `docs/pictures`."""

    path: Path
    alt: str


Block = Heading | Text | Picture


@dataclass(frozen=True)
class DocsPage:
    """One page in one language."""

    name: str
    title: str
    blocks: tuple[Block, ...]
    is_translated: bool
    """False where the reader's language has no such page, and the English one stands in its place."""

    def headings(self) -> list[Heading]:
        """Its sections."""
        return [block for block in self.blocks if isinstance(block, Heading)]

    def section(self, anchor: str | None) -> tuple[Block, ...]:
        """What stands below one heading, with it; nothing where there is no such heading."""
        found: list[Block] = []
        for block in self.blocks:
            if found and isinstance(block, Heading) and isinstance(found[0], Heading) and block.level <= found[0].level:
                break
            if found or (isinstance(block, Heading) and block.anchor == anchor):
                found.append(block)
        return tuple(found)


def list_docs(folder: Path, language: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Group → (name, title) of each page in it."""
    titles = {name: _title(_source(folder, name, language)[0].read_text("utf-8")) for name in _names(folder)}
    known = {name for _, names in GROUPS for name in names}
    groups = [*GROUPS, (OTHERS, tuple(name for name in titles if name not in known))]
    listed = [(group, [(name, titles[name]) for name in names if name in titles]) for group, names in groups]
    return [(group, pages) for group, pages in listed if pages]


def read_docs(folder: Path, name: str, language: str, address: Address) -> DocsPage:
    """The page `name` in `language`, English where there is none. A name that is no page of the folder is refused."""
    if name not in _names(folder):
        raise DocsError(N_("`{name}` is not a docs page. Choose one from the list."), name=name[:80])
    source, is_translated = _source(folder, name, language)
    text = COMMENT.sub("", source.read_text("utf-8"))
    blocks = tuple(_blocks(text, folder, lambda to: _leads_to(to, folder, name, address)))
    return DocsPage(name, _title(text), blocks, is_translated)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.md") if "." not in path.stem)


def _source(folder: Path, name: str, language: str) -> tuple[Path, bool]:
    if language == "en":
        return folder / f"{name}.md", True
    own = folder / f"{name}.{LANGUAGES[language].replace('_', '-')}.md"
    return (own, True) if own.is_file() else (folder / f"{name}.md", False)


def _title(text: str) -> str:
    return next((found[2] for line in text.splitlines() if (found := HEADING.match(line))), "")


def _blocks(text: str, folder: Path, leads_to: Callable[[str], str | None]) -> Iterator[Block]:
    """What stands below the title."""
    seen: dict[str, int] = {}
    lines: list[str] = []
    fence = ""
    for line in text.splitlines():
        mark = FENCE.match(line)
        if fence or mark:
            lines.append(line)
            if mark and not fence:
                fence = mark[1]
            elif mark and mark[1].startswith(fence):
                fence = ""
            continue
        heading, picture = HEADING.match(line), PICTURE.match(line)
        own = folder / picture["path"] if picture else None
        if not heading and not (own and _is_inside(own, folder)):
            lines += [] if OTHER_LANGUAGE.match(line) else [_linked(line, leads_to)]
            continue
        yield from _text(lines)
        lines = []
        if heading and len(heading[1]) > 1:
            yield Heading(len(heading[1]), _linked(heading[2], leads_to), _anchor(heading[2], seen))
        elif picture and own:
            yield Picture(own, picture["alt"])
    yield from _text(lines)


def _text(lines: list[str]) -> Iterator[Text]:
    if any(line.strip() for line in lines):
        yield Text("\n".join(lines).strip("\n"))


def _is_inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve()) and path.is_file()


def _linked(line: str, leads_to: Callable[[str], str | None]) -> str:
    """Links to other pages of the folder lead to them; of one to any other file its words stay."""
    return LINK.sub(lambda found: _link(found, leads_to), line)


def _link(found: re.Match[str], leads_to: Callable[[str], str | None]) -> str:
    to = leads_to(found["to"])
    return found["text"] if to is None else f"[{found['text']}]({to})"


def _leads_to(to: str, folder: Path, page: str, address: Address) -> str | None:
    if re.match(r"https?://", to):
        return to
    file, _, anchor = to.partition("#")
    if not file:
        return f"#{anchor}"
    name = re.sub(r"(\.[\w-]+)?\.md$", "", file)
    if not file.endswith(".md") or name not in _names(folder):
        return None
    return f"#{anchor}" if name == page and anchor else address(name, anchor or None)


def _anchor(text: str, seen: dict[str, int]) -> str:
    """As GitHub makes it; where a heading begins with a name in code, that name, whatever else is said."""
    named = re.match(r"`([^`]+)`", text)
    plain = named[1] if named else re.sub(r"[^\w\- ]", "", LINK.sub(r"\g<text>", text)).replace(" ", "-").lower()
    count = seen[plain] = seen.get(plain, -1) + 1
    return f"{plain}-{count}" if count else plain
