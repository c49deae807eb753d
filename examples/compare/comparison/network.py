"""A small U-Net in two or three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}


class UNet(nn.Module):
    """A U-Net: (B, M, ...) to scores (B, C, ...), for sizes that are multiples of ``2 ** (levels - 1)``.

    The head comes last, so that networks with other numbers of classes begin with the same weights otherwise.

    Parameters
    ----------
    n_channels, n_classes : int
        M and C.
    n_dims : {2, 3}
    width : int
        Features of the first level; each level has twice as many as the one above.
    levels : int
        At least 2.
    """

    def __init__(self, n_channels: int, n_classes: int, *, n_dims: int, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _block(n_in, n_out, n_dims) for n_in, n_out in zip([n_channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_block(n + 2 * n, n, n_dims) for n in widths[-2::-1])
        self.head = _CONVOLUTION[n_dims](width, n_classes, kernel_size=1)

    def forward(self, image: Tensor) -> Tensor:
        """Return one score per class and voxel."""
        pool = functional.max_pool2d if image.ndim == 4 else functional.max_pool3d
        skips: list[Tensor] = []
        features = image
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else pool(features, 2))
            skips.append(features)
        for skip, block in zip(skips[-2::-1], self.up, strict=True):
            features = block(torch.cat([functional.interpolate(features, scale_factor=2.0), skip], dim=1))
        scores: Tensor = self.head(features)
        return scores


def _block(n_in: int, n_out: int, n_dims: int) -> nn.Sequential:
    """Return two convolutions, each with instance normalisation."""
    layers: list[nn.Module] = []
    for n in (n_in, n_out):
        convolution = _CONVOLUTION[n_dims](n, n_out, 3, padding=1, bias=False)
        layers += [convolution, _NORM[n_dims](n_out, affine=True), nn.LeakyReLU(0.01)]
    return nn.Sequential(*layers)
