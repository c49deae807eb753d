"""Laws of the patch plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.cohort.label_blocks import LabelBlocks
from softlabels.errors import InputError
from softlabels.training.patches import (
    ForegroundTable,
    gaussian_weight,
    grid_origins,
    padded,
    patch_windows,
    random_origin,
    sample_rng,
    stitch,
)

GOLDEN = [1316560860, 1543909505, 437581938]
BLOCK = (32, 64, 40)
SIZES = st.tuples(*[st.integers(1, 17)] * 3)
FEW = settings(max_examples=60, derandomize=True, deadline=None)


def cut(volume, origin, patch_size, fill=0):
    window, place = patch_windows(origin, patch_size, volume.shape)
    return padded(volume[tuple(slice(*pair) for pair in window)], place, patch_size, fill)


@FEW
@given(SIZES, SIZES)
def test_a_grid_covers_every_voxel_and_patches_of_a_large_volume_stay_inside(shape, patch):
    seen = np.zeros(shape, int)
    for origin in grid_origins(shape, patch):
        window, _ = patch_windows(origin, patch, shape)
        seen[tuple(slice(*pair) for pair in window)] += 1
        for axis in range(3):
            if shape[axis] >= patch[axis]:
                assert 0 <= origin[axis] <= shape[axis] - patch[axis]
    assert seen.min() >= 1


@FEW
@given(SIZES, SIZES)
def test_a_grid_has_no_more_patches_than_needed(shape, patch):
    expected = np.prod([-(-n // p) for n, p in zip(shape, patch, strict=True)])
    origins = grid_origins(shape, patch)
    assert len(origins) == expected == len(np.unique(origins, axis=0))


def test_only_the_last_patch_of_an_axis_is_shifted():
    assert grid_origins((1, 1, 11), (1, 1, 4), (0, 0, 1))[:, 2].tolist() == [0, 3, 6, 7]
    assert grid_origins((1, 1, 12), (1, 1, 4))[:, 2].tolist() == [0, 4, 8]


@pytest.mark.parametrize("overlap", [(0, 0, 4), (-1, 0, 0)])
def test_an_overlap_that_never_advances_is_refused(overlap):
    with pytest.raises(InputError, match="overlap"):
        grid_origins((9, 9, 9), (4, 4, 4), overlap)


@FEW
@given(SIZES, SIZES, st.integers(0, 2**32))
def test_stitching_a_grid_gives_the_volume_back(shape, patch, seed):
    volume = np.random.default_rng(seed).random(shape, np.float32)
    origins = grid_origins(shape, patch)
    weight = np.random.default_rng(seed + 1).random(patch) + 0.1
    patches = [cut(volume, origin, patch, np.nan)[None] for origin in origins]
    assert stitch(patches, origins, shape)[0] == pytest.approx(volume, abs=1e-6)
    assert stitch(patches, origins, shape, weight)[0] == pytest.approx(volume, abs=1e-6)


def test_stitching_an_incomplete_grid_is_refused():
    with pytest.raises(InputError, match="4 of 8 voxels"):
        stitch([np.ones((1, 2, 2, 1))], [(0, 0, 0)], (2, 2, 2))
    with pytest.raises(InputError, match="8 of 8 voxels"):
        stitch([], [], (2, 2, 2))


@FEW
@given(SIZES, SIZES, st.integers(0, 2**32))
def test_a_patch_is_the_numpy_slice_of_the_padded_volume(shape, patch, seed):
    volume = np.random.default_rng(seed).integers(1, 9, shape)
    origin = random_origin(shape, patch, np.random.default_rng(seed))
    margin = 20
    around = np.pad(volume, margin, constant_values=-1)
    corner = [o + margin for o in origin]
    expected = around[tuple(slice(c, c + p) for c, p in zip(corner, patch, strict=True))]
    np.testing.assert_array_equal(cut(volume, origin, patch, -1), expected)


@FEW
@given(SIZES, SIZES, st.integers(0, 2**32))
def test_the_patch_around_a_voxel_holds_it_and_lies_inside(shape, patch, seed):
    rng = np.random.default_rng(seed)
    centre = tuple(int(rng.integers(n)) for n in shape)
    for axis, start in enumerate(random_origin(shape, patch, rng, centre)):
        assert start <= centre[axis] < start + patch[axis]
        if shape[axis] >= patch[axis]:
            assert 0 <= start <= shape[axis] - patch[axis]


def test_random_origins_reach_every_place():
    rng = np.random.default_rng(0)
    found = {random_origin((4, 3, 1), (2, 2, 1), rng) for _ in range(200)}
    assert found == {(z, y, 0) for z in range(3) for y in range(2)}


def test_padding_fills_each_channel_with_its_own_value_and_leaves_the_input_alone():
    part = np.ones((2, 1, 1, 1), np.float32)
    patch = padded(part, (slice(0, 1), slice(0, 1), slice(1, 2)), (1, 1, 3), [5.0, -1.0])
    assert patch[:, 0, 0].tolist() == [[5.0, 1.0, 5.0], [-1.0, 1.0, -1.0]]
    assert patch.dtype == np.float32
    assert part.tolist() == [[[[1.0]]], [[[1.0]]]]


def test_streams_differ_in_each_number_and_repeat():
    streams = {
        numbers: tuple(sample_rng(*numbers).integers(2**40, size=4))
        for numbers in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2**62, 2**62, 2**62)]
    }
    assert len(set(streams.values())) == len(streams)
    assert all(tuple(sample_rng(*numbers).integers(2**40, size=4)) == draw for numbers, draw in streams.items())


def test_the_generator_gives_the_same_numbers_on_every_machine():
    assert sample_rng(1, 2, 3).integers(2**31, size=3).tolist() == GOLDEN


@pytest.mark.parametrize("numbers", [(-1, 0, 0), (0, 2**63, 0)])
def test_numbers_out_of_range_are_refused(numbers):
    with pytest.raises(InputError, match="seed|epoch"):
        sample_rng(*numbers)


class Reads:
    """A volume that counts what is read of it."""

    def __init__(self, labels):
        self.labels, self.voxels = labels, 0

    def __call__(self, window):
        part = self.labels[tuple(slice(*pair) for pair in window)]
        self.voxels += part.size
        return part


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(3)
    labels = np.zeros((70, 130, 65), np.uint8)
    labels[rng.random(labels.shape) < 0.001] = 1
    labels[68:, 120:, 64] = 2
    labels[0, 0, 0] = 4
    return labels


def test_the_table_counts_what_the_volume_holds(blobs):
    table = ForegroundTable.build(blobs.shape, [[1], [2, 4], [7]], Reads(blobs), BLOCK)
    assert table.counts.sum(axis=(1, 2, 3)).tolist() == [(blobs == 1).sum(), np.isin(blobs, [2, 4]).sum(), 0]
    assert table.counts[0, 0, 1, 0] == (blobs[:32, 64:128, :40] == 1).sum()


def test_a_draw_reads_one_block_and_hits_a_present_class(blobs):
    table = ForegroundTable.build(blobs.shape, [[1], [2, 4], [7]], Reads(blobs), BLOCK)
    reads, rng = Reads(blobs), np.random.default_rng(0)
    drawn = [blobs[table.draw(rng, reads)] for _ in range(100)]
    assert set(drawn) <= {1, 2, 4}
    assert 30 < sum(value == 1 for value in drawn) < 70
    assert reads.voxels <= 100 * 32 * 64 * 40


def test_draws_are_uniform_over_the_voxels_of_a_class():
    labels = np.zeros((1, 1, 192), np.uint8)
    labels[0, 0, [0, 5, 64, 129]] = 1
    table, rng = ForegroundTable.build(labels.shape, [[1]], Reads(labels)), np.random.default_rng(0)
    drawn = np.array([table.draw(rng, Reads(labels))[2] for _ in range(2000)])
    voxels, counts = np.unique(drawn, return_counts=True)
    assert voxels.tolist() == [0, 5, 64, 129]
    assert counts.min() > 430  # binomial(2000, 1/4): 500 +- 3.6 standard deviations


def test_a_volume_without_foreground_has_no_draw():
    labels = np.zeros((2, 3, 4), np.uint8)
    assert (
        ForegroundTable.build(labels.shape, [[1]], Reads(labels)).draw(np.random.default_rng(0), Reads(labels)) is None
    )


def test_gaussian_weights_are_largest_in_the_middle_symmetric_and_never_0():
    weight = gaussian_weight((5, 8, 1))
    assert weight.shape == (5, 8, 1) and weight.max() <= 1 and weight.min() > 0
    assert np.unravel_index(weight.argmax(), weight.shape)[0] == 2
    np.testing.assert_array_equal(weight, weight[::-1, ::-1])
    z, y = 1, 6
    expected = np.exp(-0.5 * ((z - 2) / (5 / 8)) ** 2 - 0.5 * ((y - 3.5) / 1) ** 2)
    assert weight[z, y, 0] == pytest.approx(expected, rel=1e-12)
    assert gaussian_weight((256, 256, 256)).min() > 0
    with pytest.raises(InputError, match="sigma: got 0"):
        gaussian_weight((4, 4, 4), sigma=0)


def test_classes_are_drawn_by_their_weights_among_those_present():
    labels = np.zeros((4, 6, 8), np.uint8)
    labels[0], labels[1, :3], labels[2, 0, 0] = 1, 2, 3
    groups, weights = [(1,), (2,), (3,), (7,)], np.array([1.0, 3.0, 0.0, 5.0])

    def read(window):
        return labels[tuple(slice(*pair) for pair in window)]

    table = ForegroundTable.of_blocks(LabelBlocks.count(labels.shape, read, (2, 3, 4)), groups, weights)
    rng = np.random.default_rng(0)
    drawn = [int(labels[table.draw(rng, read)]) for _ in range(4000)]
    assert set(drawn) == {1, 2}
    assert drawn.count(2) / len(drawn) == pytest.approx(0.75, abs=0.025)
    nothing = ForegroundTable.of_blocks(LabelBlocks.count(labels.shape, read, (2, 3, 4)), groups[2:], weights[2:])
    assert nothing.draw(rng, read) is None
