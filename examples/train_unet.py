r"""Train a small 3D U-Net on the soft labels of an index.json, validate it, and resume where it was interrupted.

    python examples/train_unet.py demo/results/index.json --target geols
    python examples/train_unet.py results/index.json --target geols --split train --validation-split val \
        --checkpoint run.pt

It prints the mean loss of the first and of the last steps, and fails if the loss did not fall. With --checkpoint, the
same command continues where the last one stopped, with the losses that one uninterrupted run has. Validation (in
validation.py) needs softlabels[monai], everything else softlabels[loader].
"""

import argparse
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from softlabels.cohort import Index
from softlabels.errors import SoftLabelsError
from softlabels.loader import EpochSampler, RandomFlip, SoftLabelDataset
from softlabels.losses import check_loss, focal_l1, soft_binary_cross_entropy, soft_cross_entropy


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


def loss_for(dataset: SoftLabelDataset):
    """Return the loss that fits the target: a function of scores and a batch, over valid voxels."""
    if dataset.kind == "signed":
        return lambda scores, batch: focal_l1(torch.tanh(scores), batch["soft_label"], valid=batch["valid"])
    loss = soft_binary_cross_entropy if dataset.is_overlapping else soft_cross_entropy
    check_loss(loss, dataset.kind, target=dataset.target)
    return lambda scores, batch: loss(scores, batch["soft_label"], valid=batch["valid"])


