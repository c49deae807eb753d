"""The example that augments batches on the device: exact where an oracle is, and nothing that it invents is valid."""

import importlib.util

import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import SHAPES, TARGETS, make_cohort
from torch.utils.data import DataLoader

from softlabels.errors import InputError
from softlabels.loader import SoftLabelDataset, check_transform


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("gpu_augmentation", ROOT / "examples" / "gpu_augmentation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), {"large": SHAPES["large"], "small": SHAPES["small"]})


def batches(index, patch_size, **options):
    dataset = SoftLabelDataset(index, patch_size=patch_size, patches_per_case=4, image_pad=3.0, **options)
    pads = {"image": 3.0, "soft_label": dataset.pad_value}
    return dataset, pads, list(DataLoader(dataset, batch_size=4))


PATCHES = pytest.mark.parametrize("patch_size", [(8, 16, 12), (16, 12)])


@PATCHES
def test_without_a_move_nothing_changes(example, index, patch_size):
    _, pads, (batch, *_) = batches(index, patch_size, target="geols")
    still = example.RandomAffine(pads, probability=0, flips=False)(batch)
    for name in ("image", "labels", "soft_label", "valid", "affine"):
        torch.testing.assert_close(still[name], batch[name], rtol=0, atol=1e-5)


@PATCHES
def test_mirroring_is_exact(example, index, patch_size):
    _, pads, (batch, *_) = batches(index, patch_size, target="sing")
    torch.manual_seed(0)
    augment = example.RandomAffine(pads, probability=0)
    moves = augment.draw(batch["spacing"][:, -len(patch_size) :])
    torch.manual_seed(0)
    moved = augment(batch)
    for i, move in enumerate(moves):
        dims = [axis - len(patch_size) for axis, sign in enumerate(move.diagonal()) if sign < 0]
        for name in ("image", "labels", "soft_label", "valid"):
            torch.testing.assert_close(moved[name][i], torch.flip(batch[name][i], dims), rtol=0, atol=1e-5)
    assert len({tuple(move.diagonal().tolist()) for move in moves}) > 1


@PATCHES
@pytest.mark.parametrize("target", ["geols", "sing"])
def test_what_enters_is_pad_and_not_valid(example, index, patch_size, target):
    _, pads, found = batches(index, patch_size, target=target)
    n_entered = 0
    for seed, batch in enumerate(found):
        torch.manual_seed(seed)
        moved = example.RandomAffine(pads, probability=1, scale=(0.4, 0.5))(batch)
        assert {n: (v.shape, v.dtype) for n, v in moved.items() if torch.is_tensor(v)} == {
            n: (v.shape, v.dtype) for n, v in batch.items() if torch.is_tensor(v)
        }
        corner = (slice(None), *[slice(0, 1)] * len(patch_size))  # at half the size, corners are outside
        assert not moved["valid"][corner].any() and not moved["labels"][corner].any()
        assert (moved["image"][(slice(None), *corner)] == 3).all()
        for channel, pad in enumerate(TARGETS[target].pad_value):
            assert (moved["soft_label"][:, channel][corner] == pad).all()
        n_entered += int(batch["valid"].sum() - moved["valid"].sum())
        if target == "geols":
            total = moved["soft_label"].sum(1)[moved["valid"]]
            torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-3)
    assert n_entered > 100


@pytest.mark.parametrize("shape", [(9, 14, 12), (14, 12)])
def test_voxels_are_where_the_affine_says_and_a_rotation_in_mm_is_one(example, shape):
    """The image is the position itself, which linear interpolation moves exactly."""
    n_axes, n_samples = len(shape), 3
    spacing = torch.tensor([[4.0, 0.5, 1.0]], dtype=torch.float64).repeat(n_samples, 1)
    affine = torch.diag(torch.tensor([4.0, 0.5, 1.0, 1.0], dtype=torch.float64)).repeat(n_samples, 1, 1)
    voxels = torch.stack(torch.meshgrid(*map(torch.arange, shape), indexing="ij")).double()
    homogeneous = torch.cat([torch.zeros(3 - n_axes, *shape), voxels, torch.ones(1, *shape)]).double()
    position = torch.einsum("bij,j...->bi...", affine, homogeneous)[:, :3]
    batch = {
        "image": position,
        "soft_label": torch.ones(n_samples, 1, *shape).double(),
        "labels": torch.full((n_samples, *shape), 2**40),
        "valid": torch.ones(n_samples, *shape, dtype=torch.bool),
        "affine": affine,
        "spacing": spacing,
    }
    torch.manual_seed(1)
    augment = example.RandomAffine({"image": 0.0, "soft_label": (0.0,)}, probability=1, degrees=20)
    moved = augment(batch)
    expected = torch.einsum("bij,j...->bi...", moved["affine"], homogeneous)[:, :3]
    inside = moved["valid"]
    assert inside.sum() > 100
    assert ((moved["image"] - expected).abs().amax(1)[inside] < 1e-6).float().mean() > 0.99
    # A voxel is valid if 0.999 of what it was interpolated from is.
    found, wanted = (volume.movedim(1, -1)[inside] for volume in (moved["image"], expected))
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-3 * float(position.max()))
    assert (moved["labels"][inside] == 2**40).all()
    for before, after in zip(affine, moved["affine"], strict=True):
        change = (after[:3, :3] @ torch.linalg.inv(before[:3, :3]))[3 - n_axes :, 3 - n_axes :]
        squared = change.T @ change  # of a similarity: a multiple of one
        torch.testing.assert_close(squared, squared[0, 0] * torch.eye(n_axes).double(), rtol=0, atol=1e-9)


def test_the_target_has_a_say(example, index):
    dataset, pads, _ = batches(index, (8, 16, 12), target="geols")
    augment = example.RandomAffine(pads)
    check_transform(augment, dataset.target, dataset.augmentation)
    with pytest.raises(InputError, match="does flip, which would make target 'svls' wrong"):
        check_transform(augment, "svls", TARGETS["svls"].augmentation)
