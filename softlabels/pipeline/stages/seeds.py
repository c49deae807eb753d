"""The stage that finds where each class begins."""

from __future__ import annotations

from softlabels.pipeline.stages.base import Result, Stage
from softlabels.store import Exact, Layer


class Seeds(Stage):
    """Start voxels of every class."""

    def compute(self) -> Result:
        """Return the seeds with a report of the fallback used for each class."""
        from softlabels.seeds import make_seeds

        options = dict(self.job.node.params)
        classes = options.pop("classes")
        names = tuple(c["name"] for c in classes)
        prepared = self.entries["prepare"]
        seeds, reports = make_seeds(
            self.masks(classes),
            prepared.grid.spacing,
            class_names=names,
            case_id=self.job.case.id,
            threads=self.job.threads or 1,
            **options,
        )
        flags = [f"class {r['class']}: {r['used']}, where {r['strategy']} left none" for r in reports if r["fallback"]]
        layer = Layer("seeds", seeds, channels=names, encoding=Exact())
        return Result([layer], prepared.grid, {"classes": reports, "flags": flags})
