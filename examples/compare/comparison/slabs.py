"""The laptop example's data: the ICBM152 brain averaged to 2 mm and cut into coronal slabs, whose soft truth is known.

The nilearn wheel ships T1 and the shares of grey and white matter at 1 mm. Averaged over blocks of 2 x 2 x 2 voxels
they are the image and the true soft label; the largest share is the hard label that an annotator would draw at 2 mm. A
slab takes the place of a person, which it is not: all slabs are one brain, itself the average of 152.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softlabels.errors import InputError
from softlabels.grid import Grid, as_rows
from softlabels.inputs.volume import read_volume
from softlabels.preprocess.blocks import averaged, block_grid
from softlabels.view.export import write_nifti

#: Voxels of 1 mm along each side of a block.
BLOCK = 2
#: Voxels of 1 mm kept around the brain.
MARGIN = 4
#: Planes with less brain than this share of the fullest one are left out: both ends of the brain.
LEAST_BRAIN = 0.3


@dataclass(frozen=True)
class Slab:
    """One slab, as the case of a study.

    Parameters
    ----------
    image : (D, H, W) float32 array
        T1, averaged.
    shares : (3, D, H, W) float32 array
        The rest, grey and white matter: the true soft label.
    grid : Grid
        Of both.
    fine_labels : (2 D, 2 H, 2 W) uint8 array
        The largest share at 1 mm.
    fine_grid : Grid
    """

    image: NDArray[np.float32]
    shares: NDArray[np.float32]
    grid: Grid
    fine_labels: NDArray[np.uint8]
    fine_grid: Grid


def coronal_first(values: NDArray[np.floating], grid: Grid) -> tuple[NDArray[np.floating], Grid]:
    """Return values (..., z, y, x) and their grid with the axes in the order (y, z, x): slices are coronal then."""
    turned = Grid(
        (grid.shape[1], grid.shape[0], grid.shape[2]),
        (grid.spacing[1], grid.spacing[0], grid.spacing[2]),
        as_rows(grid.affine_ras[:, [1, 0, 2, 3]]),
    )
    return np.swapaxes(values, -3, -2), turned


def slab_ranges(n_planes: int, n_slabs: int, gap: int) -> list[tuple[int, int]]:
    """Return first and last plane (exclusive) of equally thick slabs, `gap` planes between them left out.

    Examples
    --------
    >>> slab_ranges(11, 3, 1)
    [(0, 3), (4, 7), (8, 11)]
    """
    thickness = (n_planes + gap) // n_slabs - gap
    if thickness < 1:
        raise InputError(f"slabs: got {n_slabs} of {n_planes} planes with gaps of {gap}, expected fewer")
    return [(start, start + thickness) for start in range(0, n_slabs * (thickness + gap), thickness + gap)]


def icbm152() -> tuple[NDArray[np.float32], NDArray[np.float32], Grid]:
    """Return T1 (D, H, W), the shares of the rest, grey and white matter (3, D, H, W), and their 1 mm grid.

    Raises
    ------
    InputError
        If the nilearn wheel, which contains the maps, is not installed.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is None or spec.origin is None:
        raise InputError(
            "slabs: nilearn is not installed, expected its wheel with the ICBM152 maps. Run 'make compare'"
        )
    folder = Path(spec.origin).parent / "datasets" / "data"
    t1, grey, white = (
        read_volume(folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz") for kind in ("t1", "gm", "wm")
    )
    tissue = np.stack([np.asarray(one.values, np.float32) / 255 for one in (grey, white)])
    tissue /= np.maximum(tissue.sum(axis=0), 1)
    shares = np.concatenate([1 - tissue.sum(axis=0, keepdims=True), tissue])
    return np.asarray(t1.values, np.float32), shares, t1.grid


def make_slabs(
    image: NDArray[np.float32], shares: NDArray[np.float32], grid: Grid, n_slabs: int, gap: int
) -> list[Slab]:
    """Return the slabs of a volume whose soft label is known, from back to front.

    Parameters
    ----------
    image : (D, H, W) float32 array
    shares : (C, D, H, W) float32 array
        The background first. Slabs cover the box of the other classes with a margin, without its first and last planes
        (`LEAST_BRAIN`).
    grid : Grid
        Of both, with axes (z, y, x) that run up, front and right.
    n_slabs : int
    gap : int
        Planes of averaged voxels left out between slabs.
    """
    brain = shares[0] < 0.5
    inside = np.nonzero(brain)
    starts = [max(int(axis.min()) - MARGIN, 0) for axis in inside]
    stops = [min(int(axis.max()) + 1 + MARGIN, n) for axis, n in zip(inside, grid.shape, strict=True)]
    area = brain.sum(axis=(0, 2))
    full = np.flatnonzero(area >= LEAST_BRAIN * area.max())
    starts[1], stops[1] = int(full.min()), int(full.max()) + 1
    depth, height, width = (BLOCK * ((b - a) // BLOCK) for a, b in zip(starts, stops, strict=True))
    box = tuple(slice(a, a + n) for a, n in zip(starts, (depth, height, width), strict=True))
    together = np.concatenate([image[None], shares])[(slice(None), *box)]
    fine, fine_grid = coronal_first(together, grid.cropped(starts, (depth, height, width)))
    block = (BLOCK, BLOCK, BLOCK)
    coarse, coarse_grid = np.stack([averaged(one, block) for one in fine]), block_grid(fine_grid, block)
    slabs = []
    for start, stop in slab_ranges(coarse_grid.shape[0], n_slabs, gap):
        rows, fine_rows = slice(start, stop), slice(BLOCK * start, BLOCK * stop)
        slabs.append(
            Slab(
                coarse[0, rows],
                coarse[1:, rows],
                coarse_grid.cropped((start, 0, 0), (stop - start, *coarse_grid.shape[1:])),
                fine[1:, fine_rows].argmax(axis=0).astype(np.uint8),
                fine_grid.cropped((BLOCK * start, 0, 0), (BLOCK * (stop - start), *fine_grid.shape[1:])),
            )
        )
    return slabs


def write_slabs(folder: Path, n_slabs: int, gap: int) -> Path:
    """Write image, hard label, true shares and 1 mm labels of each slab of ICBM152, and their case sheet; return it.

    Slabs that are there already are left as they are.

    Raises
    ------
    InputError
        If the folder has other slabs, or nilearn is not installed.
    """
    sheet, described = folder / "cases.tsv", f"# ICBM152, slabs: {n_slabs}, planes between them: {gap}"
    if sheet.exists():
        found = sheet.read_text(encoding="utf-8").partition("\n")[0]
        if found != described:
            raise InputError(f"{sheet}: got {found!r}, expected {described!r}. Delete {folder}, or name another folder")
        return sheet
    folder.mkdir(parents=True, exist_ok=True)
    rows = [described, "case\timage:T1\tlabel\treference\tmeta:person\tmeta:fine_labels"]
    for number, slab in enumerate(make_slabs(*icbm152(), n_slabs, gap)):
        case = f"slab{number:02d}"
        write_nifti(slab.image, slab.grid, folder / f"{case}_t1.nii.gz")
        write_nifti(slab.shares.argmax(axis=0).astype(np.uint8), slab.grid, folder / f"{case}_labels.nii.gz")
        write_nifti(slab.shares, slab.grid, folder / f"{case}_shares.nii.gz")
        write_nifti(slab.fine_labels, slab.fine_grid, folder / f"{case}_labels_1mm.nii.gz")
        files = (f"{case}_{name}.nii.gz" for name in ("t1", "labels", "shares"))
        rows.append("\t".join([case, *files, case, f"{case}_labels_1mm.nii.gz"]))
    sheet.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return sheet
