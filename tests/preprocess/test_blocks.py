"""Block means: against loops over blocks, and where the coarse voxels are."""

import numpy as np
import pytest

from softlabels.classes import LabelSet
from softlabels.errors import InputError
from softlabels.grid import Grid
from softlabels.preprocess.blocks import block_grid, block_means

LABELS = LabelSet.parse({"background": 0, "core": 2, "rim": [1, 3], "ignore": 9})


@pytest.mark.parametrize(("shape", "block"), [((4, 6, 8), (2, 2, 2)), ((5, 7, 3), (2, 3, 1)), ((1, 9, 9), (1, 4, 2))])
def test_blocks_are_averaged_as_loops_do(shape, block):
    rng = np.random.default_rng(0)
    image, labels = rng.normal(size=(2, *shape)).astype(np.float32), rng.integers(0, 4, shape).astype(np.uint8)
    found = block_means(image, labels, Grid(shape, (3.0, 1.0, 0.5)), LABELS.classes, block, ignore_label=9)
    assert found.grid.shape == tuple(n // b for n, b in zip(shape, block, strict=True))
    for index in np.ndindex(found.grid.shape):
        part = tuple(slice(i * b, (i + 1) * b) for i, b in zip(index, block, strict=True))
        inside = [np.isin(labels[part], one.values).mean() for one in LABELS.classes]
        np.testing.assert_allclose(found.shares[(slice(None), *index)], inside, rtol=1e-6)
        np.testing.assert_allclose(
            found.image[(slice(None), *index)], image[(slice(None), *part)].mean((1, 2, 3)), rtol=1e-4
        )
        assert found.labels[index] == LABELS.classes[int(np.argmax(inside))].values[0]


def test_coarse_voxels_are_centred_on_their_blocks_whatever_the_orientation():
    affine = np.array([[0, 0, -0.5, 7], [0, 1.0, 0, 3], [3.0, 0, 0, -2], [0, 0, 0, 1]])
    fine = Grid((4, 6, 8), (3.0, 1.0, 0.5), affine)
    coarse = block_grid(fine, (2, 3, 4))
    assert coarse.spacing == (6.0, 3.0, 2.0) and coarse.orientation == fine.orientation
    for index in ((0, 0, 0), (1, 1, 1)):
        centre = [i * b + (b - 1) / 2 for i, b in zip(index, (2, 3, 4), strict=True)]
        np.testing.assert_allclose(coarse.position(index), fine.position(centre))
    assert block_grid(fine, (1, 1, 1)).differences(fine) == []


def test_a_block_with_the_ignore_label_is_ignored():
    labels = np.array([[[0, 9, 2, 2, 0, 2]]], np.uint8)
    image, grid = np.zeros((1, 1, 1, 6), np.float32), Grid((1, 1, 6), (1, 1, 1))
    found = block_means(image, labels, grid, LABELS.classes, (1, 1, 2), ignore_label=9)
    assert found.labels.ravel().tolist() == [9, 2, 0]
    assert found.shares[:, 0, 0, 2].tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize(
    ("block", "why"), [((0, 1, 1), "integers >= 1"), ((1, 1, 9), "at most the shape"), ((2, 2), "3 int")]
)
def test_impossible_blocks_are_refused(block, why):
    with pytest.raises(InputError, match=why):
        block_grid(Grid((2, 3, 4), (1, 1, 1)), block)
