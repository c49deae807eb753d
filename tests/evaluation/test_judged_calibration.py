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
from softlabels.evaluation.calibrate import leave_one_case_out
from softlabels.evaluation.judged_calibration import UndecidedVoxels, judged_calibration
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
    found = judged_calibration(voxels, [voxels] * 5, fitted_for="rater 2")
    assert found.is_kept == is_kept
    expected = leave_one_case_out(cases, fitted_for="rater 2")
    np.testing.assert_allclose(found.before, [before for before, _ in expected], rtol=1e-5)
    np.testing.assert_allclose(found.after, [after for _, after in expected], rtol=1e-5)
    assert found.calibration.offsets[1] == pytest.approx(offset, abs=0.2)


def test_a_fold_is_judged_with_what_was_chosen_for_it():
    cases = [a_case(seed, 0.8) for seed in range(3)]
    counted = np.random.default_rng(0).random((1, 12, 12)) < 0.8
    good = [UndecidedVoxels.of(*case, counted) for case in cases]
    other = [UndecidedVoxels.of(case[0][::-1], case[1], counted) for case in cases]
    found = judged_calibration(good, [other, good, good], fitted_for="x")
    plain = judged_calibration(good, [good] * 3, fitted_for="x")
    assert found.before[0] == other[0].brier(None) and found.after[1:] == plain.after[1:]
    assert found.calibration == plain.calibration
    share = cases[0][0][:, counted]
    assert good[0].brier(None) == pytest.approx(((share - cases[0][1][:, counted]) ** 2).sum(axis=0).mean(), rel=1e-5)


def test_too_few_cases_and_hard_labels_are_refused():
    soft, truth = a_case(0, 0.0)
    voxels = UndecidedVoxels.of(soft, truth, np.ones((1, 12, 12), bool))
    with pytest.raises(InputError, match="got 2 cases"):
        judged_calibration([voxels] * 2, [[voxels] * 2] * 2, fitted_for="x")
    hard = UndecidedVoxels.of(np.round(soft), truth, np.ones((1, 12, 12), bool))
    with pytest.raises(InputError, match="nothing to calibrate"):
        judged_calibration([hard] * 3, [[hard] * 3] * 3, fitted_for="x")


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
