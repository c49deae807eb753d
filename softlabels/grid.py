"""The positions of voxels in space: shape, spacing and affine in (z, y, x); the only place that handles axis order.

SimpleITK speaks (x, y, z) and LPS, NIfTI speaks (x, y, z) and RAS; everything else here speaks (z, y, x) and RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from softlabels.errors import InputError

#: Voxels that a file may have, all channels together, and a resampled volume: 512 x 512 x 2048.
MAX_VOXELS = 2**29
#: A box of a volume: three (start, stop) pairs over (z, y, x).
Window = Sequence[tuple[int, int]]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Reverses (x, y, z) voxel indices to (z, y, x) in a homogeneous 4x4 matrix.
_REVERSE_AXES = np.eye(4)[[2, 1, 0, 3]]

#: Four rows of four numbers.
Affine = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Grid:
    """The sampling grid of a volume.

    Parameters
    ----------
    shape : tuple of 3 ints
        (D, H, W), each >= 1. A 2D image (H, W) is the grid (1, H, W).
    spacing : tuple of 3 floats
        Voxel size in mm, ordered (z, y, x), each finite and > 0.
    affine : tuple of 4 tuples of 4 floats, optional
        Maps homogeneous voxel indices (z, y, x, 1) to RAS+ millimetres. By default an axis-aligned grid
        at the origin, with x to the right, y to the front and z up.

    Examples
    --------
    >>> grid = Grid((2, 3, 4), (5.0, 1.0, 1.0))
    >>> grid.position((1, 0, 0))
    (0.0, 0.0, 5.0)
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    affine: Affine = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing", checked_spacing(self.spacing))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"grid shape: got {self.shape}, expected 3 sizes >= 1 ordered (z, y, x)")
        affine = (
            np.diag([*self.spacing, 1.0])[[2, 1, 0, 3]] if len(self.affine) == 0 else np.asarray(self.affine, float)
        )
        _check_affine(affine, self.spacing)
        object.__setattr__(self, "affine", as_rows(affine))

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """The affine as a (4, 4) float64 array: (z, y, x, 1) to RAS+ mm."""
        return np.array(self.affine)

    @property
    def n_voxels(self) -> int:
        """D * H * W."""
        return int(np.prod(self.shape))

    def position(self, index_zyx: Sequence[float]) -> tuple[float, float, float]:
        """Return the RAS+ position in mm of a (possibly fractional) voxel index."""
        x, y, z = (float(v) for v in (self.affine_ras @ [*index_zyx, 1.0])[:3])
        return x, y, z

    def cropped(self, start_zyx: Sequence[float], shape: tuple[int, int, int]) -> Grid:
        """Return the grid of the sub-volume that begins at `start_zyx`."""
        affine = self.affine_ras
        affine[:, 3] = affine @ [*start_zyx, 1.0]
        return Grid(shape, self.spacing, as_rows(affine))

    @property
    def orientation(self) -> str:
        """Where the axes (z, y, x) mostly point: three of the letters R L A P S I, such as "SAR"."""
        directions = self.affine_ras[:3, :3] / np.array(self.spacing)
        axes = np.abs(directions).argmax(axis=0)
        return "".join(("LR", "PA", "IS")[a][int(directions[a, i] > 0)] for i, a in enumerate(axes))

    @property
    def tolerance_mm(self) -> float:
        """How far apart corners of equal grids may be: 0.01 mm, or 1 % of the smallest voxel side if that is less."""
        return min(1e-2, 1e-2 * min(self.spacing))

    def differences(self, other: Grid, tolerance_mm: float | None = None) -> list[str]:
        """Return what keeps two grids from being one in physical space; empty if they agree.

        The eight corners are compared, so that a rotation noise of 1e-8 passes and a flip does not.
        """
        tolerance_mm = self.tolerance_mm if tolerance_mm is None else tolerance_mm
        if self.shape != other.shape:
            return [f"shape (z, y, x) {self.shape} and {other.shape}"]
        found = []
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=0.0):
            found.append(f"spacing in mm (z, y, x) {self.spacing} and {other.spacing}")
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], [1.0], indexing="ij"), -1).reshape(-1, 4)
        apart = np.abs((self.affine_ras - other.affine_ras) @ corners.T)[:3].max()
        if apart > tolerance_mm:
            found.append(f"position: corners up to {apart:.3g} mm apart (tolerance {tolerance_mm:.3g} mm)")
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the grid as plain JSON values."""
        return {
            "shape": list(self.shape),
            "spacing_mm": list(self.spacing),
            "affine_ras": [list(r) for r in self.affine],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Grid:
        """Return the grid that `to_json` wrote; equal ones may be one object."""
        return _known_grid(tuple(data["shape"]), tuple(data["spacing_mm"]), tuple(map(tuple, data["affine_ras"])))

    @classmethod
    def from_xyz(cls, size_xyz: Sequence[int], affine_xyz: ArrayLike, spacing_xyz: Sequence[float]) -> Grid:
        """Return the grid of an array whose header counts voxels as (x, y, z) and maps them to RAS+ mm."""
        (width, height, depth), (x, y, z) = size_xyz, spacing_xyz
        return cls((depth, height, width), (z, y, x), as_rows(np.asarray(affine_xyz, float) @ _REVERSE_AXES))

    def to_sitk(self) -> dict[str, Any]:
        """Return origin, spacing and direction (x, y, z; LPS) as SimpleITK's setters take them."""
        lps = _LPS_TO_RAS @ self.affine_ras @ _REVERSE_AXES
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        return {
            "origin": lps[:3, 3].tolist(),
            "spacing": spacing.tolist(),
            "direction": (lps[:3, :3] / spacing).ravel().tolist(),
        }

    def to_nifti_affine(self) -> NDArray[np.float64]:
        """Return the (4, 4) affine for a NIfTI array in (x, y, z) order."""
        return self.affine_ras @ _REVERSE_AXES


