"""Every soft-label method by name. docs/methods.md compares them; CONTRIBUTING.md says how to add one.

A method is one module with one class, which declares what softlabels must know and holds the parameters and the maths.
Heavy libraries are imported inside functions, because these modules are read with every config, in every job.
"""

from softlabels._shared.rate import Rate
from softlabels._shared.registry import Registry
from softlabels.augmentation import ANY_AUGMENTATION, NOT_ELASTIC, RIGID
from softlabels.methods.arrays import Need, TargetInputs, TargetMap
from softlabels.methods.base import FAR_MM, Method
from softlabels.methods.dilation import Dilation
from softlabels.methods.gaussian import Gaussian
from softlabels.methods.geodesic_band import GeodesicBand
from softlabels.methods.geols import GeoLS
from softlabels.methods.keys import RunContext, Softness, TuningGrid
from softlabels.methods.label_smoothing import LabelSmoothing
from softlabels.methods.level_set import LevelSet
from softlabels.methods.multi_rater import MultiRater
from softlabels.methods.onehot import OneHot
from softlabels.methods.partial_volume import PartialVolume
from softlabels.methods.random_walker import RandomWalker
from softlabels.methods.seeded import Distance, GeodesicMethod, SeededMethod
from softlabels.methods.sing import SiNG
from softlabels.methods.superpixel import Superpixel
from softlabels.methods.svls import SVLS
from softlabels.methods.unmix import Unmix

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
    [
        OneHot,
        LabelSmoothing,
        GeoLS,
        SiNG,
        RandomWalker,
        Superpixel,
        SVLS,
        Gaussian,
        Dilation,
        LevelSet,
        PartialVolume,
        MultiRater,
        Unmix,
        GeodesicBand,
    ],
)
