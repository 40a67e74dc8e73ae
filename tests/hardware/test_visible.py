"""Which GPUs CUDA shows under CUDA_VISIBLE_DEVICES and in what order: ours must be torch's answer."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lora_backend.errors import DeviceError
from lora_backend.hardware.inventory import Gpu
from lora_backend.hardware.visible import environment_for, unusable_together, visible_gpus
from tests.hardware.nvml import result_of, stub_environment

GIB = 2**30
BUS_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def gpu(index: int, uuid: str, name: str = "NVIDIA A", gib: int = 24, parent: str | None = None) -> Gpu:
    return Gpu(index, uuid, name, gib * GIB, 0, (8, 0), parent_uuid=parent)


ALIKE = (gpu(0, "GPU-aa"), gpu(1, "GPU-ab"), gpu(2, "GPU-bb"))
UNEQUAL = (gpu(0, "GPU-aa", "NVIDIA GeForce RTX 3060", 12), gpu(1, "GPU-bb", "NVIDIA GeForce RTX 4090"))
CUT = (
    gpu(0, "GPU-w"),
    gpu(1, "MIG-ca", "NVIDIA A MIG 3g.20gb", 20, "GPU-c"),
    gpu(1, "MIG-cb", "NVIDIA A MIG 1g.5gb", 5, "GPU-c"),
    gpu(2, "MIG-d", "NVIDIA A MIG 7g.40gb", 40, "GPU-d"),
)


def seen(gpus: tuple[Gpu, ...], value: str | None, **more: str) -> tuple[list[str], str | None]:
    environment = ({} if value is None else {"CUDA_VISIBLE_DEVICES": value}) | more
    visible, note = visible_gpus(gpus, environment)
    return [item.uuid for item in visible], note.text("en") if note else None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ["GPU-aa", "GPU-ab", "GPU-bb"]),
        ("2,0", ["GPU-bb", "GPU-aa"]),
        (" 1 , 2", ["GPU-ab", "GPU-bb"]),
        ("GPU-bb,GPU-aa", ["GPU-bb", "GPU-aa"]),
        ("GPU-b", ["GPU-bb"]),
        ("0,-1,1", ["GPU-aa"]),
        ("0,", ["GPU-aa"]),
    ],
)
def test_gpus_are_chosen_and_ordered_by_number_and_by_uuid(value: str | None, expected: list[str]) -> None:
    assert seen(ALIKE, value) == (expected, None)


@pytest.mark.parametrize(("value", "entry"), [("0,7,1", "7"), ("0,abc,1", "abc"), ("0,GPU-bb", "GPU-bb"), ("GPU-aa,GPU-a,GPU-bb", "GPU-a"), ("GPU-aa,1", "1")])  # fmt: skip
def test_the_first_entry_that_is_no_gpu_ends_the_list_and_is_named(value: str, entry: str) -> None:
    uuids, note = seen(ALIKE, value)
    assert uuids == ["GPU-aa"]
    assert (
        note
        == f"CUDA_VISIBLE_DEVICES: {entry} is not a GPU here, or fits more than one; CUDA ignores it and all entries after it."
    )


@pytest.mark.parametrize("value", ["", "-1", "-1,0", "7", "GPU-", "GPU-zz", "none", "MIG-ca"])
def test_a_list_that_hides_everything_says_so(value: str) -> None:
    uuids, note = seen(ALIKE, value)
    assert uuids == []
    assert note is not None
    assert "all are hidden" in note
    assert value in note


@pytest.mark.parametrize("value", ["0,0", "1,7,1", "GPU-aa,GPU-aa", "GPU-bb,GPU-b"])
def test_a_gpu_named_twice_hides_everything(value: str) -> None:
    uuids, note = seen(ALIKE, value)
    assert uuids == []
    assert note is not None
    assert "twice" in note


def test_without_gpus_there_is_nothing_to_say() -> None:
    assert visible_gpus((), {"CUDA_VISIBLE_DEVICES": "0"}) == ((), None)


def test_numbers_of_unequal_gpus_are_uncertain_unless_the_order_is_set() -> None:
    for value in (None, "1", "1,0"):
        uuids, note = seen(UNEQUAL, value)
        assert uuids
        assert note is not None
        assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in note
        assert seen(UNEQUAL, value, CUDA_DEVICE_ORDER="FASTEST_FIRST")[1] == note
        assert seen(UNEQUAL, value, **BUS_ORDER) == (uuids, None)
    assert seen(UNEQUAL, "GPU-bb,GPU-aa") == (["GPU-bb", "GPU-aa"], None)
    assert seen(UNEQUAL[:1], None) == (["GPU-aa"], None)


def test_all_that_there_is_to_say_is_said() -> None:
    _, note = seen(UNEQUAL, "1,7")
    assert note is not None
    assert "7 is not a GPU here" in note
    assert "PCI_BUS_ID" in note


@pytest.mark.parametrize("value", ["MIG-d", "2", "GPU-d"])
def test_one_mig_instance_is_chosen_by_its_id_or_its_gpu(value: str) -> None:
    assert seen(CUT, value) == (["MIG-d"], None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "MIG-ca"), ("0,2", "MIG-d"), ("1", "MIG-ca"), ("MIG-cb,MIG-ca", "MIG-cb"), ("GPU-w,GPU-c", "MIG-ca")],
)
def test_of_several_devices_with_a_mig_instance_only_the_first_instance_is_seen(
    value: str | None, expected: str
) -> None:
    uuids, note = seen(CUT, value)
    assert uuids == [expected]
    assert note is not None
    assert "one MIG instance only" in note
    assert expected in note


def test_a_mig_id_that_fits_two_instances_is_none() -> None:
    assert seen(CUT, "MIG-c")[0] == []
    assert seen(CUT, "MIG-ca") == (["MIG-ca"], None)


@pytest.mark.parametrize("gpus", [UNEQUAL, UNEQUAL[::-1], ALIKE, (ALIKE[2], ALIKE[0]), CUT[:1], CUT[2:3], ()])
def test_the_environment_for_gpus_shows_them_in_their_order(gpus: tuple[Gpu, ...]) -> None:
    every = {item.uuid: item for item in (*UNEQUAL, *ALIKE, *CUT) if item.uuid not in {g.uuid for g in gpus}}
    environment = environment_for(gpus)
    assert environment.items() >= BUS_ORDER.items()  # for what counts GPUs without CUDA
    visible, note = visible_gpus((*every.values(), *gpus), environment)
    assert visible == gpus
    assert (note is None) == bool(gpus)  # without any, all are hidden, which is said


def test_devices_that_no_process_can_use_together_are_refused() -> None:
    for gpus, why in ((CUT[1:3], "2 are chosen"), (CUT[:2], "a MIG instance and on whole GPUs at once")):
        obstacle = unusable_together(gpus)
        assert obstacle is not None
        assert why in obstacle.text("en")
        with pytest.raises(DeviceError, match=why):
            environment_for(gpus)
    assert unusable_together(ALIKE) is None
    assert unusable_together(CUT[1:2]) is None


def test_every_list_of_entries_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    entries = ["0", "1", "2", "3", "-1", "-0", "+1", "", " 2", "1x", "x", "GPU-", "GPU-a", "GPU-aa", "GPU-bb", " GPU-aa", "MIG-a"]  # fmt: skip
    values = [",".join(chosen) for length in (1, 2, 3) for chosen in itertools.product(entries, repeat=length)]
    environment = stub_environment(tmp_path, "\n".join(f"gpu uuid={item.uuid}, gib=24" for item in ALIKE))
    both = result_of(f"[both(value) for value in {values!r}]", environment, BOTH)
    assert len(both) == len(values)
    assert [value for value, (ours, torchs) in zip(values, both, strict=True) if ours != torchs] == []
    assert {len(ours) for ours, _ in both} == {0, 1, 2, 3}


# Torch without CUDA never comes to its own counting, so its parts are called as `torch.cuda.device_count` calls them.
BOTH = """
import os
import torch.cuda
from lora_backend.hardware.inventory import read_gpus
from lora_backend.hardware.visible import visible_gpus

gpus = read_gpus().gpus
uuids = torch.cuda._raw_device_uuid_nvml()

def both(value):
    os.environ["CUDA_VISIBLE_DEVICES"] = value
    listed = torch.cuda._parse_visible_devices()
    if listed and isinstance(listed[0], str):
        listed = torch.cuda._transform_uuid_to_ordinals(listed, uuids)
    else:
        listed = listed[: next((place for place, number in enumerate(listed) if number >= len(uuids)), None)]
    count = torch.cuda._device_count_nvml()
    assert value.startswith("MIG-") or count == len(listed), (value, count, listed)
    return [gpu.index for gpu in visible_gpus(gpus, os.environ)[0]], listed
"""
