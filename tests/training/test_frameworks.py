"""The sampler in training frameworks, which know nothing of it; `make test-nnunet` installs and runs them."""

import itertools
import os
import re
import signal
import warnings

import pytest
import torch
from helpers import ROOT
from helpers.made_cohort import SHAPES, make_cohort
from torch.utils.data import DataLoader

from softlabels.errors import FormatError, InputError
from softlabels.training.dataset import SoftLabelDataset
from softlabels.training.sampler import EpochSampler

N_EPOCHS = 3


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return make_cohort(tmp_path_factory.mktemp("cohort"), {"large": SHAPES["large"], "other": (19, 64, 40)})


def new_dataset(index):
    """Return 16 small patches of two large volumes, drawn from some 10**5 places each."""
    return SoftLabelDataset(index, target="onehot", patch_size=(3, 4, 5), patches_per_case=8, foreground_fraction=0.0)


@pytest.fixture
def dataset(index):
    return new_dataset(index)


def places(batch):
    return [(case, *map(int, origin)) for case, origin in zip(batch["case_id"], batch["origin"], strict=True)]


def assert_all_differ(seen, n):
    assert [len(epoch) for epoch in seen] == [n] * N_EPOCHS
    together = [place for epoch in seen for place in epoch]
    assert len(set(together)) == len(together)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
def test_lightning(dataset, workers):
    lightning = pytest.importorskip("lightning", reason="make test-nnunet runs this test")
    seen = [[] for _ in range(N_EPOCHS)]

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.Conv3d(2, 3, 1)

        def training_step(self, batch, _):
            seen[self.current_epoch] += places(batch)
            return self.network(batch["image"]).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=N_EPOCHS, accelerator="cpu", **quiet)
    loader = DataLoader(
        dataset, batch_size=4, sampler=EpochSampler(dataset), num_workers=workers, persistent_workers=workers > 0
    )
    trainer.fit(Module(), loader)
    assert_all_differ(seen, len(dataset))


def _train_in_lightning(folder, index):
    """Run in a process of its own: two ranks on the CPU; each notes what it saw."""
    import lightning

    warnings.simplefilter("ignore")
    dataset = new_dataset(index)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.seen = torch.nn.Conv3d(2, 3, 1), [[] for _ in range(N_EPOCHS)]

        def training_step(self, batch, _):
            self.seen[self.current_epoch] += places(batch)
            return self.network(batch["image"]).mean()

        def on_train_end(self):
            torch.save(self.seen, f"{folder}/rank{self.global_rank}.pt")

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = lightning.Trainer(max_epochs=N_EPOCHS, accelerator="cpu", devices=2, strategy="ddp_fork", **quiet)
    trainer.fit(Module(), DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset)))


def test_lightning_on_two_ranks(index, tmp_path):
    pytest.importorskip("lightning", reason="make test-nnunet runs this test")
    process = torch.multiprocessing.get_context("spawn").Process(target=_train_in_lightning, args=(tmp_path, index))
    process.start()
    process.join()
    assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"rank{rank}.pt") for rank in range(2))
    assert [len(epoch) for epoch in (*first, *second)] == [8] * (2 * N_EPOCHS)
    assert_all_differ([a + b for a, b in zip(first, second, strict=True)], 16)


def test_ignite(dataset):
    engine = pytest.importorskip("ignite.engine", reason="make test-nnunet runs this test")
    seen = [[] for _ in range(N_EPOCHS)]
    runner = engine.Engine(lambda running, batch: seen[running.state.epoch - 1].extend(places(batch)))
    runner.run(DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset)), max_epochs=N_EPOCHS)
    assert_all_differ(seen, len(dataset))


@pytest.mark.filterwarnings("ignore")
def test_the_monai_bundle_trains_and_validates(index, caplog):
    pytest.importorskip("ignite", reason="make test-nnunet runs this test")
    bundle = pytest.importorskip("monai.bundle", reason="make test-nnunet runs this test")
    changes = {"index": str(index), "roi": [16, 16, 8], "max_epochs": 3, "network#channels": [4, 8, 8]}
    parser = bundle.ConfigParser(
        bundle.ConfigParser.load_config_file(ROOT / "examples/monai_bundle/configs/train.yaml")
    )
    for name, value in changes.items():
        parser[name.replace("#", "::")] = value
    for section in ("imports", "initialize", "run"):
        parser.get_parsed_content(section)
    trainer, evaluator = (
        parser.get_parsed_content(f"{a}::{b}") for a, b in (("train", "trainer"), ("val", "evaluator"))
    )
    assert trainer.state.epoch == 3 and torch.isfinite(torch.as_tensor(trainer.state.output[0]["loss"]))
    assert 0 <= float(evaluator.state.metrics["mean_dice"]) <= 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.filterwarnings("ignore::softlabels.training.sampler.RepeatedPatchWarning")
