"""Reading a computed cohort back: its index, its cases, and all of it as xarray."""

from importlib import import_module


def __getattr__(name):
    if name != "open_cohort":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("softlabels.cohort.arrays").open_cohort
