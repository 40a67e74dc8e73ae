"""Base models that several files of this folder share."""

from __future__ import annotations

import pytest

from tests.verification.bases import Bases


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    """Tiny models, each made when it is first asked for; nobody changes them."""
    return Bases(tmp_path_factory.mktemp("bases"))
