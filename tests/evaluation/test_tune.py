"""Tune on small cases whose truth is known: what it chooses, what it claims, and what it does not compute twice."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import yaml
from helpers.made_data import write_volume
from helpers.made_truth import fine_case, run, write_coarse_project, write_fine_project

from softlabels.config import load_config, parse_config
from softlabels.errors import ConfigError, FormatError, InputError
from softlabels.evaluation.trial import make_trial, tuning_cases
from softlabels.evaluation.tune_report import statements, target_block
from softlabels.evaluation.tuned import tuned
from softlabels.evaluation.tuning import CaseErrors, TrialCase, score_case, scores_path
from softlabels.inputs.sheet import read_sheet
from softlabels.inputs.volume import read_volume
from softlabels.methods import METHODS
from softlabels.methods.gaussian import gaussian_map
from softlabels.view.export import write_nifti


def tune_here(**changes):
    """Return what tune finds in the current folder."""
    config = load_config("config.yaml").model_copy(update=changes)
    cases, held_out = tuning_cases(config, read_sheet(config.cases, config.channels))
    trial = make_trial(config, cases)
    return tuned(trial, cases, [score_case(trial, case) for case in cases], held_out)


def change_config(**changes):
    """Write the configuration of the current folder with some keys changed."""
    content = yaml.safe_load(Path("config.yaml").read_text()) | changes
    Path("config.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of three coarse cases that has been tuned; tests must not change it."""
    folder = write_coarse_project(tmp_path_factory.mktemp("truth"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run("tune", "--threads", "2")
    return folder


@pytest.fixture
def copy(project, tmp_path, monkeypatch):
    """A copy of the project, as the current folder."""
    import shutil

    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def test_coarse_project_has_the_shares_of_the_fine_labels(project):
    cases = read_sheet(project / "cases.tsv", ["T1"], check_files=True)
    assert [case.id for case in cases] == ["case0", "case1", "case2"]
    reference = sitk.GetArrayFromImage(sitk.ReadImage(cases[1].reference[0]))
    _, labels = fine_case(1)
    np.testing.assert_allclose(reference[1], labels.reshape(4, 20, 2, 24, 2).mean(axis=(2, 4)))
    np.testing.assert_allclose(reference.sum(axis=0), 1)


def test_it_chooses_unmix_for_block_means_and_writes_a_configuration_that_is_valid(project, monkeypatch):
    monkeypatch.chdir(project)
    found = load_config("results/tune/config.yaml")
    assert list(found.targets) == ["soft", "tuned"] and found.targets["tuned"].name == "unmix"
    head, *rows = [line.split("\t") for line in Path("results/tune/tune.tsv").read_text().splitlines()]
    assert head[:4] == ["method", "parameters", "chosen", "n_cases"] and rows[0][0] == "gaussian"
    by_name = {row[0]: dict(zip(head, row, strict=True)) for row in rows}
    assert [name for name, row in by_name.items() if row["chosen"] == "yes"] == ["unmix"]
    assert float(by_name["unmix"]["high"]) < -0.1 and by_name["unmix"]["n_better"] == "3"
    assert float(by_name["onehot"]["brier_change"]) > 0
    assert Path("results/tune/tune.png").read_bytes()[:4] == b"\x89PNG"
    text = Path("results/tune/tune.txt").read_text()
    assert "unmix" in text and "on 3 cases" in text and "too narrow" in text and "Warning" not in text


def test_scores_in_the_table_are_of_cases_left_out(project, monkeypatch):
    monkeypatch.chdir(project)
    cases = read_sheet("cases.tsv", ["T1"])
    masks, truths = [], []
    for case in cases:
        labels = sitk.GetArrayFromImage(sitk.ReadImage(case.label))
        masks.append(np.stack([labels == 0, labels == 1]))
        truths.append(sitk.GetArrayFromImage(sitk.ReadImage(case.reference[0])))
    widths = METHODS["gaussian"].in_grid(1.0)

    def brier(index, sigma_mm):
        """Return the score of a width on a case."""
        soft = gaussian_map(masks[index], (2, 1, 1), sigma_mm=sigma_mm)
        return float(((soft / soft.sum(axis=0) - truths[index]) ** 2).sum(axis=0).mean())

    table = np.array([[brier(index, one.sigma_mm) for index in range(3)] for one in widths])
    rows = [line.split("\t") for line in Path("results/tune/tune_cases.tsv").read_text().splitlines()[1:]]
    for index, row in enumerate(row for row in rows if row[1] == "gaussian"):
        others = np.delete(table, index, axis=1).mean(axis=1)
        best = int(others.argmin())
        assert row[2] == f"sigma_mm {widths[best].sigma_mm:g}"
        assert float(row[3]) == pytest.approx(table[best, index], rel=1e-4)


def test_nothing_is_computed_twice_and_a_killed_run_continues(copy, monkeypatch):
    lines = copy / "results" / "tune" / "scores" / "case1.jsonl"
    whole = scores_path(copy / "results", "case1").read_bytes()
    kept = lines.read_bytes().splitlines()
    lines.write_bytes(b"\n".join(kept[:-2]) + b"\n" + kept[-2][:40])  # one line is gone and one was cut short
    scores_path(copy / "results", "case1").unlink()
    receipt = next((copy / "results" / "case1").glob("prepare-*.json"))
    written, computed = receipt.stat().st_mtime_ns, []
    original = TrialCase.map_of
    monkeypatch.setattr(TrialCase, "map_of", lambda self, name: computed.append(name) or original(self, name))
    config = load_config("config.yaml")
    cases = read_sheet(config.cases, config.channels)
    score_case(make_trial(config, cases), cases[1])
    assert len(computed) == 2
    assert scores_path(copy / "results", "case1").read_bytes() == whole
    assert receipt.stat().st_mtime_ns == written
    assert all(json.loads(line) for line in lines.read_bytes().splitlines() if line != kept[-2][:40])


def test_another_reference_is_scored_anew(copy, monkeypatch):
    before = CaseErrors.read(scores_path(copy / "results", "case0"))
    case = read_sheet("cases.tsv", ["T1"])[0]
    image = read_volume(case.reference[0])
    write_nifti(np.ones_like(image.values), image.grid, case.reference[0])
    with pytest.raises(InputError, match=r"case case0: reference .*sums up to 2"):
        tune_here()
    write_nifti(np.float32(image.values >= [[[[0.5]]], [[[0.51]]]]), image.grid, case.reference[0])
    tune_here()
    after = CaseErrors.read(scores_path(copy / "results", "case0"))
    assert before.errors["onehot_0"].brier > 0 and after.errors["onehot_0"].brier == 0


def test_held_out_cases_are_scored_and_have_no_part_in_the_choice(copy):
    change_config(tune={"methods": ["gaussian", "unmix"], "held_out": ["case2"]})
    found = tune_here()
    assert [one.case for one in found.cases] == ["case0", "case1"] and [one.case for one in found.held_out] == ["case2"]
    (judged,) = found.held_out
    assert judged.tuned < judged.gaussian and found.calibration is None
    assert any(line.startswith("Brier score on 1 case held out") for line in statements(found))
    change_config(tune={"held_out": ["case9"]})
    with pytest.raises(InputError, match="case9 not among the cases with a reference"):
        tune_here()


def test_one_case_gives_a_choice_and_no_score(copy):
    change_config(tune={"methods": ["gaussian", "unmix"], "held_out": ["case1", "case2"]})
    found = tune_here()
    assert found.winner.name == "unmix" and found.nested == () and found.choice_change is None
    assert all(family.change is None and family.errors == () for family in found.families)
    assert found.calibration is None
    lines = statements(found)
    assert "One case cannot say how good this is on others" in lines[1]
    assert not any("left out" in line for line in lines)
    assert found.held_out[0].tuned < found.held_out[0].gaussian
    run("tune")
    rows = [line.split("\t") for line in Path("results/tune/tune.tsv").read_text().splitlines()[1:]]
    assert {cell for row in rows for cell in row[4:]} == {""}


def test_a_bias_of_the_annotator_is_calibrated_away_and_tied_to_its_name(tmp_path, monkeypatch):
    folder = write_coarse_project(tmp_path, 4, tune={"methods": ["gaussian"], "annotator": "rater 2"})
    monkeypatch.chdir(folder)
    for case in read_sheet("cases.tsv", ["T1"]):
        # The label is a voxel too small; the reference is as wide.
        reference = sitk.ReadImage(case.reference[0])
        inside = sitk.GetArrayFromImage(reference)[1]
        label = sitk.GetImageFromArray(np.uint8(inside > 0.95))
        label.CopyInformation(sitk.ReadImage(case.label))
        sitk.WriteImage(label, case.label)
    found = tune_here()
    assert found.calibration.is_kept and found.kept_calibration.offsets[1] > 0.2
    assert np.mean(found.choice_errors) == np.mean(found.calibration.after) < np.mean(found.calibration.before)
    block = target_block(found)
    assert block["calibrate"]["fitted_for"] == "rater 2" and block["calibrate"]["offsets"]["background"] == 0
    parse_config({"channels": ["T1"], "labels": {"background": 0, "tissue": 1}, "targets": {"tuned": block}})


def test_calibration_is_judged_on_cases_it_was_not_fitted_on(project, monkeypatch):
    from softlabels.evaluation.calibrate import fit_calibration

    monkeypatch.chdir(project)
    found = tune_here()
    cases = [TrialCase(found.trial, case) for case in read_sheet("cases.tsv", ["T1"])]

    def brier(fitted, soft, truth):
        """Return the score of a calibrated soft label."""
        return float(((fitted.applied(soft) - truth) ** 2).sum(axis=0).mean())

    for left, name in enumerate(found.nested):
        others = [index for index in range(3) if index != left]
        family = found.trial.families[found.trial.method(name).name]
        error = {one: np.mean([found.cases[i].errors[one].brier for i in others]) for one in family}
        widths = {}
        for one in sorted(family, key=error.get):
            widths.setdefault(found.trial.method(one).sigma_mm, one)
        assert next(iter(widths.values())) == name
        scores = []
        for one in list(widths.values())[:3]:
            pairs = [(case.soft_label(one), case.reference) for case in cases]
            fitted = fit_calibration([pairs[i] for i in others], fitted_for="x", least_cases=2)
            scores.append((np.mean([brier(fitted, *pairs[i]) for i in others]), brier(fitted, *pairs[left])))
        assert found.calibration.after[left] == pytest.approx(min(scores)[1], rel=1e-3)


def write_raters(folder, n_cases=3):
    """Write a project whose reference is the mean of raters, who disagree about where an edge without contrast is."""
    rows = ["case\timage:T1\tlabel\tlabel:b\tlabel:c\tlabel:d\tlabel:e\treference"]
    y, x = np.indices((40, 40))
    for number in range(n_cases):
        rng = np.random.default_rng(number)
        image = ndimage_smooth(rng.normal(size=(1, 40, 40)))
        write_volume(folder / f"t1_{number}.nii.gz", image, (1, 1, 1))
        names = []
        for rater, radius in enumerate((11, 8, 10, 12, 14)):
            labels = ((y - 20) ** 2 + (x - 19 - number) ** 2 < radius**2).astype(np.uint8)[None]
            names.append(f"seg_{number}_{rater}.nii.gz")
            write_volume(folder / names[-1], labels, (1, 1, 1))
        rows.append("\t".join([f"case{number}", f"t1_{number}.nii.gz", *names, "raters"]))
    (folder / "cases.tsv").write_text("\n".join(rows) + "\n")
    config = {"channels": ["T1"], "labels": {"background": 0, "cell": 1}, "targets": {"hard": {"method": "onehot"}}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"tune": {"methods": ["gaussian", "unmix"]}}))


