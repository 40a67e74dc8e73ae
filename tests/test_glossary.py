"""The Chinese of pages, messages and docs keeps to the words of docs/glossary.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.messages import read_catalogue

ROOT = Path(__file__).parents[1]
FORBIDDEN = {
    r"词元": "token", r"验证损失": "评估损失", r"基础模型|底座": "基座模型", r"护照": "来源记录", r"断点(?!续传)|存档点": "检查点",
    r"[一多两几每]张 ?GPU": "块", r"仪表板|面板": "仪表盘", r"工作目录": "工作区", r"训练程序": "训练进程", r"学习率计划": "学习率调度",
    r"您": "你", r"样本": "行", r"(?<![\w/.-])hub(?![\w/.-]| \|)": "Hub", r"最满的(?:设备|GPU)": "占用最高的 GPU", r"众多适配器": "批量适配器",
    r"(?:个|恢复|停止)运行(?=[，。；的])|运行将": "任务", r"[\u3400-\u9fff]  +[\w{◇]|[\w}◇]  +[\u3400-\u9fff]": "one space",
}  # fmt: skip
"""What is not written → what is."""
ONLY_MESSAGES = {r"(?<=[\d}]) %": "%", r"第 [\d{][^ ]* 块": "层"}
"""In the catalogue alone: the docs have tables of measured figures."""


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)|https?://\S+|<!--.*?-->", "◇", text, flags=re.DOTALL)


def broken(text: str, rules: dict[str, str]) -> Iterator[str]:
    plain = without_code(text)
    for pattern, instead in rules.items():
        for found in re.finditer(pattern, plain):
            yield f"{plain[max(0, found.start() - 12) : found.end() + 12]!r}: {instead}"


def test_the_catalogue_keeps_to_the_glossary() -> None:
    for message in read_catalogue("zh_CN"):
        for text in (message.string,) if isinstance(message.string, str) else message.string:
            if message.id and not text.startswith(("⚠", "❌")):  # the original tool's own lines, word for word
                assert list(broken(text, FORBIDDEN | ONLY_MESSAGES)) == []


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.zh-CN.md")))
def test_the_docs_keep_to_the_glossary(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    if page == "glossary.zh-CN.md":
        text = re.sub("“[^”]*”|小写的 hub", "", text)  # it names what is not written
    assert list(broken(text, FORBIDDEN)) == []


def test_both_glossaries_name_the_same_terms() -> None:
    """Row by row: the English of the Chinese page is the first column of the English one, and the other way round."""

    def rows(name: str) -> list[list[str]]:
        lines = (ROOT / "docs" / name).read_text("utf-8").splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
        return [row for row in cells if row[0] not in ("term", "中文")]

    english, chinese = rows("glossary.md"), rows("glossary.zh-CN.md")
    assert [row[0] for row in english] == [row[1] for row in chinese]
    assert [row[2].split(", ")[0] for row in english] == [re.split("[、，]", row[0])[0] for row in chinese]
