"""Train nnU-Net through softlabels' trainer, seeded: rows begin with the same weights and see the same batches."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from softlabels._shared.files import write_atomically
from softlabels.errors import InputError
from softlabels.training.nnunet.trainer import nnUNetTrainerSoftLabels

from .batches import chained
from .nnunet_data import CONFIGURATION, NnunetData
from .study import canonical
from .training import Run, save, weights_digest

#: Batches of training and of nnU-Net's validation in each epoch come from streams of their own.
_TRAINING, _VALIDATION = 0, 1
log = logging.getLogger(__name__)


@contextmanager
def seeded(entropy: Sequence[int]) -> Iterator[None]:
    """Seed every generator that nnU-Net draws from; afterwards they are as before.

    Examples
    --------
    >>> with seeded([0, 1]):
    ...     first = np.random.rand(), random.random(), torch.rand(1).item()
    >>> with seeded([0, 1]):
    ...     first == (np.random.rand(), random.random(), torch.rand(1).item())
    True
    """
    state = random.getstate(), np.random.get_state()  # noqa: NPY002  # nnU-Net draws from the global generator
    words = np.random.SeedSequence(entropy).generate_state(4)
    with torch.random.fork_rng(devices=[]):
        random.seed(int(words[0]))
        np.random.seed(words)  # noqa: NPY002
        torch.manual_seed(int(words[0]) << 32 | int(words[1]))
        try:
            yield
        finally:
            random.setstate(state[0])
            np.random.set_state(state[1])  # noqa: NPY002


class SeededBatches(Dataset[dict[str, Any]]):
    """The batches of nnU-Net's loader by their number: each depends on the seed and its number alone.

    Parameters
    ----------
    loader : nnUNetDataLoader
    seed, stream : int
    """

    def __init__(self, loader: Any, seed: int, stream: int) -> None:
        self.loader, self.seed, self.stream = loader, seed, stream

    def __getitem__(self, number: int) -> dict[str, Any]:
        with seeded([self.seed, self.stream, number]):
            batch: dict[str, Any] = self.loader.generate_train_batch()
        return batch

    def iterate(self, start: int, stop: int, workers: int, *, pin_memory: bool) -> Iterator[dict[str, Any]]:
        """Yield the batches of some numbers in their order, whatever the number of processes that make them."""
        yield from DataLoader(
            self,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            collate_fn=_unchanged,
            pin_memory=pin_memory,
        )


def _unchanged(batch: Any) -> Any:
    """Return a batch as it is: nnU-Net's loader has put its samples together."""
    return batch


