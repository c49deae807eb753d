"""Regions that overlap, such as whole tumour and core: tuned and ranked, each as a problem of its own."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.made_truth import fine_case, run, write_coarse_project

from softlabels.classes import LabelSet
from softlabels.config import load_config
from softlabels.errors import InputError
from softlabels.evaluation.rank import rank
from softlabels.evaluation.reference import counted_voxels
from softlabels.evaluation.trial import make_trial, tuning_cases
from softlabels.evaluation.tuning import TrialCase
from softlabels.inputs.sheet import read_sheet
from softlabels.inputs.volume import read_volume
from softlabels.pipeline.job import run_job
from softlabels.pipeline.plan import make_plan
from softlabels.pipeline.stages import Job
from softlabels.store import Store
from softlabels.view.export import write_nifti

REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    """A project of three coarse cases with regions that overlap, tuned; tests must not change it."""
    folder = write_coarse_project(tmp_path_factory.mktemp("regions"), quantiles=(0.5, 0.8), labels=REGIONS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("tune", "--threads", "2")
    return folder


def test_regions_that_overlap_are_each_a_problem_of_its_own(regions, monkeypatch):
    monkeypatch.chdir(regions)
    config = load_config("config.yaml")
    cases, _ = tuning_cases(config, read_sheet(config.cases, config.channels))
    opened = TrialCase(make_trial(config, cases), cases[1])
    _, labels = fine_case(1, (0.5, 0.8))
    shares = [np.isin(labels, values).reshape(4, 20, 2, 24, 2).mean(axis=(2, 4)) for values in ([1, 2], [2])]
    np.testing.assert_allclose(opened.reference, shares, atol=1e-6)
    for name in ("gaussian_3", "unmix_5", "onehot_0"):
        soft = opened.soft_label(name)
        masks = np.stack([np.isin(opened.labels, values) for values in ([1, 2], [2])])
        if name == "onehot_0":
            np.testing.assert_array_equal(soft, masks)
        expected = np.mean([2 * (soft[region] - shares[region]) ** 2 for region in range(2)])
        assert opened.errors(soft).brier == pytest.approx(expected, rel=1e-5)


def test_it_chooses_unmix_for_block_means_of_regions_and_calibrates_each(regions, monkeypatch):
    monkeypatch.chdir(regions)
    found = load_config("results/tune/config.yaml").targets["tuned"]
    assert found.name == "unmix"
    assert "Calibration: kept" in Path("results/tune/tune.txt").read_text()
    rows = [line.split("\t") for line in Path("results/tune/tune.tsv").read_text().splitlines()]
    by_name = {row[0]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    assert float(by_name["unmix"]["high"]) < -0.1 and float(by_name["onehot"]["brier_change"]) > 0
    assert "unmix" in Path("results/tune/tune.txt").read_text()


def test_reference_files_of_regions_need_no_background_and_may_exceed_one_together(regions, tmp_path, monkeypatch):
    monkeypatch.chdir(regions)
    (case, *_) = read_sheet("cases.tsv", ["T1"])
    trial = make_trial(load_config("config.yaml"), [case])
    whole = read_volume(case.reference[0])
    assert whole.values.sum(axis=0).max() > 1.5
    paths = tuple(str(write_nifti(part, whole.grid, tmp_path / f"{i}.nii.gz")) for i, part in enumerate(whole.values))
    by_region = replace(case, reference=paths[::-1], reference_classes=("core", "whole"))
    np.testing.assert_array_equal(TrialCase(trial, by_region).reference, TrialCase(trial, case).reference)
    with pytest.raises(InputError, match="columns for core, expected one for each of whole, core; check whole"):
        TrialCase(trial, replace(case, reference=paths[1:] * 2, reference_classes=("core",)))
    write_nifti(whole.values[0] * 3, whole.grid, tmp_path / "0.nii.gz")
    with pytest.raises(InputError, match="got values from 0 to 3, expected a probability for each region"):
        TrialCase(trial, by_region)


@pytest.mark.parametrize("core", [[2], 2])
def test_voxels_that_every_rater_of_the_reference_ignores_do_not_count(core):
    overlapping = isinstance(core, list)
    labels = LabelSet.parse({"background": 0, "whole": [1, 2] if overlapping else 1, "core": core, "ignore": 3})
    assert labels.is_overlapping == overlapping
    # The hard label; then the raters of the reference.
    raters = np.array([[0, 1, 3, 1, 0], [0, 3, 1, 3, 3], [1, 1, 1, 3, 3]])[:, None, None]
    prepared = SimpleNamespace(ignore_label=3, raters=lambda: raters, valid=lambda: raters[0] != 3)
    reference = np.float32((raters[1:] != 3).any(axis=0))[None]
    counted = counted_voxels(prepared, reference, labels, of_raters=True)
    assert counted.ravel().tolist() == [True, True, False, False, False]
    # A reference in files says nothing of raters; it has no class where its sum is 0.
    counted = counted_voxels(prepared, reference, labels, of_raters=False)
    assert counted.ravel().tolist() == [True, True, False, overlapping, overlapping]


def test_scores_of_regions_are_means_over_regions():
    rng = np.random.default_rng(0)
    soft, reference = (rng.random((3, 4, 5, 6)).astype(np.float32) for _ in range(2))
    (found,) = rank({"it": soft}, reference, is_overlapping=True)
    sides = [[np.stack([1 - one, one]) for one in values] for values in (soft, reference)]
    alone = [rank({"it": q}, r)[0].everywhere for q, r in zip(*sides, strict=True)]
    for name in ("brier", "mae", "cross_entropy", "calibration", "brier_calibration", "brier_refinement", "entropy"):
        assert getattr(found.everywhere, name) == pytest.approx(
            np.mean([getattr(one, name) for one in alone]), rel=1e-5
        )
    assert found.everywhere.n_voxels == 120 and found.sum_deviation == 0


def test_regions_are_ranked_with_a_page_of_where_they_err(regions, monkeypatch):
    monkeypatch.chdir(regions)
    config = load_config("config.yaml")
    plan, store = make_plan(config), Store(config.store)
    for case in read_sheet(config.cases, config.channels):
        for node in plan.nodes.values():
            run_job(Job(case, node, store, Path(config.results)))
    run("rank")
    rows = [line.split("\t") for line in Path("results/rank/rank.tsv").read_text().splitlines()]
    brier = {row[0]: float(row[3]) for row in rows[1:] if row[1] == "all"}
    assert rows[0][:4] == ["candidate", "voxels", "n_voxels", "brier"]
    assert set(brier) == {"soft", "one-hot", "label smoothing 0.1"}
    assert "data:image/png" in Path("results/rank/rank.html").read_text()
    errors = []
    for number, case in enumerate(read_sheet("cases.tsv", ["T1"])):
        _, labels = fine_case(number, (0.5, 0.8))
        hard = read_volume(case.label, role="label").values
        for values in ([1, 2], [2]):
            share = np.isin(labels, values).reshape(4, 20, 2, 24, 2).mean(axis=(2, 4))
            errors.append(2 * (np.isin(hard, values) - share) ** 2)
    assert brier["one-hot"] == pytest.approx(np.mean(errors), rel=1e-4)
