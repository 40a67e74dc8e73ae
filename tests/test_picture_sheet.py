"""Pictures beside the ones before: what changed comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.browser.picture_sheet import changes, put_aside, share_changed, write_sheet


def picture(path: Path, color: str = "white", size: tuple[int, int] = (40, 20), spot: int = 0) -> Path:
    drawn = Image.new("RGB", size, color)
    drawn.paste("black", (0, 0, spot, spot))
    drawn.save(path)
    return path


def test_new_and_changed_pictures_come_first(tmp_path: Path) -> None:
    for name in ("same", "spot", "taller"):
        put_aside(picture(tmp_path / f"{name}.png"))
    picture(tmp_path / "same.png")
    picture(tmp_path / "spot.png", spot=4)
    picture(tmp_path / "taller.png", size=(40, 40))
    picture(tmp_path / "fresh.png")
    found = [(change.name, change.share) for change in changes(tmp_path)]
    assert found == [("fresh", None), ("taller", 0.5), ("spot", pytest.approx(16 / 800)), ("same", 0.0)]
    sheet = write_sheet(tmp_path).read_text()
    assert sheet.index("fresh") < sheet.index("taller</b>: 50.0% changed") < sheet.index("spot</b>: 2.0% changed")
    assert 'src="before/fresh.png"' not in sheet


def test_what_a_browser_smooths_is_no_change(tmp_path: Path) -> None:
    first, second = picture(tmp_path / "a.png", "#808080"), picture(tmp_path / "b.png", "#868686")
    assert share_changed(first, second) == 0
