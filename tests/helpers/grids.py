"""Grids by the conventions of other libraries: a second opinion on `softlabels.grid`."""

import numpy as np
import SimpleITK as sitk

from softlabels.grid import Grid


def sitk_grid(size, spacing, origin, direction) -> Grid:
    """Return the grid of a 3D SimpleITK image, whose figures are ordered (x, y, z) and count towards left and back."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) @ np.diag(spacing)
    affine[:3, 3] = origin
    affine[:2] *= -1
    return Grid(tuple(size)[::-1], tuple(spacing)[::-1], affine[:, [2, 1, 0, 3]])


def grid_of(image: sitk.Image) -> Grid:
    """Return the grid of a 3D SimpleITK image."""
    return sitk_grid(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
