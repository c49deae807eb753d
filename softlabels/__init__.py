"""softlabels: exact soft labels for segmentation networks, computed once, offline, and streamed into training."""

from typing import TYPE_CHECKING

from softlabels._shared.lazy import lazy_names

if TYPE_CHECKING:
    from softlabels.cohort.arrays import open_cohort
    from softlabels.geodesic import geodesic_distance
    from softlabels.loader import SoftLabelDataset
    from softlabels.store import Store

__version__ = "0.1.0"
__all__ = ["SoftLabelDataset", "Store", "geodesic_distance", "open_cohort"]

# Loaded on first use: a trainer must not import the engine, nor a job torch.
__getattr__ = lazy_names(
    __name__,
    {
        "SoftLabelDataset": "softlabels.loader",
        "Store": "softlabels.store",
        "geodesic_distance": "softlabels.geodesic",
        "open_cohort": "softlabels.cohort.arrays",
    },
)
