"""Two edits of one draft: both are kept where they touch other keys, and nobody is overruled where they do not."""

from __future__ import annotations

import pytest

from lora_backend.config.two_edits import merged

BASE = "# a config\nmodel_name: m\nr: 4  # rank\nalpha: 8\ntarget_modules:\n- q_proj\n"


@pytest.mark.parametrize(
    ("mine", "theirs", "both"),
    [
        ({"r: 4": "r: 16"}, {"alpha: 8": "alpha: 32"}, {"r: 4": "r: 16", "alpha: 8": "alpha: 32"}),
        ({"r: 4": "r: 16"}, {"# rank": "# the rank"}, {"r: 4  # rank": "r: 16  # the rank"}),
        ({"r: 4": "r: 16"}, {"r: 4": "r: 16"}, {"r: 4": "r: 16"}),
        ({"- q_proj\n": "- q_proj\nseed: 7\n"}, {"- q_proj\n": "- q_proj\nbias: all\n"}, {"- q_proj\n": "- q_proj\nseed: 7\nbias: all\n"}),
        ({"- q_proj\n": "- q_proj\n- v_proj\n"}, {"# a config": "# our config"}, {"# a config": "# our config", "- q_proj\n": "- q_proj\n- v_proj\n"}),
        ({"alpha: 8\n": ""}, {"r: 4": "r: 5"}, {"alpha: 8\n": "", "r: 4": "r: 5"}),
    ],
)  # fmt: skip
def test_edits_of_other_keys_are_both_kept(mine: dict[str, str], theirs: dict[str, str], both: dict[str, str]) -> None:
    found = merged(BASE, changed(mine), changed(theirs))
    assert found is not None
    assert sorted(found.splitlines()) == sorted(changed(both).splitlines())


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ({"r: 4": "r: 16"}, {"r: 4": "r: 8"}),
        ({"r: 4  # rank\n": ""}, {"r: 4": "r: 8"}),
        ({"- q_proj\n": "- q_proj\nseed: 7\n"}, {"- q_proj\n": "- q_proj\nseed: 8\n"}),
        ({"- q_proj": "- v_proj"}, {"- q_proj\n": "- q_proj\n- k_proj\n"}),
        ({"r: 4": "r: [4"}, {"alpha: 8": "alpha: 32"}),
        ({"# rank": "# my rank"}, {"# rank": "# their rank"}),
    ],
)
def test_what_both_change_is_left_to_them(mine: dict[str, str], theirs: dict[str, str]) -> None:
    assert merged(BASE, changed(mine), changed(theirs)) is None


def changed(words: dict[str, str]) -> str:
    text = BASE
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    return text
