"""Rotate, zoom and mirror whole batches on the device: image, labels, soft label and `valid` alike.

    augment = RandomAffine({"image": 0.0, "soft_label": dataset.pad_value})
    check_transform(augment, dataset.target, dataset.augmentation)  # once: does the target allow it?
    for batch in loader:
        batch = augment({name: v.to("cuda") if torch.is_tensor(v) else v for name, v in batch.items()})

The rules are those for transforms of single samples (docs/loader.md): pad values are subtracted before and added after,
so that what comes from outside is background, and `valid` is False there. examples/train_lightning.py uses it.
"""

import torch
from torch import nn
from torch.nn import functional


class RandomAffine(nn.Module):
    """A random affine transform and mirroring of each sample in a batch, in 2D or 3D.

    `pads` has the value outside of the volume by name, or one for each channel: the `image_pad` of the data set, and
    the `pad_value` of each soft label. Angles and factors are drawn uniformly. Rotations are rotations in mm, whatever
    the size of the voxels. Random numbers are those of torch (`torch.manual_seed`).
    """

    augmentations = ("flip", "rotation", "rescale")

    def __init__(self, pads, degrees=15.0, scale=(0.9, 1.1), probability=0.5, flips=True):
        super().__init__()
        self.pads, self.degrees, self.scale = dict(pads), degrees, scale
        self.probability, self.flips = probability, flips

    @torch.no_grad()
    def forward(self, batch):
        """Return the batch with all volumes moved; the one passed is not modified."""
        shape = batch["labels"].shape[1:]
        spacing = batch["spacing"][:, -len(shape) :]
        moves = self.draw(spacing)
        grid = sampling_grid(moves, spacing, batch["labels"].shape)
        volumes = {name: batch[name] - per_channel(pad, batch[name]) for name, pad in self.pads.items()}
        volumes["valid"] = batch["valid"][:, None].to(batch["image"].dtype)
        joined = torch.cat(list(volumes.values()), dim=1)
        sampled = functional.grid_sample(joined, grid.to(joined.dtype), align_corners=False)
        moved = dict(zip(volumes, sampled.split([v.shape[1] for v in volumes.values()], dim=1), strict=True))
        moved |= {name: moved[name] + per_channel(pad, moved[name]) for name, pad in self.pads.items()}
        # Doubles hold every label exactly.
        labels = functional.grid_sample(batch["labels"][:, None].double(), grid, mode="nearest", align_corners=False)
        moved["valid"] = moved["valid"][:, 0] > 0.999  # only where all that was interpolated is valid
        moved["labels"] = labels[:, 0].long()
        moved["affine"] = batch["affine"] @ voxels_from_voxels(moves, spacing, shape)
        return {**batch, **moved}

    def draw(self, spacing):
        """Return where each position in mm comes from, relative to the centre: (B, n, n), axes (z, y, x) or (y, x)."""
        n_samples, n_axes = spacing.shape
        options = {"dtype": torch.float64, "device": spacing.device}

        def uniform(low, high, *size):
            return low + (high - low) * torch.rand(n_samples, *size, **options)

        is_moved = (uniform(0, 1) < self.probability).to(torch.float64)
        moves = torch.diag_embed(torch.ones(n_samples, n_axes, **options))
        for first in range(n_axes):
            for second in range(first + 1, n_axes):
                moves = moves @ rotation(is_moved * uniform(-self.degrees, self.degrees), first, second, n_axes)
        factor = 1 + is_moved * (uniform(*self.scale) - 1)
        signs = torch.where(uniform(0, 1, n_axes) < 0.5, -1.0, 1.0) if self.flips else torch.ones_like(spacing)
        return moves / factor[:, None, None] * signs[:, None, :].to(torch.float64)


def rotation(degrees, first, second, n_axes):
    """Return rotations in the plane of two axes, (B, n, n), by angles (B,)."""
    matrix = torch.eye(n_axes, dtype=degrees.dtype, device=degrees.device).repeat(len(degrees), 1, 1)
    angle = torch.deg2rad(degrees)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
    return matrix


def sampling_grid(moves, spacing, shape):
    """Return what grid_sample takes, (B, ..., n): positions from -1 to 1 between the edges of the patch, x first."""
    half = spacing.to(moves.dtype) * torch.tensor(shape[1:], dtype=moves.dtype, device=moves.device) / 2
    scaled = moves * half[:, None, :] / half[:, :, None]
    theta = functional.pad(scaled.flip(1, 2), (0, 1))  # no translation
    return functional.affine_grid(theta, [shape[0], 1, *shape[1:]], align_corners=False)


def voxels_from_voxels(moves, spacing, shape):
    """Return affines from voxels (z, y, x, 1) of the new patch to voxels of the old one, (B, 4, 4); z is 0 in 2D."""
    n_axes = len(shape)
    spacing = spacing.to(moves.dtype)
    linear = moves * spacing[:, None, :] / spacing[:, :, None]
    centre = (torch.tensor(shape, dtype=moves.dtype, device=moves.device) - 1) / 2
    affine = torch.eye(4, dtype=moves.dtype, device=moves.device).repeat(len(moves), 1, 1)
    affine[:, 3 - n_axes : 3, 3 - n_axes : 3] = linear
    affine[:, 3 - n_axes : 3, 3] = centre - linear @ centre
    return affine


def per_channel(pad, volume):
    """Return a pad value, or one for each channel, in the shape to add to (B, channels, ...)."""
    values = torch.as_tensor(pad, dtype=volume.dtype, device=volume.device)
    return values.reshape(1, -1, *[1] * (volume.ndim - 2)) if values.ndim else values
