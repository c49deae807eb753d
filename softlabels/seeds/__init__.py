"""Where each class's distances start: one module per strategy, and a chain that leaves no present class without.

`STRATEGIES` has every strategy by name, those of installed packages among them (entry points of the group
``softlabels.seeds``); `make_seeds` seeds all classes of a case, `make_boxed_seeds` does so with each class in its box.
Heavy libraries are imported on first use, because these modules are read with every config.
"""

from softlabels._shared.registry import Registry
from softlabels.seeds.base import SeedStrategy
from softlabels.seeds.boundary import BoundarySeeds, boundary_seeds
from softlabels.seeds.canny import CannySeeds, canny_seeds
from softlabels.seeds.chain import centre_voxel, deepest_voxels, make_boxed_seeds, make_seeds
from softlabels.seeds.erosion import ErosionSeeds, erosion_seeds
from softlabels.seeds.random_draw import RandomSeeds, random_key, random_seeds
from softlabels.seeds.skeleton import SkeletonSeeds, skeleton_seeds

__all__ = [
    "STRATEGIES",
    "BoundarySeeds",
    "CannySeeds",
    "ErosionSeeds",
    "RandomSeeds",
    "SeedStrategy",
    "SkeletonSeeds",
    "boundary_seeds",
    "canny_seeds",
    "centre_voxel",
    "deepest_voxels",
    "erosion_seeds",
    "make_boxed_seeds",
    "make_seeds",
    "random_key",
    "random_seeds",
    "skeleton_seeds",
]

#: Every strategy by name.
STRATEGIES: Registry[SeedStrategy] = Registry(
    SeedStrategy,
    "softlabels.seeds",
    {
        "skeleton": "softlabels.seeds.skeleton:SkeletonSeeds",
        "erosion": "softlabels.seeds.erosion:ErosionSeeds",
        "random": "softlabels.seeds.random_draw:RandomSeeds",
        "canny": "softlabels.seeds.canny:CannySeeds",
        "boundary": "softlabels.seeds.boundary:BoundarySeeds",
    },
)
