"""Train one network: one row, one seed, one fold, one length. Killed trainings resume, to the same weights."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softlabels.classes import LabelClass, LabelSet
from softlabels.cohort.index import Index
from softlabels.errors import FormatError, InputError

from .batches import chained, onehot_of, soft_label_of, stream, training_set
from .network import UNet
from .objective import Objective
from .prediction import predicted
from .scores import mean_dice
from .study import REFERENCE, Training, canonical
from .truth import PreparedTruth

#: Exponent of the learning rate's decay, as in nnU-Net.
_POWER = 0.9
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One training, as plain values; equal runs give equal networks.

    Parameters
    ----------
    index : str
        index.json of the softlabels workflow.
    targets : list of str
        Of the row.
    loss : str or None
    labels : dict
        The study's classes, as in config.yaml.
    cases, validation : list of str
        Case ids that train, and that early stopping looks at.
    sheet : str
        The case sheet, for references.
    channels : list of str
    seed, steps : int
    training : dict
        The study's section.
    nnunet : str, optional
        `NnunetData` as JSON where nnU-Net is trained. The index is of its arrays then, and steps are epochs.
    """

    index: str
    targets: list[str]
    loss: str | None
    labels: dict[str, Any]
    cases: list[str]
    validation: list[str]
    sheet: str
    channels: list[str]
    seed: int
    steps: int
    training: dict[str, Any]
    nnunet: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the run as plain JSON values, the arguments of another one that is equal."""
        return asdict(self)

    @property
    def settings(self) -> Training:
        """The study's section on training."""
        return Training.model_validate(self.training)

    @property
    def classes(self) -> LabelSet:
        """The study's classes."""
        return LabelSet.parse(self.labels)


@dataclass
class _State:
    """Where a training is."""

    step: int = 0
    digest: str = ""
    losses: list[float] = field(default_factory=list)
    best_dice: float = -1.0
    looks_since: int = 0
    best: dict[str, Tensor] | None = None


def learning_rate(step: int, steps: int, start: float) -> float:
    """Return the learning rate of a step, counted from 0: ``start (1 - step / steps) ^ 0.9``.

    Examples
    --------
    >>> learning_rate(0, 10, 0.5), round(learning_rate(5, 10, 0.5), 4)
    (0.5, 0.2679)
    """
    rate: float = start * (1 - step / steps) ** _POWER
    return rate


def weights_digest(network: torch.nn.Module, without: str | None = "head.") -> str:
    """Return a digest of a network's weights, except those of the layer that may differ between rows."""
    content = sha256()
    for name, values in network.state_dict().items():
        if without is None or not name.startswith(without):
            content.update(name.encode())
            content.update(values.cpu().numpy().tobytes())
    return content.hexdigest()


@dataclass(frozen=True)
class RowTarget:
    """What a row's network learns, channel by channel in the order of the study's classes.

    Parameters
    ----------
    objective : Objective
    names : list of str
        The targets to read.
    picks : list of (int, int)
        For each channel, which of the targets and which of its channels.
    classes : list of LabelClass
        The class of each channel; signed maps have no background.
    """

    objective: Objective
    names: list[str]
    picks: list[tuple[int, int]]
    classes: list[LabelClass]


def row_target(run: Run) -> RowTarget:
    """Return what a row's network learns.

    Raises
    ------
    InputError
        If its targets are of several kinds, or lack a class of the study.
    """
    index, study = Index.read(run.index), run.classes
    names = [_stand_in(index, study)] if run.targets == [REFERENCE] else run.targets
    described = [index.target(name) for name in names]
    kinds = sorted({one.kind for one in described})
    wanted = [c for c in study.classes if not (c.is_background and kinds == ["signed"])]
    places = {
        frozenset(c.values): (number, channel)
        for number, one in enumerate(described)
        for channel, c in enumerate(one.classes)
    }
    lacking = [c.name for c in wanted if frozenset(c.values) not in places]
    if len(kinds) != 1 or lacking or (len(names) == 1 and len(places) > len(wanted)):
        known = ", ".join(c.name for one in described for c in one.classes)
        raise InputError(
            f"targets {', '.join(names)}: got the classes {known} of kind {', '.join(kinds)}, expected one kind and "
            f"the study's classes {', '.join(c.name for c in wanted)}"
        )
    objective = Objective.of(kinds[0], study.is_overlapping, run.loss)
    return RowTarget(objective, names, [places[frozenset(c.values)] for c in wanted], wanted)


def _stand_in(index: Index, classes: LabelSet) -> str:
    """Return a target of the index with the study's classes in their order, whose soft label the truth replaces."""
    for name, one in index.targets.items():
        if [c.values for c in one.classes] == [c.values for c in classes.classes] and one.kind == "probability":
            return name
    raise InputError(f"targets: none has the study's classes {', '.join(classes.names)}; add one of method onehot")


def build(run: Run, n_classes: int) -> UNet:
    """Return the network of a seed, the same for all rows but for the last layer."""
    torch.manual_seed(run.seed)
    settings = run.settings
    return UNet(
        len(run.channels),
        n_classes,
        n_dims=len(settings.patch_size),
        width=settings.network.width,
        levels=settings.network.levels,
    )


