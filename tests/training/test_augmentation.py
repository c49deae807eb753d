"""Transforms obey the target's contract, and nothing that they invent passes for data."""

import numpy as np
import pytest
import torch
from helpers.made_cohort import IGNORE, SHAPES, TARGETS, make_cohort

from softlabels.errors import InputError
from softlabels.training.augmentation import RandomFlip, SpatialAugmentation, check_transform
from softlabels.training.dataset import SoftLabelDataset

pytestmark = pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), {name: SHAPES[name] for name in ("small", "large")})


def shift(volumes, rng, voxels=2):
    """Move everything to the right; what enters from the left is 0."""
    return {name: torch.nn.functional.pad(v, (voxels, 0))[..., :-voxels] for name, v in volumes.items()}


def halfway(volumes, rng):
    """Move everything half a voxel to the right, with linear interpolation (labels: nearest)."""
    moved = {name: (v + torch.nn.functional.pad(v, (1, 0))[..., :-1]) / 2 for name, v in volumes.items()}
    return {**moved, "labels": volumes["labels"]}


@pytest.mark.parametrize("patch_size", [(6, 16, 12), (16, 12)])
def test_what_comes_from_outside_is_pad_and_not_valid(index, patch_size):
    options = {"target": "geols", "further_targets": ["sing"], "patch_size": patch_size, "image_pad": -3.0}
    options |= {"patches_per_case": 3}
    plain, moved = (SoftLabelDataset(index, transform=t, **options) for t in (None, SpatialAugmentation(shift, ())))
    for i in range(len(plain)):
        before, after = plain[i], moved[i]
        assert not after["valid"][..., :2].any() and not after["labels"][..., :2].any()
        assert (after["image"][..., :2] == -3).all()
        for name, target in (("soft_label", "geols"), ("soft_label_sing", "sing")):
            for channel, pad in zip(after[name], TARGETS[target].pad_value, strict=True):
                assert (channel[..., :2] == pad).all()
        for name in ("image", "labels", "valid", "soft_label", "soft_label_sing"):
            torch.testing.assert_close(after[name][..., 2:], before[name][..., :-2], rtol=0, atol=1e-6)
            assert after[name].dtype == before[name].dtype


def test_a_voxel_interpolated_from_an_invalid_one_is_not_valid(index):
    moved = SoftLabelDataset(index, target="geols", mode="whole", transform=SpatialAugmentation(halfway, ()))
    valid = SoftLabelDataset(index, target="geols", mode="whole")[0]["valid"]
    known = torch.nn.functional.pad(valid, (1, 0))
    assert (~valid).sum() == 1  # the ignore label
    assert torch.equal(moved[0]["valid"], known[..., 1:] & known[..., :-1])


def test_sums_are_kept_where_pads_enter(index):
    moved = SoftLabelDataset(index, target="svls", mode="whole", transform=SpatialAugmentation(halfway, ()))
    for sample in moved:
        torch.testing.assert_close(sample["soft_label"].sum(0), torch.ones(sample["labels"].shape), atol=5e-3, rtol=0)


def test_a_move_may_say_where_the_patch_is_now(index):
    def moved(volumes, rng):
        return {**volumes, "affine": torch.eye(4)}

    dataset = SoftLabelDataset(index, target="geols", mode="whole", transform=SpatialAugmentation(moved, ()))
    assert torch.equal(dataset[0]["affine"], torch.eye(4))


@pytest.mark.parametrize(
    ("does", "target", "forbidden"),
    [
        (("flip", "affine"), "level_set", "rescale, shear"),
        (("rotation", "flip", "rot90"), "level_set", None),
        (("affine", "flip"), "geols", None),
        (("elastic",), "geols", "elastic"),
        (("elastic", "affine"), "gaussian", None),
    ],
)
def test_the_contract_of_each_method_decides(does, target, forbidden):
    from softlabels.methods import METHODS

    allowed = METHODS[target].augmentation
    transform = SpatialAugmentation(shift, does)
    if forbidden is None:
        check_transform(transform, target, allowed)
    else:
        with pytest.raises(InputError, match=f"does {forbidden}, which would make target '{target}' wrong .it allows"):
            check_transform(transform, target, allowed)


def test_the_data_set_refuses_what_one_of_its_targets_forbids(index):
    with pytest.raises(InputError, match="does elastic, which would make target 'sing' wrong"):
        SoftLabelDataset(index, target="sing", mode="whole", transform=SpatialAugmentation(shift, ["elastic"]))
    with pytest.raises(InputError, match="augmentations: got 'twist'"):
        SpatialAugmentation(shift, ["twist"])


def test_a_pad_that_cannot_be_interpolated_is_refused(index):
    with pytest.raises(InputError, match="pad value of image: got nan, expected finite"):
        SoftLabelDataset(
            index, target="geols", mode="whole", image_pad=np.nan, transform=SpatialAugmentation(shift, ())
        )


def test_a_move_that_forgets_a_volume_is_an_error(index):
    lossy = SpatialAugmentation(lambda volumes, rng: {"image": volumes["image"]}, ())
    with pytest.raises(InputError, match="returned no labels, soft_label, valid. Return all volumes"):
        SoftLabelDataset(index, target="geols", mode="whole", transform=lossy)[0]


def test_keys_rename_parts_of_the_sample_after_the_transform(index):
    names = {"labels": "label", "soft_label_sing": "sing"}
    options = {"target": "geols", "further_targets": ["sing"], "mode": "whole", "transform": RandomFlip()}
    plain, renamed = SoftLabelDataset(index, **options)[1], SoftLabelDataset(index, keys=names, **options)[1]
    assert set(renamed) == {names.get(name, name) for name in plain}
    assert all(torch.equal(plain[a], renamed[b]) for a, b in names.items())
    assert int((renamed["label"] == IGNORE).sum()) == 1


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"label": "labels"}, "keys: got 'label', expected some of image, labels, valid"),
        ({"labels": "image"}, "keys: got 'image' for two parts of the sample"),
    ],
)
def test_names_that_do_not_go_are_refused(index, keys, message):
    with pytest.raises(InputError, match=message):
        SoftLabelDataset(index, target="geols", mode="whole", keys=keys)
