"""The certificate accepts the map and nothing else."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.made_problems import SPACINGS, random_problem
from scipy import ndimage

from softlabels.errors import CertificateError
from softlabels.geodesic import Certificate, _cpu, certify, geodesic_distance
from softlabels.geodesic._certify import certify_problem
from softlabels.geodesic.metric import OFFSETS

FAULTS = {
    "raised": lambda value: value * np.float32(1.1),
    "raised by one bit": lambda value: np.nextafter(value, np.float32(np.inf)),
    "lowered": lambda value: value * np.float32(0.9),
    "lowered by one bit": lambda value: np.nextafter(value, np.float32(0)),
    "forgotten": lambda value: np.float32(np.inf),
    "not a number": lambda value: np.float32(np.nan),
    "negative": lambda value: -value,
}


def count_by_hand(problem, distance):
    """Return violated, unattained and unreachable voxels of a small map, straight from the definition."""
    scaled, shape = problem.image * problem.cost.scale, problem.shape
    domain = np.ones(shape, bool) if problem.domain is None else problem.domain
    seeds, attained, level = problem.seeds[0] & domain, set(), {}
    n_violated = int((distance[~domain] != np.inf).sum() + (distance[seeds] != 0).sum())
    for at in map(tuple, np.argwhere(domain)):
        least = np.inf
        for offset in OFFSETS:
            to = tuple(np.add(at, offset))
            if min(to) < 0 or any(np.greater_equal(to, shape)) or not domain[to]:
                continue
            candidate = distance[to] + problem.cost.step(scaled[:, *at] - scaled[:, *to], offset)
            if candidate <= problem.cap:
                least = min(least, candidate)
            if candidate == distance[at] and distance[to] < distance[at]:
                attained.add(at)
            if candidate == distance[at] == distance[to] < np.inf:
                level.setdefault(to, []).append(at)
        if seeds[at]:
            attained.add(at)
        elif not (0 <= distance[at] <= least and (distance[at] <= problem.cap or distance[at] == np.inf)):
            n_violated += 1
    stack = list(attained)
    while stack:
        for at in level.get(stack.pop(), []):
            if at not in attained:
                attained.add(at)
                stack.append(at)
    n_unattained = sum(distance[at] != np.inf and at not in attained for at in map(tuple, np.argwhere(domain)))
    return n_violated, n_unattained, int((domain & ~seeds & (distance == np.inf)).sum())


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("cost", [("sum", 0.5), ("sum", 1.0), ("pythagorean", 0.5), ("harmonic", 1.0)])
def test_one_wrong_voxel_is_found(fault, cost):
    rng = np.random.default_rng(0)
    for spacing, extra in zip(SPACINGS, [{}, {"walls": 0.3}, {"cap": 7.0}], strict=True):
        problem = random_problem(rng, (6, 7, 18), spacing, metric=cost[0], lamb=cost[1], **extra)
        distance, _, _ = _cpu.solve_on_cpu(problem)
        assert certify_problem(problem, distance)[0].is_exact
        candidates = np.flatnonzero(np.isfinite(distance) & (distance > 0))
        distance.flat[candidates[rng.integers(candidates.size)]] = FAULTS[fault](distance.flat[candidates[0]])
        if not np.array_equal(distance, _cpu.solve_on_cpu(problem)[0]):
            assert not certify_problem(problem, distance)[0].is_exact


def test_counts_are_those_of_the_definition():
    rng = np.random.default_rng(1)
    for number in range(24):
        cost = [("sum", 0.5), ("sum", 1.0), ("harmonic", 1.0)][number % 3]
        extra = [{}, {"walls": 0.4}, {"cap": 4.0}, {"n_channels": 2}][number % 4]
        problem = random_problem(rng, (3, 4, 19), SPACINGS[number % 3], metric=cost[0], lamb=cost[1], **extra)
        distance = _cpu.solve_on_cpu(problem)[0][0]
        wrong = rng.random(distance.shape) < 0.05
        distance[wrong] = np.round(distance[wrong])
        (found,) = certify_problem(problem, distance[None], n_threads=2)
        expected = count_by_hand(problem, distance)
        assert (found.n_violated, found.n_unattained, found.n_unreachable) == expected, (cost, extra)


def test_maps_are_judged_together_as_each_is_by_itself():
    rng = np.random.default_rng(2)
    for number, n_classes in enumerate([2, 4, 5, 9]):
        extra = [{}, {"walls": 0.4}, {"cap": 4.0}, {"n_channels": 2}][number]
        problem = random_problem(rng, (6, 5, 19), SPACINGS[number % 3], n_classes=n_classes, lamb=1.0, **extra)
        distance = _cpu.solve_on_cpu(problem)[0]
        wrong = rng.random(distance.shape) < 0.02
        wrong[1] = False
        distance[wrong] = np.round(distance[wrong]) + 1
        together = certify_problem(problem, distance, n_threads=2)
        alone = [
            certify_problem(replace(problem, seeds=seeds[None]), one[None])[0]
            for seeds, one in zip(problem.seeds, distance, strict=True)
        ]
        assert together == alone
        assert [found.is_exact for found in together[:2]] == [False, True]


def test_a_plateau_that_holds_itself_up_is_rejected():
    image = np.float32([[[0, 5, 5, 5, 5]]])
    seeds = np.array([[[True, False, False, False, False]]])
    self_supported = np.float32([[[0, 4, 4, 4, 4]]])
    found = certify(self_supported, image, seeds, (1, 1, 1), lamb=1.0)
    assert (found.n_violated, found.n_unattained) == (0, 4)
    truth = geodesic_distance(image, seeds, (1, 1, 1), lamb=1.0)
    assert truth.tolist() == [[[0, 5, 5, 5, 5]]]
    assert certify(truth, image, seeds, (1, 1, 1), lamb=1.0).is_exact


def test_steps_that_rounding_absorbs_make_plateaus_too():
    image = np.float32([[[0, 3e8, 3e8, 3e8]]])
    seeds = np.array([[[True, False, False, False]]])
    distance, found = geodesic_distance(image, seeds, (1, 1, 1), lamb=0.5, return_certificate=True)
    assert distance[0, 0, 1] == distance[0, 0, 3]
    assert found.is_exact
    assert certify(np.where(seeds, 0, distance - 16).astype(np.float32), image, seeds, (1, 1, 1)).n_unattained == 3


def test_a_winding_plateau_is_settled_to_its_end():
    domain = np.ones((1, 21, 21), bool)
    domain[0, 1::4, :-1] = domain[0, 3::4, 1:] = False
    seeds = np.zeros(domain.shape, bool)
    seeds[0, 0, 0] = True
    distance, found = geodesic_distance(
        np.ones(domain.shape), seeds, (1, 1, 1), lamb=1.0, domain=domain, return_certificate=True
    )
    assert found.is_exact
    assert not distance[domain].any()


@pytest.mark.parametrize("open_part", [0.08, 0.11, 0.15, 0.6])
def test_plateaus_are_settled_as_far_as_they_reach(open_part):
    rng = np.random.default_rng(2)
    domain = rng.random((20, 30, 40)) < open_part
    seeds = domain & (rng.random(domain.shape) < 0.002)
    level = np.where(domain, np.float32(0), np.float32(np.inf))
    components, _ = ndimage.label(domain, np.ones((3, 3, 3)))
    is_reached = np.isin(components, components[seeds]) & domain
    found = certify(level, np.zeros(domain.shape), seeds, (1, 1, 1), lamb=1.0, domain=domain)
    assert (found.n_violated, found.n_unattained) == (0, np.count_nonzero(domain & ~is_reached))


def test_a_lost_seed_and_a_wall_with_a_distance_are_found():
    seeds = np.zeros((2, 3, 4), bool)
    seeds[0, 0, 0] = True
    domain = np.ones(seeds.shape, bool)
    domain[1, 1, 1] = False
    image = np.zeros(seeds.shape, np.float32)
    distance = geodesic_distance(image, seeds, (1, 1, 1), domain=domain)
    lost, on_wall = distance.copy(), distance.copy()
    lost[0, 0, 0] = 0.25
    on_wall[1, 1, 1] = 1.0
    assert certify(lost, image, seeds, (1, 1, 1), domain=domain).n_violated == 1
    assert certify(on_wall, image, seeds, (1, 1, 1), domain=domain).n_violated == 1


def test_certificates_come_one_a_class_and_as_json():
    seeds = np.zeros((2, 2, 2, 2), bool)
    seeds[0, 0, 0, 0] = True
    distance, found = geodesic_distance(np.zeros((2, 2, 2)), seeds, (1, 1, 1), return_certificate=True)
    assert [c.n_unreachable for c in found] == [0, 8]
    assert np.isinf(distance[1]).all()
    assert json.loads(json.dumps(found[0].to_json()))["is_exact"] is True


def test_an_inexact_map_raises_with_its_name():
    Certificate(0, 0, 3).raise_unless_exact("case a")
    with pytest.raises(CertificateError, match="case a: got 2 voxels above"):
        Certificate(2, 0, 0).raise_unless_exact("case a")
