"""The catalogue of GPUs, and the words of `--gpus`."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_backend.errors import DeviceError
from lora_backend.hardware.catalog import catalog, find_gpu, parse_gpus

GIB = 2**30
DOCS = Path(__file__).parents[2] / "docs"


def test_cards_from_consumer_to_data_centre_are_there_each_with_its_source() -> None:
    assert len(catalog()) >= 30
    assert len({gpu.name for gpu in catalog()}) == len(catalog())
    assert all(gpu.source.startswith("https://") for gpu in catalog())
    assert {gpu.compute_capability[0] for gpu in catalog()} >= {6, 7, 8, 9, 10, 12}


@pytest.mark.parametrize("page", ["catalogues.md", "catalogues.zh-CN.md"])
def test_every_card_stands_on_the_page_of_the_catalogues(page: str) -> None:
    text = (DOCS / page).read_text("utf-8")
    assert [gpu.name for gpu in catalog() if f"| [{gpu.name}]({gpu.source}) |" not in text] == []


def test_every_figure_is_one_that_a_card_can_have() -> None:
    for gpu in catalog():
        assert 8 * GIB <= gpu.memory_bytes <= 288 * GIB
        assert 150e9 < gpu.bandwidth_bytes_per_s <= 8e12
        # Dense: with sparsity counted in, the largest would be above this.
        assert 15e12 < gpu.training_flops <= 2.25e15
        assert gpu.bf16_flops in (None, gpu.fp16_flops)


def test_bf16_is_there_from_ampere_on() -> None:
    for gpu in catalog():
        assert (gpu.bf16_flops is not None) == (gpu.compute_capability >= (8, 0))


@pytest.mark.parametrize(
    ("driver_name", "name"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", "RTX-2080-Ti"), ("NVIDIA GeForce RTX 3060", "RTX-3060-12G"),
        ("NVIDIA GeForce RTX 3090", "RTX-3090"), ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX-4070-Ti-Super"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"), ("NVIDIA GeForce RTX 5090", "RTX-5090"), ("NVIDIA RTX A6000", "RTX-A6000"),
        ("NVIDIA RTX A2000 12GB", "RTX-A2000-12G"), ("Quadro RTX 8000", "RTX-8000-Turing"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"), ("NVIDIA TITAN RTX", "Titan-RTX"), ("Tesla T4", "T4"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "RTX-PRO-6000-Blackwell"), ("Tesla P100-PCIE-16GB", "P100-16G-PCIe"),
        ("Tesla V100-SXM2-32GB", "V100-32G"), ("Tesla V100-PCIE-16GB", "V100-16G-PCIe"), ("NVIDIA A10", "A10"),
        ("NVIDIA A10G", "A10G"), ("NVIDIA A30", "A30"), ("NVIDIA A40", "A40"), ("NVIDIA L4", "L4"), ("NVIDIA L40S", "L40S"),
        ("NVIDIA A100-SXM4-40GB", "A100-40G"), ("NVIDIA A100-PCIE-40GB", "A100-40G"), ("NVIDIA A100-SXM4-80GB", "A100-80G"),
        ("NVIDIA A100 80GB PCIe", "A100-80G-PCIe"), ("NVIDIA H100 80GB HBM3", "H100-80G"), ("NVIDIA H100 PCIe", "H100-80G-PCIe"),
        ("NVIDIA H100 NVL", "H100-94G-NVL"), ("NVIDIA GH200 480GB", "GH200-96G"), ("NVIDIA H20", "H20-96G"),
        ("NVIDIA H200", "H200-141G"), ("NVIDIA H200 NVL", "H200-141G-NVL"), ("NVIDIA B200", "B200-180G"),
    ],
)  # fmt: skip
def test_a_driver_s_name_finds_its_card(driver_name: str, name: str) -> None:
    found = find_gpu(driver_name)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("name", ["rtx 4090", "RTX4090", "GeForce RTX-4090", "  nvidia_rtx_4090 "])
def test_a_card_is_found_however_its_name_is_written(name: str) -> None:
    found = find_gpu(name)
    assert found is not None
    assert found.name == "RTX-4090"


@pytest.mark.parametrize(
    "name", ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "A100", "4090", "", "NVIDIA"]
)
def test_another_chip_or_half_a_name_is_no_card(name: str) -> None:
    assert find_gpu(name) is None


def test_cards_of_one_name_are_told_apart_by_their_memory() -> None:
    name = "NVIDIA GeForce RTX 4060 Ti"
    sizes = {find_gpu(name, memory_bytes=shown << 20) for shown in (8188, 16380)}
    assert {gpu.memory_bytes // GIB for gpu in sizes if gpu} == {8, 16}
    assert find_gpu(name, memory_bytes=4 * GIB) is None


def names(text: str) -> list[tuple[str | None, float]]:
    return [(gpu.name, gpu.total_bytes / GIB) for gpu in parse_gpus(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("24,12,8", [(None, 24), (None, 12), (None, 8)]),
        ("24.5", [(None, 24.5)]),
        (".5, 24GB ,16 GiB", [(None, 0.5), (None, 24), (None, 16)]),
        ("2xRTX-4090,A100-40G", [("RTX-4090", 24), ("RTX-4090", 24), ("A100-40G", 40)]),
        ("a100 40gb, 24", [("A100-40G", 40), (None, 24)]),
        ("2x24", [(None, 24), (None, 24)]),
        ("2 × 24，8", [(None, 24), (None, 24), (None, 8)]),
    ],
)
def test_gpus_are_read_in_their_order(text: str, expected: list[tuple[str | None, float]]) -> None:
    assert names(text) == expected


def test_a_card_brings_its_figures_and_an_amount_brings_none() -> None:
    card, amount = parse_gpus("A100-40G,24")
    assert card.spec is not None
    assert card.spec.bandwidth_bytes_per_s == 1555e9
    assert amount.spec is None


def test_every_name_of_the_catalogue_can_be_asked_for_with_a_count() -> None:
    for gpu in catalog():
        assert [found.spec for found in parse_gpus(f"2x{gpu.name}")] == [gpu, gpu]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Name the GPUs"), (" ", "Name the GPUs"), ("24;12", "“24;12” is neither GiB nor a card; separate GPUs with commas"),
        ("24,,8", "separate GPUs with commas"), ("24,", "separate GPUs with commas"), ("0", "above 0, not “0”"), ("-24", "above 0"),
        ("24,-1", "not “-1”"), ("nan", "not “nan”"), ("inf", "not “inf”"), ("1e-12", "above 0"), ("1e999", "above 0"),
        ("4090", "at most 1024.*RTX-4090"), ("0x24", "count in “0x24”"), ("-2x24", "count in “-2x24”"),
        ("65x24", "At most 64"), ("64x24,8", "At most 64"), ("999999999999999x24", "At most 64"), ("9" * 5000 + "x24", "At most 64"),
        ("3xNoSuchCard", "no GPU “NoSuchCard”; the nearest names are RTX-"), ("RTX-4091", "nearest names are RTX-4090"),
        ("A100", "nearest names are A100-40G, A100-80G, A100-80G-PCIe"), ("x" * 5000, "no GPU “x{39}…”"),
    ],
)  # fmt: skip
def test_what_is_no_gpu_is_a_sentence_that_says_what_to_change(text: str, said: str) -> None:
    with pytest.raises(DeviceError, match=said):
        parse_gpus(text)
