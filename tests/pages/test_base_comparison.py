"""The Verify page beside a base model: green where it fits, amber where it was not compared, a table of what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from lora_backend.errors import WorkerError
from tests.modeling.saved import saved_adapter, saved_base
from tests.pages.screens import ROOT, show, texts
from tests.verification.damaged_bases import DAMAGE, adapter, base


@pytest.fixture(autouse=True)
def _places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("FLIGHTDECK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FLIGHTDECK_MODEL_ROOTS", str(tmp_path))


def test_an_adapter_that_fits_its_base_is_green_and_says_what_it_was_held_against(tmp_path: Path) -> None:
    at = show("verify", adapter=str(adapter(tmp_path / "a", base(tmp_path / "base"))))
    (box,) = at.success
    assert box.value.startswith(
        "**It is what it says.**  \n6 of 6 LoRA layers have the expected rank. Every tensor of the file has its place in the base model."
    )
    assert not at.warning
    assert "Compared with the safetensors headers of" in texts(at)


def test_what_differs_is_a_table_with_both_shapes(tmp_path: Path) -> None:
    at = show("verify", adapter=str(adapter(tmp_path / "a", base(tmp_path / "base"), {}, DAMAGE["into"][0])))
    assert len(at.error) == 1
    table = next(found.value for found in at.dataframe if "What differs" in found.value)
    assert table.values.tolist() == [["model.layers.1.self_attn.q_proj.lora_A.weight", "other shape", "2 × 3", "2 × 6"]]


def test_a_base_that_is_not_here_or_outside_the_roots_leaves_it_amber(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = base(tmp_path_factory.mktemp("outside") / "base")
    for on, said in ((str(tmp_path / "gone"), "There is no model folder"), (str(outside), "outside the folders")):
        at = show("verify", adapter=str(adapter(tmp_path / "a", on)))
        assert ["Ranks OK, not compared with a base model" in box.value for box in at.warning] == [True]
        assert not at.success
        assert said in texts(at)


def test_the_page_asks_the_torch_process_where_headers_do_not_decide(tmp_path: Path) -> None:
    folder = saved_adapter(
        tmp_path / "a", saved_base(tmp_path / "base", "mixtral"), target_modules=["q_proj", "w1", "w2", "w3"]
    )
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=600)  # torch is imported and a model is built
    at.run().switch_page("pages/verify.py")
    at.query_params["adapter"] = str(folder)
    at.run()
    assert not at.exception
    assert len(at.success) == 1
    assert "built without its weights" in texts(at)
    assert [path.suffix for path in (tmp_path / "home").rglob("fits/*")] == [".json"]


class Silent:
    """A torch process that never answers in time."""

    asked = 0

    def ask(self, *_: object, **__: object) -> None:
        Silent.asked += 1
        raise WorkerError(
            "There was no answer within {seconds} s, so the request was cancelled. Try again.", seconds=180
        )


def test_a_process_that_does_not_answer_is_asked_again_by_a_button_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pages.parts.ranks.base.worker", Silent)
    at = show("verify", adapter=str(adapter(tmp_path / "a", base(tmp_path / "base", {"model_type": "mixtral"}))))
    assert ["Ranks OK, not compared with a base model" in box.value for box in at.warning] == [True]
    assert "There was no answer within 180 s" in texts(at)
    at.run()
    assert Silent.asked == 1
    at.button(key="ask-fit-disk").click().run()
    assert Silent.asked == 2
