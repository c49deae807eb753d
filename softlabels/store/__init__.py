"""The content-addressed store of immutable entries: `Store`, `Layer`, `entry_key`, and the encodings.

Names load on first use, so that `softlabels.store.key` needs nothing but Python.
"""

from typing import TYPE_CHECKING

from softlabels._shared.lazy import lazy_names

if TYPE_CHECKING:
    from softlabels.store.encoding import BitRound, Lossless, ScaleOffset
    from softlabels.store.key import entry_key
    from softlabels.store.publish import Layer
    from softlabels.store.read import Entry
    from softlabels.store.store import Store
    from softlabels.store.verify import Damage

__all__ = [
    "BitRound",
    "Damage",
    "Entry",
    "Layer",
    "Lossless",
    "ScaleOffset",
    "Store",
    "entry_key",
]

__getattr__ = lazy_names(
    __name__,
    {
        "BitRound": "softlabels.store.encoding",
        "Damage": "softlabels.store.verify",
        "Entry": "softlabels.store.read",
        "Layer": "softlabels.store.publish",
        "Lossless": "softlabels.store.encoding",
        "ScaleOffset": "softlabels.store.encoding",
        "Store": "softlabels.store.store",
        "entry_key": "softlabels.store.key",
    },
)
