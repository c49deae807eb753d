"""What does not fit together ends with one error that names the case and the remedy."""

from dataclasses import replace

import pytest
import torch
from helpers.made_cohort import SHAPES, make_cohort
from torch.utils.data import DataLoader

from softlabels.cohort.index import Index
from softlabels.errors import FormatError, InputError
from softlabels.losses import dice_metric_loss, soft_cross_entropy
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.folds import MissingCasesWarning
from softlabels.training.sampler import EpochSampler


@pytest.fixture
def index(tmp_path):
    return make_cohort(tmp_path / "mine", {"small": SHAPES["small"], "empty": SHAPES["empty"]})


def test_an_index_with_the_store_of_another_data_set(index, tmp_path):
    make_cohort(tmp_path / "other", {"thin": SHAPES["thin"]})
    dataset = SoftLabelDataset(index, target="geols", mode="whole", store=tmp_path / "other" / "store")
    with pytest.raises(FormatError, match=r"case small, prepare, entry \w{12}: it is not in store .*store=\.\.\."):
        dataset[0]


def test_an_index_of_cases_that_were_prepared_again_and_collected(index):
    """The former entries are gone; those of the new index are others."""
    dataset = SoftLabelDataset(index, target="geols", mode="whole")
    key = Index.read(index).case("empty").prepare.key
    folder = index.parents[1] / "store" / "v1" / key[:2] / key
    folder.parent.chmod(0o755)
    folder.rename(folder.with_name("collected"))
    assert dataset[0]["case_id"] == "small"
    with pytest.raises(
        FormatError, match="case empty, prepare, .*not in store.*snakemake again in the project's folder"
    ):
        dataset[1]


def test_an_index_that_lacks_cases_says_so_once_for_each_data_set(index):
    content = Index.read(index)
    replace(content, cases=content.cases[:1], missing=("empty",)).write(index)
    with pytest.warns(MissingCasesWarning, match="1 cases had no result when it was written and are left out: empty"):
        assert SoftLabelDataset(index, target="geols", mode="whole").case_ids == ["small"]
    with pytest.raises(InputError, match="cases: 1 have no result .*: empty. Run snakemake .*softlabels status"):
        SoftLabelDataset(index, target="geols", mode="whole", cases=["small", "empty"])


@pytest.mark.parametrize("loss", [soft_cross_entropy, dice_metric_loss])
def test_a_network_with_other_heads_than_the_target_has_classes(index, loss):
    batch = next(iter(DataLoader(SoftLabelDataset(index, target="geols", patch_size=(4, 8, 8)), batch_size=2)))
    with pytest.raises(
        InputError, match=r"prediction \(2, 5, 4, 8, 8\) and target \(2, 3, .*one output for each class"
    ):
        loss(torch.rand(2, 5, 4, 8, 8), batch["soft_label"], valid=batch["valid"])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_vanishes_under_the_data_set(index, workers):
    dataset = SoftLabelDataset(index, target="geols", patch_size=(4, 8, 8), patches_per_case=8)
    loader = iter(
        DataLoader(dataset, sampler=EpochSampler(dataset), num_workers=workers, prefetch_factor=2 if workers else None)
    )
    next(loader)
    store = index.parents[1] / "store"
    store.rename(store.with_name("gone"))
    with pytest.raises(
        FormatError, match=r"case (small|empty), .*entry \w{12}: .*(whole store .* is missing|no such folder)"
    ):
        list(loader)
