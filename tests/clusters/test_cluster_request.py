"""What may be asked of a cluster, and what is said where it cannot be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lora_backend.clusters import slurm_jobs
from lora_backend.clusters.cluster import ClusterError, Task
from lora_backend.clusters.cluster_documents import ClusterKind, ClusterRequest
from lora_backend.clusters.cluster_request import cluster_of, clusters_here, request_for
from lora_backend.clusters.job_line import job_line
from lora_backend.clusters.ray_jobs import ray_address
from lora_backend.clusters.slurm_reasons import meaning_of
from tests.clusters.stub_slurm import StubSlurm

RAY = {"RAY_API_SERVER_ADDRESS": "http://head:8265"}


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("slurm", {"particion": "gpu"}, "Slurm has no setting `particion`. Did you mean `partition`?"),
        ("slurm", {"setup": "rm -r /"}, "Slurm has no setting `setup`. Choose one of: `account`, "),
        ("ray", {"gpus_per_node": 1}, "Ray has no setting `gpus_per_node`. Choose one of: `memory_gb`, `num_cpus`, `num_gpus`."),
        ("slurm", {"gpus_per_node": "two"}, "`gpus_per_node` of Slurm cannot be 'two'. Use 0, 1, 2, …"),
        ("slurm", {"gpus_per_node": 1.5}, "`gpus_per_node` of Slurm cannot be 1.5."),
        ("slurm", {"partition": "a\nrm -r /"}, "`partition` of Slurm cannot be"),
        ("slurm", {"exclusive": "yes"}, "Use true | false"),
        ("ray", {"num_gpus": float("nan")}, "`num_gpus` of Ray cannot be nan"),
        ("ray", {"num_gpus": float("inf")}, "`num_gpus` of Ray cannot be inf"),
    ],
)  # fmt: skip
def test_what_a_cluster_does_not_have_is_refused_by_name(
    kind: ClusterKind, settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(ClusterError) as refused:
        request_for(kind, settings, RAY)
    assert said in str(refused.value)
    with pytest.raises(ClusterError):
        cluster_of(ClusterRequest.model_construct(kind=kind, address=None, parameters=settings), {})


def test_settings_are_taken_as_they_are_meant() -> None:
    asked = request_for("slurm", {"account": 17, "mem_gb": 1.5, "timeout_min": 60.0, "exclusive": True}, {})
    assert asked.parameters == {"account": "17", "mem_gb": 1.5, "timeout_min": 60, "exclusive": True}
    assert request_for("ray", {"num_gpus": 0.5}, RAY).address == "http://head:8265"
    assert request_for("ray", {}, RAY, "http://other:1").address == "http://other:1"
    with pytest.raises(ClusterError, match="`--address` is only for Ray"):
        request_for("slurm", {}, {}, "http://other:1")


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        (RAY, "http://head:8265"), ({"RAY_ADDRESS": "https://head"}, "https://head"), ({"RAY_ADDRESS": "auto"}, None),
        ({"RAY_ADDRESS": "ray://head:10001"}, None), ({"RAY_ADDRESS": "http://head:x"}, None), ({}, None),
        ({"RAY_ADDRESS": "10.0.0.1:6379", **RAY}, "http://head:8265"),
    ],
)  # fmt: skip
def test_the_dashboard_is_named_by_rays_own_variables(environment: dict[str, str], address: str | None) -> None:
    assert ray_address(environment) == address


def test_a_cluster_is_offered_only_where_it_can_be_reached(slurm: StubSlurm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(slurm.bin))  # this machine may be one of a cluster's
    assert clusters_here({}) == ["slurm"]
    assert clusters_here(RAY) == ["slurm", "ray"]
    (slurm.bin / "sbatch").unlink()
    assert clusters_here({}) == []
    with pytest.raises(ClusterError, match="`sbatch` is not on the PATH"):
        cluster_of(request_for("slurm", {}, {}), {}).check()
    monkeypatch.setattr(slurm_jobs, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"pip install 'lora-flightdeck\[slurm\]'"):
        cluster_of(request_for("slurm", {}, {}), {}).check()


def test_a_job_line_holds_any_path_and_any_word(tmp_path: Path) -> None:
    folder = tmp_path / "it's a $HOME `folder`"
    folder.mkdir()
    (folder / "run.json").write_text("{}")
    line = job_line(Task("name", 3, folder, ["/bin/echo", "a b", "$HOME", "'"], {"ONE": "1 2"}))
    assert os.system(line) == 0
    assert (folder / "train.log").read_text() == "a b $HOME '\n"
    (folder / "attempts").mkdir()
    for name in ("stop.request", "exit.json", "attempts/3.exit.json", "attempts/4.json"):
        (folder / name).touch()
        assert os.waitstatus_to_exitcode(os.system(line)) == 96, name
        (folder / name).unlink()
    (folder / "run.json").unlink()
    assert os.waitstatus_to_exitcode(os.system(line)) == 97


@pytest.mark.parametrize(
    "reason", ["Resources", "(Priority)", "ReqNodeNotAvail, UnavailableNodes:n1", "BadConstraints"]
)
def test_reasons_of_slurms_are_explained(reason: str) -> None:
    assert meaning_of(reason) is not None
    assert meaning_of("SomethingNew") is None
    assert meaning_of(None) is None