@lru_cache(maxsize=1024)
def _known_grid(shape: tuple[int, int, int], spacing: tuple[float, float, float], affine: Affine) -> Grid:
    """Return a grid, checked once: the cases of a cohort often share it."""
    return Grid(shape, spacing, as_rows(affine))


def as_rows(affine: ArrayLike) -> Affine:
    """Return a matrix as tuples, which can be compared and hashed."""
    return tuple(tuple(float(value) for value in row) for row in np.asarray(affine))


def checked_spacing(spacing: ArrayLike) -> tuple[float, float, float]:
    """Return `spacing` as 3 floats, or raise InputError: 3 finite values > 0 in mm, ordered (z, y, x)."""
    values = tuple(float(v) for v in np.ravel(spacing))
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(f"spacing: got {spacing!r}, expected 3 finite values > 0 in mm, ordered (z, y, x)")
    z, y, x = values
    return z, y, x


def _check_affine(affine: NDArray[np.float64], spacing: tuple[float, float, float]) -> None:
    """Raise InputError unless `affine` is a rotation (or mirror) of axes whose lengths are `spacing`."""
    if affine.shape != (4, 4) or not (np.abs(affine) <= 1e12).all() or (affine[3] != [0, 0, 0, 1]).any():
        raise InputError(f"grid affine: got {affine.tolist()}, expected a finite 4x4 matrix with last row 0 0 0 1")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.allclose(lengths, spacing, rtol=1e-3, atol=0.0):
        got = [round(float(v), 6) for v in lengths]
        raise InputError(f"grid affine: its axes (z, y, x) are {got} mm long, but the spacing is {list(spacing)}")
    directions = affine[:3, :3] / lengths
    skew = np.abs(directions.T @ directions - np.eye(3)).max()
    if skew > 1e-3:
        raise InputError(
            f"grid affine: its axes are sheared by {np.degrees(np.arcsin(min(skew, 1.0))):.2g} degrees, expected "
            "perpendicular ones; resample the image to a grid without shear"
        )
