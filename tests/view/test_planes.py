"""Laws of planes: every orientation is shown as a radiologist holds it, and slices are chosen well."""

import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from helpers.grids import grid_of

from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.view.planes import PLANES, Plane, chosen_slices, content_box

ORIENTATIONS = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product([1, -1], repeat=3)
]


def oriented_grid(shape, order, signs, spacing=(1.0, 1.0, 1.0)):
    """Return a grid whose array axis a runs along world axis order[a] with the given sign."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    return Grid(shape, spacing, affine)


@pytest.mark.parametrize("plane", PLANES)
def test_every_orientation_is_shown_as_a_radiologist_holds_it(plane):
    for order, signs in ORIENTATIONS:
        grid = oriented_grid((3, 4, 5), order, signs)
        view = Plane.of(grid, plane)
        index = np.indices(grid.shape).reshape(3, -1)
        world = (grid.affine_ras[:3, :3] @ index).reshape(3, *grid.shape)
        page = view.page(world[(slice(None), *(slice(*pair) for pair in view.window(1, grid.shape)))])
        across, along, down = {"axial": (2, 0, 1), "coronal": (1, 0, 2), "sagittal": (0, 1, 2)}[plane]
        assert (np.diff(page[along], axis=1) < 0).all(), "columns run from right to left, or front to back"
        assert (np.diff(page[down], axis=0) < 0).all(), "rows run from front to back, or head to foot"
        assert (page[across] == page[across, 0, 0]).all()


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::5])
def test_an_axial_page_is_nibabels_canonical_slice_mirrored(order, signs):
    grid = oriented_grid((3, 4, 5), order, signs, (2.0, 1.5, 1.0))
    values = np.random.default_rng(0).random(grid.shape)
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(values.T, grid.to_nifti_affine())).get_fdata()
    view = Plane.of(grid, "axial")
    position = 1 if signs[view.axis] > 0 else grid.shape[view.axis] - 2
    page = view.page(values[tuple(slice(*pair) for pair in view.window(position, grid.shape))])
    np.testing.assert_array_equal(page, canonical[::-1, ::-1, 1].T)


def test_a_real_volume_of_another_orientation_is_shown_upright(shared_data):
    path = shared_data / "spinal_cord" / "t2.nii.gz"
    image = sitk.ReadImage(str(path))
    grid = grid_of(image)
    canonical = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
    view = Plane.of(grid, "sagittal")
    middle = grid.shape[view.axis] // 2
    page = view.page(sitk.GetArrayFromImage(image)[tuple(slice(*pair) for pair in view.window(middle, grid.shape))])
    assert any(np.array_equal(page, plane[::-1, ::-1].T) for plane in canonical)
    assert view.letters == ("A", "P", "S", "I")


def test_the_default_plane_shows_the_finest_pixels():
    assert Plane.of(Grid((5, 50, 50), (7.5, 0.5, 0.5))).name == "axial"
    assert Plane.of(oriented_grid((5, 50, 50), (1, 2, 0), (1, 1, 1), (7.5, 0.5, 0.5))).name == "coronal"
    assert Plane.of(oriented_grid((9, 9, 9), (0, 1, 2), (1, 1, 1))).name == "axial"


def test_a_2d_image_is_shown_as_its_array():
    view, image = Plane.of(Grid((1, 3, 4), (1.0, 1.0, 1.0))), np.arange(12).reshape(1, 3, 4)
    np.testing.assert_array_equal(view.page(image), image[0])
    assert view.letters == ("", "", "", "")


def test_an_unknown_plane_is_refused():
    with pytest.raises(InputError, match="'transverse', expected one of sagittal, coronal, axial"):
        Plane.of(Grid((3, 3, 3), (1.0, 1.0, 1.0)), "transverse")


def test_chosen_slices_ascend_and_hold_content():
    scores = np.array([0, 0, 5, 9, 9, 1, 0])
    assert chosen_slices(scores, 1) == [3]
    assert chosen_slices(scores, 3) == [2, 3, 4]
    assert chosen_slices(np.zeros(7), 3) == [3]
    assert chosen_slices([0, 1, 0], 3) == [1]


def test_the_box_holds_content_and_margin_within_the_page():
    content = np.zeros((200, 100), bool)
    content[90:110, 5:8] = True
    rows, columns = content_box(content, (0.5, 2.0))
    assert (rows.start, rows.stop) == (60, 140)  # 20 voxels of margin are 10 mm; then widened to 40 % of the page
    assert (columns.start, columns.stop) == (0, 40)
    assert content_box(np.zeros((4, 5), bool), (1, 1)) == (slice(0, 4), slice(0, 5))
