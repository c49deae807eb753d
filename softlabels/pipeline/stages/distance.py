"""The stage that solves geodesic distances."""

from __future__ import annotations

import logging

import numpy as np

from softlabels.pipeline.stages.base import Result, Stage
from softlabels.store import Channels, Layer, Rounded

log = logging.getLogger(__name__)

#: Mantissa bits kept of a stored distance: a relative error of 2**-16, as fine as a 16 bit target can show.
DISTANCE_BITS = 15

#: Of an engine's report, what depends on threads and schedule and not on the result.
_EFFORT = ("iterations", "tile_visits")


class Distance(Stage):
    """Certified geodesic distances of every modality and class."""

    def compute(self) -> Result:
        """Return one map per modality and class, with what the certificate found for each."""
        prepared, seeds_entry = self.entries["prepare"], self.entries["seeds"]
        image, seeds, domain = self.read("prepare", "image"), self.read("seeds", "seeds"), self.domain()
        is_vector = self.params["modalities"] == "vector"
        parts = [image] if is_vector else list(image[:, None])
        names = ["all"] if is_vector else prepared.channels("image")
        distances, maps, effort = [], [], {}
        for part, name in zip(parts, names, strict=True):
            distance, findings = self._solve(part, seeds, prepared.grid.spacing, domain)
            distances.append(distance)
            effort[name] = {k: int(findings[0][k]) for k in _EFFORT if k in findings[0]}
            found = [{k: v for k, v in report.items() if k not in _EFFORT} for report in findings]
            classes = seeds_entry.channels("seeds")
            maps += [{"map": f"{name}:{c}", **report} for c, report in zip(classes, found, strict=True)]
            log.info("%s: %d of %d distance maps done", self.job.case.id, len(maps), len(parts) * len(seeds))
        layer = Layer(
            "distance",
            Channels(distances),
            channels=tuple(m["map"] for m in maps),
            encoding=Rounded(DISTANCE_BITS),
        )
        flags = [f"map {m['map']}: not certified exact" for m in maps if not m["certified"]]
        quality = {"maps": maps, "certified": not flags, "flags": flags}
        return Result([layer], prepared.grid, quality, effort)

    def _solve(self, image: np.ndarray, seeds: np.ndarray, spacing, domain) -> tuple[np.ndarray, list[dict]]:
        """Return the (C, D, H, W) maps of one image and what is known of the exactness of each."""
        from softlabels.geodesic.engines import solve

        options = {name: value for name, value in self.params.items() if name != "modalities"}
        options.setdefault("device", self.job.device)
        return solve(image, seeds, spacing, domain=domain, n_threads=self.job.threads, **options)
