"""Every soft-label method by name: what it needs, promises and computes. docs/methods.md compares them.

The implementations, one module each, are imported when a map is computed.
"""

from __future__ import annotations

from softlabels.methods.base import FAR_MM, Method, TargetInputs, TargetMap

__all__ = ["FAR_MM", "METHODS", "Method", "TargetInputs", "TargetMap"]

_RIGID = {"flip": True, "rot90": True, "rescale": False, "elastic": False}
_NOT_ELASTIC = {"flip": True, "rot90": True, "rescale": True, "elastic": False}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("onehot", blend="onehot", is_stored=False),
        Method("label_smoothing", blend="label_smoothing", is_stored=False),
        Method(
            "geols",
            variants=("paper", "official"),
            needs=frozenset({"distance"}),
            blend="mix_onehot",
            unnormalised=frozenset({"official"}),
            allows_overlap=False,
            needs_background=True,
            augmentation=_NOT_ELASTIC,
            algorithm="2",
        ),
        Method(
            "sing",
            kind="signed",
            variants=("paper", "official"),
            needs=frozenset({"image", "seeds", "distance"}),
            blend="signed_margin",
            augmentation=_NOT_ELASTIC,
        ),
        Method(
            "superpixel",
            variants=("paper",),
            needs=frozenset({"image"}),
            unnormalised=frozenset({"paper"}),
            augmentation=_NOT_ELASTIC,
            algorithm="2",
        ),
        Method("svls", variants=("paper", "official"), algorithm="3"),
        Method("gaussian", algorithm="3"),
        Method("dilation", algorithm="2"),
        Method(
            "level_set",
            kind="distance",
            variants=("mm", "official", "normalised"),
            ranges={"normalised": (-1.0, 1.0)},
            augmentation=_RIGID,
        ),
        Method("partial_volume", needs=frozenset({"source_labels"}), algorithm="3"),
        Method("multi_rater", needs=frozenset({"raters"}), algorithm="3"),
    )
}
