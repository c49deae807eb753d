"""Projects that run on the Slurm that run.sh started, as a user would run them."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from helpers import ROOT, made_data
from softlabels.store import Store

BIN = Path(sys.executable).parent
PR_SET_PDEATHSIG = 1
SLURM = ROOT / "tests" / "slurm"
#: The controller as it is typed, and one that asks for the state of its jobs more often.
AS_TYPED, IMPATIENT = (str(BIN / "snakemake"),), (sys.executable, str(SLURM / "controller.py"))
#: Seconds until the first look at a job; the profile's default suits a real cluster.
QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "20")


def _end_with_the_tests() -> None:
    """Let the kernel kill this process when the tests are killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Job:
    """One line of squeue."""

    id: str
    state: str
    partition: str
    memory: str
    what: str

    @property
    def has_gpu(self) -> bool:
        shown = subprocess.run(["scontrol", "show", "job", self.id], text=True, capture_output=True, check=True)
        return "gres:gpu" in shown.stdout


@dataclass(frozen=True)
class Project:
    """A folder with config.yaml and cases.tsv, and the environment of its user.

    With a folder of `emulated_cuda.build_driver`, the node with GPUs has a driver.
    """

    folder: Path
    home: Path
    driver: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        paths = os.pathsep.join(filter(None, [str(SLURM / "injected"), os.environ.get("PYTHONPATH")]))
        # Kernels compiled before are used, whoever the user is.
        cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
        cuda = {"SOFTLABELS_CUDA_ON_CPU": str(self.driver), "CUDA_ON_CPU_TELLS": "1"} if self.driver else {}
        return os.environ | {"HOME": str(self.home), "PYTHONPATH": paths, "XDG_CACHE_HOME": cache} | cuda

    def start(self, *arguments: str, command: tuple[str, ...] = IMPATIENT) -> subprocess.Popen:
        """Start the controller in the background, with its output in a file."""
        command = [*command, "--profile", "slurm", *QUICK, *arguments]
        with open(self.folder / "controller.log", "a") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_the_tests,
            )

    def run(self, *arguments: str, timeout: float = 400, **options) -> int:
        """Run the controller to its end; return its exit status."""
        process = self.start(*arguments, **options)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"controller did not end:\n{self.said()}") from None

    def said(self) -> str:
        return (self.folder / "controller.log").read_text()

    def softlabels(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [str(BIN / "softlabels"), *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, text=True, capture_output=True, timeout=120
        )

    def jobs(self) -> list[Job]:
        """Return all Slurm jobs that were started in this folder, ended ones too."""
        command = ["squeue", "--states=all", "--noheader", "--sort=i", "--format", "%i|%T|%P|%m|%k|%Z"]
        lines = subprocess.run(command, text=True, capture_output=True, timeout=30, check=True).stdout.splitlines()
        rows = [line.split("|") for line in lines]
        return [Job(*row[:5]) for row in rows if row[5] == str(self.folder)]

    def held(self) -> int:
        """Return how many jobs have written an entry and wait before they publish it."""
        return len([path for path in (self.folder / "store").glob("v1/.tmp-*") if (path / "PROVENANCE.json").exists()])

    def published(self) -> list[str]:
        """Return the stages of the entries in the store, each verified to its last byte."""
        store = Store(self.folder / "store")
        assert store.verify(deep=True) == []
        return sorted(entry.attributes["stage"] for entry in map(store.find, store.keys()))

    def receipts(self) -> list[str]:
        return sorted(path.name.split("-")[0] for path in (self.folder / "results").glob("*/*-*.json"))


def wait_for(what: str, condition, seconds: float = 240) -> None:
    """Return as soon as a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.3)


def make_project(folder: Path, home: Path, n_cases: int = 1, driver: Path | None = None, **config) -> Project:
    made_data.write_cohort(folder, n_cases=n_cases, **config)
    return Project(folder, home, driver)


def show_jobs(project: Project, n_before: int = 0) -> list[Job]:
    """Print the jobs after the first n_before, and return them."""
    jobs = project.jobs()[n_before:]
    print(f"\n{'job':>5} {'state':10} {'partition':9} {'memory':>7} gpu what")
    for job in jobs:
        print(f"{job.id:>5} {job.state:10} {job.partition:9} {job.memory:>7} {job.has_gpu:>3} {job.what}")
    return jobs
