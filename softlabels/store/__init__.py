"""The content-addressed store of immutable entries: `Store`, `Layer`, `entry_key`, and the encodings.

Names load on first use, so that `softlabels.store.key` needs nothing but Python.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "Store": "softlabels.store.store",
    "ChannelStack": "softlabels.store.publish",
    "Layer": "softlabels.store.publish",
    "Entry": "softlabels.store.read",
    "Damage": "softlabels.store.verify",
    "entry_key": "softlabels.store.key",
    "ScaleOffset": "softlabels.store.encoding",
    "BitRound": "softlabels.store.encoding",
    "Lossless": "softlabels.store.encoding",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
