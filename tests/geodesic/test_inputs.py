"""What goes in is checked, never changed, and any layout or number type means the same."""

import numpy as np
import pytest

from softlabels.errors import DeviceError, InputError
from softlabels.geodesic import certify, euclidean_distance, geodesic_distance, geodesic_distance_slabs
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic.metric import OFFSETS

SEEDS = np.zeros((3, 4, 5), bool)
SEEDS[1, 2, 3] = True
SEEDS_456 = np.zeros((4, 5, 6), bool)
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


def test_a_path_whose_cost_overflows_is_an_error_and_no_unreachable_voxel():
    image = np.zeros((1, 1, 40), np.float32)
    image[..., ::2] = 5e37
    seeds = np.zeros(image.shape, bool)
    seeds[..., 0] = True
    with pytest.raises(InputError, match="near the end of float32.*rescale the image"):
        geodesic_distance(image, seeds, (1, 1, 1), lamb=1.0)
    out = np.empty(image.shape, np.float32).transpose(2, 0, 1)
    with pytest.raises(InputError, match="near the end of float32"):
        geodesic_distance_slabs(
            image.transpose(2, 0, 1), seeds.transpose(2, 0, 1), (1, 1, 1), out, n_planes=3, lamb=1.0
        )
    # What is within float32, or beyond a cap, or behind a wall, is what it was.
    assert np.isfinite(geodesic_distance(image[..., :7], seeds[..., :7], (1, 1, 1), lamb=1.0)).all()
    assert np.isinf(geodesic_distance(image, seeds, (1, 1, 1), lamb=1.0, cap=1e38)[..., 3:]).all()
    walls = np.ones(image.shape, bool)
    walls[..., 3] = False
    assert np.isinf(geodesic_distance(image, seeds, (1, 1, 1), lamb=1.0, domain=walls)[..., 3:]).all()


@pytest.fixture
def flushing():
    """Flush small numbers to zero in this thread, as torch and libraries built with -ffast-math do."""
    torch = pytest.importorskip("torch")
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush to zero")
    yield
    torch.set_flush_denormal(False)


def test_a_process_that_flushes_small_numbers_to_zero_is_noticed(flushing):
    tiny = np.ascontiguousarray((np.arange(60, dtype=np.uint32) * 7 % 50).view(np.float32)).reshape(SEEDS.shape)
    assert (tiny == 0).all()  # in this process
    with pytest.raises(DeviceError, match="flushes small floating point numbers to zero"):
        geodesic_distance(tiny, SEEDS, (1, 1, 1), lamb=1.0)
    with pytest.raises(DeviceError, match="flushes"):
        certify(np.zeros(SEEDS.shape, np.float32), tiny, SEEDS, (1, 1, 1), lamb=1.0)
    with pytest.raises(DeviceError, match="flushes"):
        geodesic_distance(IMAGE * np.float32(1e-20), SEEDS, (1e-6, 1e-6, 1e-6), metric="pythagorean")


@pytest.mark.parametrize("cost", [{"lamb": 0.5}, {"lamb": 1.0}, {"metric": "pythagorean"}, {"metric": "harmonic"}])
def test_flushing_to_zero_harms_no_ordinary_image(cost):
    torch = pytest.importorskip("torch")
    # With lamb 1 a step has no length, and only then tiny intensities would tell.
    image = IMAGE if cost == {"lamb": 1.0} else IMAGE * np.float32(1e-42)
    expected = geodesic_distance(image, SEEDS, (1, 1, 1), **cost)
    torch.set_flush_denormal(True)
    try:
        found = geodesic_distance(image, SEEDS, (1, 1, 1), **cost)
    finally:
        torch.set_flush_denormal(False)
    assert np.array_equal(found, expected)


def test_the_largest_step_bounds_every_step():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 5, (2, 4, 5, 6)).astype(np.float32)
    for cost in ({"metric": "sum"}, {"metric": "l1"}, {"metric": "pythagorean", "gamma": 2.0}, {"metric": "harmonic"}):
        settings = {"metric": "sum", "lamb": 0.5, "gamma": 1.0, "domain": None, "cap": None} | cost
        problem = checked_problem(image, SEEDS_456, (3, 1, 0.5), **settings)
        gap = (image.max((1, 2, 3)) - image.min((1, 2, 3))) * problem.cost.scale
        for offset in OFFSETS:
            assert problem.cost.step(gap, offset) <= problem.largest_step * (1 + 1e-6)
