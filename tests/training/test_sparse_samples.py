"""Laws of sparse samples: they are the dense ones, whatever is padded, mirrored, collated or renamed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.made_cohort import SHAPES, SPARSE, TARGETS, make_cohort
from torch.utils.data import DataLoader

from softlabels import sparse
from softlabels.errors import InputError
from softlabels.loader import EpochSampler, RandomFlip, SoftLabelDataset
from softlabels.losses import SparseLabel, soft_cross_entropy, to_dense
from softlabels.training.augmentation import SpatialAugmentation

pytestmark = pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")

#: A target of whose slots some are in use in no case.
ROOMY = {"roomy": replace(SPARSE["few_geols"], n_kept=5)}
NAMES = [*SPARSE, "roomy", "onehot", "smooth"]
SLOTS = {"few_geols": 4, "few_svls": 3, "roomy": 6, "onehot": 1, "smooth": 1}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    path = make_cohort(folder, targets=TARGETS | SPARSE)
    from softlabels.cohort.case_table import CaseTable
    from softlabels.cohort.index import Index

    made = Index.read(path)
    roomy = [replace(case, targets={**case.targets, "roomy": case.targets["few_geols"]}) for case in made.cases]
    replace(made, cases=CaseTable.of(roomy), targets={**made.targets, **ROOMY}).write(path)
    return path


def dense_of(sample, n_classes=3):
    """Return the dense soft label of a sparse sample."""
    batch = SparseLabel(*(part[None] for part in sample["soft_label"]))
    return to_dense(batch, n_classes)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "options",
    [
        {"patch_size": (6, 16, 16), "patches_per_case": 3},
        {"patch_size": (6, 16, 16), "mode": "grid", "overlap": 2},
        {"patch_size": (12, 10), "mode": "grid"},
        {"mode": "whole"},
    ],
    ids=["random", "grid", "2D", "whole"],
)
def test_a_sparse_sample_is_the_dense_one(index, name, options):
    few = SoftLabelDataset(index, target=name, sparse=True, **options)
    dense = SoftLabelDataset(index, target=name, **options)
    assert len(few) == len(dense)
    for sample, expected in zip(few, dense, strict=True):
        label = sample["soft_label"]
        assert label.classes.shape == label.shares.shape == (SLOTS[name], *expected["labels"].shape)
        assert label.classes.dtype == torch.uint8 and label.floor.shape == (name == "smooth",)
        found, wanted = dense_of(sample), expected["soft_label"]
        if name == "smooth":  # the sparse label is smoothed outside of the volume too
            inside = expected["valid"] | (expected["labels"] != 0)
            found, wanted = found[:, inside], wanted[:, inside]
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)
        for other in ("image", "labels", "valid", "origin", "affine"):
            assert torch.equal(sample[other], expected[other])


def test_outside_of_the_volume_the_background_has_all_of_the_mass(index):
    for name in NAMES:
        for sample in SoftLabelDataset(index, target=name, sparse=True, mode="grid", patch_size=(40, 80, 50)):
            outside = torch.ones(40, 80, 50, dtype=torch.bool)
            window = [
                slice(-int(o), -int(o) + n) for o, n in zip(sample["origin"], SHAPES[sample["case_id"]], strict=True)
            ]
            outside[tuple(window)] = False
            dense = dense_of(sample)[:, outside]
            floor = float(sample["soft_label"].floor.sum())
            assert floor == pytest.approx(0.1 if name == "smooth" else 0)
            np.testing.assert_allclose(dense[0], 1 - 2 * floor, atol=1e-6)
            np.testing.assert_allclose(dense[1:], floor, atol=1e-6)


def test_batches_of_all_cases_have_one_number_of_slots_and_train(index):
    dataset = SoftLabelDataset(
        index, target="few_geols", further_targets=["smooth"], sparse=True, patch_size=(4, 8, 8), alpha=0.4
    )
    loader = DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset), num_workers=2)
    (batch,) = loader
    few, smooth = batch["soft_label"], batch["soft_label_smooth"]
    assert isinstance(few, SparseLabel) and tuple(few.shares.shape) == (4, 4, 4, 8, 8)
    assert tuple(smooth.shares.shape) == (4, 1, 4, 8, 8) and tuple(smooth.floor.shape) == (4, 1)
    logits = torch.zeros(4, 3, 4, 8, 8, requires_grad=True)
    for label in (few, smooth):
        loss = soft_cross_entropy(logits, label, valid=batch["valid"])
        loss.backward()
        assert float(loss.detach()) == pytest.approx(np.log(3), rel=1e-5)
    alone = {int(n): dataset[0, int(n)] for n in range(4)}
    assert {s["case_id"] for s in alone.values()} == set(batch["case_id"])


@pytest.mark.parametrize("axes", [None, (1, 2)])
def test_mirroring_a_sparse_sample_is_mirroring_the_dense_one(index, axes):
    options = {"target": "few_geols", "patch_size": (4, 8, 8), "patches_per_case": 4, "transform": RandomFlip(axes)}
    for sample, expected in zip(
        SoftLabelDataset(index, sparse=True, **options), SoftLabelDataset(index, **options), strict=True
    ):
        torch.testing.assert_close(dense_of(sample), expected["soft_label"], rtol=0, atol=1e-7)
        assert torch.equal(sample["affine"], expected["affine"])


def test_types_and_names_are_those_asked_for(index):
    dataset = SoftLabelDataset(
        index, target="smooth", sparse=True, patch_size=(4, 8, 8), dtype=torch.float16, keys={"soft_label": "q"}
    )
    classes, shares, floor = dataset[0]["q"]
    assert (classes.dtype, shares.dtype, floor.dtype) == (torch.uint8, torch.float16, torch.float16)


def test_more_than_256_classes_have_signed_numbers(monkeypatch, index):
    dataset = SoftLabelDataset(index, target="few_svls", sparse=True, patch_size=(4, 8, 8))
    expected = dataset[0]["soft_label"].classes
    monkeypatch.setattr(sparse, "class_dtype", lambda n_classes: np.dtype(np.uint16))
    wide = SoftLabelDataset(index, target="onehot", sparse=True, patch_size=(4, 8, 8))[0]["soft_label"]
    assert wide.classes.dtype == torch.int32 and expected.dtype == torch.uint8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "geols"}, "sparse: target 'geols' is not a distribution that is stored by.*`storage: sparse`"),
        ({"target": "sing"}, "sparse: target 'sing' is not"),
        ({"target": "few_svls", "further_targets": ["geols"]}, "sparse: target 'geols' is not"),
        ({"target": "few_svls", "blend_on_device": True}, "blend_on_device, sparse: got both"),
        (
            {"target": "few_geols", "transform": SpatialAugmentation(lambda v, rng: v, ("rescale",))},
            "does rescale, but with sparse a sample has numbers of classes",
        ),
        ({"target": "few_geols", "transform": SpatialAugmentation(lambda v, rng: v, ())}, "does interpolate, but with"),
    ],
)
def test_what_has_no_sparse_samples_is_refused(index, options, message):
    with pytest.raises(InputError, match=message):
        SoftLabelDataset(index, sparse=True, patch_size=(4, 8, 8), **options)


def test_a_sparse_map_is_not_blended_on_the_device(index):
    with pytest.raises(InputError, match=r"'few_geols' is stored by the largest classes.*sparse=True"):
        SoftLabelDataset(index, target="few_geols", blend_on_device=True, patch_size=(4, 8, 8))