def ndimage_smooth(values):
    """Return smooth noise as float32."""
    from scipy import ndimage

    return ndimage.gaussian_filter(values, (0, 2, 2)).astype(np.float32)


def test_the_rater_of_the_label_has_no_vote_and_unmix_is_not_chosen(tmp_path, monkeypatch):
    write_raters(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = tune_here()
    opened = TrialCase(found.trial, read_sheet("cases.tsv", ["T1"])[0])
    votes = np.mean([sitk.GetArrayFromImage(sitk.ReadImage(f"seg_0_{rater}.nii.gz")) for rater in range(1, 5)], axis=0)
    np.testing.assert_allclose(opened.reference[1], votes)
    assert all(case.is_raters and case.softness.looks_like_raters for case in found.cases)
    assert found.winner.name == "gaussian"
    assert "case0, case1, case2 looks like the mean of raters" in statements(found)[1]


def test_unmix_on_raters_is_warned_of(project, tmp_path, monkeypatch):
    monkeypatch.chdir(project)
    found = tune_here()
    assert not [line for line in statements(found) if line.startswith("Warning")]
    said = replace(found, cases=tuple(replace(case, is_raters=True) for case in found.cases))
    (line,) = [line for line in statements(said) if line.startswith("Warning")]
    assert "case0, case1, case2 looks like the mean of raters" in line
    seen = replace(found.cases[0].softness, n_levels=8, inner_share=0.7)
    looks = replace(found, cases=(replace(found.cases[0], softness=seen), *found.cases[1:]))
    assert any("case0 looks like the mean of raters" in line for line in statements(looks))


def test_a_method_that_declares_a_grid_joins(copy, monkeypatch):
    class Wide(METHODS["gaussian"]):
        """A Gaussian of other widths."""

        name = "wide"
        grid = {"sigma_mm": (2.0, 3.0)}

    monkeypatch.setitem(METHODS.built_in, "wide", Wide)
    found = tune_here(tune=load_config("config.yaml").tune.model_copy(update={"methods": None}))
    assert list(found.trial.families)[:2] == ["gaussian", "onehot"] and "wide" in found.trial.families
    assert [found.trial.method(name).sigma_mm for name in found.trial.families["wide"]] == [2.0, 3.0]
    assert set(found.trial.families) == {"gaussian", "onehot", "wide"} | {n for n in METHODS if METHODS[n].grid}


def test_grids_are_in_voxel_sides_and_valid():
    for name in METHODS:
        method = METHODS[name]
        for side in (0.02, 1.0, 7.0):
            candidates = method.in_grid(side)
            assert len(candidates) == (np.prod([len(v) for v in method.grid.values()]) if method.grid else 0)
            assert len({one.model_dump_json() for one in candidates}) == len(candidates)
    assert METHODS["unmix"].in_grid(3.0)[0].sigma_mm == pytest.approx(1.05)
    assert METHODS["unmix"].in_grid(3.0)[0].window == 1.0


def test_a_method_that_fails_on_a_case_is_left_out_with_the_reason(copy, monkeypatch):
    def fail(self, inputs):
        raise InputError("no luck")

    change_config(tune={"methods": ["gaussian", "svls"]})
    monkeypatch.setattr(METHODS["svls"], "soft_map", fail)
    (copy / "results" / "tune" / "scores" / "case1.jsonl").unlink()
    found = tune_here()
    assert [family.name for family in found.families] == ["gaussian", "onehot"]
    assert found.left_out["svls"].startswith("case case1: ") and "no luck" in found.left_out["svls"]


def test_faults_of_the_configuration_are_named(tmp_path, monkeypatch):
    write_fine_project(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no case of cases.tsv has a reference to tune on"):
        tune_here()
    for methods, why in ((["level_set"], "declares no grid"), (["unmx"], "Did you mean 'unmix'"), ([], "at least 1")):
        change_config(tune={"methods": methods})
        with pytest.raises(ConfigError, match=why):
            load_config("config.yaml")


def test_scores_of_another_trial_or_a_damaged_file_are_refused(copy):
    path = scores_path(copy / "results", "case1")
    change_config(tune={"methods": ["gaussian"]})
    with pytest.raises(InputError, match="scores of case0, case1, case2 are of another configuration"):
        run("tune", "--scored")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FormatError, match="no scores"):
        run("tune", "--scored")
    path.unlink()
    with pytest.raises(FormatError, match="no scores"):
        run("tune", "--scored")


def test_references_by_class_and_without_the_background(copy):
    case = read_sheet("cases.tsv", ["T1"])[0]
    volume = sitk.ReadImage(case.reference[0])
    inside = sitk.GetImageFromArray(sitk.GetArrayFromImage(volume)[1])
    inside.CopyInformation(sitk.ReadImage(case.label))
    sitk.WriteImage(inside, "inside.nii.gz")
    sheet = f"case\timage:T1\tlabel\treference:tissue\n{case.id}\t{case.images[0]}\t{case.label}\tinside.nii.gz\n"
    Path("cases.tsv").write_text(sheet)
    (by_class,) = read_sheet("cases.tsv", ["T1"])
    trial = make_trial(load_config("config.yaml"), [by_class])
    np.testing.assert_allclose(TrialCase(trial, by_class).reference, TrialCase(trial, case).reference, atol=1e-6)
    Path("cases.tsv").write_text(sheet.replace("reference:tissue", "reference:liver"))
    (other,) = read_sheet("cases.tsv", ["T1"])
    with pytest.raises(InputError, match="case case0: reference columns for liver, expected one for each"):
        TrialCase(trial, other)


def test_coarsen_refuses_a_folder_that_is_in_use(tmp_path, monkeypatch):
    write_coarse_project(tmp_path, 1)
    monkeypatch.chdir(tmp_path / "fine")
    with pytest.raises(InputError, match="already exists"):
        run("coarsen", "../coarse")
    with pytest.raises(InputError, match=r"case case0: block: got \(9, 1, 1\)"):
        run("coarsen", "../other", "--block", "9", "1", "1")
