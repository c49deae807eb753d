"""Every soft-label method by name. docs/methods.md compares them; CONTRIBUTING.md says how to add one.

A method is one module with one class, which declares what softlabels must know and holds the parameters and the maths.
A module is imported when its method is asked for, and heavy libraries inside functions: every job reads a config.
"""

from softlabels._shared.rate import Rate
from softlabels._shared.registry import Registry
from softlabels.augmentation import ANY_AUGMENTATION, NOT_ELASTIC, RIGID
from softlabels.methods.arrays import Need, TargetInputs, TargetMap
from softlabels.methods.base import FAR_MM, Method
from softlabels.methods.keys import RunContext, Softness, TuningGrid
from softlabels.methods.seeded import Distance, GeodesicMethod, SeededMethod

__all__ = [
    "ANY_AUGMENTATION",
    "FAR_MM",
    "METHODS",
    "NOT_ELASTIC",
    "RIGID",
    "Distance",
    "GeodesicMethod",
    "Method",
    "Need",
    "Rate",
    "RunContext",
    "SeededMethod",
    "Softness",
    "TargetInputs",
    "TargetMap",
    "TuningGrid",
]

#: Every method by name, those of installed packages among them (entry points of the group ``softlabels.methods``).
METHODS: Registry[Method] = Registry(
    Method,
    "softlabels.methods",
    {
        "onehot": "softlabels.methods.onehot:OneHot",
        "label_smoothing": "softlabels.methods.label_smoothing:LabelSmoothing",
        "geols": "softlabels.methods.geols:GeoLS",
        "sing": "softlabels.methods.sing:SiNG",
        "random_walker": "softlabels.methods.random_walker:RandomWalker",
        "superpixel": "softlabels.methods.superpixel:Superpixel",
        "svls": "softlabels.methods.svls:SVLS",
        "gaussian": "softlabels.methods.gaussian:Gaussian",
        "dilation": "softlabels.methods.dilation:Dilation",
        "level_set": "softlabels.methods.level_set:LevelSet",
        "partial_volume": "softlabels.methods.partial_volume:PartialVolume",
        "multi_rater": "softlabels.methods.multi_rater:MultiRater",
        "unmix": "softlabels.methods.unmix:Unmix",
        "geodesic_band": "softlabels.methods.geodesic_band:GeodesicBand",
    },
)