def train(run: Run, output: Path) -> dict[str, Any]:
    """Train a network and write it; return what was written.

    Parameters
    ----------
    run : Run
    output : path
        The network. A training that was killed leaves its state beside it, in `<output>.partial`, from which the next
        call resumes if its run is the same.

    Returns
    -------
    dict
        weights; run; digests of the first weights and of all batches, with early stopping of those up to the first
        look; the loss of every step; steps done.
    """
    torch.set_num_threads(1)
    settings, started = run.settings, time.perf_counter()
    device, row = torch.device(settings.device), row_target(run)
    network = build(run, len(row.classes))
    init = weights_digest(network)
    network.to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    partial = output.with_name(f"{output.name}.partial")
    state = _resumed(partial, run, network, optimiser)
    saved = time.perf_counter()
    for batch in _batches(run, row, state.step):
        _take_step(state, batch, run, row, network, optimiser)
        if _should_stop(state, run, network, row.objective, device):
            break
        if time.perf_counter() - saved > settings.save_every_s:
            saved = time.perf_counter()
            save(partial, {"run": canonical(run.to_json()), "state": state.__dict__, **_weights(network, optimiser)})
            log.info("step %d of %d: loss %.4f, %.0f s", state.step, run.steps, state.losses[-1], saved - started)
    if not np.isfinite(state.losses).all():
        raise InputError(f"the loss became {state.losses[-1]} by step {state.step}; lower training.learning_rate")
    result = {
        "weights": state.best or network.state_dict(),
        "run": run.to_json(),
        "init": init,
        "batches": state.digest,
        "losses": state.losses,
        "steps": state.step,
    }
    save(output, result)
    partial.unlink(missing_ok=True)
    log.info("%d steps in %.0f s, last loss %.4f", state.step, time.perf_counter() - started, state.losses[-1])
    return result


def _batches(run: Run, row: RowTarget, done: int) -> Iterator[dict[str, Any]]:
    """Return the batches of a training after the first `done`."""
    settings = run.settings
    dataset = training_set(
        run.index,
        row.names,
        run.cases,
        seed=run.seed,
        patch_size=settings.patch_size,
        foreground_fraction=settings.foreground_fraction,
        flip_axes=settings.flip_axes,
        references=_references(run) if REFERENCE in run.targets else None,
    )
    return stream(
        dataset,
        batch_size=settings.batch_size,
        steps=run.steps,
        seed=run.seed,
        done=done,
        workers=settings.workers,
    )


def _take_step(
    state: _State,
    batch: Mapping[str, Any],
    run: Run,
    row: RowTarget,
    network: UNet,
    optimiser: torch.optim.Optimizer,
) -> None:
    """Change the weights by one batch, and note it in the state."""
    settings, device = run.settings, torch.device(run.settings.device)
    # Rows that stop early see beginnings of one stream: all of them those up to the first look.
    if settings.early_stopping is None or state.step < settings.early_stopping.every:
        state.digest = chained(state.digest, [batch[name] for name in ("image", "labels", "origin")], batch["case_id"])
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(state.step, run.steps, settings.learning_rate)
    soft = soft_label_of(batch, row.names, row.picks).to(device)
    onehot = onehot_of(batch["labels"], row.classes).to(device)
    loss = row.objective.loss(network(batch["image"].to(device)), soft, onehot, batch["valid"].to(device))
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    state.step += 1
    state.losses.append(loss.item())


def load(path: Path) -> dict[str, Any]:
    """Return what `train` wrote.

    Raises
    ------
    FormatError
        If it cannot be read.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise FormatError(
            f"{path}: cannot be read as a network ({error}). Delete it and run snakemake again"
        ) from error
    return content


def _references(run: Run) -> dict[str, NDArray[np.float32]]:
    """Return the true soft label of every training case."""
    truth = PreparedTruth(run.index, run.sheet, run.channels, run.classes)
    return {case: truth.reference(case) for case in run.cases}


def _should_stop(state: _State, run: Run, network: UNet, objective: Objective, device: torch.device) -> bool:
    """Look at the validation cases where it is due; note the best network, and say whether patience has ended."""
    rule = run.settings.early_stopping
    if rule is None or state.step % rule.every:
        return False
    dice = validation_dice(run, network, objective, device)
    log.info("step %d: Dice of the validation cases %.4f", state.step, dice)
    state.looks_since += 1
    if dice > state.best_dice:
        state.best_dice, state.looks_since = dice, 0
        state.best = {name: values.detach().cpu().clone() for name, values in network.state_dict().items()}
    return state.looks_since >= rule.patience


def validation_dice(run: Run, network: UNet, objective: Objective, device: torch.device) -> float:
    """Return the mean Dice of the validation cases against their hard labels."""
    truth = PreparedTruth(run.index, run.sheet, run.channels, run.classes)
    found = []
    for case in run.validation:
        probabilities = predicted(network, objective, run.index, truth.stand_in, case, run.settings, device)
        masks, valid = truth.masks(case), truth.counted(case, None)
        found.append(mean_dice(probabilities, masks, valid, is_overlapping=run.classes.is_overlapping))
    return float(np.nanmean(found))


def _weights(network: UNet, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return what else a state needs."""
    return {"weights": network.state_dict(), "optimiser": optimiser.state_dict()}


def _resumed(partial: Path, run: Run, network: UNet, optimiser: torch.optim.Optimizer) -> _State:
    """Return where a killed training of the same run was, its weights loaded; else the beginning."""
    if not partial.exists():
        return _State()
    content = load(partial)
    if content["run"] != canonical(run.to_json()):
        log.info("%s is of another run: training starts from the beginning", partial)
        return _State()
    network.load_state_dict(content["weights"])
    optimiser.load_state_dict(content["optimiser"])
    state = _State(**content["state"])
    log.info("resumes after step %d of %d", state.step, run.steps)
    return state


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a network, or the state of a training, in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(f"{path.name}.{os.getpid()}")
    torch.save(content, written)
    written.replace(path)
