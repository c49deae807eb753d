"""The example trainer learns from an index, validates, resumes to the same losses, and ends with one clear error."""

import importlib.util
import json
import os
import re
import signal
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import SHAPES, TARGETS, description, make_cohort, write_index

from softlabels.blend import Blend
from softlabels.cohort.index import Index

EXAMPLES = ROOT / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def trainer():
    return example("train_unet")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on tiny patches wait for each other on a busy machine
    monkeypatch.syspath_prepend(EXAMPLES)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def index(tmp_path):
    return make_cohort(tmp_path / "cohort", {"large": SHAPES["large"], "small": SHAPES["small"]})


@pytest.fixture
def train(trainer, index, monkeypatch, capsys):
    """Give a function that runs the trainer on a small cohort and gives what it printed."""

    def run(*options):
        fixed = ["train_unet.py", str(index), "--patch-size", "8", "16", "16", "--workers", "0", "--target", "geols"]
        monkeypatch.setattr("sys.argv", [*fixed, *map(str, options)])
        trainer.main()
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("target", ["geols", "sing"])
def test_the_loss_falls_on_every_kind_of_target(train, target):
    # 15 steps are within the noise of such small patches: it then hangs on the order of the cases.
    assert "mean loss of the first 8 steps" in train("--target", target, "--steps", "40")


def test_a_loss_that_does_not_fall_is_a_failure(train):
    with pytest.raises(SystemExit, match="the loss did not fall"):
        train("--steps", "2", "--learning-rate", "100")


def test_training_is_deterministic(train):
    first, second = (train("--steps", "15").splitlines()[-1] for _ in range(2))
    assert first == second


def test_a_patch_that_the_network_cannot_halve_is_refused(train, capsys):
    with pytest.raises(SystemExit):
        train("--patch-size", "8", "9", "8")
    assert "multiples of 4" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------- resumption


def losses_in(path):
    return torch.load(path, weights_only=True)["losses"]


