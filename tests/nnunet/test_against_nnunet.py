"""What we put in the place of nnU-Net's own parts does what they do, and to the soft label what they do to the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("nnunetv2", reason="make test-nnunet runs these tests")

from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from softlabels.errors import InputError
from softlabels.training.nnunet.loss import SoftLabelLoss
from softlabels.training.nnunet.transforms import JoinSoftLabel, SplitSoftLabel, with_soft_label

LABELS, REGIONS = [(0,), (1,), (2,)], [(1, 2), (2,)]
PAD = [1.0, 0.0, 0.0]
ALLOWED = {"flip": True, "rescale": True, "elastic": False}


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 (nnU-Net draws from numpy's global generator)


@pytest.mark.parametrize("spatial", [(6, 7), (4, 6, 5)])
@pytest.mark.parametrize("ignore", [None, 3])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_on_hard_labels_the_loss_is_that_of_nnunet_plus_one(spatial, ignore, batch_dice):
    labels = torch.randint(0, 3 if ignore is None else 4, (3, 1, *spatial))
    logits = torch.randn(3, 3, *spatial, requires_grad=True)
    options = {"batch_dice": batch_dice, "smooth": 1e-5, "do_bg": False, "ddp": False}
    theirs = DC_and_CE_loss(options, {}, ignore_label=ignore, dice_class=MemoryEfficientSoftDiceLoss)
    ours = SoftLabelLoss("probability", heads=LABELS, has_softmax=True, ignore_label=ignore, batch_dice=batch_dice)
    expected, value = theirs(logits, labels), ours(logits, labels.float())
    torch.testing.assert_close(value, expected + 1)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (value, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("spatial", [(6, 7), (4, 6, 5)])
@pytest.mark.parametrize("batch_dice", [False, True])
def test_on_hard_regions_the_loss_is_that_of_nnunet_plus_one(spatial, batch_dice):
    labels = torch.randint(0, 3, (3, *spatial))
    regions = torch.stack([labels > 0, labels == 2], 1)
    logits = torch.randn(3, 2, *spatial)
    options = {"batch_dice": batch_dice, "do_bg": True, "smooth": 1e-5, "ddp": False}
    theirs = DC_and_BCE_loss({}, options, dice_class=MemoryEfficientSoftDiceLoss)
    ours = SoftLabelLoss("probability", heads=REGIONS, has_softmax=False, batch_dice=batch_dice)
    torch.testing.assert_close(ours(logits, regions.float()), theirs(logits, regions) + 1)


@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")  # torch's own, when it loads its compiler
@pytest.mark.parametrize(("kind", "has_softmax"), [("probability", True), ("signed", False), ("distance", True)])
def test_the_compiled_loss_is_the_loss(kind, has_softmax):
    heads = LABELS if has_softmax else REGIONS
    loss = SoftLabelLoss(kind, heads=heads, has_softmax=has_softmax, ignore_label=3)
    loss.boundary_weight = 0.3
    n_hard = 1 if has_softmax else 3
    target = torch.cat([torch.randint(0, 2, (2, n_hard, 4, 6, 5)).float(), torch.rand(2, len(heads), 4, 6, 5)], 1)
    logits = torch.randn(2, len(heads), 4, 6, 5)
    torch.testing.assert_close(torch.compile(loss)(logits, target), loss(logits, target))


def stock(
    patch_size, *, rotation=(-0.5, 0.5), dummy_2d=False, scales=None, mirror=(0, 1), regions=None, cascaded=False
):
    return nnUNetTrainer.get_training_transforms(
        np.array(patch_size),
        rotation,
        scales,
        mirror,
        dummy_2d,
        use_mask_for_norm=[False],
        is_cascaded=cascaded,
        foreground_labels=[1, 2],
        regions=regions,
        ignore_label=None,
    )


def sample(size, soft_of=None, pad=PAD):
    """Return an image, a segmentation with a margin of -1 as the loader pads, and the soft label as it travels."""
    seg = torch.full((1, *size), -1, dtype=torch.int16)
    inner = (slice(None), *[slice(2, n - 2) for n in size])
    seg[inner] = torch.randint(0, 3, seg[inner].shape, dtype=torch.int16)
    onehot = torch.cat([seg.clamp_min(0) == c for c in range(3)]).float()
    soft = onehot if soft_of is None else soft_of(onehot)
    shift = torch.tensor(pad).reshape(-1, *[1] * len(size))
    image = torch.cat([torch.randn(1, *size), soft - shift])
    return image, seg, soft


def spatial_only(transforms):
    """Leave out what changes intensities, so that images can be compared."""
    kept = (SpatialTransform, MirrorTransform, SplitSoftLabel, JoinSoftLabel)
    named = ("Convert3DTo2DTransform", "Convert2DTo3DTransform", "RemoveLabelTansform", "DownsampleSegForDSTransform")
    parts = [t for t in transforms.transforms if isinstance(t, kept) or type(t).__name__ in named]
    return ComposeTransforms(parts)


@pytest.mark.parametrize(
    ("size", "patch", "dummy"),
    [((24, 26), (16, 18), False), ((14, 20, 22), (8, 12, 14), False), ((8, 20, 22), (8, 12, 14), True)],
)
def test_mass_stays_one_and_padding_is_background_under_rotation_and_scaling(size, patch, dummy):
    transforms = with_soft_label(stock(patch, dummy_2d=dummy), PAD, ALLOWED)
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform):
            transform.p_rotation = transform.p_scaling = 1
    for _ in range(8):
        image, seg, _ = sample(size, lambda onehot: 0.6 * onehot + 0.1333333)
        out = transforms(image=image, segmentation=seg)
        assert out["image"].shape == (1, *patch)
        assert out["segmentation"].shape == (1 + 3, *patch)
        assert set(out) == {"image", "segmentation"}
        total = out["segmentation"][1:].sum(0)
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=4e-4)


@pytest.mark.parametrize(("size", "patch"), [((24, 26), (16, 18)), ((14, 20, 22), (8, 12, 14))])
def test_the_soft_label_moves_with_the_image(size, patch):
    """Where the soft label is a channel of the image, it must remain one through every spatial transform."""
    transforms = spatial_only(with_soft_label(stock(patch), [0.0, 0.0, 0.0], ALLOWED))
    for transform in transforms.transforms:
        if isinstance(transform, SpatialTransform):
            transform.p_rotation = transform.p_scaling = 1
    moved = 0
    for _ in range(8):
        values = torch.rand(1, *size)
        seg = torch.zeros(1, *size, dtype=torch.int16)
        out = transforms(image=torch.cat([values] * 4), segmentation=seg)
        for channel in out["segmentation"][1:]:
            assert torch.equal(channel, out["image"][0])
        crop = values[(0, *[slice((n - p) // 2, (n - p) // 2 + p) for n, p in zip(size, patch, strict=True)])]
        moved += not torch.equal(crop, out["image"][0])
    assert moved == 8


def test_without_any_move_it_is_the_slice_with_the_argmax_of_the_segmentation():
    transforms = with_soft_label(stock((8, 12, 14), mirror=None), PAD, ALLOWED | {"rescale": False, "rotation": False})
    image, seg, soft = sample((14, 20, 22))
    out = transforms(image=image, segmentation=seg)["segmentation"]
    inside = (slice(None), slice(3, 11), slice(4, 16), slice(4, 18))
    assert torch.equal(out[1:], soft[inside])
    assert torch.equal(out[1:].argmax(0), out[0].long())


@pytest.mark.parametrize("dim", [2, 3])
def test_coarser_resolutions_are_means_beside_their_own_hard_labels(dim):
    patch = (8, 12, 16)[-dim:]
    scales = [[1.0] * dim, [0.5] * dim, [1.0, *[0.25] * (dim - 1)]]
    allowed = ALLOWED | {"rescale": False, "rotation": False}
    transforms = with_soft_label(stock(patch, mirror=None, scales=scales), PAD, allowed)
    image, seg, soft = sample(patch, lambda onehot: 0.7 * onehot + 0.1)
    levels = transforms(image=image, segmentation=seg)["segmentation"]
    assert [tuple(level.shape[1:]) for level in levels] == [
        tuple(round(n * f) for n, f in zip(patch, scale, strict=True)) for scale in scales
    ]
    torch.testing.assert_close(levels[0][1:], soft)
    for level, scale in zip(levels, scales, strict=True):
        blocks = [round(1 / f) for f in scale]
        shape = [n for length, block in zip(patch, blocks, strict=True) for n in (length // block, block)]
        mean = soft.reshape(3, *shape).mean([2 + 2 * axis for axis in range(dim)])
        torch.testing.assert_close(level[1:], mean)
        assert level.dtype == torch.float32


def test_regions_and_the_cascade_keep_their_channels():
    image, seg, _ = sample((14, 20, 22))
    regions = with_soft_label(stock((8, 12, 14), regions=[(1, 2), 2]), PAD, ALLOWED)
    assert regions(image=image, segmentation=seg)["segmentation"].shape == (2 + 3, 8, 12, 14)
    cascade = with_soft_label(stock((8, 12, 14), cascaded=True), PAD, ALLOWED)
    out = cascade(image=image, segmentation=torch.cat([seg, seg.clamp_min(0)]))
    assert out["image"].shape == (1 + 2, 8, 12, 14)
    assert out["segmentation"].shape == (1 + 3, 8, 12, 14)


@pytest.mark.parametrize(
    ("kind", "attribute"), [("rescale", "p_scaling"), ("rotation", "p_rotation"), ("elastic", "p_elastic_deform")]
)
def test_what_the_target_forbids_is_switched_off(kind, attribute):
    def probability(allowed):
        base = stock((8, 12, 14))
        for transform in base.transforms:
            if isinstance(transform, SpatialTransform):
                transform.p_elastic_deform = 0.2
        (spatial,) = (t for t in with_soft_label(base, PAD, allowed).transforms if isinstance(t, SpatialTransform))
        return getattr(spatial, attribute)

    assert probability({kind: True}) == 0.2
    assert probability({kind: False}) == 0


def test_a_transform_that_drops_the_target_is_named():
    class Dropping(SpatialTransform):
        def apply(self, data_dict, **params):
            return {**data_dict, "regression_target": None}

    dropping = Dropping((8, 12, 14), 0, False)
    image, seg, _ = sample((8, 12, 14))
    with pytest.raises(InputError, match="a transform dropped `regression_target`"):
        with_soft_label(ComposeTransforms([dropping]), PAD, ALLOWED)(image=image, segmentation=seg)
