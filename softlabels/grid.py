"""Where voxels lie in space: shape, spacing and affine in (z, y, x); the only place that handles axis order.

SimpleITK speaks (x, y, z) and LPS, NIfTI speaks (x, y, z) and RAS; everything else in softlabels speaks (z, y, x) and RAS.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from softlabels.errors import InputError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Reverses (x, y, z) voxel indices to (z, y, x) in a homogeneous 4x4 matrix.
_REVERSE_AXES = np.eye(4)[[2, 1, 0, 3]]


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
    affine: tuple[tuple[float, ...], ...] = None

    def __post_init__(self):
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        object.__setattr__(self, "spacing", checked_spacing(self.spacing))
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise InputError(f"grid shape: got {self.shape}, expected 3 sizes >= 1 ordered (z, y, x)")
        affine = np.diag([*self.spacing, 1.0])[[2, 1, 0, 3]] if self.affine is None else np.asarray(self.affine, float)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise InputError(f"grid affine: got {affine.tolist()}, expected a finite invertible 4x4 matrix")
        object.__setattr__(self, "affine", tuple(tuple(float(v) for v in row) for row in affine))

    @property
    def affine_ras(self) -> np.ndarray:
        """The affine as a (4, 4) float64 array: (z, y, x, 1) to RAS+ mm."""
        return np.array(self.affine)

    @property
    def n_voxels(self) -> int:
        """D * H * W."""
        return int(np.prod(self.shape))

    def position(self, index_zyx) -> tuple[float, float, float]:
        """Return the RAS+ position in mm of a (possibly fractional) voxel index."""
        return tuple(float(v) for v in (self.affine_ras @ [*index_zyx, 1.0])[:3])

    def cropped(self, start_zyx, shape) -> Grid:
        """Return the grid of the sub-volume that begins at `start_zyx`."""
        affine = self.affine_ras
        affine[:, 3] = affine @ [*start_zyx, 1.0]
        return Grid(shape, self.spacing, affine)

    def differences(self, other: Grid, tolerance_mm: float = 1e-2) -> list[str]:
        """Return what keeps two grids from being one in physical space; empty if they agree.

        The eight corners are compared, so that a rotation noise of 1e-8 passes and a flip does not.
        """
        if self.shape != other.shape:
            return [f"shape (z, y, x) {self.shape} and {other.shape}"]
        found = []
        if not np.allclose(self.spacing, other.spacing, rtol=1e-3, atol=1e-4):
            found.append(f"spacing in mm (z, y, x) {self.spacing} and {other.spacing}")
        corners = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], [1.0], indexing="ij"), -1).reshape(-1, 4)
        apart = np.abs((self.affine_ras - other.affine_ras) @ corners.T)[:3].max()
        if apart > tolerance_mm:
            found.append(f"position: corners up to {apart:.3g} mm apart (tolerance {tolerance_mm} mm)")
        return found

    def to_json(self) -> dict:
        """Return the grid as plain JSON values."""
        return {"shape": list(self.shape), "spacing_mm": list(self.spacing), "affine_ras": [list(r) for r in self.affine]}

    @classmethod
    def from_json(cls, data: dict) -> Grid:
        """Return the grid that `to_json` wrote."""
        return cls(tuple(data["shape"]), tuple(data["spacing_mm"]), data["affine_ras"])

    @classmethod
    def from_sitk(cls, size, spacing, origin, direction) -> Grid:
        """Return the grid of a 3D SimpleITK image from its size, spacing, origin (x, y, z; LPS mm) and direction."""
        lps = np.eye(4)
        lps[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
        lps[:3, 3] = origin
        return cls(tuple(size)[::-1], tuple(spacing)[::-1], _LPS_TO_RAS @ lps @ _REVERSE_AXES)

    def to_sitk(self) -> dict:
        """Return origin, spacing and direction (x, y, z; LPS) as SimpleITK's setters take them."""
        lps = _LPS_TO_RAS @ self.affine_ras @ _REVERSE_AXES
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        return {
            "origin": lps[:3, 3].tolist(),
            "spacing": spacing.tolist(),
            "direction": (lps[:3, :3] / spacing).ravel().tolist(),
        }

    def to_nifti_affine(self) -> np.ndarray:
        """Return the (4, 4) affine for a NIfTI array in (x, y, z) order."""
        return self.affine_ras @ _REVERSE_AXES


def checked_spacing(spacing) -> tuple[float, float, float]:
    """Return `spacing` as 3 floats, or raise InputError: 3 finite values > 0 in mm, ordered (z, y, x)."""
    values = tuple(float(v) for v in np.ravel(spacing))
    if len(values) != 3 or not all(np.isfinite(v) and v > 0 for v in values):
        raise InputError(f"spacing: got {spacing!r}, expected 3 finite values > 0 in mm, ordered (z, y, x)")
    return values