class SeededTrainer(nnUNetTrainerSoftLabels):
    """softlabels' trainer with the seed, the cases and the length of a run.

    nnU-Net calls the constructor itself, so that what is said here is set afterwards, by `prepared_for`.

    Attributes
    ----------
    init : str
        Digest of the first weights.
    batches : str
        Digest of all training batches so far, soft labels left out.
    losses : list of float
        Of every step.
    """

    run: Run
    init: str = ""
    batches: str = ""
    losses: list[float]

    def prepared_for(self, run: Run) -> SeededTrainer:
        """Return the trainer, set to train a run."""
        settings = run.settings
        assert settings.nnunet is not None, "only such runs come here"
        self.run, self.losses = run, []
        self.num_epochs = run.steps
        self.num_iterations_per_epoch = settings.nnunet.iterations
        self.num_val_iterations_per_epoch = settings.nnunet.validation_iterations
        return self

    @property
    def bare_network(self) -> nn.Module:
        """The network, not compiled."""
        network = getattr(self.network, "_orig_mod", self.network)
        assert isinstance(network, nn.Module), "initialize makes it"
        return network

    def initialize(self) -> None:
        """Draw the first weights with the seed."""
        torch.manual_seed(self.run.seed)
        super().initialize()
        self.init = weights_digest(self.bare_network, without=None)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Return the cases of the study's fold; those that it tests are in neither list."""
        return list(self.run.cases), list(self.run.validation)

    def get_dataloaders(self) -> tuple[Iterator[dict[str, Any]], Iterator[dict[str, Any]]]:
        """Return the batches of both streams from the present epoch on."""
        loaders = [augmenter.data_loader for augmenter in super().get_dataloaders()]
        workers, pin = self.run.settings.workers, self.device.type == "cuda"
        counts = self.num_iterations_per_epoch, self.num_val_iterations_per_epoch
        processes = workers, min(workers, 1)
        train, validation = (
            SeededBatches(loader, self.run.seed, stream).iterate(
                self.current_epoch * count, self.num_epochs * count, n, pin_memory=pin
            )
            for loader, stream, count, n in zip(loaders, (_TRAINING, _VALIDATION), counts, processes, strict=True)
        )
        return train, validation

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Note what the step sees, and its loss."""
        finest = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
        seen = [batch["data"], finest[:, : self._soft_loss.n_hard]]
        self.batches = chained(self.batches, seen, list(map(str, batch["keys"])))
        done: dict[str, Any] = super().train_step(batch)
        self.losses.append(float(done["loss"]))
        return done

    def save_checkpoint(self, filename: str) -> None:
        """Write beside each checkpoint what a training that resumes from it must know."""
        super().save_checkpoint(filename)
        known = {"run": canonical(self.run.to_json()), "batches": self.batches, "losses": self.losses}
        write_atomically(_record_of(Path(filename)), json.dumps(known))

    def resume(self) -> None:
        """Load the last state of the same run, if it was killed; else begin, with an empty folder."""
        folder = Path(self.output_folder)
        latest = folder / "checkpoint_latest.pth"
        record = _record_of(latest)
        if latest.exists() and record.exists():
            known = json.loads(record.read_text(encoding="utf-8"))
            if known["run"] == canonical(self.run.to_json()):
                self.load_checkpoint(str(latest))
                if len(known["losses"]) == self.current_epoch * self.num_iterations_per_epoch:
                    self.batches, self.losses = known["batches"], known["losses"]
                    log.info("resumes after epoch %d of %d", self.current_epoch, self.num_epochs)
                    return
                raise InputError(f"{latest}: is of another epoch than {record.name}. Delete {folder} and run again")
        for name in ("softlabels.json", "checkpoint_latest.pth", "checkpoint_best.pth", "checkpoint_final.pth"):
            (folder / name).unlink(missing_ok=True)


def _record_of(checkpoint: Path) -> Path:
    """Return the file beside a checkpoint."""
    return checkpoint.with_suffix(".json")


def train_nnunet(run: Run, output: Path) -> dict[str, Any]:
    """Train nnU-Net and write its weights; return what was written.

    Parameters
    ----------
    run : Run
        Of a study with `training.nnunet`; `steps` are epochs.
    output : path
        The network. nnU-Net's own folder, with its log and its checkpoints, is beside it; a training that was killed
        resumes from there if its run is the same.

    Returns
    -------
    dict
        What `comparison.training.train` returns, and `mirror_axes`, along which prediction mirrors.
    """
    assert run.nnunet is not None, "only such runs come here"
    started, settings, data = time.perf_counter(), run.settings, NnunetData.from_json(run.nnunet)
    # From nnunetv2 2.8 on, the trainer takes this from the plans.
    plans = {**data.read_plans(), "continue_training": False}
    device = torch.device(settings.device)
    trainer = SeededTrainer(plans, CONFIGURATION, 0, data.read_dataset(), device).prepared_for(run)
    trainer.resume()
    trainer.run_training()
    if not np.isfinite(trainer.losses).all():
        raise InputError(f"the loss became {trainer.losses[-1]} in epoch {run.steps}")
    axes = trainer.inference_allowed_mirroring_axes
    result = {
        "weights": {name: values.cpu() for name, values in trainer.bare_network.state_dict().items()},
        "run": run.to_json(),
        "init": trainer.init,
        "batches": trainer.batches,
        "losses": trainer.losses,
        "steps": run.steps,
        "mirror_axes": None if axes is None else list(map(int, axes)),
    }
    save(output, result)
    log.info("%d epochs in %.0f s, last loss %.4f", run.steps, time.perf_counter() - started, trainer.losses[-1])
    return result
