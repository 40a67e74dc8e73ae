"""What an optimizer holds goes through JSON and a flat dict of tensors, and comes back as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch.testing._internal.two_tensor import TwoTensor

from lora_backend.training_state import tensor_tree
from lora_backend.training_state.tensor_tree import pack, unpack


def there_and_back(value: Any) -> Any:
    tensors: dict[str, torch.Tensor] = {}
    return unpack(json.loads(json.dumps(pack(value, "state", tensors))), tensors)


def test_plain_values_tuples_and_keys_that_are_numbers_come_back() -> None:
    value = {"state": {0: {"step": 3, "none": None}, 1: {}}, "betas": (0.9, [1, (2,)]), "empty": {}}
    assert there_and_back(value) == value


def test_a_tensor_that_two_share_is_one_afterwards_too() -> None:
    table = torch.arange(4.0)
    found = there_and_back({"a": table, "b": {"c": table}})
    assert found["a"] is found["b"]["c"]
    assert torch.equal(found["a"], table)


def test_a_tensor_made_of_others_comes_back_where_its_library_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchao's optimizers have them; torch's own example of such a tensor stands for them."""
    value = TwoTensor(torch.ones(3), torch.zeros(3))
    with pytest.raises(ValueError, match="no tensor of torch"):
        there_and_back(value)
    monkeypatch.setattr(tensor_tree, "MADE_OF_OTHERS", ("torch.testing.",))
    found = there_and_back(value)
    assert type(found) is TwoTensor
    assert torch.equal(found.a, value.a)
    assert torch.equal(found.b, value.b)


def test_what_is_no_value_is_refused() -> None:
    with pytest.raises(TypeError, match="is a object"):
        pack({"x": object()}, "state", {})
