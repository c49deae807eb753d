"""Train on soft labels with Lightning: a DataModule, augmentation on the device, validation on whole volumes.

    pip install '.[monai]' lightning
    python examples/train_lightning.py results/index.json --target geols --split train --validation-split val

Network, loss and scores are those of train_unet.py and validation.py. Every epoch has patches of its own, on any number
of devices, because of the sampler; Lightning needs no callback for it.
"""

import argparse

import lightning
import torch
import validation
from gpu_augmentation import RandomAffine
from torch.utils.data import DataLoader
from train_unet import UNet, loss_for, one_line_errors

from softlabels.loader import EpochSampler, SoftLabelDataset, check_transform


class SoftLabelData(lightning.LightningDataModule):
    """Patches of an index for training, whole volumes for validation, and augmentation on the device.

    `options` are further arguments of SoftLabelDataset, such as alpha or store, for both.
    """

    def __init__(
        self, index, target, *, patch_size, split=None, validation_split=None, batch_size=2, n_workers=2, **options
    ):
        super().__init__()
        self.batch_size, self.n_workers = batch_size, n_workers
        self.options = {"index": index, "target": target, **options}
        self.training = SoftLabelDataset(split=split, patch_size=patch_size, patches_per_case=16, **self.options)
        self.augment = RandomAffine({"image": self.training.image_pad, "soft_label": self.training.pad_value})
        check_transform(self.augment, target, self.training.augmentation)
        self.validation_data = validation_split and validation.windows_and_volumes(
            patch_size=patch_size, split=validation_split, **self.options
        )

    def train_dataloader(self):
        """Return the loader of patches; the sampler says which ones an epoch has."""
        options = {"num_workers": self.n_workers, "persistent_workers": self.n_workers > 0}
        return DataLoader(self.training, self.batch_size, sampler=EpochSampler(self.training), **options)

    def on_after_batch_transfer(self, batch, dataloader_idx):
        """Augment a batch that has arrived on the device, in training alone."""
        return self.augment(batch) if self.trainer.training else batch


class Segmentation(lightning.LightningModule):
    """The U-Net of train_unet.py, with the loss that fits the target."""

    def __init__(self, dataset, learning_rate=3e-3):
        super().__init__()
        self.network = UNet(len(dataset.channels), len(dataset.classes))
        self.loss_of, self.learning_rate = loss_for(dataset), learning_rate

    def training_step(self, batch, batch_index):
        """Return the loss of a batch."""
        loss = self.loss_of(self.network(batch["image"]), batch)
        self.log("loss", loss, prog_bar=True, batch_size=len(batch["image"]))
        return loss

    def configure_optimizers(self):
        """Return the optimiser."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class ValidateVolumes(lightning.Callback):
    """Score the network on whole volumes at the end of the training, on the first device."""

    def on_train_end(self, trainer, module):
        """Print the table of scores."""
        data = trainer.datamodule
        if data.validation_data and trainer.is_global_zero:
            scores = validation.validate(module.network, *data.validation_data, device=module.device)
            print(validation.as_table(scores), flush=True)


def main() -> None:
    """Train, and validate at the end."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("index", help="index.json of a softlabels run")
    parser.add_argument("--target", required=True, help="a target of the index")
    parser.add_argument("--split", help="train on the cases of this split only")
    parser.add_argument("--validation-split", help="validate on the cases of this split after training")
    parser.add_argument("--patch-size", type=int, nargs=3, default=(40, 40, 40), metavar=("D", "H", "W"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    lightning.seed_everything(0)
    with one_line_errors():
        data = SoftLabelData(
            arguments.index,
            arguments.target,
            patch_size=arguments.patch_size,
            split=arguments.split,
            validation_split=arguments.validation_split,
            n_workers=arguments.workers,
        )
        trainer = lightning.Trainer(max_epochs=arguments.epochs, log_every_n_steps=1, callbacks=[ValidateVolumes()])
        trainer.fit(Segmentation(data.training), datamodule=data)


if __name__ == "__main__":
    main()
