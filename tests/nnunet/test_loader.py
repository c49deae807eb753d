"""nnU-Net's own loader on its data set with soft labels: every batch is the slice of the padded volumes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.made_cohort import IGNORE, SHAPES, TARGETS, make_cohort, volumes

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

import blosc2
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader

from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.nnunet.dataset import WithSoftLabels
from softlabels.training.nnunet.soft_labels import SoftLabels
from softlabels.training.nnunet.transforms import with_soft_label

HEADS = {"geols": [(0,), (1,), (2, 4)], "sing": [(1, 2, 4), (2, 4)]}


class Dataset:
    """Cases as nnU-Net's data set gives them; the image's channels are the coordinates of each voxel."""

    identifiers = list(SHAPES)

    def __init__(self, has_previous_stage=False):
        self.has_previous_stage = has_previous_stage

    def load_case(self, identifier):
        shape = SHAPES[identifier]
        labels = volumes(identifier, shape)[1]
        image = np.stack(np.indices(shape)).astype(np.float32) + 1
        seg = labels[None].astype(np.int8)
        locations = {c: np.argwhere(seg == c) for c in (1, 2)}
        return (
            blosc2.asarray(image),
            blosc2.asarray(seg),
            (seg[0] if self.has_previous_stage else None),
            {"class_locations": locations},
        )

    def __getitem__(self, identifier):
        return self.load_case(identifier)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"))


def loader(index, target, patch, *, transforms=None, has_previous_stage=False):
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from numpy's global generator)
    soft = SoftLabels(index, target, heads=HEADS[target], has_softmax=target == "geols")
    labels = SimpleNamespace(all_labels=[0, 1, 2], has_ignore_label=False)
    data = WithSoftLabels(Dataset(has_previous_stage), soft)
    options = {"oversample_foreground_percent": 0.5, "transforms": transforms}
    return nnUNetDataLoader(data, 2, patch, tuple(n - 2 for n in patch), labels, **options)


@pytest.mark.parametrize("target", HEADS)
@pytest.mark.parametrize("patch", [(9, 14, 16), (14, 16)])
def test_a_batch_is_the_slice_of_the_padded_volume(index, target, patch):
    batches = loader(index, target, patch)
    whole = {case["case_id"]: case["soft_label"] for case in SoftLabelDataset(index, target=target, mode="whole")}
    pad = torch.tensor(TARGETS[target].pad_value).reshape(-1, *[1] * len(patch))
    n_padded = n_inside = 0
    for _ in range(20):
        batch = next(batches)
        for key, image, hard in zip(batch["keys"], batch["data"], batch["target"], strict=True):
            image, hard = torch.as_tensor(image), torch.as_tensor(hard)
            coordinates, label = image[:3], image[3:] + pad
            inside = coordinates[2] > 0
            z, y, x = (coordinates[:, inside] - 1).long()
            # The pad value is taken off and put on again, which rounds by one unit of float32 at 1.
            torch.testing.assert_close(label[:, inside], whole[key][:, z, y, x], rtol=0, atol=1.2e-7)
            assert torch.equal(label[:, ~inside], pad.expand_as(label)[:, ~inside])
            assert (hard[0][~inside] == -1).all()
            n_padded, n_inside = n_padded + int((~inside).sum()), n_inside + int(inside.sum())
    assert n_padded > 100
    assert n_inside > 100


@pytest.mark.parametrize("has_previous_stage", [False, True])
def test_the_target_has_hard_and_soft_channels_also_in_a_cascade(index, has_previous_stage):
    transforms = with_soft_label(ComposeTransforms([]), TARGETS["geols"].pad_value, {})
    batches = loader(index, "geols", (9, 14, 16), transforms=transforms, has_previous_stage=has_previous_stage)
    batch = next(batches)
    assert tuple(batch["data"].shape) == (2, 3, 9, 14, 16)
    n_hard = 1 + has_previous_stage
    assert tuple(batch["target"].shape) == (2, n_hard + 3, 9, 14, 16)
    labels, soft = batch["target"][:, 0].long(), batch["target"][:, n_hard:]
    known = labels != IGNORE
    channel_of = torch.tensor([0, 1, 2, 0, 2])  # labels 2 and 4 are one class
    assert torch.equal(soft.argmax(1)[known], channel_of[labels[known].clamp_min(0)])
    assert batch["target"].dtype == torch.float32
