"""A volume solved slab by slab has the same bits and the same certificate."""

import numpy as np
import pytest
import zarr
from helpers.made_problems import random_problem

from softlabels.errors import InputError
from softlabels.geodesic import geodesic_distance, geodesic_distance_slabs

SPACING = (3.0, 1.0, 0.7)


@pytest.mark.parametrize("cost", [{"metric": "sum", "lamb": 0.5}, {"metric": "sum", "lamb": 1.0}])
def test_slabs_give_the_bits_and_certificate_of_the_whole(cost):
    rng = np.random.default_rng(0)
    for n_planes, extra in [(2, {}), (3, {"walls": 0.4}), (5, {"cap": 9.0}), (40, {})]:
        problem = random_problem(rng, (11, 9, 21), SPACING, **cost, **extra)
        image, seeds, options = (
            problem.image,
            problem.seeds,
            {"domain": problem.domain, "cap": extra.get("cap"), **cost},
        )
        expected, certificates = geodesic_distance(image, seeds, SPACING, return_certificate=True, **options)
        out = np.full(seeds.shape, 7.0, np.float32)
        found, proofs = geodesic_distance_slabs(
            image, seeds, SPACING, out, n_planes=n_planes, return_certificate=True, **options
        )
        assert found is out
        assert np.array_equal(out, expected)
        for proof, certificate in zip(proofs, certificates, strict=True):
            assert proof.is_exact
            assert proof.n_unreachable == certificate.n_unreachable


def test_a_path_that_winds_through_all_slabs_is_followed():
    domain = np.ones((21, 1, 9), bool)
    domain[:-1, :, 1::4] = domain[1:, :, 3::4] = False
    seeds = np.zeros(domain.shape, bool)
    seeds[0, 0, 0] = True
    for lamb in (0.0, 1.0):
        options = {"domain": domain, "lamb": lamb}
        out = np.empty(domain.shape, np.float32)
        _, proof = geodesic_distance_slabs(
            np.zeros(domain.shape), seeds, SPACING, out, n_planes=4, return_certificate=True, **options
        )
        assert proof.is_exact
        assert np.array_equal(out, geodesic_distance(np.zeros(domain.shape), seeds, SPACING, **options))


def test_a_zarr_array_goes_in_and_out_slab_by_slab(tmp_path):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(9, 8, 7)).astype(np.float32)
    seeds = values > 2.2
    seeds[0, 0, 0] = True
    group = zarr.open_group(tmp_path / "volume.zarr", mode="w")
    image = group.create_array("image", data=values, chunks=(2, 8, 7))
    stored = group.create_array("seeds", data=seeds, chunks=(2, 8, 7))
    out = group.create_array("distance", shape=values.shape, dtype="float32", chunks=(2, 8, 7))
    _, proof = geodesic_distance_slabs(image, stored, SPACING, out, n_planes=3, return_certificate=True)
    assert proof.is_exact
    assert np.array_equal(out[:], geodesic_distance(values, seeds, SPACING))


def test_an_out_that_does_not_fit_is_refused():
    seeds = np.zeros((4, 3, 2), bool)
    with pytest.raises(InputError, match="out: got float64"):
        geodesic_distance_slabs(np.zeros(seeds.shape), seeds, SPACING, np.empty(seeds.shape))
    with pytest.raises(InputError, match="n_planes: got 1"):
        geodesic_distance_slabs(np.zeros(seeds.shape), seeds, SPACING, np.empty(seeds.shape, np.float32), n_planes=1)
