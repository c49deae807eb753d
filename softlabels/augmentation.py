"""The augmentation contract: which deformations, done to image and soft label alike, leave a soft label a valid target.

==========  =========================================================================================================
name        what is done
==========  =========================================================================================================
flip        axes mirrored
rot90       turned by multiples of 90 degrees
rotation    turned by any angle
rescale     zoomed, by one factor or by one for each axis
shear       axes tilted against each other
affine      short for rotation, rescale and shear
elastic     any other deformation
==========  =========================================================================================================

They are meant in mm: on anisotropic voxels, a rotation of the array about an axis in the plane of the slices is a shear
as well. Translation and changes of intensity leave every target valid and have no name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from softlabels.errors import InputError

#: Whether each deformation leaves a target valid. `affine` is no entry of its own.
Contract = Mapping[str, bool]

ANY_AUGMENTATION: Contract = {
    "flip": True,
    "rot90": True,
    "rotation": True,
    "rescale": True,
    "shear": True,
    "elastic": True,
}
#: Of maps that follow intensities or geodesic distances of the undeformed image.
NOT_ELASTIC: Contract = {**ANY_AUGMENTATION, "elastic": False}
#: Of maps whose values are lengths.
RIGID: Contract = {**NOT_ELASTIC, "rescale": False, "shear": False}

_AFFINE = ("rotation", "rescale", "shear")
#: Names that an index of an earlier version lacks, and the older ones that imply them.
_IMPLIED = {"rotation": "rot90", "shear": "rescale"}


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of a contract that a transform's own names stand for.

    Raises
    ------
    InputError
        If a name is unknown.

    Examples
    --------
    >>> expanded(["flip", "affine"])
    ('flip', 'rotation', 'rescale', 'shear')
    """
    found: dict[str, None] = {}
    for name in names:
        if name != "affine" and name not in ANY_AUGMENTATION:
            raise InputError(f"augmentations: got {name!r}, expected some of {', '.join(ANY_AUGMENTATION)}, affine")
        found |= dict.fromkeys(_AFFINE if name == "affine" else (name,))
    return tuple(found)


def completed(contract: Contract) -> dict[str, bool]:
    """Return a contract with the names that an index of an earlier version lacks.

    Examples
    --------
    >>> completed({"flip": True, "rot90": True, "rescale": False, "elastic": False})["rotation"]
    True
    """
    implied = {name: contract[older] for name, older in _IMPLIED.items() if older in contract}
    return {**implied, **contract}


def allowed_names(contract: Contract) -> list[str]:
    """Return what a contract allows, with `affine` in place of its three parts.

    Examples
    --------
    >>> allowed_names(NOT_ELASTIC), allowed_names(RIGID)
    (['flip', 'rot90', 'affine'], ['flip', 'rot90', 'rotation'])
    """
    allowed = [name for name, is_valid in contract.items() if is_valid]
    if not set(_AFFINE) <= set(allowed):
        return allowed
    return list(dict.fromkeys("affine" if name in _AFFINE else name for name in allowed))
