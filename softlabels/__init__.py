"""softlabels: exact soft labels for segmentation networks, computed once, offline, and streamed into training."""

from importlib import import_module

__version__ = "0.1.0"

# Loaded on first use: a trainer must not import the engine, nor a job torch.
_HOMES = {
    "SoftLabelDataset": "softlabels.loader",
    "geodesic_distance": "softlabels.geodesic",
    "open_cohort": "softlabels.cohort.arrays",
    "Store": "softlabels.store",
}
__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
