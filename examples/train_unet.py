"""Train a small 3D U-Net on the soft labels of an index.json: what a training script of your own needs, and no more.

    python examples/train_unet.py demo/results/index.json --target geols

It imports softlabels.loader and softlabels.losses only. It prints the mean loss of the first and of the last steps, and
fails if the loss did not fall.
"""

import argparse
import itertools
import sys
import time

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from softlabels.loader import EpochSampler, RandomFlip, SoftLabelDataset
from softlabels.losses import focal_l1, soft_binary_cross_entropy, soft_cross_entropy


class UNet(nn.Module):
    """A U-Net of three levels: (B, M, d, h, w) to (B, C, d, h, w); sizes must be multiples of 4."""

    def __init__(self, n_channels: int, n_classes: int, width: int = 8):
        super().__init__()
        self.down = nn.ModuleList([_block(n_channels, width), _block(width, 2 * width), _block(2 * width, 4 * width)])
        self.up = nn.ModuleList([_block(6 * width, 2 * width), _block(3 * width, width)])
        self.head = nn.Conv3d(width, n_classes, kernel_size=1)

    def forward(self, image):
        """Return one score per class and voxel."""
        skips, x = [], image
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else functional.max_pool3d(x, 2))
            skips.append(x)
        for skip, block in zip(skips[-2::-1], self.up, strict=True):
            x = block(torch.cat([functional.interpolate(x, scale_factor=2), skip], dim=1))
        return self.head(x)


def _block(n_in: int, n_out: int) -> nn.Sequential:
    """Return two convolutions with instance normalisation."""
    layers = []
    for n in (n_in, n_out):
        layers += [nn.Conv3d(n, n_out, 3, padding=1, bias=False), nn.InstanceNorm3d(n_out, affine=True), nn.ReLU()]
    return nn.Sequential(*layers)


def loss_of(dataset: SoftLabelDataset, scores, batch):
    """Return the loss that fits the kind of target, over valid voxels."""
    soft_label, valid = batch["soft_label"], batch["valid"]
    if dataset.kind == "signed":
        return focal_l1(torch.tanh(scores), soft_label, valid=valid)
    if dataset.kind != "probability":
        sys.exit(f"target {dataset.target!r} holds distances, not soft labels: see softlabels.losses.boundary_loss")
    if dataset.is_overlapping:
        return soft_binary_cross_entropy(scores, soft_label, valid=valid)
    return soft_cross_entropy(scores, soft_label, valid=valid)


def batches(dataset: SoftLabelDataset, batch_size: int, n_workers: int, seed: int):
    """Yield batches for ever, each epoch with patches of its own."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=EpochSampler(dataset, seed=seed),
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
    )
    while True:
        yield from loader


def train(arguments) -> list[float]:
    """Return the loss of every step."""
    torch.manual_seed(arguments.seed)
    dataset = SoftLabelDataset(
        arguments.index,
        target=arguments.target,
        patch_size=arguments.patch_size,
        split=arguments.split,
        patches_per_case=arguments.patches_per_case,
        seed=arguments.seed,
        transform=RandomFlip(),
    )
    network = UNet(len(dataset.channels), len(dataset.classes)).to(arguments.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=arguments.learning_rate)
    stream = batches(dataset, arguments.batch_size, arguments.workers, arguments.seed)
    losses, started = [], time.perf_counter()
    for step, batch in enumerate(itertools.islice(stream, arguments.steps), 1):
        batch = {k: v.to(arguments.device) if torch.is_tensor(v) else v for k, v in batch.items()}
        optimiser.zero_grad()
        loss = loss_of(dataset, network(batch["image"]), batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"step {step}: loss {loss.item():.4f}, {time.perf_counter() - started:.0f} s", flush=True)
    return losses


def main() -> None:
    """Read the arguments, train, and say whether the loss fell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", help="index.json of a softlabels run")
    parser.add_argument("--target", required=True, help="a target of the index")
    parser.add_argument("--split", help="use only the cases of this split")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--patch-size", type=int, nargs=3, default=(40, 40, 40), metavar=("D", "H", "W"))
    parser.add_argument("--patches-per-case", type=int, default=16, help="patches of a case in one epoch")
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that read patches")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if any(n % 4 for n in arguments.patch_size) or arguments.steps < 2:
        parser.error("--patch-size must be multiples of 4, and --steps at least 2")
    losses = train(arguments)
    n = max(len(losses) // 5, 1)
    first, last = sum(losses[:n]) / n, sum(losses[-n:]) / n
    print(f"mean loss of the first {n} steps {first:.4f}, of the last {n} steps {last:.4f}")
    if not last < first:
        sys.exit("the loss did not fall")


if __name__ == "__main__":
    main()
