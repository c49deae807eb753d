"""The memory that jobs may take: what is free, or less in a container or an allocation of a cluster."""

from types import SimpleNamespace

import psutil
import pytest

from softlabels._shared.memory import free_memory_mb

GB = 10**9


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A folder of control groups, on a machine with 5 GB of free memory."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=5 * GB))
    return tmp_path / "groups"


def write(folder, **content):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in content.items():
        (folder / f"memory.{name}").write_text(f"{text}\n")


def free(groups, *lines):
    own = groups.with_name("own")
    own.write_text("".join(f"{line}\n" for line in lines))
    return free_memory_mb(own, groups)


@pytest.mark.parametrize(("limit", "expected"), [(GB, 800), ("max", 4000), (9 * GB, 4000), (None, 4000)])
def test_most_of_what_is_free_is_counted_on_within_the_limit_of_a_container(groups, limit, expected):
    write(groups, **({} if limit is None else {"max": limit}))
    assert free(groups, "0::/") == pytest.approx(expected)


def test_what_others_use_in_the_container_is_not_free_but_files_that_can_be_dropped_are(groups):
    write(groups, max=4 * GB, current=3 * GB, stat=f"anon {GB}\ninactive_file {GB}\nactive_file {GB}")
    assert free(groups, "0::/") == pytest.approx(0.8 * 2000)


def test_the_limit_of_an_allocation_holds_for_the_groups_in_it(groups):
    write(groups / "slurm/job_1", max=2 * GB, current=GB)
    write(groups / "slurm/job_1/step_0/task", max="max", current=GB)
    write(groups / "slurm/job_2", max=GB // 2)
    assert free(groups, "0::/slurm/job_1/step_0/task") == pytest.approx(800)


def test_groups_of_version_1_are_understood(groups):
    job = groups / "memory/slurm/job_1"
    write(job, limit_in_bytes=3 * GB, usage_in_bytes=2 * GB, stat=f"inactive_file 0\ntotal_inactive_file {GB}")
    write(groups / "memory", limit_in_bytes=2**63 - 4096, usage_in_bytes=0)
    write(groups / "cpu/slurm/job_1", limit_in_bytes=1)
    lines = ["11:cpu,cpuacct:/slurm/job_1", "4:memory:/slurm/job_1/step_0", "0::/"]
    assert free(groups, *lines) == pytest.approx(0.8 * 2000)


def test_a_full_container_has_a_little_and_a_system_without_groups_all(groups, tmp_path):
    write(groups, max=GB, current=2 * GB)
    assert free(groups, "0::/") == 1
    assert free_memory_mb(tmp_path / "absent", tmp_path) == pytest.approx(4000)
