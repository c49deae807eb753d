"""The distances of many classes, each where it is within a gap of the least: memory follows their boxes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softlabels._shared.boxed import BoxedVolumes
from softlabels.pipeline.stages.base import Job, Result, Upstream

log = logging.getLogger(__name__)

#: Mantissa bits kept of a stored distance: a relative error of 2**-16, as fine as a 16 bit target can show.
DISTANCE_BITS = 15


def compute_near(job: Job, sources: Upstream) -> Result:
    """Return one boxed map per channel and class, with what the certificate found for each and its largest distance.

    The figures of a map are those of a whole one, and ``farthest``: the largest distance after rounding, or, where
    ``farthest_is_exact`` is False, a lower bound of it that serves as well. ``gap`` has ``asked``, the gap of the node;
    ``solved``, that of each channel, larger by what rounding may take; and ``share_error_bound``.
    """
    from softlabels.geodesic import distances_for_distribution
    from softlabels.methods.seeded import share_bound
    from softlabels.store import BitRound, Layer

    options = dict(job.node.params)
    is_vector, asked = options.pop("modalities") == "vector", options.pop("gap")
    image, domain = sources.read("prepare", "image"), sources.domain()
    seeds = sources.read_boxed("seeds", "seeds", fill=False)
    names = ["all"] if is_vector else sources.channels("prepare", "image")
    classes = sources.channels("seeds", "seeds")
    encoding = BitRound(DISTANCE_BITS)
    parts, maps, effort, solved = [], [], {}, {}
    for part, name in zip([image] if is_vector else list(image[:, None]), names, strict=True):
        near = distances_for_distribution(
            part,
            seeds,
            sources.grid.spacing,
            asked,
            domain=domain,
            rounding=2.0 ** -(DISTANCE_BITS + 1),
            device=job.device,
            n_threads=job.threads,
            **options,
        )
        parts += list(near.maps)
        solved[name] = float(f"{near.gap:.6g}")
        farthest, _ = encoding.encode(near.farthest.astype(np.float32)[:, None, None])
        figures = zip(classes, near.certificates, farthest.ravel().tolist(), near.is_exact.tolist(), strict=True)
        maps += [
            {
                "map": f"{name}:{c}",
                "engine": "softlabels",
                "certified": certificate.is_exact,
                "n_violated": certificate.n_violated,
                "n_unattained": certificate.n_unattained,
                "n_unreachable": certificate.n_unreachable,
                "farthest": largest,
                "farthest_is_exact": is_exact,
            }
            for c, certificate, largest, is_exact in figures
        ]
        effort[name] = {"iterations": max(certificate.iterations or 0 for certificate in near.certificates)}
        log.info("%s: %d of %d distance maps done", job.case.id, len(maps), len(names) * len(classes))
    layer = Layer(
        "distance",
        BoxedVolumes(image.shape[1:], parts, fill=np.inf, dtype=np.float32),
        channels=tuple(m["map"] for m in maps),
        encoding=encoding,
    )
    gap = {"asked": asked, "solved": solved, "share_error_bound": float(f"{share_bound(len(classes), asked):.3g}")}
    quality: dict[str, Any] = {"maps": maps, "certified": True, "gap": gap, "flags": []}
    return Result([layer], sources.grid, quality, effort)


def ends_at_gap(sources: Upstream) -> bool:
    """Return whether what a job reads are distances that end at a gap."""
    return "distance" in sources.results and "gap" in sources.params("distance")


def near_inputs(sources: Upstream, n_classes: int) -> dict[str, Any]:
    """Return the distances of each channel and how far each class reaches, as a method takes them."""
    maps = sources.read_boxed("distance", "distance", fill=np.inf)
    channels = [list(maps)[first : first + n_classes] for first in range(0, len(maps), n_classes)]
    return {
        "distance": tuple(BoxedVolumes(maps.shape[1:], c, fill=np.inf, dtype=np.float32) for c in channels),
        "farthest": farthest_of(sources, n_classes),
    }


def farthest_of(sources: Upstream, n_classes: int) -> NDArray[np.float32] | None:
    """Return the (M, C) largest distances where the maps end at a gap, else None."""
    if not ends_at_gap(sources):
        return None
    maps = sources.results["distance"].quality["maps"]
    return np.array([one["farthest"] for one in maps], np.float32).reshape(-1, n_classes)
