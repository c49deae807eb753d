"""A calibration is judged on cases it was not fitted on, and kept only if it helps there."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from helpers.made_truth import run, write_coarse_project

from softlabels.calibration import Calibration
from softlabels.config import load_config
from softlabels.errors import InputError
from softlabels.evaluation.calibrate import fit_calibration, leave_one_case_out
from softlabels.evaluation.judged_calibration import (
    CalibratedCandidate,
    UndecidedVoxels,
    calibrated_candidate,
    judged_calibration,
)
from softlabels.inputs.sheet import read_sheet
from softlabels.pipeline.job import run_job
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import Job
from softlabels.store import Store

TARGETS = {
    "soft": {"method": "gaussian", "sigma_mm": 1.0},
    "done": {"method": "gaussian", "calibrate": {"slope": 1.1, "fitted_for": "rater 2"}},
    "hard": {"method": "onehot"},
    "far": {"method": "level_set"},
}


def a_case(seed, offset):
    """Return a soft label with sure voxels, and a reference that has another offset, with noise."""
    rng = np.random.default_rng(seed)
    inside = np.clip(rng.normal(0.5, 0.5, (1, 12, 12)), 0, 1).astype(np.float32)
    soft = np.stack([1 - inside, inside])
    truth = Calibration(1.0, (0.0, offset), "truth").applied(soft)
    noise = rng.normal(0, 0.02, inside.shape)
    one = np.clip(truth[1] + noise, 0, 1)
    return soft, np.stack([1 - one, one])


@pytest.mark.parametrize(("offset", "is_kept"), [(0.8, True), (0.0, False)])
def test_it_is_kept_only_where_cases_share_a_bias(offset, is_kept):
    cases = [a_case(seed, offset) for seed in range(5)]
    counted = np.ones((1, 12, 12), bool)
    voxels = [UndecidedVoxels.of(*case, counted) for case in cases]
    one = calibrated_candidate(voxels, fitted_for="rater 2")
    found = judged_calibration({"it": one}, [["it"]] * 5, ["it"])
    assert found.is_kept == is_kept
    expected = leave_one_case_out(cases, fitted_for="rater 2")
    np.testing.assert_allclose(found.before, [before for before, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.after, [after for _, after in expected], rtol=1e-5)
    assert found.calibration.offsets[1] == pytest.approx(offset, abs=0.2)


def test_a_candidate_has_the_scores_of_calibrations_fitted_without_each_case():
    cases = [a_case(seed, 0.8) for seed in range(4)]
    counted = np.random.default_rng(0).random((1, 12, 12)) < 0.8
    voxels = [UndecidedVoxels.of(*case, counted) for case in cases]
    share = cases[0][0][:, counted]
    expected = ((share - cases[0][1][:, counted]) ** 2).sum(axis=0).mean()
    assert voxels[0].brier(None) == pytest.approx(expected, rel=1e-5)
    found = calibrated_candidate(voxels, fitted_for="x")
    assert found.before == tuple(one.brier(None) for one in voxels)
    rest = [(one.soft, one.truth) for one in voxels[1:]]
    without = fit_calibration(rest, fitted_for="x")
    assert found.after[0] == voxels[0].brier(without)
    assert found.others[0] == pytest.approx(np.mean([one.brier(without) for one in voxels[1:]]), rel=1e-12)
    assert found.fitted == pytest.approx(np.mean([one.brier(found.calibration) for one in voxels]), rel=1e-12)


def test_regions_are_calibrated_each_and_scored_by_their_mean():
    soft = [np.stack([a_case(seed, 0.0)[0][1], a_case(seed + 9, 0.0)[0][1]]) for seed in range(3)]
    known = Calibration(1.0, (0.7, -0.4), "truth")
    truth = [known.applied(one, is_overlapping=True) for one in soft]
    counted = np.ones((1, 12, 12), bool)
    voxels = [UndecidedVoxels.of(a, b, counted, is_overlapping=True) for a, b in zip(soft, truth, strict=True)]
    assert voxels[0].brier(None) == pytest.approx(np.mean(2 * (soft[0] - truth[0]) ** 2), rel=1e-5)
    found = calibrated_candidate(voxels, fitted_for="x")
    np.testing.assert_allclose(found.calibration.offsets, known.offsets, atol=0.1)
    assert max(found.after) < 0.05 * min(found.before)


def made(before, after, others, fitted=0.0, slope=1.0):
    calibration = None if slope is None else Calibration(slope, (0.0, 0.0), "x")
    return CalibratedCandidate(calibration, fitted, before, after, others)


def test_each_fold_takes_what_is_best_when_calibrated_on_the_other_cases():
    sharp = made((1.0, 2.0, 3.0), (0.9, 1.9, 2.9), (0.5, 0.5, 0.7), fitted=0.6)
    wide = made((9.0, 9.0, 9.0), (0.1, 0.2, 0.3), (0.4, 0.6, 0.6), fitted=0.5, slope=2.0)
    found = judged_calibration({"sharp": sharp, "wide": wide}, [["sharp", "wide"]] * 3, ["sharp", "wide"])
    assert found.before == (1.0, 2.0, 3.0) and found.after == (0.1, 1.9, 0.3)
    assert found.candidate == "wide" and found.calibration.slope == 2.0
    alone = judged_calibration({"sharp": sharp, "wide": wide}, [["sharp"], ["wide"], ["sharp"]], ["sharp"])
    assert alone.before == (1.0, 9.0, 3.0) and alone.after == (0.9, 0.2, 2.9) and alone.candidate == "sharp"


def test_too_few_cases_and_hard_labels_are_refused():
    soft, truth = a_case(0, 0.0)
    voxels = UndecidedVoxels.of(soft, truth, np.ones((1, 12, 12), bool))
    with pytest.raises(InputError, match="got 2 cases"):
        calibrated_candidate([voxels] * 2, fitted_for="x")
    hard = UndecidedVoxels.of(np.round(soft), truth, np.ones((1, 12, 12), bool))
    with pytest.raises(InputError, match="nothing to calibrate"):
        judged_calibration({"hard": calibrated_candidate([hard] * 3, fitted_for="x")}, [["hard"]] * 3, ["hard"])


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of three cases whose labels are too small, with its targets computed; tests must not change it."""
    made = tmp_path_factory.mktemp("biased")
    folder = write_coarse_project(made, 3, targets=TARGETS, tune={"annotator": "rater 2"})
    with chdir(folder):
        config = load_config("config.yaml")
        plan, store = make_plan(config), Store(config.store)
        for case in read_sheet(config.cases, config.channels):
            label = sitk.ReadImage(case.label)
            inside = sitk.GetArrayFromImage(sitk.ReadImage(case.reference[0]))[1]
            smaller = sitk.GetImageFromArray(np.uint8(inside > 0.95))
            smaller.CopyInformation(label)
            sitk.WriteImage(smaller, case.label)
            for node in plan.nodes.values():
                run_job(Job(case, node, store, Path(config.results)))
    return folder


def test_command_prints_a_block_that_is_valid(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    run("calibrate", "soft")
    printed = capsys.readouterr().out
    assert "Calibration: kept, for rater 2." in printed and "lower in 3 of 3 cases" in printed
    block = yaml.safe_load(printed[printed.index("targets:") :])
    config = yaml.safe_load(Path("config.yaml").read_text())
    config["targets"]["soft"] |= block["targets"]["soft"]
    assert config["targets"]["soft"]["calibrate"]["offsets"]["tissue"] > 0.2
    Path("calibrated.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert load_config("calibrated.yaml").targets["soft"].calibrate.fitted_for == "rater 2"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("done", "has a calibration already"),
        ("hard", "nothing between"),
        ("far", "nothing between"),
        ("x", "no target"),
    ],
)
def test_targets_that_cannot_be_calibrated_are_refused(project, monkeypatch, target, why):
    monkeypatch.chdir(project)
    with pytest.raises(InputError, match=why):
        run("calibrate", target)
