"""A small cohort whose jobs run in the process of the test, without Snakemake."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers import made_data
from softlabels.cohort.index import Index
from softlabels.config import load_config
from softlabels.inputs.sheet import Case, read_sheet
from softlabels.pipeline.batch import make_jobs, run_batch
from softlabels.pipeline.index import build_index
from softlabels.pipeline.job import run_job
from softlabels.pipeline.node import Node
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.receipts import Receipt
from softlabels.pipeline.stages import Job
from softlabels.store import Store


class Project:
    """A small cohort whose nodes are run one by one in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any):
        made_data.write_cohort(folder, **changes)
        self.open(folder, monkeypatch)

    @classmethod
    def at(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
        """Return the project that is in a folder."""
        project = cls.__new__(cls)
        project.open(folder, monkeypatch)
        return project

    def open(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Read configuration and sheet."""
        monkeypatch.chdir(folder)
        self.config = load_config("config.yaml")
        self.plan, self.store = make_plan(self.config), Store(self.config.store)
        self.cases = read_sheet(self.config.cases, self.config.channels)
        self.results = Path(self.config.results)

    def run(self, case: Case, node: Node, **options: Any) -> Receipt:
        return run_job(Job(case, node, self.store, self.results, **options))

    def run_together(self, **options: Any) -> dict[tuple[str, str], Receipt]:
        """Take all cases through all stages in one job; return the receipts that are there afterwards."""
        nodes = list(self.plan.nodes.values())
        run_batch(make_jobs(self.cases, nodes, self.store, self.results, **options), self.results / "stages.json")
        return self.receipts()

    def receipts(self) -> dict[tuple[str, str], Receipt]:
        """Return the receipts by case and node."""
        found = {
            (case.id, node): self.results / case.id / f"{node}.json" for case in self.cases for node in self.plan.nodes
        }
        return {work: Receipt.read(path) for work, path in found.items() if path.exists()}

    def run_all(self) -> dict[tuple[str, str], Receipt]:
        nodes = self.plan.nodes.values()
        return {(case.id, node.stage): self.run(case, node) for case in self.cases for node in nodes}

    def index(self, **options: Any) -> Index:
        return build_index(self.config, self.plan, self.cases, self.results, **options)
