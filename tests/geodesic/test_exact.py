"""The CPU engine gives the bits of Dijkstra's algorithm, whatever the schedule."""

import dataclasses
import itertools

import numpy as np
import pytest
from helpers.made_problems import SPACINGS, random_problem

from softlabels.geodesic import METRICS, _cpu, _cpu_layout, geodesic_distance
from softlabels.geodesic._problem import checked_problem
from softlabels.geodesic._reference import solve_reference
from softlabels.geodesic.metric import OFFSETS

SHAPES = [(1, 1, 1), (1, 1, 9), (1, 9, 1), (9, 1, 1), (1, 7, 13), (5, 1, 70), (5, 40, 1), (2, 3, 140), (17, 19, 23)]
COSTS = [
    {"metric": metric, "lamb": lamb}
    for metric, lamb in itertools.product(METRICS, (0.0, 0.5, 1.0))
    if metric != "pythagorean" or lamb == 0.5
]


def bellman_ford(problem):
    """Return the fixpoint by whole-volume relaxation in NumPy, with the definition's own functions."""
    scaled = np.pad(problem.image * problem.cost.scale, [(0, 0), (1, 1), (1, 1), (1, 1)])
    is_open = np.pad(np.ones(problem.shape, bool) if problem.domain is None else problem.domain, 1)
    maps = np.where(problem.seeds & is_open[1:-1, 1:-1, 1:-1], np.float32(0), np.float32(np.inf))
    maps = np.pad(maps, [(0, 0), (1, 1), (1, 1), (1, 1)], constant_values=np.inf)
    centre = tuple(slice(1, -1) for _ in range(3))
    while True:
        before = maps.copy()
        for offset in OFFSETS:
            other = tuple(slice(1 + o, n - 1 + o) for o, n in zip(offset, maps.shape[1:], strict=True))
            step = problem.cost.step(scaled[:, *centre] - scaled[:, *other], offset)
            assert step.dtype == np.float32
            candidate = np.where(is_open[centre] & is_open[other], before[:, *other] + step, np.inf)
            candidate[candidate > problem.cap] = np.inf
            maps[:, *centre] = np.minimum(maps[:, *centre], candidate)
        if np.array_equal(before, maps):
            return maps[:, *centre]


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: "{metric}-{lamb}".format(**cost))
@pytest.mark.parametrize("n_channels", [1, 3])
def test_equals_dijkstra_bitwise(cost, n_channels):
    rng = np.random.default_rng(0)
    for number, (shape, spacing) in enumerate(itertools.product(SHAPES, SPACINGS)):
        extra = [{}, {"walls": 0.4}, {"cap": 9.0}][number % 3]
        problem = random_problem(rng, shape, spacing, n_channels=n_channels, **cost, **extra)
        distance, _, _ = _cpu.solve_on_cpu(problem, n_threads=1 + number % 3)
        assert np.array_equal(distance, solve_reference(problem)), (shape, spacing, extra)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("n_channels", [1, 2, 4])
def test_dijkstra_equals_the_definition_in_numpy(metric, n_channels):
    rng = np.random.default_rng(1)
    for lamb, walls, cap in [(0.5, 0.0, None), (0.3, 0.3, None), (1.0, 0.0, 7.0)]:
        problem = random_problem(
            rng, (4, 5, 6), (0.7, 0.9, 3.3), n_channels=n_channels, metric=metric, lamb=lamb, walls=walls, cap=cap
        )
        assert np.array_equal(solve_reference(problem), bellman_ford(problem))


def test_any_number_of_channels_and_classes_gives_the_bits_of_each_alone():
    rng = np.random.default_rng(2)
    for n_channels, n_classes in [(1, 2), (1, 3), (1, 4), (2, 1), (4, 1)]:
        problem = random_problem(
            rng, (9, 35, 70), SPACINGS[2], n_channels=n_channels, n_classes=n_classes, metric="sum", lamb=0.5
        )
        together, _, _ = _cpu.solve_on_cpu(problem, n_threads=2)
        assert np.array_equal(together, solve_reference(problem)), (n_channels, n_classes)


def test_schedule_does_not_change_a_bit(monkeypatch):
    rng = np.random.default_rng(3)
    problem = random_problem(rng, (12, 61, 75), SPACINGS[1], density=2e-4, metric="sum", lamb=1.0)
    expected = solve_reference(problem)
    for n_threads, min_rows, segment in itertools.product((1, 2, 3, 8), (1, 7, 61), (8, 24, 1000)):
        monkeypatch.setattr(_cpu, "_MIN_ROWS", min_rows)
        monkeypatch.setattr(_cpu_layout, "_SEGMENT", segment)
        distance, _, _ = _cpu.solve_on_cpu(problem, n_threads)
        assert np.array_equal(distance, expected), (n_threads, min_rows, segment)


def test_spacing_belongs_to_its_own_axis():
    for axis in range(3):
        shape, spacing = [3, 3, 3], [1.0, 1.0, 1.0]
        shape[axis], spacing[axis] = 6, 7.0
        seeds = np.zeros(shape, bool)
        seeds[0, 0, 0] = True
        line = np.moveaxis(geodesic_distance(np.zeros(shape), seeds, spacing, lamb=0.0), axis, 0)[:, 0, 0]
        assert line.tolist() == [7.0 * k for k in range(6)], axis


