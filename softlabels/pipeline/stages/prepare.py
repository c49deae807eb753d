"""The stage that verifies a case's files and brings them onto one grid."""

from __future__ import annotations

from softlabels.pipeline.stages.base import Job, Result, Stage
from softlabels.store import Exact, Layer


class Prepare(Stage):
    """Read and verify the files of a case, resample, scale and crop them."""

    def __init__(self, job: Job):
        from softlabels.inputs.case import read_case

        super().__init__(job)
        self.volumes = read_case(job.case, **job.node.checks, threads=job.threads)
        self.inputs = self.volumes.digests
        self.flags = tuple(self.volumes.flags)

    def compute(self) -> Result:
        """Return image, labels and, where asked for, domain and raters on one grid."""
        from softlabels.preprocess.prepare import prepare

        volumes = self.volumes
        prepared = prepare(
            volumes.image,
            volumes.labels,
            volumes.grid,
            raters=volumes.raters,
            threads=self.job.threads or 1,
            **self.job.node.params,
        )
        channels = tuple(self.job.node.checks["channels"])
        layers = [
            Layer("image", prepared.image, channels=channels, encoding=Exact()),
            Layer("labels", prepared.labels, role="labels", encoding=Exact()),
        ]
        if prepared.domain is not None:
            layers.append(Layer("domain", prepared.domain, role="labels", encoding=Exact()))
        if prepared.raters is not None:
            raters = tuple(f"rater{i}" for i in range(len(prepared.raters)))
            layers.append(Layer("raters", prepared.raters, channels=raters, encoding=Exact()))
        return Result(layers, prepared.grid, {"flags": list(prepared.flags), "notes": list(prepared.notes)})
