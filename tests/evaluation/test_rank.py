"""Scores of soft labels against a soft truth: by hand, and with a winner that is known."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from softlabels.errors import InputError
from softlabels.evaluation.plot import write_plot
from softlabels.evaluation.rank import as_probability, rank
from softlabels.evaluation.ranking import combined
from softlabels.evaluation.table import ranking_table, write_table


def column(*voxels):
    """Return a map (C, 1, 1, n) of one probability of class 1 per voxel."""
    inside = np.float32(voxels)
    return np.stack([1 - inside, inside])[:, None, None]


def test_scores_by_hand():
    (found,) = rank({"soft": column(0.0, 0.5, 1.0, 0.75)}, column(0.0, 0.5, 0.75, 1.0))
    # Gaps of class 1: 0, 0, 0.25, 0.25, the same for class 0.
    assert found.everywhere.brier == pytest.approx(2 * (0.25**2) * 2 / 4)
    assert found.everywhere.mae == pytest.approx(0.5 / 4)
    # Bits: 0; 1; 0.75 log2(1) + 0.25 log2(1/0.001); log2(1/0.75).
    bits = (1 + 0.25 * np.log2(1000) + np.log2(4 / 3)) / 4
    assert found.everywhere.cross_entropy == pytest.approx(bits, rel=1e-5)
    # Every voxel has a bin of its own, so the calibration error is the mean gap.
    assert found.everywhere.calibration == pytest.approx(0.125)
    # 0.5 and 0.75 are ambiguous, 0 and 1 are not.
    assert found.ambiguous.n_voxels == 2 and found.ambiguous.mae == pytest.approx(0.125)


def test_the_truth_wins_with_nothing_but_its_own_entropy_left():
    truth = column(*np.linspace(0, 1, 41))
    hard = column(*(np.linspace(0, 1, 41) > 0.5))
    first, second = rank({"hard": hard, "truth": truth}, truth)
    assert (first.name, second.name) == ("truth", "hard")
    assert first.everywhere.brier == first.everywhere.mae == first.everywhere.calibration == 0
    entropy = -np.where(truth > 0, truth * np.log2(np.maximum(truth, 1e-9)), 0).sum(0).mean()
    assert first.everywhere.cross_entropy == pytest.approx(entropy, rel=1e-4)


def test_a_calibrated_forecast_is_told_from_a_sharp_one():
    # Truth 0.4 in every voxel of the rim: 0.4 is calibrated, hard labels that are right on average are not.
    truth = column(*[0.4] * 10)
    calibrated, hard = rank({"hard": column(*[0] * 6, *[1] * 4), "calibrated": column(*[0.4] * 10)}, truth)
    assert calibrated.name == "calibrated" and calibrated.ambiguous.calibration == pytest.approx(0, abs=1e-6)
    assert hard.ambiguous.calibration == pytest.approx(0.6 * 0.4 + 0.4 * 0.6)


def test_a_hidden_weight_is_divided_out_and_reported():
    truth = column(0.2, 0.5, 0.9)
    plain, heavy = rank({"plain": column(0.3, 0.6, 0.8) / 2, "heavy": column(0.3, 0.6, 0.8)}, truth)
    assert plain.everywhere == heavy.everywhere
    assert {plain.sum_deviation, heavy.sum_deviation} == {0.0, 0.5}
    (blank,) = rank({"blank": np.zeros_like(truth)}, truth)
    assert blank.everywhere.mae == pytest.approx(np.abs(np.array([0.2, 0.5, 0.9]) - 0.5).mean())


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_scores_are_those_of_a_plain_recount(seed):
    rng = np.random.default_rng(seed)
    reference, soft = (rng.dirichlet([0.5] * 3, (2, 7, 9)).transpose(3, 0, 1, 2) for _ in range(2))
    include = rng.random((2, 7, 9)) < 0.7
    (found,) = rank({"soft": soft}, reference, include=include)
    q, r = soft[:, include], reference[:, include]
    assert found.everywhere.n_voxels == include.sum()
    assert found.everywhere.brier == pytest.approx(((q - r) ** 2).sum(0).mean(), rel=1e-4)
    assert found.everywhere.mae == pytest.approx(np.abs(q - r).sum(0).mean() / 2, rel=1e-4)
    assert found.everywhere.cross_entropy == pytest.approx(-(r * np.log2(np.maximum(q, 1e-3))).sum(0).mean(), rel=1e-4)
    error = 0.0
    for one, truth in zip(q.astype(np.float32), r, strict=True):
        place = np.minimum((one * 20).astype(int), 19)
        error += sum(abs((one - truth)[place == b].sum()) for b in range(20))
    assert found.everywhere.calibration == pytest.approx(error / q.size, rel=1e-3, abs=1e-6)


def test_signed_maps_become_probabilities_and_millimetres_do_not():
    np.testing.assert_array_equal(as_probability(np.float32([-1, 1]), "signed"), [0, 1])
    with pytest.raises(InputError, match="kind 'distance'"):
        as_probability(np.zeros(2), "distance")


def test_what_is_no_probability_or_does_not_fit_is_refused():
    truth = column(0.2, 0.5)
    with pytest.raises(InputError, match="candidate mm: got values from 0 to 3"):
        rank({"mm": np.float32([0, 3, 0, 0]).reshape(2, 1, 1, 2)}, truth)
    with pytest.raises(InputError, match="candidate other: got shape"):
        rank({"other": column(0.2)}, truth)
    with pytest.raises(InputError, match="reference: got sums"):
        rank({"soft": truth}, truth * 0.9)
    with pytest.raises(InputError, match="no voxel"):
        rank({"soft": truth}, truth, include=np.zeros((1, 1, 2), bool))
    with pytest.raises(InputError, match="got values from nan"):
        rank({"nan": np.full_like(truth, np.nan)}, truth)


def test_table_and_plot_are_written(tmp_path):
    truth = column(0.0, 0.5, 0.75, 1.0)
    found = rank({"hard": column(0, 1, 1, 1), "soft": column(0.1, 0.5, 0.7, 0.9)}, truth)
    write_table(found, tmp_path / "ranks.tsv")
    rows = [line.split("\t") for line in (tmp_path / "ranks.tsv").read_text().splitlines()]
    assert rows[0][:4] == ["candidate", "voxels", "n_voxels", "brier"] and len(rows) == 7
    of_soft = [row[:3] for row in rows[1:4]]
    assert of_soft == [["soft", "all", "4"], ["soft", "ambiguous", "2"], ["soft", "boundary", "4"]]
    assert float(rows[1][3]) == pytest.approx(found[0].everywhere.brier, rel=1e-5)
    assert (tmp_path / "ranks.tsv").read_text() == ranking_table(found)
    write_plot(combined({"a": found}), tmp_path / "ranks.png")
    assert (tmp_path / "ranks.png").read_bytes()[:4] == b"\x89PNG"


def test_scores_read_and_draw_nothing():
    script = (
        "import sys, softlabels.evaluation.rank; "
        "print([m for m in ('matplotlib', 'SimpleITK', 'zarr', 'softlabels.store') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