def test_a_transposed_volume_with_its_spacing_gives_the_transposed_map():
    rng = np.random.default_rng(4)
    image = rng.normal(size=(7, 11, 13)).astype(np.float32)
    seeds = rng.random(image.shape) < 0.01
    seeds[3, 5, 6] = True
    for cost in ({"metric": "sum"}, {"metric": "pythagorean"}, {"metric": "harmonic", "lamb": 1.0}):
        expected = geodesic_distance(image, seeds, SPACINGS[2], **cost)
        for axes in itertools.permutations(range(3)):
            spacing = [SPACINGS[2][axis] for axis in axes]
            found = geodesic_distance(image.transpose(axes), seeds.transpose(axes), spacing, **cost)
            assert np.array_equal(found, expected.transpose(axes)), (cost, axes)
        found = geodesic_distance(image[::-1, :, ::-1], seeds[::-1, :, ::-1], SPACINGS[2], **cost)
        assert np.array_equal(found, expected[::-1, :, ::-1])


def test_more_seeds_or_fewer_walls_never_increase_the_distance():
    rng = np.random.default_rng(5)
    image = rng.normal(size=(9, 14, 17)).astype(np.float32)
    few = rng.random(image.shape) < 0.003
    few[0, 0, 0] = True
    domain = rng.random(image.shape) < 0.6
    base = geodesic_distance(image, few, (1, 1, 1), domain=domain)
    more = few | (rng.random(image.shape) < 0.01)
    assert (geodesic_distance(image, more, (1, 1, 1), domain=domain) <= base).all()
    assert (geodesic_distance(image, few, (1, 1, 1)) <= base).all()


def test_neighbours_differ_by_no_more_than_the_step():
    rng = np.random.default_rng(6)
    problem = random_problem(rng, (6, 9, 11), SPACINGS[0], metric="sum", lamb=0.5)
    distance = _cpu.solve_on_cpu(problem)[0][0].astype(np.float64)
    scaled = problem.image * problem.cost.scale
    step = problem.cost.step(scaled[:, :, :, 1:] - scaled[:, :, :, :-1], (0, 0, 1))
    assert (np.abs(np.diff(distance, axis=2)) <= step * (1 + 1e-6)).all()


def test_all_distances_scale_with_space_and_intensity_together():
    rng = np.random.default_rng(7)
    problem = random_problem(rng, (5, 8, 9), (1.0, 1.0, 2.0), metric="sum", lamb=0.25)
    double = dataclasses.replace(
        problem, image=2 * problem.image, cost=dataclasses.replace(problem.cost, lengths=2 * problem.cost.lengths)
    )
    assert np.array_equal(_cpu.solve_on_cpu(double)[0], 2 * _cpu.solve_on_cpu(problem)[0])


def test_cap_keeps_what_lies_within_and_drops_the_rest():
    rng = np.random.default_rng(8)
    image = rng.normal(size=(9, 20, 21)).astype(np.float32)
    seeds = np.zeros(image.shape, bool)
    seeds[4, 10, 10] = True
    full = geodesic_distance(image, seeds, (2, 1, 1))
    for cap in (0.0, 2.5, float(full[1, 3, 4]), 1e9):
        expected = np.where(full <= np.float32(cap), full, np.inf)
        assert np.array_equal(geodesic_distance(image, seeds, (2, 1, 1), cap=cap), expected), cap


def test_walls_part_islands_and_a_seed_on_a_wall_counts_for_nothing():
    domain = np.ones((3, 5, 9), bool)
    domain[:, :, 4] = False
    seeds = np.zeros((3, *domain.shape), bool)
    seeds[0, 1, 2, 0] = seeds[1, 1, 2, 4] = True
    distance = geodesic_distance(np.full(domain.shape, np.nan_to_num(0.0)), seeds, (1, 1, 1), domain=domain)
    assert np.isfinite(distance[0, :, :, :4]).all()
    assert np.isinf(distance[0, :, :, 4:]).all()
    assert np.isinf(distance[1:]).all()


def test_a_maze_is_followed_to_its_end():
    domain = np.ones((1, 41, 41), bool)
    domain[0, 1::4, :-1] = domain[0, 3::4, 1:] = False
    seeds = np.zeros(domain.shape, bool)
    seeds[0, 0, 0] = True
    problem = checked_problem(
        np.zeros(domain.shape), seeds, (1, 1, 1), metric="sum", lamb=0, gamma=1, domain=domain, cap=None
    )
    for n_threads in (1, 2):
        distance, _, _ = _cpu.solve_on_cpu(problem, n_threads)
        assert np.array_equal(distance, solve_reference(problem))
        assert distance[0, 0, 40, 0] > 41 * 15


def test_classes_without_seeds_stand_anywhere_and_stay_inf():
    rng = np.random.default_rng(5)
    problem = random_problem(rng, (4, 9, 21), SPACINGS[1], metric="sum", lamb=0.5, n_classes=8)
    problem.seeds[[0, 3, 7]] = False
    distance, _, _ = _cpu.solve_on_cpu(problem)
    assert np.isinf(distance[[0, 3, 7]]).all()
    for label in (1, 2, 4, 5, 6):
        one = dataclasses.replace(problem, seeds=problem.seeds[label : label + 1])
        assert np.array_equal(distance[label], _cpu.solve_on_cpu(one)[0][0])
    problem.seeds[:] = False
    distance, n_rounds, n_visits = _cpu.solve_on_cpu(problem)
    assert np.isinf(distance).all() and n_rounds == n_visits == 0
