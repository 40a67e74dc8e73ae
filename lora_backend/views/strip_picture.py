"""A plan as one picture for a slide: the layer strip as SVG, with its verdict, in a language and for a light or dark page.

A pure function of the plan. Every text of others is escaped; there is no script, no style sheet and no link in it, and fonts
are those of whoever looks.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from typing import Literal

from lora_backend.escaping import visible
from lora_backend.i18n import N_, Message
from lora_backend.planning.cost.memory import Memory
from lora_backend.planning.plan import DevicePlan, Plan
from lora_backend.planning.report import tone, verdict
from lora_backend.terminal import Tone
from lora_backend.views.plan_view import strategy_message
from lora_backend.views.strip_view import (
    BLOCKS,
    COLORS,
    IN_DOUBT,
    NAMES,
    OUTLINE,
    TEXT,
    Cell,
    cells_of,
    device_message,
    part_message,
    room_message,
)

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
WIDTH, EDGE = 1200, 36
BAR_PX, ROW_PX = 36, 76
LINE_PX = 23
"""From one line of the verdict to the next."""
FONT = "system-ui, 'Segoe UI', 'Noto Sans', 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"
BACK = {"light": "#ffffff", "dark": "#0e1117"}
MUTED = {"light": "#56616b", "dark": "#a3adb6"}
TONES: dict[Tone, dict[str, str]] = {
    "good": {"light": "#1d6b42", "dark": "#6fd29b"},
    "doubt": IN_DOUBT["tight"],
    "bad": IN_DOUBT["over"],
}
SIGNS: dict[Tone, str] = {"good": "✓", "doubt": "⚠", "bad": "✗"}
NUMBERED_PX = 17
"""A cell that is narrower has no number."""
LONGEST_NAME, LONGEST_LINE = 56, 80
FREE = "#7d8791"


def strip_svg(plan: Plan, model_name: str, language: str, theme: Theme = "light") -> str:
    """The picture as a text in SVG. `model_name`: as the config says it."""
    return _Picture(plan, _cut(visible(model_name), LONGEST_NAME), language, theme).text()


@dataclass(frozen=True)
class _Picture:
    plan: Plan
    model_name: str
    language: str
    theme: Theme

    @property
    def title(self) -> Message:
        devices = self.plan.devices
        if len(devices) == 1:
            return Message(N_("{model} on {device}"), {"model": self.model_name, "device": device_message(devices[0])})
        return Message(N_("{model} on {count} devices"), {"model": self.model_name, "count": len(devices)})

    def text(self) -> str:
        said = list(wrapped(self._say(verdict(self.plan)), WIDTH - 2 * EDGE - 30, 17))
        top = 84 + LINE_PX * len(said) + 48
        legend = list(self._legend(top + ROW_PX * len(self.plan.devices) + 8))
        height = top + ROW_PX * len(self.plan.devices) + 34
        words = "; ".join(map(self._device_words, self.plan.devices))
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title words" font-family="{escape(FONT)}">',
                f'<title id="title">{escape(self._say(self.title))}</title>',
                f'<desc id="words">{escape(self._say(verdict(self.plan)))} {escape(words)}</desc>',
                f'<rect width="{WIDTH}" height="{height}" fill="{BACK[self.theme]}"/>',
                *self._head(said),
                *(line for row, device in enumerate(self.plan.devices) for line in self._row(device, top + ROW_PX * row)),
                *legend,
                "</svg>",
                "",
            ]
        )  # fmt: skip

    def _head(self, said: list[str]) -> Iterator[str]:
        """What is planned, whether it fits, and how it is placed."""
        colour = tone(self.plan)
        yield _words(EDGE, 54, self._say(self.title), 28, TEXT[self.theme], weight=700)
        yield _words(WIDTH - EDGE, 54, "LoRA Flightdeck", 15, MUTED[self.theme], anchor="end")
        fill = TONES[colour][self.theme]
        yield _words(EDGE, 90, SIGNS[colour], 18, fill, weight=700)
        for index, line in enumerate(said):
            yield _words(EDGE + 28, 90 + LINE_PX * index, line, 17, fill, weight=600)
        settings = self.plan.profile.settings
        facts = [self._say(strategy_message(self.plan)), settings.precision]
        facts += [settings.quantization] if settings.quantization else []
        facts += ["gradient_checkpointing"] if settings.gradient_checkpointing else []
        yield _words(EDGE + 28, 91 + LINE_PX * len(said), " · ".join(facts), 15, MUTED[self.theme])

    def _row(self, device: DevicePlan, top: float) -> Iterator[str]:
        """One device: the line of words, what is free there, and its cells."""
        scale = (WIDTH - 2 * EDGE) / self._widest_bytes()
        end = EDGE + device.target.total_bytes * scale
        part = self._say(part_message(self.plan, device))
        name = self._say(device_message(device)) + (f" · {part}" if part else "")
        used = f"{100 * device.utilisation:.0f}% · " if device.breakdown.total else ""
        doubt = IN_DOUBT.get(device.verdict)
        yield _words(EDGE, top - 9, _cut(name, LONGEST_LINE), 16, TEXT[self.theme], weight=600)
        room, fill = used + self._say(room_message(device)), (doubt or TEXT)[self.theme]
        yield _words(WIDTH - EDGE, top - 9, room, 16, fill, weight=600, anchor="end")
        yield _rect(EDGE, top, end - EDGE, FREE, opacity=0.16)
        begin = float(device.target.held_bytes)
        if begin:
            yield from self._cell(Cell("held", None, begin), EDGE, top, scale)
        for cell in cells_of(self.plan, device, Memory(self.plan.profile, self.plan.workload)):
            yield from self._cell(cell, EDGE + begin * scale, top, scale)
            begin += cell.size_bytes
        fill = (doubt or OUTLINE)[self.theme]
        yield f'<rect x="{end - 2:.1f}" y="{top - 4:.1f}" width="4" height="{BAR_PX + 8}" fill="{fill}"/>'

    def _cell(self, cell: Cell, left: float, top: float, scale: float) -> Iterator[str]:
        width = cell.size_bytes * scale
        fill = BLOCKS[(cell.unit or 0) % 2] if cell.kind == "block" else COLORS[cell.kind]
        yield _rect(left, top, width, fill, stroke=True)
        if cell.kind == "block" and cell.unit is not None and width >= NUMBERED_PX:
            yield _words(left + width / 2, top + BAR_PX / 2 + 4.5, str(cell.unit - 1), 12, "#ffffff", anchor="middle")

    def _legend(self, top: float) -> Iterator[str]:
        memory = Memory(self.plan.profile, self.plan.workload)
        kinds = {cell.kind for device in self.plan.devices for cell in cells_of(self.plan, device, memory)}
        kinds |= {"held"} if any(device.target.held_bytes for device in self.plan.devices) else set()
        left = float(EDGE)
        for kind in (kind for kind in NAMES if kind in kinds):
            name = self._say(Message(NAMES[kind]))
            yield f'<rect x="{left:.1f}" y="{top - 11}" width="13" height="13" rx="2" fill="{COLORS[kind]}"/>'
            yield _words(left + 20, top, name, 14, MUTED[self.theme])
            left += 20 + _width(name, 14) + 26

    def _device_words(self, device: DevicePlan) -> str:
        said = (device_message(device), part_message(self.plan, device), room_message(device))
        return ", ".join(filter(None, map(self._say, said)))

    def _widest_bytes(self) -> float:
        return max(
            max(one.target.total_bytes, one.target.held_bytes + one.breakdown.total) for one in self.plan.devices
        )

    def _say(self, message: Message) -> str:
        return message.text(self.language)


def wrapped(text: str, width: float, size: float) -> Iterator[str]:
    """Lines of `text` that are no wider: between words, and between any two Chinese signs."""
    line = ""
    for piece in _pieces(text):
        if line and _width(line + piece.rstrip(), size) > width:
            yield line.rstrip()
            line = ""
        line += piece
    yield line.rstrip()


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for sign in text:
        piece += sign
        if sign == " " or _is_wide(sign):
            yield piece
            piece = ""
    if piece:
        yield piece


def _width(text: str, size: float) -> float:
    """About; nobody measures a font here."""
    return size * sum(1.0 if _is_wide(sign) else 0.56 for sign in text)


def _is_wide(sign: str) -> bool:
    return unicodedata.east_asian_width(sign) in "WF"


def _words(x: float, y: float, text: str, size: int, fill: str, *, weight: int = 400, anchor: str = "start") -> str:
    look = f'font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {look}>{escape(text)}</text>'


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _rect(x: float, y: float, width: float, fill: str, *, stroke: bool = False, opacity: float = 1) -> str:
    more = "" if opacity == 1 else f' fill-opacity="{opacity}"'
    line = ' stroke="#ffffff" stroke-opacity="0.75" stroke-width="0.8"' if stroke else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{BAR_PX}" fill="{fill}"{more}{line}/>'
