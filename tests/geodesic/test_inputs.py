"""What goes in is checked, never changed, and any layout or number type means the same."""

import numpy as np
import pytest

from softlabels.errors import DeviceError, InputError
from softlabels.geodesic import certify, euclidean_distance, geodesic_distance

SEEDS = np.zeros((3, 4, 5), bool)
SEEDS[1, 2, 3] = True
IMAGE = np.arange(60, dtype=np.float32).reshape(3, 4, 5) % 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": np.zeros((3, 4, 6))}, "seeds: got shape"),
        ({"image": np.zeros(5)}, "image: got shape"),
        ({"image": np.zeros((3, 4, 5), complex)}, "image: got dtype"),
        ({"seeds": SEEDS.astype(np.uint8)}, "seeds: got dtype uint8"),
        ({"spacing": (1, 0, 1)}, "spacing"),
        ({"spacing": (1, 1)}, "spacing"),
        ({"metric": "geodesic"}, "metric: got 'geodesic'"),
        ({"lamb": 1.5}, "lamb"),
        ({"gamma": -1.0}, "gamma"),
        ({"cap": -1.0}, "cap"),
        ({"cap": np.nan}, "cap"),
        ({"n_threads": 0}, "n_threads: got 0"),
        ({"domain": SEEDS.astype(int)}, "domain"),
        ({"image": np.where(SEEDS, np.nan, IMAGE)}, "got 1 NaN or Inf voxels in channel 0"),
        ({"image": np.where(SEEDS, np.inf, IMAGE)}, "got 1 NaN or Inf voxels in channel 0"),
        ({"image": np.where(SEEDS, 1e30, IMAGE), "metric": "pythagorean"}, "overflows float32"),
    ],
)
def test_a_wrong_argument_is_refused(change, message):
    arguments = {"image": IMAGE, "seeds": SEEDS, "spacing": (1, 1, 1), **change}
    with pytest.raises(InputError, match=message):
        geodesic_distance(arguments.pop("image"), arguments.pop("seeds"), arguments.pop("spacing"), **arguments)


def test_an_unknown_device_is_refused():
    with pytest.raises(DeviceError, match="got 'tpu'"):
        geodesic_distance(IMAGE, SEEDS, (1, 1, 1), device="tpu")


def test_what_lies_outside_of_the_domain_may_be_anything():
    domain = np.ones(SEEDS.shape, bool)
    domain[0, 0, 0] = False
    image = IMAGE.copy()
    image[0, 0, 0] = np.nan
    found = geodesic_distance(image, SEEDS, (1, 1, 1), domain=domain)
    assert np.array_equal(found, geodesic_distance(IMAGE, SEEDS, (1, 1, 1), domain=domain))


def test_number_type_and_memory_layout_do_not_matter_and_nothing_is_written_to():
    expected = geodesic_distance(IMAGE, SEEDS, (2, 1, 1))
    wide = np.zeros((3, 8, 5), np.float32)
    wide[:, ::2] = IMAGE
    frozen = IMAGE.copy()
    frozen.flags.writeable = False
    for image in (IMAGE.astype(np.int16), IMAGE.astype(np.float64), np.asfortranarray(IMAGE), wide[:, ::2], frozen):
        before = image.copy()
        for seeds in (SEEDS, np.asfortranarray(SEEDS)):
            found, certificate = geodesic_distance(image, seeds, (2, 1, 1), return_certificate=True)
            assert np.array_equal(found, expected)
            assert certificate.is_exact
            assert found.flags.c_contiguous
            assert found.dtype == np.float32
        assert np.array_equal(image, before)


def test_a_2d_image_is_a_volume_of_one_plane():
    flat = geodesic_distance(IMAGE[1], SEEDS[1], (2, 3))
    assert np.array_equal(flat, geodesic_distance(IMAGE[1:2], SEEDS[1:2], (1, 2, 3))[0])
    both = np.stack([SEEDS[1], ~SEEDS[1]])
    assert geodesic_distance(IMAGE[1], both, (2, 3)).shape == both.shape
    assert certify(flat, IMAGE[1], SEEDS[1], (2, 3)).is_exact


def test_no_seed_is_infinitely_far_and_all_seeds_are_near():
    assert np.isinf(geodesic_distance(IMAGE, np.zeros_like(SEEDS), (1, 1, 1))).all()
    assert not geodesic_distance(IMAGE, np.ones_like(SEEDS), (1, 1, 1)).any()
    nowhere = np.zeros_like(SEEDS)
    assert np.isinf(geodesic_distance(IMAGE, SEEDS, (1, 1, 1), domain=nowhere)).all()


def test_metrics_on_one_step_are_as_written():
    image, seeds = np.float32([[[0, 3]]]), np.array([[[True, False]]])
    expected = {
        ("sum", 0.25): 0.75 * 4 + 0.25 * 3,
        ("l1", 0.25): 0.75 * 4 + 0.25 * 3,
        ("pythagorean", 0.25): 5.0,
        ("harmonic", 1.0): 4 * (3 + 1e-5),
        ("harmonic", 0.25): 4 / (0.75 + 0.25 / (3 + 1e-5)),
    }
    for (metric, lamb), value in expected.items():
        found = geodesic_distance(image, seeds, (1, 1, 4), metric=metric, lamb=lamb)[0, 0, 1]
        assert found == pytest.approx(value, rel=1e-6), metric
    diagonal = np.array([[[True, False], [False, False]]])
    assert geodesic_distance(np.zeros((1, 2, 2)), diagonal, (1, 3, 4), metric="l1", lamb=0)[0, 1, 1] == 7
    assert geodesic_distance(np.zeros((1, 2, 2)), diagonal, (1, 3, 4), metric="sum", lamb=0)[0, 1, 1] == 5


def test_channels_add_up_in_l1_for_sum_and_in_l2_for_the_others():
    image, seeds = np.float32([[[[0, 3]]], [[[0, -4]]]]), np.array([[[True, False]]])
    one_mm = (1.0, 1.0, 1.0)
    assert geodesic_distance(image, seeds, one_mm, metric="sum", lamb=1.0)[0, 0, 1] == 7
    assert geodesic_distance(image, seeds, one_mm, metric="harmonic", lamb=1.0)[0, 0, 1] == np.float32(5 + 1e-5)
    assert geodesic_distance(image, seeds, one_mm, metric="pythagorean")[0, 0, 1] == np.sqrt(np.float32(26))


def test_euclidean_distance_is_straight_and_below_the_26_neighbour_path():
    seeds = np.zeros((2, 9, 10, 11), bool)
    seeds[0, 4, 5, 5] = True
    spacing = (5.0, 1.0, 2.0)
    found = euclidean_distance(seeds, spacing)
    z, y, x = np.ogrid[:9, :10, :11]
    expected = np.sqrt((5.0 * (z - 4)) ** 2 + (y - 5.0) ** 2 + (2.0 * (x - 5)) ** 2)
    assert np.allclose(found[0], expected, rtol=1e-6)
    assert np.isinf(found[1]).all()
    path = geodesic_distance(np.zeros(seeds.shape[1:]), seeds[0], spacing, lamb=0.0)
    assert (path >= found[0] * (1 - 1e-6)).all()
    assert (path > found[0] * 1.05).any()
