"""Rows of a seed are paired, killed trainings resume to the same bits, and what cannot be trained is refused."""

import itertools
from dataclasses import replace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from comparison import batches, training
from comparison.batches import WithReference, training_set
from comparison.network import UNet
from comparison.objective import Objective
from comparison.table import check_pairing
from comparison.training import Run, learning_rate, load, row_target, train

from softlabels.errors import FormatError, InputError
from softlabels.loader import RandomFlip

ROWS = ["onehot", "smooth", "geols", "signed", "reference"]


@pytest.fixture(scope="module")
def trained(cohort, tmp_path_factory):
    """Give a function that trains a run once."""
    folder, known = tmp_path_factory.mktemp("networks"), {}

    def of(run: Run):
        key = repr(run)
        if key not in known:
            known[key] = train(run, folder / f"{len(known)}.pt")
        return known[key]

    return of


@pytest.mark.parametrize("row", ROWS[1:])
def test_rows_of_a_seed_begin_with_the_same_weights_and_see_the_same_batches(run, trained, row):
    first, other = trained(run("onehot")), trained(run(row))
    assert (first["init"], first["batches"]) == (other["init"], other["batches"])
    assert first["losses"] != other["losses"]


def test_another_seed_begins_elsewhere_and_sees_other_batches(run, trained):
    first, other = trained(run("onehot")), trained(run("onehot", seed=1))
    assert first["init"] != other["init"] and first["batches"] != other["batches"]


def test_a_longer_training_begins_as_a_shorter_one(run, trained):
    short, long = trained(run("onehot")), trained(run("onehot", steps=6))
    assert long["losses"][0] == short["losses"][0] and len(long["losses"]) == 6


def test_training_is_deterministic_and_moves_every_weight(run, trained, tmp_path):
    first, again = trained(run("geols")), train(run("geols"), tmp_path / "again.pt")
    assert first["losses"] == again["losses"]
    torch.manual_seed(0)
    fresh = UNet(2, 3, n_dims=3, width=2, levels=3).state_dict()
    assert all(torch.equal(values, again["weights"][name]) for name, values in first["weights"].items())
    assert not any(torch.equal(values, fresh[name]) for name, values in first["weights"].items())


def test_processes_that_read_patches_change_nothing(run, trained, tmp_path):
    found = train(run("onehot", workers=2), tmp_path / "network.pt")
    assert found["batches"] == trained(run("onehot"))["batches"] and found["losses"] == trained(run("onehot"))["losses"]


def test_a_killed_training_resumes_to_the_same_bits(run, trained, tmp_path, monkeypatch):
    whole, wanted = trained(run("geols", steps=6)), run("geols", steps=6)
    output, real = tmp_path / "network.pt", batches.stream

    def killed(*args, **options):
        yield from itertools.islice(real(*args, **options), 3)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "stream", killed)
    monkeypatch.setattr(training.Training, "save_every_s", -1.0, raising=False)
    monkeypatch.setattr(training.time, "perf_counter", itertools.count(0, 1000).__next__)
    with pytest.raises(KeyboardInterrupt):
        train(wanted, output)
    assert not output.exists() and output.with_name("network.pt.partial").exists()
    monkeypatch.setattr(training, "stream", real)
    resumed = train(wanted, output)
    assert resumed["losses"] == whole["losses"] and resumed["batches"] == whole["batches"]
    assert all(torch.equal(values, resumed["weights"][name]) for name, values in whole["weights"].items())
    assert not output.with_name("network.pt.partial").exists()


def test_the_state_of_another_run_is_not_resumed(run, trained, tmp_path):
    output = tmp_path / "network.pt"
    torch.save({"run": "another"}, output.with_name("network.pt.partial"))
    assert train(run("geols"), output)["losses"] == trained(run("geols"))["losses"]


def test_early_stopping_keeps_the_best_network_and_ends_after_patience(run, tmp_path, monkeypatch):
    seen, dice = [], iter([0.5, 0.7, 0.6, 0.6, 0.9])

    def look(run, network, objective, device):
        seen.append({name: values.clone() for name, values in network.state_dict().items()})
        return next(dice)

    monkeypatch.setattr(training, "validation_dice", look)
    rule = {"every": 2, "patience": 2}
    found = train(run("onehot", steps=20, early_stopping=rule), tmp_path / "network.pt")
    assert found["steps"] == 8
    assert all(torch.equal(values, seen[1][name]) for name, values in found["weights"].items())


def test_rows_that_stop_at_different_steps_are_paired(run, tmp_path, monkeypatch):
    rule, lines = {"every": 2, "patience": 1}, []
    for number, (row, dice) in enumerate([("onehot", [0.5, 0.4]), ("geols", [0.3, 0.4, 0.5, 0.5])]):
        monkeypatch.setattr(training, "validation_dice", Mock(side_effect=dice))
        found = train(run(row, steps=20, early_stopping=rule), tmp_path / f"{number}.pt")
        assert found["steps"] == 2 * len(dice)
        lines.append(
            {"row": row, "steps": 20, "seed": 0, "fold": 0, "init": found["init"], "batches": found["batches"]}
        )
    check_pairing(lines)
    monkeypatch.setattr(training, "validation_dice", Mock(return_value=0.5))
    other = train(run("onehot", seed=1, steps=2, early_stopping=rule), tmp_path / "other.pt")
    with pytest.raises(InputError, match="rows onehot and other are not paired: batches of seed 0"):
        check_pairing([*lines, {**lines[0], "row": "other", "batches": other["batches"]}])


