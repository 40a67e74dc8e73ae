"""Rank reports as the dict that is promised and stored, and back again as the pages and commands take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lora_backend.verification.rank_documents import RankReport
from lora_backend.verification.rank_report import check_adapter_folder, check_layers


def folder_report(*arguments: Any, **more: Any) -> dict[str, Any]:
    return check_adapter_folder(*arguments, **more).to_dict()


def layers_report(*arguments: Any, **more: Any) -> dict[str, Any]:
    return check_layers(*arguments, **more).to_dict()


def typed(report: Mapping[str, Any]) -> RankReport:
    return RankReport.read(report)
