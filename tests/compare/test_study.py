"""Studies are checked, folds are of persons, and every shipped study is one that can be run."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from comparison import slabs as slabs_of
from comparison.slabs import BLOCK, coronal_first, icbm152, make_slabs, slab_ranges, write_slabs
from comparison.study import Folds, make_folds, parse_study, read_cases_of
from comparison.training import Run
from helpers import ROOT
from helpers.made_study import STUDY

from softlabels.config import read_yaml
from softlabels.errors import ConfigError, InputError
from softlabels.grid import Grid

STUDIES = sorted((ROOT / "examples" / "compare").glob("*.yaml"))


def changed(**changes):
    return {**STUDY, **changes}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_shipped_studies_are_whole(path):
    study = parse_study(read_yaml(path), source=path.name)
    assert study.baseline in study.rows and study.training.steps and len(study.seeds) >= 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "soft label"}, "baseline: got 'soft label'"),
        (
            {"rows": {**STUDY["rows"], "hard": {"target": "onehott"}}},
            "rows.hard.target: got 'onehott', expected one of",
        ),
        (
            {"rows": {**STUDY["rows"], "later": {"after": "truthh", "temperature": 2.0}}},
            "rows.later.after: got 'truthh'",
        ),
        ({"rows": {**STUDY["rows"], "later": {"after": "hard"}}}, "changes nothing"),
        ({"rows": {**STUDY["rows"], "hard": {"target": ["onehot", "reference"]}}}, "expected 'reference' alone"),
        ({"rows": {**STUDY["rows"], "hard": {"target": "onehot", "los": "l1"}}}, "los: unknown key"),
        ({"training": {"steps": [4, 2]}}, "expected ascending lengths"),
        ({"training": {"steps": [4], "patch_size": [9, 8, 8]}}, "expected multiples of 4"),
        ({"seeds": [1, 1]}, "expected distinct ones"),
        ({"softlabels": {**STUDY["softlabels"], "devise": "cpu"}}, "devise: unknown key"),
    ],
)
def test_a_faulty_study_is_refused_by_what_is_wrong(changes, message):
    with pytest.raises(ConfigError, match=message):
        parse_study(changed(**changes))


def test_several_faults_are_named_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_study(changed(baseline="none", seeds=[0, 0]))
    assert "baseline" in str(caught.value) and "seeds" in str(caught.value)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_every_person_is_tested_once_and_in_one_part_of_a_fold(k):
    persons = {f"case{i}": f"person{i // 2}" for i in range(13)}
    folds = make_folds(persons, Folds(k=k, seed=1, validation=1))
    assert sorted(case for parts in folds for case in parts.test) == sorted(persons)
    for parts in folds:
        groups = [{persons[case] for case in part} for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, groups)) == len(set().union(*groups)) == 7 and len(groups[1]) == 1


def test_folds_need_a_person_left_to_train_on():
    with pytest.raises(ConfigError, match="folds.validation: got 2, expected fewer"):
        make_folds({"a": "a", "b": "b", "c": "c"}, Folds(k=2, validation=2))


def test_persons_and_references_come_from_the_sheet(cohort):
    _, sheet = cohort
    cases = {one.case.id: one for one in read_cases_of(sheet, ["T1", "T2"])}
    assert [cases[name].person for name in "abcd"] == ["ab", "ab", "c", "d"]
    assert Path(cases["a"].case.reference[0]) == sheet.parent / "a_shares.nii.gz" and cases["a"].fine_labels is None


def test_persons_are_read_from_a_sheet_that_excel_saved(tmp_path):
    sheet = tmp_path / "cases.CSV"
    lines = [
        "# two scans",
        "case, image:T1, label, meta:person, meta:fine_labels",
        "a, a.nii, l.nii, p, fine.nii",
        "b, b.nii, m.nii,,",
    ]
    sheet.write_text("\n".join(lines), encoding="utf-8-sig")
    first, second = read_cases_of(sheet, ["T1"])
    assert (first.case.id, first.person, first.fine_labels) == ("a", "p", str(tmp_path / "fine.nii"))
    assert (second.case.id, second.person, second.fine_labels) == ("b", "b", None)


def test_a_run_holds_all_that_it_depends_on(run):
    wanted = run("onehot")
    assert yaml.safe_load(yaml.safe_dump(wanted.to_json())) == wanted.to_json()
    assert Run(**wanted.to_json()) == wanted


def test_slabs_are_block_means_at_the_place_of_what_they_average():
    image, shares, grid = icbm152()
    slabs = make_slabs(image, shares, grid, 12, 1)
    assert len(slabs) == 12 and len({slab.image.shape for slab in slabs}) == 1
    for slab in (slabs[0], slabs[7]):
        np.testing.assert_allclose(slab.shares.sum(axis=0), 1, atol=1e-5)
        assert slab.grid.orientation[0] == "A" and slab.grid.spacing == (2.0, 2.0, 2.0)
        assert slab.fine_labels.shape == tuple(BLOCK * n for n in slab.image.shape)
        place = np.array(slab.grid.position((1, 20, 30)))
        corners = [slab.fine_grid.position((2 + a, 40 + b, 60 + c)) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
        np.testing.assert_allclose(place, np.mean(corners, axis=0))
        voxels = [np.rint(np.linalg.solve(grid.affine_ras, [*corner, 1])[:3]).astype(int) for corner in corners]
        assert slab.image[1, 20, 30] == pytest.approx(np.mean([image[tuple(v)] for v in voxels]), rel=1e-5)
    first, second = (slab.grid.position((0, 0, 0))[1] for slab in slabs[:2])
    assert second - first == pytest.approx(2 * (len(slabs[0].image) + 1))


def test_slab_geometry_of_small_grids():
    grid = Grid((4, 6, 2), (1.0, 2.0, 3.0))
    values = np.arange(48.0).reshape(4, 6, 2)
    turned, turned_grid = coronal_first(values, grid)
    assert turned[5, 1, 0] == values[1, 5, 0] and turned_grid.position((5, 1, 0)) == grid.position((1, 5, 0))
    with pytest.raises(InputError, match="expected fewer"):
        slab_ranges(4, 3, 1)


def test_slabs_that_are_there_stay_and_others_are_refused(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    shares = np.zeros((3, 12, 24, 14), np.float32)
    shares[1:, 2:-2, :, 2:-2] = 0.5
    shares[0] = 1 - shares[1:].sum(axis=0)
    image = rng.normal(size=shares.shape[1:]).astype(np.float32)
    monkeypatch.setattr(slabs_of, "icbm152", lambda: (image, shares, Grid(image.shape, (1.0, 1.0, 1.0))))
    sheet = write_slabs(tmp_path / "slabs", 2, 1)
    found = read_cases_of(sheet, ["T1"])
    assert [(one.case.id, one.person) for one in found] == [("slab00", "slab00"), ("slab01", "slab01")]
    assert all(
        Path(path).exists() for one in found for path in (*one.case.images, *one.case.reference, one.fine_labels)
    )
    written = {path: path.stat().st_mtime_ns for path in sheet.parent.iterdir()}
    assert write_slabs(sheet.parent, 2, 1) == sheet
    with pytest.raises(
        InputError, match="got '# ICBM152, slabs: 2, planes between them: 1', expected '# ICBM152, slabs: 3"
    ):
        write_slabs(sheet.parent, 3, 1)
    assert {path: path.stat().st_mtime_ns for path in sheet.parent.iterdir()} == written
