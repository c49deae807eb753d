"""Exact geodesic distance over the 26-neighbourhood, the same bits on every device.

`geodesic_distance` solves, `certify` proves; `geodesic_distance_within_gap` solves many classes, each where it is near;
`euclidean_distance` is for where a paper means Euclid. README.md in this directory holds the definition.
A change of the bits of a result needs a new `version` in
`softlabels.pipeline.stages.distance`.
"""

from softlabels.geodesic._certify import Certificate, certify
from softlabels.geodesic._distance import euclidean_distance, geodesic_distance
from softlabels.geodesic._gap import NearMap
from softlabels.geodesic._near import NearDistances, distances_for_distribution, geodesic_distance_within_gap
from softlabels.geodesic._slabs import geodesic_distance_slabs
from softlabels.geodesic.metric import METRICS

__all__ = [
    "METRICS",
    "Certificate",
    "NearDistances",
    "NearMap",
    "certify",
    "distances_for_distribution",
    "euclidean_distance",
    "geodesic_distance",
    "geodesic_distance_slabs",
    "geodesic_distance_within_gap",
]
