"""Folds: every case is validated once, and nnU-Net's own splits are taken as they are."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softlabels.cohort.case_table import CaseTable, EntryAddress, IndexedCase
from softlabels.cohort.index import Index
from softlabels.errors import InputError
from softlabels.training.folds import Fold, MissingCasesWarning, chosen_cases, k_folds, nnunet_folds


@given(data=st.data(), n=st.integers(2, 40), seed=st.integers(0, 5))
def test_each_case_is_validated_in_exactly_one_fold(data, n, seed):
    ids = [f"case{i}" for i in range(n)]
    k = data.draw(st.integers(2, n))
    folds = k_folds(ids, k, seed=seed)
    assert sorted(i for fold in folds for i in fold.validation) == sorted(ids)
    for fold in folds:
        assert sorted([*fold.train, *fold.validation]) == sorted(ids)
    sizes = [len(fold.validation) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert k_folds(data.draw(st.permutations(ids)), k, seed=seed) == folds


def test_folds_depend_on_the_seed():
    ids = [f"case{i}" for i in range(20)]
    assert k_folds(ids, 5) != k_folds(ids, 5, seed=1)


@pytest.mark.parametrize("k", [0, 1, 4])
def test_impossible_folds_are_refused(k):
    with pytest.raises(InputError, match=f"got k {k} for 3 cases, expected 2 to 3"):
        k_folds(["a", "b", "c"], k)


def test_a_case_twice_is_refused():
    with pytest.raises(InputError, match="a case id twice"):
        k_folds(["a", "b", "a"], 2)


def test_splits_of_nnunet_are_taken_as_they_are(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["b", "a"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]))
    assert nnunet_folds(path) == [Fold(("b", "a"), ("c",)), Fold(("c",), ("a", "b"))]


@pytest.mark.parametrize("content", ["{", '{"train": []}', '[{"train": ["a"]}]', "[1]"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "splits_final.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"splits_final\.json: expected a list"):
        nnunet_folds(path)


def test_a_missing_file_says_when_it_is_written(tmp_path):
    with pytest.raises(InputError, match="nnU-Net writes it at its first training"):
        nnunet_folds(tmp_path / "splits_final.json")


def an_index(missing):
    nowhere = EntryAddress("0", "0")
    cases = CaseTable.of(IndexedCase(name, split, (), nowhere, {}) for name, split in (("a", "train"), ("b", "val")))
    return Index("../store", ("T1",), None, {}, tuple(missing), cases)


def test_a_split_of_a_sheet_without_splits_and_an_index_without_cases_are_refused():
    nowhere = EntryAddress("0", "0")
    for cases, split, said in (
        ([IndexedCase("a", None, (), nowhere, {})], "train", "got 'train', expected none: .*no column 'split'.*by id"),
        ([], None, "index.json: it has no case"),
    ):
        index = Index("../store", ("T1",), None, {}, (), CaseTable.of(iter(cases)))
        with pytest.raises(InputError, match=said):
            chosen_cases(index, split, None, "index.json")


def test_cases_without_a_result_are_not_left_out_silently():
    gone = [f"lost{i}" for i in range(7)]
    with pytest.warns(
        MissingCasesWarning, match="7 cases had no result .*: lost0, lost1, .* and 2 more. Run snakemake"
    ):
        assert [case.id for case in chosen_cases(an_index(gone), "val", None, "index.json")] == ["b"]
    with pytest.raises(InputError, match="cases: 1 have no result in index.json: lost3. Run snakemake in the project"):
        chosen_cases(an_index(gone), None, ["a", "lost3"], "index.json")
    assert [case.id for case in chosen_cases(an_index(gone), None, ["a"], "index.json")] == ["a"]
    assert len(chosen_cases(an_index([]), None, None, "index.json")) == 2
