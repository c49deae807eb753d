"""The two-way bootstrap against its closed form."""

import numpy as np
import pytest
from comparison.bootstrap import Draws, disagree, paired_change

from softlabels.errors import InputError


def test_variance_of_the_draws_is_that_of_the_two_way_layout():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (3, 1)) + rng.normal(0, 2, (1, 7)) + rng.normal(0, 0.5, (3, 7))
    by_seed, by_person = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_person + values.mean()
    expected = by_seed.var() / 3 + by_person.var() / 7 + rest.var() / 21
    drawn = Draws.make(200_000, 3, 7, seed=1).means(values)
    assert drawn.mean() == pytest.approx(values.mean(), abs=0.01)
    assert drawn.var() == pytest.approx(expected, rel=0.02)


def test_draws_of_one_seed_are_the_plain_bootstrap_over_persons():
    values = np.random.default_rng(2).normal(size=(1, 9))
    drawn = Draws.make(5_000, 1, 9, seed=0)
    brute = [np.repeat(values[0], counts).mean() for counts in drawn.persons]
    np.testing.assert_allclose(drawn.means(values), brute)


def test_a_difference_that_all_share_is_sure_however_much_persons_differ():
    baseline = np.random.default_rng(3).normal(0, 100, (3, 10))
    change = paired_change(baseline - 0.01, baseline, Draws.make(500, 3, 10, 0), is_relative=False)
    assert change.low == pytest.approx(-0.01) and change.high == pytest.approx(-0.01) and change.is_sure
    assert (change.wins, change.n_persons) == (10, 10)


def test_a_person_without_a_value_in_one_row_counts_in_neither():
    baseline, row = np.array([[1.0, 2.0, 50.0]]), np.array([[0.5, 1.5, np.nan]])
    change = paired_change(row, baseline, Draws.make(200, 1, 3, 0), is_relative=False)
    assert [change.mean, change.low, change.high] == pytest.approx([-0.5] * 3)
    assert (change.wins, change.n_persons) == (2, 2)


def test_no_change_is_never_sure_more_often_than_its_level():
    rng, draws = np.random.default_rng(4), Draws.make(400, 12, 12, 0)
    sure = sum(
        paired_change(rng.normal(size=(12, 12)), rng.normal(size=(12, 12)), draws, is_relative=False).is_sure
        for _ in range(100)
    )
    assert sure <= 12  # noise of each cell alone; the two-way draws are conservative there


def test_wins_count_what_is_better_of_the_loss():
    row, baseline = np.array([[0.9, 0.8, 0.5]]), np.array([[0.8, 0.7, 0.6]])
    change = paired_change(
        row, baseline, Draws.make(100, 1, 3, 0), is_relative=False, row_loss=-row, baseline_loss=-baseline
    )
    assert (change.wins, change.n_persons) == (2, 3)


def test_lengths_disagree_where_the_interval_of_their_difference_leaves_nothing_out():
    rng, draws = np.random.default_rng(5), Draws.make(1000, 3, 12, 0)
    baseline = rng.normal(1, 0.1, (3, 12))
    noise = rng.normal(0, 0.01, (2, 3, 12))
    near, nearer, far = (
        paired_change(baseline * factor + more, baseline, draws, is_relative=True)
        for factor, more in ((0.9, noise[0]), (0.9, noise[1]), (1.2, noise[1]))
    )
    assert not disagree(near, nearer) and disagree(near, far) and disagree(far, near)


def test_one_person_and_one_seed_have_no_interval():
    change = paired_change(np.array([[1.0]]), np.array([[2.0]]), Draws.make(100, 1, 1, 0), is_relative=True)
    assert change.mean == -0.5 and np.isnan(change.low) and not change.is_sure and not disagree(change, change)


def test_scores_of_another_shape_are_refused():
    with pytest.raises(InputError, match="expected one"):
        paired_change(np.zeros((2, 3)), np.zeros((2, 4)), Draws.make(100, 2, 3, 0), is_relative=True)
