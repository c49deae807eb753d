"""When the loader opens cases, what it counts, and which memory it uses again."""

import pytest
import torch
from helpers.made_cohort import SHAPES, make_cohort
from helpers.samples import VOLUMES, same

from softlabels.training.dataset import SoftLabelDataset

#: Samples are asked for again on purpose, to compare them.
pytestmark = pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


def test_closing_cases_changes_no_sample(index, monkeypatch):
    options = {"target": "sing", "patch_size": (3, 6, 6), "patches_per_case": 2}
    kept = list(SoftLabelDataset(index, **options))
    monkeypatch.setattr("softlabels.training.dataset.MAX_OPEN", 1)
    dataset = SoftLabelDataset(index, **options)
    assert all(same(dataset[i], kept[i]) for i in (0, 2, 4, 1, 3, 5, 7, 6))
    assert len(dataset._open) == 1


def test_without_foreground_sampling_the_labels_are_not_scanned(index, monkeypatch):
    monkeypatch.setattr("softlabels.training.dataset.ForegroundTable.build", None)
    dataset = SoftLabelDataset(index, target="geols", patch_size=(1, 1, 1), foreground_fraction=0.0)
    assert len(list(dataset)) == len(SHAPES)


def opened_files(monkeypatch):
    """Return a list that grows by each file of a store that this process opens."""
    from softlabels.store import read

    opened, original = [], read.open_entry
    monkeypatch.setattr("softlabels.cohort.case.open_entry", lambda *a: opened.append(a[1]) or original(*a))
    return opened


@pytest.mark.parametrize("options", [{"mode": "grid", "overlap": 2}, {"mode": "random", "patches_per_case": 5}])
def test_no_case_is_opened_before_its_first_sample(index, monkeypatch, options):
    opened = opened_files(monkeypatch)
    dataset = SoftLabelDataset(index, target="geols", patch_size=(5, 12, 12), **options)
    assert dataset.shape_of("large") == SHAPES["large"] and len(dataset) and not opened
    dataset[0]
    assert len(opened) == 2  # one case: prepared, and target


def test_an_index_from_before_labels_were_counted_gives_the_same_samples(index, tmp_path):
    from dataclasses import replace

    from helpers.made_cohort import write_index

    from softlabels.cohort.index import Index

    bare = write_index(tmp_path, [replace(case, labels=None) for case in Index.read(index).cases])
    for options in ({"mode": "grid"}, {"patches_per_case": 6, "foreground_fraction": 0.8, "seed": 5}):
        now, before = (
            SoftLabelDataset(path, target="geols", store=index.parent.parent / "store", patch_size=(5, 9, 9), **options)
            for path in (index, bare)
        )
        assert len(now) == len(before)
        assert all(same(now[i], before[i]) for i in range(len(now)))


def test_labels_are_not_counted_where_the_index_has_counted_them(index, monkeypatch):
    monkeypatch.setattr("softlabels.cohort.label_blocks.LabelBlocks.count", None)
    dataset = SoftLabelDataset(index, target="geols", patch_size=(5, 9, 9), foreground_fraction=1.0)
    assert (dataset[2]["labels"] > 0).any()


def test_the_memory_of_a_sample_is_used_again_once_it_is_gone_and_never_before(index):
    dataset = SoftLabelDataset(index, target="geols", patch_size=(6, 20, 20), patches_per_case=4)
    samples = [dataset[i] for i in range(len(dataset))]
    copies = [{k: v.clone() if torch.is_tensor(v) else v for k, v in sample.items()} for sample in samples]
    first = samples[0]["image"].data_ptr()
    del samples[1:]  # their memory is written to again
    again = [dataset[i] for i in range(len(dataset))]
    assert same(samples[0], copies[0]) and all(map(same, again, copies))
    assert first not in {sample["image"].data_ptr() for sample in again}
    del samples
    assert first in {dataset[0][name].data_ptr() for name in VOLUMES}
