"""Devices to plan for: this machine's, made-up ones, the host."""

from __future__ import annotations

import pytest

from lora_backend.errors import DeviceError
from lora_backend.hardware.inventory import Gpu, Host
from lora_backend.planning.targets import GIB, Target, of_host, of_machine, of_words


def test_words_become_devices_in_their_order() -> None:
    plain = of_words("24,12,8")
    assert [(target.device, target.name, target.capacity_bytes) for target in plain] == [
        (0, "GPU 24 GiB", 24 * GIB), (1, "GPU 12 GiB", 12 * GIB), (2, "GPU 8 GiB", 8 * GIB),
    ]  # fmt: skip
    named = of_words("2xRTX-4090,A100-40G")
    assert [target.device for target in named] == [0, 1, 2]
    assert named[0].spec == named[1].spec != named[2].spec
    assert named[2].spec is not None
    assert not any(target.is_cpu for target in named)


@pytest.mark.parametrize("words", ["24;12", "0", "3xNoSuchCard", "", "-4", "nan"])
def test_words_that_are_no_devices_are_refused(words: str) -> None:
    with pytest.raises(DeviceError):
        of_words(words)


def test_a_wrong_name_is_met_with_the_nearest() -> None:
    with pytest.raises(DeviceError, match="RTX"):
        of_words("2xRTX-409")


def test_what_others_hold_is_not_there_for_us() -> None:
    assert Target(0, "one", 8 * GIB, held_bytes=3 * GIB).capacity_bytes == 5 * GIB
    assert Target(0, "one", 8 * GIB, held_bytes=9 * GIB).capacity_bytes == 0


def test_this_machines_gpus_are_numbered_as_torch_will_see_them() -> None:
    gpus = [make_gpu("NVIDIA A100-SXM4-80GB", "GPU-a", 80 * GIB, GIB), make_gpu("Made Up", "GPU-b", 6 * GIB, 0)]
    first, second = of_machine(gpus)
    assert (first.device, first.uuid, first.capacity_bytes) == (0, "GPU-a", 79 * GIB)
    assert first.spec is not None
    assert (second.device, second.spec) == (1, None)


def test_the_host_is_a_device_with_what_is_available() -> None:
    host = of_host(make_host(64 * GIB, 40 * GIB))
    assert host.is_cpu
    assert host.capacity_bytes == 40 * GIB


def test_targets_are_the_same_after_json() -> None:
    for target in (*of_words("RTX-4090,24"), of_host(make_host(8 * GIB, GIB))):
        again = Target.from_json(target.to_json())
        assert (again.device, again.capacity_bytes, again.uuid) == (target.device, target.capacity_bytes, target.uuid)
    assert Target.from_json(of_words("RTX-4090")[0].to_json()).spec == of_words("RTX-4090")[0].spec


def make_gpu(name: str, uuid: str, total_bytes: int, used_bytes: int) -> Gpu:
    return Gpu(0, uuid, name, total_bytes, used_bytes, (8, 0))


def make_host(total_bytes: int, available_bytes: int) -> Host:
    return Host(4, total_bytes, available_bytes, 0, 0, 0, 0)
