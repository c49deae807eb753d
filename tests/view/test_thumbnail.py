"""Laws of thumbnails: small, in the proportions of the tissue, and in the colours of the classes."""

import numpy as np
from helpers.made_cohort import CLASSES
from PIL import Image

from softlabels.view.colours import PALETTE, class_colours
from softlabels.view.slices import case_slices
from softlabels.view.thumbnail import SIZE, case_thumbnail, save_thumbnail


def test_a_thumbnail_has_the_proportions_of_the_slice_in_mm(case, tmp_path):
    picture = case_thumbnail(case)
    classes = [one.target.classes for one in case.targets.values()]
    (page,) = case_slices(case.case, classes[0], None, 1, classes[1:])
    height, width = (n * side for n, side in zip(page.image().shape, page.plane.spacing, strict=True))
    assert max(picture.shape[:2]) == SIZE and picture.dtype == np.uint8
    assert picture.shape[0] / picture.shape[1] == np.float64(height / width).round(1) or (
        abs(picture.shape[0] / picture.shape[1] - height / width) < 0.05
    )
    save_thumbnail(case, tmp_path / "t.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "t.png")), picture)


def test_classes_are_seen_in_their_colours(case):
    picture = case_thumbnail(case).astype(int)
    has_colour = (picture.max(axis=-1) - picture.min(axis=-1)) > 20
    assert has_colour.any() and not has_colour.all()
    assert class_colours(CLASSES)[CLASSES[1].values] == PALETTE[0]


def test_no_two_of_the_classes_of_a_body_share_a_colour():
    assert len(set(PALETTE)) == len(PALETTE) == 48
    rgb = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in PALETTE], float)
    apart = np.abs(rgb[:, None] - rgb[None]).sum(-1)[~np.eye(48, dtype=bool)]
    assert apart.min() >= 48