def test_the_torchio_recipe_moves_all_volumes_alike_and_invents_nothing(index):
    pytest.importorskip("torchio", reason="make test-nnunet runs this test")
    page = (ROOT / "docs" / "loader.md").read_text()
    names = {}
    exec(re.search(r"## TorchIO\n.*?```py\n(.*?)```", page, re.DOTALL)[1], names)
    options = {"target": "geols", "patch_size": (12, 16, 14), "patches_per_case": 8, "image_pad": 1.0}
    plain, augmented = (SoftLabelDataset(index, transform=t, **options) for t in (None, names["augment"]))
    n_moved = n_invalid = 0
    for i in range(len(plain)):
        before, after = plain[i], augmented[i]
        assert {name: (value.shape, value.dtype) for name, value in after.items() if torch.is_tensor(value)} == {
            name: (value.shape, value.dtype) for name, value in before.items() if torch.is_tensor(value)
        }
        total = after["soft_label"].sum(0)[after["valid"]]
        torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=5e-3)
        n_moved += not torch.equal(before["image"], after["image"])
        n_invalid += int(before["valid"].sum() - after["valid"].sum())
    assert n_moved > 12 and n_invalid > 100
    again = augmented[3]
    assert all(torch.equal(value, again[name]) for name, value in augmented[3].items() if torch.is_tensor(value))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("n_done", [1, 4, 6])
def test_torchdata_resumes_in_the_middle_of_an_epoch(index, workers, n_done):
    stateful = pytest.importorskip("torchdata.stateful_dataloader", reason="make test-nnunet runs this test")

    def new_loader():
        dataset = new_dataset(index)
        options = {"batch_size": 4, "sampler": EpochSampler(dataset), "num_workers": workers}
        return stateful.StatefulDataLoader(dataset, **options)

    def first(n, loader):
        epochs = itertools.chain.from_iterable(iter(lambda: loader, None))  # one epoch after the other, for ever
        return [places(batch) for batch in itertools.islice(epochs, n)]

    whole = first(12, new_loader())
    assert len({place for batch in whole for place in batch}) == 48
    interrupted = new_loader()
    begun = first(n_done, interrupted)
    state = interrupted.state_dict()
    resumed = new_loader()
    resumed.load_state_dict(state)
    rest = first(12 - n_done, resumed)
    assert begun + rest == whole


@pytest.mark.filterwarnings("ignore")
def test_the_lightning_example_trains_augments_and_validates(index, monkeypatch, tmp_path, capsys):
    pytest.importorskip("lightning", reason="make test-nnunet runs this test")
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    import gpu_augmentation
    import train_lightning

    n_augmented = []
    forward = gpu_augmentation.RandomAffine.forward
    monkeypatch.setattr(
        gpu_augmentation.RandomAffine, "forward", lambda *given: n_augmented.append(1) or forward(*given)
    )
    options = ["--target", "sing", "--patch-size", "8", "16", "16", "--epochs", "2", "--workers", "0"]
    splits = ["--split", "train", "--validation-split", "val"]
    monkeypatch.setattr("sys.argv", ["train_lightning.py", str(index), *options, *splits])
    train_lightning.main()
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    (start,) = [number for number, words in enumerate(printed) if words[:3] == ["brier", "calibration", "dice"]]
    assert [row[0] for row in printed[start + 1 : start + 3]] == ["other", "mean"]
    assert len(n_augmented) == 2 * 16 / 2


@pytest.mark.filterwarnings("ignore")
def test_the_lightning_example_obeys_the_target(index, monkeypatch):
    pytest.importorskip("lightning", reason="make test-nnunet runs this test")
    monkeypatch.syspath_prepend(ROOT / "examples")
    from train_lightning import SoftLabelData

    with pytest.raises(InputError, match="does flip, which would make target 'svls' wrong"):
        SoftLabelData(index, "svls", patch_size=(8, 16, 16))


class Interrupting:
    """A transform that kills its process, or moves the store away."""

    augmentations = ()

    def __init__(self, store, by):
        self.store, self.by = store, by

    def __call__(self, sample, rng):
        if self.by == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.store.exists():
            self.store.rename(self.store.with_name("gone"))
        return sample


def interrupted_dataset(folder, by, **options):
    """Return a data set of three cases whose first sample does it."""
    index = make_cohort(folder, {name: SHAPES[name] for name in ("large", "small", "thin")})
    return SoftLabelDataset(
        index,
        target="onehot",
        patch_size=(3, 4, 5),
        patches_per_case=8,
        foreground_fraction=0.0,
        transform=Interrupting(folder / "store", by),
        **options,
    )


MESSAGES = {
    "move": (FormatError, r"case \w+, prepare, entry \w{12}: .*(whole store .* is missing|no such folder)"),
    "kill": (RuntimeError, r"DataLoader worker .*(is killed by signal: Killed|exited unexpectedly)"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", MESSAGES)
def test_lightning_ends_with_the_error_of_the_worker(tmp_path, by):
    lightning = pytest.importorskip("lightning", reason="make test-nnunet runs this test")
    dataset = interrupted_dataset(tmp_path, by)

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = torch.nn.Conv3d(2, 3, 1)

        def training_step(self, batch, _):
            return self.network(batch["image"]).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-3)

    trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    kind, said = MESSAGES[by]
    with pytest.raises(kind, match=said):
        trainer.fit(Module(), DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset), num_workers=1))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", MESSAGES)
def test_monai_engines_end_with_the_error_of_the_worker(tmp_path, by):
    pytest.importorskip("ignite", reason="make test-nnunet runs this test")
    engines = pytest.importorskip("monai.engines", reason="make test-nnunet runs this test")
    dataset = interrupted_dataset(tmp_path, by, keys={"labels": "label"})
    network = torch.nn.Conv3d(2, 3, 1)
    trainer = engines.SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(dataset, batch_size=4, sampler=EpochSampler(dataset), num_workers=1),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 1e-3),
        loss_function=lambda scores, label: scores.mean(),
    )
    kind, said = MESSAGES[by]
    with pytest.raises(kind, match=said):
        trainer.run()