@pytest.mark.parametrize(("workers", "n_first"), [(0, 3), (0, 6), (1, 4)])
def test_a_resumed_training_has_the_losses_of_an_uninterrupted_one(trainer, train, tmp_path, workers, n_first):
    """Epochs have 3 steps, the last of 2 samples: the first part ends with an epoch, or within one."""
    whole, parts = tmp_path / "whole.pt", tmp_path / "parts.pt"
    options = ["--patches-per-case", 4, "--batch-size", 3, "--workers", workers, "--learning-rate", 0.01]
    train(*options, "--steps", 10, "--checkpoint", whole)
    for n_steps in (n_first, 10):
        try:
            train(*options, "--steps", n_steps, "--checkpoint", parts)
        except SystemExit as error:  # a few steps may not lower the loss
            assert str(error) == "the loss did not fall"
    assert len(losses_in(whole)) == 10
    assert losses_in(parts) == losses_in(whole)


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--seed", 3], "another seed: 0, now 3"),
        (["--target", "smooth"], "another target: geols, now smooth"),
        (["--split", "train"], "another entries of 1 cases: small. They were computed again, added or removed"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(train, tmp_path, options, changed):
    path = tmp_path / "run.pt"
    train("--steps", 4, "--checkpoint", path, "--learning-rate", 0.01)
    with pytest.raises(SystemExit, match=f"run.pt: was trained with {changed}.*or another --checkpoint"):
        train("--steps", 6, "--checkpoint", path, "--learning-rate", 0.01, *options)


def test_cases_that_were_prepared_in_another_way_are_noticed(train, index, tmp_path):
    path = tmp_path / "run.pt"
    train("--steps", 4, "--checkpoint", path, "--learning-rate", 0.01)
    large, small = Index.read(index).cases
    write_index(index.parents[1], [large, replace(small, prepare=large.prepare)])
    with pytest.raises(SystemExit, match="another entries of 1 cases: small. They were computed again"):
        train("--steps", 6, "--checkpoint", path, "--learning-rate", 0.01)


# ----------------------------------------------------------------------------------------------- bad input


class Killed:
    """A transform that ends its worker as the kernel does when memory is short."""

    augmentations = ()

    def __call__(self, sample, rng):
        assert torch.utils.data.get_worker_info() is not None
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_error_with_the_remedy(trainer, train, monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "RandomFlip", Killed)
    with pytest.raises(SystemExit) as ended:
        train("--workers", 1, "--checkpoint", tmp_path / "run.pt")
    assert re.search(
        r"reads patches was killed .*(Killed|unexpectedly).*use fewer --workers or smaller", str(ended.value)
    )
    assert "run.pt is continued by the same command" in str(ended.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_store_that_vanishes_in_mid_training_is_named_with_case_and_remedy(
    trainer, train, index, monkeypatch, workers
):
    store = index.parents[1] / "store"

    class Removing:
        augmentations, n_calls = (), 0

        def __call__(self, sample, rng):
            Removing.n_calls += 1
            if Removing.n_calls == 4:
                store.rename(store.with_name("gone"))
            return sample

    monkeypatch.setattr(trainer, "RandomFlip", Removing)
    with pytest.raises(SystemExit) as ended:
        train("--workers", workers)
    message = str(ended.value)
    assert "\n" not in message
    assert re.match(
        r"(softlabels\.errors\.FormatError: )?case (large|small), (prepare|target 'geols'), entry \w{12}: ", message
    )
    assert "the whole store" in message or "no such folder. Mount it" in message


def test_a_target_of_distances_is_refused_with_its_own_loss(trainer, index, monkeypatch):
    level_set = description("level_set", "mm", TARGETS["geols"].classes, Blend("none"), kind="distance")
    write_index(index.parents[1], Index.read(index).cases, {"geols": level_set})
    monkeypatch.setattr("sys.argv", ["train_unet.py", str(index), "--target", "geols", "--patch-size", "8", "8", "8"])
    with pytest.raises(SystemExit, match="target 'geols' is distance, expected probability. Train with boundary_loss"):
        trainer.main()


# ---------------------------------------------------------------------------------------------- validation


@pytest.fixture(scope="module")
def validation():
    pytest.importorskip("monai", reason="needs softlabels[monai]")
    return example("validation")


def blob(shape, corner, size):
    volume = np.zeros(shape, bool)
    volume[tuple(slice(c, c + n) for c, n in zip(corner, size, strict=True))] = True
    return volume


def surface(volume):
    padded = np.pad(volume, 1)
    core = np.ones(volume.shape, bool)
    for axis in range(3):
        for step in (-1, 1):
            core &= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    return np.argwhere(volume & ~core)


@pytest.mark.parametrize("spacing", [[1.0, 1.0, 1.0], [3.0, 0.5, 1.0]])
def test_scores_of_a_class_are_those_of_all_pairs_of_surface_voxels(validation, spacing):
    first, second = blob((9, 12, 11), (2, 3, 2), (4, 5, 6)), blob((9, 12, 11), (3, 2, 4), (4, 5, 5))
    dice, hd95, assd = validation._scores_of_class(first, second, spacing)
    assert dice == pytest.approx(2 * (first & second).sum() / (first.sum() + second.sum()))
    apart = np.linalg.norm((surface(first)[:, None] - surface(second)) * spacing, axis=-1)
    there, back = apart.min(axis=1), apart.min(axis=0)
    assert assd == pytest.approx((there.sum() + back.sum()) / (len(there) + len(back)), rel=1e-5)
    assert hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)


def test_a_class_in_one_volume_alone_is_missed_and_in_neither_is_no_score(validation):
    some, none = blob((4, 4, 4), (1, 1, 1), (2, 2, 2)), np.zeros((4, 4, 4), bool)
    assert validation._scores_of_class(some, none, [1.0] * 3) == (0, np.inf, np.inf)
    assert validation._scores_of_class(none, some, [1.0] * 3) == (0, np.inf, np.inf)
    assert np.isnan(validation._scores_of_class(none, none, [1.0] * 3)).all()


def test_brier_and_calibration_by_hand(validation):
    valid = np.array([[[True, True, False]]])
    reference = np.float32([[[[0.5, 1.0, 0.0]]], [[[0.5, 0.0, 1.0]]]])
    predicted = np.float32([[[[0.7, 1.0, 1.0]]], [[[0.3, 0.0, 0.0]]]])
    assert validation.brier_score(predicted, reference, valid) == pytest.approx((0.04 + 0.04) / 2)
    assert validation.calibration_error(predicted, reference, valid) == pytest.approx(0.2)
    assert validation.calibration_error(reference, reference, valid) == 0
    # Errors that cancel within a bin are no fault of calibration.
    balanced = np.float32([[[[0.75, 0.72]]], [[[0.25, 0.28]]]])
    answers = np.float32([[[[0.85, 0.62]]], [[[0.15, 0.38]]]])
    assert validation.calibration_error(balanced, answers, np.ones((1, 1, 2), bool)) == pytest.approx(0, abs=1e-6)


class Constant(torch.nn.Module):
    """A network that says the same of every voxel."""

    def __init__(self, scores):
        super().__init__()
        self.scores = torch.tensor(scores)

    def forward(self, image):
        return self.scores.reshape(1, -1, 1, 1, 1).expand(len(image), -1, *image.shape[2:])


@pytest.mark.parametrize(("target", "scores"), [("geols", [0.1, 2.0, 0.3]), ("sing", [1.5, -0.5])])
def test_a_network_is_scored_on_every_valid_voxel(validation, index, target, scores):
    windows, volumes = validation.windows_and_volumes(index, (8, 16, 12), target=target)
    found = validation.validate(Constant(scores), windows, volumes, batch_size=3)
    logits = torch.tensor(scores).reshape(-1, 1, 1, 1)
    expected = validation.probabilities_of(windows, logits).numpy()
    for sample in volumes:
        own = found[sample["case_id"]]
        valid, reference = sample["valid"].numpy(), sample["soft_label"].numpy()
        reference = (1 + reference) / 2 if target == "sing" else reference
        assert own["brier"] == pytest.approx(((expected - reference) ** 2).sum(0)[valid].mean(), rel=1e-5)
        name, values = ("organ", (1,)) if target == "geols" else ("whole", (1, 2, 4))
        inside = np.isin(sample["labels"], values) & valid
        assert own["dice"][name] == pytest.approx(2 * inside.sum() / (inside.sum() + valid.sum()), rel=1e-6)


def test_validation_without_monai_ends_before_the_training(train, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "monai.metrics", None)
    monkeypatch.delitem(sys.modules, "validation", raising=False)
    with pytest.raises(SystemExit):
        train("--validation-split", "val")
    assert "--validation-split: validation needs MONAI: pip install 'softlabels[monai]'" in capsys.readouterr().err


def test_a_validation_split_that_no_case_has_ends_before_the_training(train, trainer, monkeypatch):
    pytest.importorskip("monai", reason="needs softlabels[monai]")
    monkeypatch.setattr(trainer, "train", None)
    with pytest.raises(SystemExit, match="split: got 'test', expected one of train, val"):
        train("--validation-split", "test")


def test_the_trainer_prints_and_writes_the_scores(train, tmp_path):
    pytest.importorskip("monai", reason="needs softlabels[monai]")
    printed = train(
        "--steps", 4, "--learning-rate", 0.01, "--validation-split", "val", "--checkpoint", tmp_path / "run.pt"
    )
    table = printed.splitlines()[-3:]
    assert table[0].split()[:3] == ["brier", "calibration", "dice"]
    assert [row.split()[0] for row in table[1:]] == ["small", "mean"]
    scores = json.loads((tmp_path / "run.json").read_text())
    assert set(scores["small"]) == {"brier", "calibration", "dice", "hd95", "assd"}
    assert "monai" in sys.modules