def batches(dataset: SoftLabelDataset, arguments, n_done: int):
    """Yield the batches after the first `n_done`, for ever; each epoch has patches of its own."""
    sampler = EpochSampler(dataset, seed=arguments.seed)
    n_per_epoch = -(-len(sampler) // arguments.batch_size)
    epoch, n_in_epoch = divmod(n_done, n_per_epoch)
    # Where the training is, not the sampler, which is ahead by what the workers have prefetched.
    sampler.load_state_dict(sampler.state_dict() | {"epoch": epoch, "done": n_in_epoch * arguments.batch_size})
    n_workers = arguments.workers
    loader = DataLoader(
        dataset, arguments.batch_size, sampler=sampler, num_workers=n_workers, persistent_workers=n_workers > 0
    )
    while True:
        yield from loader


class Checkpoint:
    """A file from which a training goes on, if it is on the same data with the same settings."""

    def __init__(self, path, settings: dict):
        self.path, self.settings = Path(path) if path else None, settings

    def load(self, network, optimiser, device) -> list[float]:
        """Bring network and optimiser to where they were, and return the losses so far."""
        if self.path is None or not self.path.exists():
            return []
        state = torch.load(self.path, map_location=device, weights_only=True)
        changed = [name for name, value in self.settings.items() if state["settings"].get(name) != value]
        if changed:
            before = state["settings"].get(changed[0])
            sys.exit(
                f"{self.path}: was trained with another {changed[0]}{_change(before, self.settings[changed[0]])}. Use "
                "the same data and settings, or another --checkpoint"
            )
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return state["losses"]

    def save(self, network, optimiser, losses: list[float]) -> None:
        """Write the file, whole or not at all."""
        if self.path is not None:
            state = {"settings": self.settings, "losses": losses}
            state |= {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            partial = self.path.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(self.path)


def _change(before, now) -> str:
    """Return what changed: which cases, where it is a dict of them."""
    if not isinstance(now, dict):
        return f": {before}, now {now}"
    cases = sorted(case for case in {*now, *(before or {})} if now.get(case) != (before or {}).get(case))
    return f" of {len(cases)} cases: {', '.join(cases[:5])}. They were computed again, added or removed"


def settings_of(dataset: SoftLabelDataset, arguments) -> dict:
    """Return all that the losses depend on: the classes, the data of each case, and the arguments."""
    index = Index.read(arguments.index)
    cases = {case_id: index.case(case_id) for case_id in dataset.case_ids}
    entries = {case_id: [case.prepare, case.targets.get(dataset.target)] for case_id, case in cases.items()}
    return {
        "target": dataset.target,
        "classes": [[one.name, list(one.values)] for one in dataset.classes],
        "channels": list(dataset.channels),
        "blend": dataset.blend.to_json(),
        "entries": {case_id: [entry and entry.key for entry in found] for case_id, found in entries.items()},
        **{name: getattr(arguments, name) for name in ("batch_size", "learning_rate", "patches_per_case", "seed")},
        "patch_size": list(arguments.patch_size),
    }


def train(arguments) -> tuple[UNet, list[float]]:
    """Return the network and the loss of every step, those before a resumption included."""
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
    loss_of = loss_for(dataset)
    network = UNet(len(dataset.channels), len(dataset.classes)).to(arguments.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=arguments.learning_rate)
    checkpoint = Checkpoint(arguments.checkpoint, settings_of(dataset, arguments))
    losses = checkpoint.load(network, optimiser, arguments.device)
    started = time.perf_counter()
    for batch in batches(dataset, arguments, len(losses)):
        if len(losses) >= arguments.steps:
            break
        batch = {k: v.to(arguments.device) if torch.is_tensor(v) else v for k, v in batch.items()}
        optimiser.zero_grad()
        loss = loss_of(network(batch["image"]), batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if len(losses) % 10 == 0:
            print(f"step {len(losses)}: loss {losses[-1]:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
        if len(losses) % arguments.save_every == 0 or len(losses) == arguments.steps:
            checkpoint.save(network, optimiser, losses)
    return network, losses


def validation_data(arguments):
    """Return the windows and volumes of the validation split; None without one."""
    if not arguments.validation_split:
        return None
    import validation

    return validation.windows_and_volumes(
        arguments.index, arguments.patch_size, target=arguments.target, split=arguments.validation_split
    )


def validate(network, data, arguments) -> None:
    """Print the scores of each case, and write them beside the checkpoint."""
    import validation

    scores = validation.validate(network, *data, batch_size=arguments.batch_size, device=arguments.device)
    print(validation.as_table(scores), flush=True)
    if arguments.checkpoint:
        Path(arguments.checkpoint).with_suffix(".json").write_text(json.dumps(scores, indent=1))


@contextmanager
def one_line_errors(kept: str = ""):
    """End the script with one line if softlabels raises an error, or a process that reads patches is killed."""
    try:
        yield
    except SoftLabelsError as error:  # from a worker it comes with a traceback before its message
        sys.exit(f"{str(error).strip().splitlines()[-1]}.{kept}")
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        sys.exit(
            f"a process that reads patches was killed ({error}). Most often memory or /dev/shm is full: use fewer "
            f"--workers or smaller patches.{kept}"
        )


def parsed_arguments():
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", help="index.json of a softlabels run")
    parser.add_argument("--target", required=True, help="a target of the index")
    parser.add_argument("--split", help="train on the cases of this split only")
    parser.add_argument("--validation-split", help="validate on the cases of this split after training")
    parser.add_argument("--checkpoint", help="file to resume from, if it exists, and to save to")
    parser.add_argument("--save-every", type=int, default=10, metavar="STEPS")
    parser.add_argument("--steps", type=int, default=50, help="of the whole training")
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
    if arguments.validation_split:
        try:
            import validation  # noqa: F401  # before the training, not after it
        except ImportError as error:
            parser.error(f"--validation-split: {error}")
    return arguments


def main() -> None:
    """Train, say whether the loss fell, and validate."""
    arguments = parsed_arguments()
    kept = f" What was saved in {arguments.checkpoint} is continued by the same command" if arguments.checkpoint else ""
    with one_line_errors():
        data = validation_data(arguments)
    with one_line_errors(kept):
        network, losses = train(arguments)
        n = max(len(losses) // 5, 1)
        first, last = sum(losses[:n]) / n, sum(losses[-n:]) / n
        print(f"mean loss of the first {n} steps {first:.4f}, of the last {n} steps {last:.4f}")
        if data is not None:
            validate(network, data, arguments)
    if not last < first:
        sys.exit("the loss did not fall")


if __name__ == "__main__":
    main()
