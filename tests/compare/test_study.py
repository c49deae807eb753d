"""Studies are checked, folds are of persons, and every shipped study is one that can be run."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from comparison.slabs import BLOCK, block_means, coarser, coronal_first, icbm152, make_slabs, slab_ranges
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
    with pytest.raises(ConfigError, match="folds.validation: got 2 persons"):
        make_folds({"a": "a", "b": "b", "c": "c"}, Folds(k=2, validation=2))


def test_persons_and_references_come_from_the_sheet(cohort):
    _, sheet = cohort
    cases = {one.case.id: one for one in read_cases_of(sheet, ["T1", "T2"])}
    assert [cases[name].person for name in "abcd"] == ["ab", "ab", "c", "d"]
    assert Path(cases["a"].case.reference[0]) == sheet.parent / "a_shares.nii.gz" and cases["a"].fine_labels is None


def test_a_run_holds_all_that_it_depends_on(run):
    wanted = run("onehot")
    assert yaml.safe_load(yaml.safe_dump(wanted.__dict__)) == wanted.__dict__
    assert Run(**wanted.__dict__) == wanted


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
    assert block_means(turned).shape == coarser(turned_grid).shape == (3, 2, 1)
    with pytest.raises(InputError, match="expected fewer"):
        slab_ranges(4, 3, 1)
