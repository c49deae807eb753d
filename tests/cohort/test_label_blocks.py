"""Laws of the counts: those of a voxel loop, whatever the labels, and nothing is lost in JSON."""

import json

import numpy as np
import pytest

from softlabels.cohort.label_blocks import LabelBlocks


def counted(labels, block):
    def read(window):
        return labels[tuple(slice(*pair) for pair in window)]

    return LabelBlocks.count(labels.shape, read, block)


def by_voxel(labels, block, values):
    counts = np.zeros([-(-n // b) for n, b in zip(labels.shape, block, strict=True)], np.int64)
    for voxel in np.argwhere(np.isin(labels, list(values))):
        counts[tuple(voxel // block)] += 1
    return counts


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
@pytest.mark.parametrize(
    ("shape", "block"),
    [((7, 9, 5), (3, 4, 5)), ((1, 30, 41), (1, 16, 16)), ((4, 4, 4), (8, 8, 8)), ((5, 1, 6), (1, 1, 1))],
)
def test_counts_are_those_of_a_voxel_loop(shape, block, dtype):
    labels = np.random.default_rng(0).choice(np.array([0, 0, 0, 1, 2, 7], dtype), shape)
    labels[0] = 0
    blocks = LabelBlocks.from_json(json.loads(json.dumps(counted(labels, block).to_json())))
    for values in ((1,), (1, 2), (0,), (0, 7), (3,), (2, 3, 7)):
        np.testing.assert_array_equal(blocks.of_class(values), by_voxel(labels, block, values))
    assert blocks.shape == shape and blocks.block == block
    assert blocks == counted(labels, block)


def test_a_volume_without_foreground_is_all_background():
    blocks = counted(np.zeros((5, 6, 7), np.uint8), (4, 4, 4))
    assert blocks.counts == {} and blocks.of_class((1,)).sum() == 0
    assert blocks.of_class((0,)).sum() == 5 * 6 * 7


def test_a_block_without_a_label_takes_no_space():
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[3, 3, 3] = labels[40, 3, 3] = 5
    assert counted(labels, (16, 16, 16)).to_json()["counts"] == {"5": "0:1 32:1"}
