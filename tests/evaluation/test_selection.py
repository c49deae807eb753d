"""Which candidate is taken: by hand, against a slow transcription, and that chance does not win."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.evaluation.bootstrap import paired_change
from softlabels.evaluation.selection import FamilyErrors, leave_one_out, nested_choices, select


def family(name, by_case, n_parts=4):
    """Return a family whose parts all have the error of their case."""
    errors = np.asarray(by_case, np.float64)
    return FamilyErrors(name, errors, np.repeat(errors[..., None], n_parts, axis=-1))


def test_the_simplest_within_one_standard_error_wins():
    simple = family("simple", [[1.0, 1.0, 1.0, 1.0]])
    # Better by .1 on average; differences .3, -.1, .3, -.1: their standard error is .2 * sqrt(4/3) / 2 = .115.
    unsure = family("unsure", [[0.7, 1.1, 0.7, 1.1]])
    found = select([simple, unsure])
    assert (found.winner, found.nearest) == (0, 1)
    # Better by .1 with differences .12, .08: standard error .0115.
    sure = family("sure", [[0.88, 0.92, 0.88, 0.92]])
    assert select([simple, sure]).winner == 1
    # Of two that are alike, the first.
    assert select([simple, sure, family("alike", sure.by_case)]).winner == 1


def test_a_family_is_scored_with_parameters_chosen_without_the_case():
    errors = np.array([[0.1, 0.5, 0.5], [0.4, 0.3, 0.3]])
    # Without case 0 the second is better (.3, .3); without case 1 the first (.1 + .5 < .4 + .3).
    found = leave_one_out(errors)
    assert found.picks.tolist() == [1, 0, 0] and found.errors.tolist() == [0.4, 0.5, 0.5]
    assert found.best == 1


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), n_cases=st.integers(2, 7))
def test_folds_and_nested_choices_are_those_of_a_slow_transcription(seed, n_cases):
    rng = np.random.default_rng(seed)
    families = [family(str(k), rng.random((size, n_cases))) for k, size in enumerate((1, 4, 9))]

    def choice(tables):
        """Choose from lists of errors (candidate by unit), all written out."""
        folds = []
        for table in tables:
            row = []
            for left in range(table.shape[1]):
                rest = [u for u in range(table.shape[1]) if u != left]
                best = min(range(len(table)), key=lambda g, rest=rest, table=table: sum(table[g, u] for u in rest))
                row.append(table[best, left])
            folds.append(np.array(row))
        nearest = min(range(len(tables)), key=lambda k: folds[k].mean())
        for k, row in enumerate(folds):
            gap = row - folds[nearest]
            if gap.mean() <= np.sqrt(((gap - gap.mean()) ** 2).sum() / (len(gap) - 1) / len(gap)):
                return k, int(tables[k].mean(axis=1).argmin())
        raise AssertionError("the nearest is within no error of itself")

    found = select(families)
    assert (found.winner, found.candidate) == choice([one.by_case for one in families])
    for case, chosen in enumerate(nested_choices(families)):
        left = [one.without(case) for one in families]
        assert chosen == choice([one.by_case if n_cases > 2 else one.by_part[:, 0] for one in left])


def test_a_large_grid_of_noise_does_not_win_by_chance():
    rng = np.random.default_rng(3)
    noise = [family("noise", 1 + 0.2 * rng.standard_normal((300, 6))) for _ in range(100)]
    plain = family("plain", np.ones((1, 6)))
    in_sample = [one.by_case.mean(axis=1).min() for one in noise]
    assert max(in_sample) < 0.9  # each of them looks better on the cases it was chosen on
    # Of independent fold scores, one in six would be more than a standard error below; those that share a pick agree.
    assert sum(select([plain, one]).winner == 0 for one in noise) >= 65
    scores = [one.by_case[g, case] for one in noise for case, (_, g) in enumerate(nested_choices([one]))]
    assert np.mean(scores) == pytest.approx(1, abs=0.05)


def test_parts_take_the_place_of_cases_where_there_is_one_case():
    by_part = np.array([[[1.0, 1.0, 1.0, 1.0]], [[0.5, 2.0, 0.5, 2.0]]])
    found = select([FamilyErrors("one", by_part.mean(axis=-1), by_part)])
    assert found.folds[0].errors.shape == (4,) and found.candidate == 0


def test_what_cannot_be_chosen_from_is_refused():
    with pytest.raises(InputError, match="no candidate or no case"):
        select([])
    with pytest.raises(InputError, match="no candidate or no case"):
        select([family("none", np.empty((3, 0)))])
    with pytest.raises(InputError, match="errors of bad are not finite"):
        select([family("good", [[1.0, 1.0]]), family("bad", [[1.0, np.nan]])])


def test_interval_of_a_difference_is_paired():
    baseline = np.array([1.0, 10.0, 100.0, 1000.0])
    # Every case gains a tenth, however much cases differ.
    same = paired_change(0.9 * baseline, baseline)
    assert (same.mean, same.low, same.high) == pytest.approx((-0.1, -0.1, -0.1))
    assert (same.n_better, same.n_cases) == (4, 4)
    mixed = paired_change([0.5, 1.5, 1.0], [1.0, 1.0, 1.0])
    assert mixed.mean == 0 and mixed.low < -0.3 and mixed.high > 0.3 and mixed.n_better == 1
    one = paired_change([0.5], [1.0])
    assert one.mean == -0.5 and np.isnan(one.low) and np.isnan(one.high)
    with pytest.raises(InputError, match="one per case of both"):
        paired_change([1.0, 2.0], [1.0])


def test_interval_is_that_of_all_possible_draws():
    ours, theirs = np.array([1.0, 2.0, 4.0]), np.array([2.0, 2.0, 3.0])
    drawn = np.array(np.meshgrid(*[range(3)] * 3)).reshape(3, -1).T
    exact = ours[drawn].mean(axis=1) / theirs[drawn].mean(axis=1) - 1
    found = paired_change(ours, theirs, n_draws=20_000)
    assert found.low == pytest.approx(np.quantile(exact, 0.025, method="inverted_cdf"), abs=0.01)
    assert found.high == pytest.approx(np.quantile(exact, 0.975, method="inverted_cdf"), abs=0.01)
