"""The limit of jobs a second: lifted for local jobs, so that a run ends when its last job does."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers import made_data
from helpers.run_snakemake import snakemake
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.types import MaxJobsPerTimespan

from softlabels.monitor.rate_limit import lift_limit_of_local_jobs

ROOT = Path(__file__).parents[2]
#: Loaded by every Python that is started: notes each timer.
SITE = """
import os, threading

class NotedTimer(threading.Timer):
    def start(self):
        with open(os.environ["NOTED_TIMERS"], "a") as file:
            print(self.interval, file=file)
        super().start()

threading.Timer = NotedTimer
"""


@pytest.mark.parametrize(
    ("is_local", "limit", "is_lifted"),
    [(True, "100/1s", True), (True, "5/1s", False), (True, "100/2s", False), (False, "100/1s", False)],
)
def test_only_the_default_limit_of_local_jobs_is_lifted(is_local, limit, is_lifted):
    limiter = JobRateLimiter(MaxJobsPerTimespan.parse_choice(limit))
    workflow = SimpleNamespace(local_exec=is_local, scheduler=SimpleNamespace(job_rate_limiter=limiter))
    lift_limit_of_local_jobs(workflow)
    assert workflow.scheduler.job_rate_limiter is (None if is_lifted else limiter)


def test_a_snakemake_that_limits_jobs_in_another_way_is_left_alone():
    lift_limit_of_local_jobs(SimpleNamespace(local_exec=True, scheduler=SimpleNamespace()))


@pytest.mark.parametrize(("options", "timers"), [([], set()), (["--max-jobs-per-timespan", "50/1s"], {"1.0"})])
def test_a_run_waits_for_no_timer_unless_a_limit_is_set(tmp_path, monkeypatch, options, timers):
    made_data.write_cohort(tmp_path, n_cases=1, targets={"onehot": {"method": "onehot"}}, pictures=False)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    noted = tmp_path / "timers"
    noted.touch()
    monkeypatch.setenv("NOTED_TIMERS", str(noted))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"), prepend=":")
    done = snakemake(tmp_path, "-s", str(ROOT / "Snakefile"), *options, "results/index.json")
    assert done.returncode == 0, done.stdout
    assert set(noted.read_text().split()) == timers
