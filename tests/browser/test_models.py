"""Models and adapters from outside in a real browser: a zip is verified, a model is downloaded and used in a config."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.adapter_files import adapter_files, zipped
from tests.browser.conftest import Dashboard, free_port, idle, press, settled
from tests.browser.patience import expect
from tests.hub_server import HubServer
from tests.tiny import STUB

pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as server:
        weights = (2).to_bytes(8, "little") + b"{}"
        server.add("org/tiny", {"config.json": json.dumps(STUB).encode(), "model.safetensors": weights})
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def test_an_adapter_and_a_config_come_to_a_verdict_in_three_clicks_and_its_address_is_shared(
    dashboard: Dashboard, page: Page, tmp_path: Path
) -> None:
    """Each file that is chosen is a click, and so is the button between the two."""
    packed = tmp_path / "shop.zip"
    packed.write_bytes(zipped(adapter_files(), "my-adapter/"))
    uploads = page.get_by_test_id("stPopoverBody").get_by_test_id("stFileUploaderDropzoneInput")
    settled(page, f"{dashboard.url}/verify")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(packed)
    page.wait_for_url(re.compile(r"adapter=uploaded_adapters%2Fshop-[0-9a-f]{8}"))
    expect(page.get_by_text("1 of 1 LoRA layer has")).to_be_visible()
    address = page.url
    settled(page, address)
    expect(page.get_by_text("1 of 1 LoRA layer has")).to_be_visible()
    config = tmp_path / "asked.yaml"
    config.write_text("model_name: org/tiny\nr: 4\nalpha: 64\ntarget_modules: [q_proj]\n")
    press(page.get_by_role("button", name="Check against a config"))
    uploads.set_input_files(config)
    answer = page.locator(".st-key-verify_answer")
    expect(answer).to_contain_text("It is not what it says.")
    expect(answer).to_contain_text("1 layer is not scaled as expected")
    expect(page.get_by_role("button", name="Against asked.yaml")).to_be_visible()
    settled(page, address)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped({"../evil": b"x"}))
    press(page.get_by_role("button", name="Upload an adapter"))
    uploads.set_input_files(bad)
    expect(page.get_by_text("which would be outside its folder")).to_be_visible()
    assert len(list((dashboard.workspace / "uploaded_adapters").iterdir())) == 1


def test_a_model_is_downloaded_and_used_in_a_config(hub: HubServer, tmp_path: Path, page: Page) -> None:
    dashboard = Dashboard(tmp_path, free_port())  # after the hub, whose address it is given
    dashboard.start()
    try:
        settled(page, f"{dashboard.url}/models?model=org/tiny")
        press(page.get_by_role("button", name="Look it up"))
        press(page.get_by_role("button", name="Download", exact=True))
        here = page.locator(".st-key-here-org-tiny")
        expect(here.get_by_text("hub cache")).to_be_visible()
        idle(page)
        press(here.get_by_role("button", name="New config with it"))
        page.wait_for_url(re.compile(r"/config\?.*draft="))
        expect(page.get_by_role("combobox", name=re.compile("model_name"))).to_have_value(re.compile("org/tiny"))
    finally:
        dashboard.kill()