def test_early_stopping_looks_at_the_validation_cases(run, tmp_path):
    found = train(run("onehot", early_stopping={"every": 2, "patience": 5}), tmp_path / "network.pt")
    assert found["steps"] == 4


def test_the_reference_is_mirrored_as_image_and_labels_are(cohort):
    options = {"seed": 3, "patch_size": (4, 8, 8), "foreground_fraction": 0.5, "flip_axes": [0, 2]}
    index, _ = cohort
    plain = training_set(str(index), ["smooth"], ["a"], **options)
    onehot = {"a": class_shares(plain, "a")}
    replaced = training_set(str(index), ["smooth"], ["a"], references=onehot, **options)
    hard = training_set(str(index), ["onehot"], ["a"], **options)
    for number in range(6):
        sample, wanted = replaced[0, number], hard[0, number]
        assert torch.equal(sample["image"], wanted["image"]) and torch.equal(sample["labels"], wanted["labels"])
        inside = wanted["valid"]
        torch.testing.assert_close(sample["soft_label"][:, inside], wanted["soft_label"][:, inside])


def class_shares(dataset, case):
    """Return the one-hot of a case by reading it whole."""
    prepared = dataset._cohort.case(dataset._cohort.index.case(case))
    return prepared.masks(dataset.classes).astype(np.float32)


def test_the_reference_outside_a_small_volume_is_background():
    truth = np.zeros((2, 1, 2, 2), np.float32)
    truth[1] = 1
    sample = {
        "case_id": "x",
        "origin": torch.tensor([0, -1, 0]),
        "labels": torch.zeros(4, 2, dtype=torch.int64),
        "image": torch.zeros(1, 4, 2),
    }
    found = WithReference({"x": truth}, None)(sample, np.random.default_rng(0))["soft_label"]
    assert found[1, :, 0].tolist() == [0, 1, 1, 0] and found[0, :, 0].tolist() == [1, 0, 0, 1]
    assert RandomFlip.augmentations == WithReference.augmentations


def test_targets_of_other_classes_are_refused(run, tmp_path):
    with pytest.raises(
        InputError,
        match="got the classes whole, core of kind signed, .*study's classes organ, tumour",
    ):
        train(run("sing"), tmp_path / "network.pt")


def test_channels_are_in_the_order_of_the_studys_classes(run):
    assert row_target(run("turned")).picks == [(0, 1), (0, 2), (0, 0)]
    assert row_target(run("signed")).picks == [(0, 0), (0, 1)]
    assert [c.name for c in row_target(run("turned")).classes] == ["background", "organ", "tumour"]


def test_foregrounds_of_several_targets_are_side_by_side(run):
    regions = {"background": 0, "tumour": [2, 4], "all": [1, 2, 4]}
    with pytest.raises(InputError, match="got the classes background, organ, tumour, background, .* of kind"):
        row_target(replace(run(), labels=regions, targets=["svls", "smooth"]))
    whole = replace(run(), labels={"background": 0, "core": [2, 4], "whole": [1, 2, 4]}, targets=["sing"])
    found = row_target(whole)
    assert found.picks == [(0, 1), (0, 0)] and found.objective.activation == "tanh"


def test_a_loss_of_another_kind_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="got 'focal_l1' for a target that is trained through softmax"):
        train(run("onehot", loss="focal_l1"), tmp_path / "network.pt")


def test_a_diverging_training_is_an_error(run, tmp_path):
    with pytest.raises(InputError, match="lower training.learning_rate"):
        train(run("onehot", learning_rate=1e30, steps=8), tmp_path / "network.pt")


def test_a_damaged_network_is_named(tmp_path):
    (tmp_path / "network.pt").write_bytes(b"PK")
    with pytest.raises(FormatError, match="network.pt: cannot be read as a network"):
        load(tmp_path / "network.pt")


def test_the_learning_rate_falls_to_nothing():
    rates = [learning_rate(step, 10, 1.0) for step in range(10)]
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.13


@pytest.mark.parametrize("is_overlapping", [False, True])
@pytest.mark.parametrize("kind", ["probability", "signed"])
def test_probabilities_are_those_of_the_studys_classes(kind, is_overlapping):
    objective = Objective.of(kind, is_overlapping, None)
    n_classes = 2 if kind == "signed" or is_overlapping else 3
    scores = torch.randn(2, n_classes, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    found = objective.probabilities(scores)
    assert found.shape[1] == (2 if is_overlapping else 3) and found.min() >= 0 and found.max() <= 1
    if not is_overlapping:
        torch.testing.assert_close(found.sum(1), torch.ones(2, 3, 4, 5))
    if kind == "signed" and not is_overlapping:
        largest = torch.where(scores.amax(1) > 0, scores.argmax(1) + 1, 0)
        assert torch.equal(found.argmax(1), largest)


@pytest.mark.parametrize("n_dims", [2, 3])
def test_networks_differ_in_the_head_alone_when_classes_do(n_dims):
    made = []
    for n_classes in (2, 5):
        torch.manual_seed(7)
        made.append(UNet(1, n_classes, n_dims=n_dims, width=4, levels=2).state_dict())
    assert made[0].keys() == made[1].keys()
    differ = [name for name in made[0] if not torch.equal(made[0][name], made[1][name])]
    assert all(name.startswith("head.") for name in differ) and "head.weight" in differ
